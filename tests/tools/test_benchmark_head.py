"""The benchmark of readers, in a few steps: what is planted, what is paired, what is not measured twice."""
import importlib.util
import json
import os
import sys
from pathlib import Path

import pytest
import torch

from lsef_plugins.evaluation.functional.pairs import paired_t_p

TOOL = Path(__file__).resolve().parents[2] / 'tools' / 'benchmark_head.py'
spec = importlib.util.spec_from_file_location('benchmark_head', TOOL)
tool = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tool)
QUICK = ['--steps', '2', '--clips', '70', '--readers', 'nothing', 'moments']
SIGNED = ['--worlds', 'local', '--regimes', 'signed', '--learning-rates', '1e-4', '1e-1']


def clips(kind, seed=3, count=350, signed=False):
    world = tool.draw_world(kind, seed)
    return world, *tool.draw_clips(world, count, seed, signed)


@pytest.mark.parametrize('kind', tool.WORLDS)
def test_the_clips_are_what_the_text_says(kind):
    world, x, label = clips(kind)
    assert x.shape == (350, 32, 16, 4) and label.bincount().tolist() == [50] * 7
    assert torch.equal(x, clips(kind)[1]) and not torch.equal(x, clips(kind, seed=4)[1])
    touched, _, share = tool.WORLDS[kind]
    assert (world.event > 0).sum(1).tolist() == [touched] * 2 and not torch.equal(*(world.event > 0))
    # The same world and clips without events differ where an event is, and nowhere else.
    silent, again = tool.draw_clips(world._replace(event=0 * world.event), 350, 3, False)
    event = x - silent
    assert torch.equal(label, again) and event[label == 6].abs().max() == 0
    for each, k in zip(event[label < 6], label[label < 6]):
        assert torch.equal(each.abs().amax((1, 2)) > 1e-4, world.event[k % 2] > 0)
        frames = (each.abs().amax((0, 2)) > 1e-4).nonzero()[:, 0]
        assert 2 <= len(frames) <= 4 and frames[-1] - frames[0] == len(frames) - 1
    assert event.min() > -1e-5
    places = (event[label < 6].abs().amax((1, 2)) > 1e-4).float().mean().item()
    assert places == pytest.approx(share + (1 - share) / 4, abs=0.05)
    signed = tool.draw_clips(world, 350, 3, True)[0] - silent
    torch.testing.assert_close(signed.abs(), event, atol=1e-5, rtol=0)
    assert 0.4 < (signed.mean((1, 2, 3)) < 0)[label < 6].float().mean() < 0.6


def test_every_corruption_is_where_it_is_told():
    x = clips('broad')[1]
    frames = dict(drop=4, noise=4, swap=4, spike=16, gauss=16, drift=16)
    for kind in tool.CORRUPTIONS:
        broken = tool.corrupt(x, kind, 5)
        hit = (broken != x).any(3).any(1).sum(1)
        assert hit.max() == frames[kind] and hit.float().mean() > 0.98 * frames[kind], kind
        assert torch.equal(broken, tool.corrupt(x, kind, 5)) and not torch.equal(broken, tool.corrupt(x, kind, 6))
    apart = tool.corrupt(x, 'spike', 5) - x
    assert (apart != 0).float().mean().item() == pytest.approx(0.05, abs=0.002)
    with pytest.raises(ValueError, match="corruption 'blur' is unknown; choose one of drop, noise.*frame x30"):
        tool.corrupt(x, 'blur', 5)


def test_the_frame_x30_is_one_frame_of_noise_of_that_size():
    x = clips('local')[1]
    apart = tool.corrupt(x, 'frame x30', 5) - x
    hit = apart.abs().amax((1, 3)) > 0
    assert (hit.sum(1) == 1).all() and hit.sum(0).min() > 0          # any frame may be the one
    planted = apart.permute(0, 2, 1, 3)[hit]
    assert planted.std().item() == pytest.approx(30, rel=0.02) and abs(planted.mean().item()) < 0.5


def test_seeded_is_the_same_figure_and_a_reader_that_sees_nothing_scores_chance():
    def once(reader, seed=0, regime='corrupted'):
        found = tool.measure('broad', regime, reader, 1e-2, seed, 3, 140)
        return {key: value for key, value in found.items() if key != 'seconds'}

    torch.manual_seed(1)
    state = torch.get_rng_state()
    found = once('head')
    assert torch.equal(torch.get_rng_state(), state), 'borrowed state is given back'
    torch.manual_seed(2)
    assert once('head') == found != once('head', seed=1)
    assert once('head', regime='positive')['clean'] != found['clean']
    assert found['clean'] > 40 and found['parameters'] == 6 * 32 * 7 + 7
    nothing = once('nothing')
    assert all(nothing[name] == pytest.approx(100 / 7) for name in (*tool.CONDITIONS, 'corrupted, mean'))


def test_every_reader_learns_from_the_first_step_and_necks_begin_as_the_identity():
    x = tool.maps(clips('broad', count=14)[1])
    for name, make in tool.READERS.items():
        torch.manual_seed(0)
        reader = make()
        torch.testing.assert_close(reader.neck(x), x, rtol=0, atol=0)
        reader(x)[:, 0].sum().backward()
        assert reader.linear.bias.grad.abs().sum() > 0 and reader(x).shape == (14, 7)
        assert (reader.linear.weight.grad.abs().sum() > 0) == (name != 'nothing')
    assert set(tool.MEANING) == set(tool.READERS) and set(tool.BY_DEFAULT) < set(tool.READERS)


def test_the_rivals_are_as_large_as_the_largest_of_ours_and_one_reads_what_the_studys_does():
    from lsef_plugins.engine.neck_study.statistics_head import MeanExcursionHead
    size = {name: sum(p.numel() for p in make().parameters()) for name, make in tool.READERS.items()}
    assert max(size.values()) == size['convolution'] and size['convolution+excursions'] > 0.98 * size['stable+all']
    for ours in ('neck', 'stable', 'restored'):
        assert size[f'{ours}+head'] < size[f'{ours}+all'] < 1.001 * size['convolution']
        assert size[f'{ours}+all'] > 0.97 * size['convolution']
    head, x = MeanExcursionHead(7, 32).eval(), tool.maps(clips('broad', count=14)[1])
    read = []
    head.fc_cls.register_forward_pre_hook(lambda module, args: read.append(args[0]))
    head(x)
    assert torch.equal(tool.excursions_about_the_mean(x), read[0]) and len(read[0].unique()) > 1000


def test_the_neck_as_it_comes_is_read_and_the_others_are_what_they_are_called():
    from lsef_plugins.nn import LSEF
    default = LSEF(32).cim
    found = {name: (reader.neck.cim.bands_of, reader.neck.cim.kernel) for name, reader in
             ((name, make()) for name, make in tool.READERS.items()) if isinstance(reader.neck, LSEF)}
    assert found['neck+head'] == found['neck+all'] == (default.bands_of, default.kernel)
    assert found['stable+head'] == found['stable+all'] == ('stable', 1)
    assert found['restored+head'] == found['restored+all'] == ('restored', 1)


def test_recall_weighs_classes_and_not_clips():
    label = torch.tensor([0] * 10 + [1, 2, 3, 4, 5, 6])
    assert tool.recall(torch.zeros(16, dtype=torch.long), label) == pytest.approx(100 / 7)
    assert tool.recall(label, label) == pytest.approx(100)


@pytest.fixture(scope='module')
def quick(tmp_path_factory):
    """Two seeds of one world and regime, measured by two processes."""
    out = tmp_path_factory.mktemp('head') / 'new' / 'report.json'
    with pytest.MonkeyPatch.context() as patch:             # processes find the tool as they do from the command line
        patch.syspath_prepend(TOOL.parent)
        patch.setitem(sys.modules, 'benchmark_head', tool)
        patch.setenv('OMP_NUM_THREADS', '1')
        assert tool.main([*QUICK, *SIGNED, '--seeds', '0', '1', '--jobs', '2', '--out', str(out), '--markdown',
                          str(out.with_suffix('.md'))]) == 0
    assert sorted(path.name for path in out.parent.iterdir()) == ['report.json', 'report.md'], 'whole or not at all'
    return out, json.loads(out.read_text(encoding='utf-8'))


def test_rates_are_chosen_on_a_world_that_no_seed_is_tested_on(quick):
    cells = quick[1]['cells']
    tried = {key for key in cells if key.endswith('/validation')}
    assert tried == {f'local/signed/{name}/{rate}/validation' for name in ('nothing', 'moments')
                     for rate in ('0.0001', '0.1')}
    assert len(cells) == len(tried) + 2 * 2
    by_rate = {rate: cells[f'local/signed/moments/{rate:g}/validation']['clean'] for rate in (1e-4, 1e-1)}
    assert by_rate[1e-1] > by_rate[1e-4]
    assert [row['rate'] for row in quick[1]['rows'] if row['reader'] == 'moments'] == [1e-1]
    good = {'clean': 10.0, 'corrupted, mean': 80.0}
    assert tool.goodness(good, 'signed') == 10 and tool.goodness(good, 'corrupted') == 70


def test_processes_change_no_figure(quick):
    for key in ('local/signed/moments/0.1/1', 'local/signed/moments/0.1/validation'):
        world, regime, reader, rate, seed = key.split('/')
        again = tool.measure(world, regime, reader, float(rate), tool.VALIDATION if seed == 'validation' else int(seed),
                             2, 70)
        assert {**again, 'seconds': 0} == {**quick[1]['cells'][key], 'seconds': 0}


def test_the_table_holds_the_figures_the_winner_and_the_paired_differences(quick):
    text = quick[0].with_suffix('.md').read_text(encoding='utf-8')
    rows = {row['reader']: row for row in quick[1]['rows']}
    first, second = (cell['clean'] for cell in rows['moments']['cells'])
    middle, apart = (first + second) / 2, abs(first - second) / 2 ** 0.5
    assert f'| mean, maximum, deviation | 679 | 0.1 | **{middle:.1f} ± {apart:.1f}** |' in text
    row, = [line for line in text.splitlines() if line.startswith('| *moments over nothing*')]
    assert row.startswith(f'| *moments over nothing* | | | {middle - 100 / 7:+.1f} ± {apart:.1f} |')
    ours, theirs = ([cell['corrupted, mean'] for cell in rows[name]['cells']] for name in ('moments', 'nothing'))
    assert f'(p {paired_t_p(theirs, ours):.4f}) |' in row and row.count('(p ') == 1
    assert '| nothing at all | 231 |' in text and '2 seed(s)' in text and '### local, signed' in text


def test_what_was_measured_is_not_measured_again(quick, monkeypatch, tmp_path):
    out = tmp_path / 'report.json'
    report = json.loads(quick[0].read_text(encoding='utf-8'))
    for cell in report['cells'].values():
        cell['drop'] = 42.0
    del report['cells']['local/signed/nothing/0.0001/1']
    out.write_text(json.dumps(report), encoding='utf-8')
    seen, measure = [], tool.measure
    monkeypatch.setattr(tool, 'measure', lambda *job: seen.append(job) or measure(*job))
    assert tool.main([*QUICK, *SIGNED, '--seeds', '0', '1', '--out', str(out)]) == 0
    assert seen == [('local', 'signed', 'nothing', 1e-4, 1, 2, 70)]
    came = json.loads(out.read_text(encoding='utf-8'))['cells']
    assert sorted(came) == sorted(quick[1]['cells']) and came['local/signed/moments/0.1/validation']['drop'] == 42


def test_an_interrupted_run_keeps_what_it_has(monkeypatch, tmp_path):
    out, done = tmp_path / 'report.json', []

    def measure(*job):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(job)
        return {**dict.fromkeys((*tool.CONDITIONS, 'corrupted, mean', 'seconds'), 1.0), 'parameters': 1}

    monkeypatch.setattr(tool, 'measure', measure)
    with pytest.raises(KeyboardInterrupt):
        tool.main([*QUICK, '--learning-rates', '1e-2', '--out', str(out)])
    assert len(json.loads(out.read_text(encoding='utf-8'))['cells']) == 2
    assert [path.name for path in tmp_path.iterdir()] == ['report.json']


@pytest.mark.parametrize('options, message', [
    (['--steps', '0'], '--steps and --jobs are numbers from 1 on'), (['--clips', '6'], '--clips from 7 on'),
    (['--seeds', '-1'], '--seeds are numbers from 0 on'),
    (['--learning-rates', '1e-2', '0'], r'--learning-rates are positive, got [0.01, 0.0]'),
    (['--learning-rates', 'nan'], '--learning-rates are positive, got [nan]'),
    (['--worlds', 'wide'], "invalid choice: 'wide'"), (['--readers', 'lstm'], "invalid choice: 'lstm'"),
    (['--regimes', 'clean'], "invalid choice: 'clean'")])
def test_bad_input_is_told(options, message, tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        tool.main([*options, '--out', str(tmp_path / 'report.json')])
    assert stopped.value.code == 2 and message in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_figures_that_do_not_belong_together_are_told(quick, tmp_path, capsys):
    with pytest.raises(SystemExit):
        tool.main([*QUICK, '--steps', '3', '--out', str(quick[0])])
    told = capsys.readouterr().err
    assert 'was measured with' in told and "'steps': 2" in told and "'steps': 3" in told
    assert 'do not belong together. Give the same options, or another --out' in told
    before = json.loads(quick[0].read_text(encoding='utf-8'))
    before['settings']['merge'] = 'stable, kernel 1'
    (tmp_path / 'before.json').write_text(json.dumps(before), encoding='utf-8')
    with pytest.raises(SystemExit):
        tool.main([*QUICK, '--out', str(tmp_path / 'before.json')])
    assert "'merge': 'restored, kernel 3'" in capsys.readouterr().err, 'of a neck with another merge'
    other = tmp_path / 'other.json'
    other.write_text('[1]')
    with pytest.raises(SystemExit):
        tool.main([*QUICK, '--out', str(other)])
    assert 'is no report of this tool' in capsys.readouterr().err and other.read_text() == '[1]'


def test_a_failed_write_leaves_the_old_report(tmp_path, monkeypatch):
    path = tmp_path / 'report.json'
    tool.write_whole(str(path), 'old')

    def fail(*args):
        raise OSError('disk full')

    monkeypatch.setattr(os, 'replace', fail)
    with pytest.raises(OSError, match='disk full'):
        tool.write_whole(str(path), 'new')
    assert path.read_text() == 'old' and [p.name for p in tmp_path.iterdir()] == ['report.json']
