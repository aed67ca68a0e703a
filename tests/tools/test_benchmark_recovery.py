"""The recovery benchmark, quickly: what the design promises, with margin, against PCA, PCP and tensorly in one run."""
import importlib.util
import json
import os
from pathlib import Path

import pytest
import torch

TOOL = Path(__file__).resolve().parents[2] / 'tools' / 'benchmark_recovery.py'
spec = importlib.util.spec_from_file_location('benchmark_recovery', TOOL)
tool = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tool)


@pytest.fixture(scope='module')
def report(tmp_path_factory):
    path = tmp_path_factory.mktemp('recovery') / 'new' / 'report.json'
    threads = torch.get_num_threads()
    status = tool.main(['--quick', '--out', str(path)])
    assert torch.get_num_threads() == threads, 'borrowed state is given back'
    assert [p.name for p in path.parent.iterdir()] == ['report.json'], 'whole or not at all'
    return status, json.loads(path.read_text(encoding='utf-8'))


@pytest.fixture(scope='module')
def error(report):
    table = {(row['rank'], row['cell'], row['method']): row['median'] for row in report[1]['recovery']}
    return lambda cell, method, rank=1: table[rank, cell, method]


def test_one_bad_frame_bends_pca_and_not_us(error):
    for method in ('K=1', 'K=2', 'K=3', 'K=5'):
        assert error('frame x30', method) < 0.05 and error('frame x30', method, rank=2) < 0.1
    assert error('frame x30', 'PCA') > 1 and error('frame x30', 'PCP') > 0.1


def test_a_quarter_of_bad_frames(error):
    assert error('quarter x3', 'K=1') < 0.045
    assert error('quarter x3', 'PCP') > 0.15 and error('quarter x3', 'PCA') > 0.4


def test_clean_clips_lose_nothing(error):
    for rank in (1, 2):
        assert error('clean', 'K=1', rank) < 1.05 * error('clean', 'PCA', rank) < error('clean', 'PCP', rank)


def test_corrupted_elements_want_iterations(error):
    assert 0.2 < error('element 10', 'K=1') < 0.36
    assert error('element 10', 'K=3') < 0.055 and error('element 10', 'K=5') < 0.04
    assert error('element 10', 'K=5', rank=2) < 0.08


def test_behind_a_relu_noise_is_no_event_and_events_are_found(report):
    rows = {row['cell']: row for row in report[1]['rectified']}
    assert rows['dense']['ours'] == rows['dense']['all'] and rows['dense']['zeros'] == 0
    for cell in ('mixed', 'mixed, half dead', 'mostly cut', 'alive or dead'):
        assert rows[cell]['ours']['false'] < 1.2 and rows[cell]['all']['false'] > 10
        assert rows[cell]['ours']['found'] > 80 and rows[cell]['ours']['floor'] == 0
        assert rows[cell]['ours']['equal_kappa'] == pytest.approx(tool.KAPPA, rel=0.02)
        assert rows[cell]['ours']['equal_found'] > rows[cell]['all']['equal_found'] - 1
    assert min(rows[cell]['all']['floor'] for cell in ('mixed, half dead', 'alive or dead')) > 80
    # What it cannot do: a channel that shows nothing but the event.
    assert rows['silent']['ours']['found'] < 10


def test_pcp_agrees_with_its_independent_peer(report):
    assert report[1]['peer_difference'] < tool.AGREEMENT


def test_every_bar_is_met_and_reported_as_such(report):
    status, figures = report
    assert all(bar['met'] for bar in figures['bars']) and len(figures['bars']) == len(tool.BARS)
    assert all(bar['met'] for bar in figures['rectified_bars'])
    assert len(figures['rectified_bars']) == len(tool.RECTIFIED_BARS) == len(tool.RECTIFIED) - 1
    assert status == 0
    assert len(figures['recovery']) == 2 * len(tool.CELLS) * len(tool.METHODS)
    assert [s['frames'] for s in figures['speed']] == [8, 16, 32]
    assert all(s[f'{sem} {what}'] > 0 for s in figures['speed'] for sem in ('robust', 'plain')
               for what in ('forward', 'both'))


def test_a_missed_bar_is_told(report):
    rows = [dict(row, median=row['median'] * 3) for row in report[1]['recovery']]
    bars = tool.check_bars(rows)
    assert not any(bar['met'] for bar in bars)
    assert 'MISSED' in tool.markdown({**report[1], 'bars': bars})
    met = tool.markdown(report[1])
    assert 'MISSED' not in met
    for change in (dict(false=5.0), dict(found=0.0), dict(floor=1.0)):
        rows = [dict(row, ours={**row['ours'], **change}) for row in report[1]['rectified']]
        bars = tool.check_rectified(rows)
        assert not any(bar['met'] for bar in bars)
        assert 'MISSED' in tool.markdown({**report[1], 'rectified_bars': bars})


def test_the_clips_are_what_the_text_says():
    for rank in (1, 2):
        for cell in tool.CELLS:
            x, stable = tool.plant(rank, cell, 8, seed=3)
            again, _ = tool.plant(rank, cell, 8, seed=3)
            assert torch.equal(x, again) and not torch.equal(x, tool.plant(rank, cell, 8, seed=4)[0])
            assert torch.linalg.matrix_rank(stable.double(), rtol=1e-5).tolist() == [rank] * 8
            torch.testing.assert_close(stable.square().mean((1, 2)), torch.ones(8))
            hit = ((x - stable).abs() > 0.6).float().mean().item()
            expected = {'clean': 0, 'event 10': 0.1, 'frame x3': 0.84 / 16, 'frame x30': 0.984 / 16,
                        'quarter x3': 0.84 / 4}.get(cell)
            expected = float(cell.split()[1]) / 100 if expected is None else expected
            assert hit == pytest.approx(expected, abs=0.006), cell


def test_the_rectified_clips_are_what_the_text_says():
    for cell in tool.RECTIFIED:
        quiet, moved, event = tool.plant_rectified(cell, 8, seed=3)
        assert torch.equal(moved, tool.plant_rectified(cell, 8, seed=3)[1]) and (quiet >= 0).all()
        assert not torch.equal(quiet, tool.plant_rectified(cell, 8, seed=4)[0])
        per_position = event.sum(2)
        assert per_position.max() == 3 and ((moved - quiet)[~event] <= 2 * tool.SIGMA + 1e-6).all()
        share = (per_position > 0).float().mean().item()
        assert share == pytest.approx(0.1 * (1 - tool.RECTIFIED[cell][2]), abs=0.03), cell


def test_features_of_a_trained_backbone_are_judged_too(tmp_path, monkeypatch):
    from lsef_plugins.engine.studies import start
    monkeypatch.setattr(start, 'CLIPS', 4)
    monkeypatch.setattr(start, 'STEPS', 1)
    rows = tool.measure_features(str(tmp_path / 'new'), 2)
    assert [row['cell'] for row in rows] == ['features of stage 3', 'features of stage 4']
    assert all(0 < row['zeros'] < 100 and row['ours']['false'] <= row['all']['false'] for row in rows)


def test_pcp_solves_its_problem():
    """No nearby split of the clips scores lower."""
    x, _ = tool.plant(1, 'element 10', 3, seed=0)
    x = x.double()
    low = tool.pcp(x)

    def objective(z):
        return torch.linalg.matrix_norm(z, 'nuc') + tool.LAMBDA * (x - z).abs().sum((1, 2))

    best = objective(low)
    generator = torch.Generator().manual_seed(1)
    for size in (1e-2, 1.0, 10.0):
        for _ in range(10):
            step = torch.randn(x.shape, generator=generator, dtype=torch.float64)
            step = size * step / step.flatten(1).norm(dim=1)[:, None, None]
            assert (objective(low + step) >= best * (1 - 1e-6)).all()
    assert (objective(0.99 * low) >= best * (1 - 1e-6)).all() and (objective(1.01 * low) >= best * (1 - 1e-6)).all()


def test_a_run_that_would_not_end_is_refused():
    with pytest.raises(RuntimeError, match='not converged in 3 steps'):
        tool.pcp(tool.plant(1, 'clean', 2, seed=0)[0], most=3)


def test_nothing_is_measured_zero_times(capsys):
    with pytest.raises(SystemExit):
        tool.main(['--seeds', '0'])
    assert 'numbers from 1 on' in capsys.readouterr().err


def test_a_failed_write_leaves_the_old_report(tmp_path, monkeypatch):
    path = tmp_path / 'report.json'
    tool.write_whole(str(path), 'old')

    def fail(*args):
        raise OSError('disk full')

    monkeypatch.setattr(os, 'replace', fail)
    with pytest.raises(OSError, match='disk full'):
        tool.write_whole(str(path), 'new')
    assert path.read_text() == 'old' and [p.name for p in tmp_path.iterdir()] == ['report.json']


def test_the_error_is_relative_to_the_stable_part():
    assert tool.errors(torch.ones(2, 3, 4), 2 * torch.ones(2, 3, 4)) == pytest.approx([0.5, 0.5])
