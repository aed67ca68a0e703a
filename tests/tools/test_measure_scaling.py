"""The curves of cost: every size is measured, the model stands beside it, and a figure is drawn."""
import json
import runpy
from pathlib import Path

import pytest
import torch

FILE = Path(__file__).parents[2] / 'tools' / 'measure_scaling.py'
TOOL = runpy.run_path(str(FILE))
FEW = {'frames': (4, 8), 'channels': (16, 32), 'iterations': (1, 2), 'hidden_channels': (8, 16, 24)}


@pytest.fixture(scope='module')
def ran(tmp_path_factory, library):
    folder = tmp_path_factory.mktemp('scaling')
    patch = pytest.MonkeyPatch()
    patch.setitem(TOOL['main'].__globals__, 'CHANGES', FEW)
    patch.setitem(TOOL['main'].__globals__, 'BASE', dict(TOOL['BASE'], channels=512, height=5))
    try:
        status = TOOL['main'](['--small', '--rounds', '1', '--workers', '2', '--json', str(folder / 'found.json'),
                               '--figure', str(folder / 'found.png')])
    finally:
        patch.undo()
    return status, json.loads((folder / 'found.json').read_text()), (folder / 'found.png').read_bytes()


def test_every_change_is_measured_beside_the_model(ran):
    status, found, picture = ran
    assert status == 0 and picture[:4] == b'\x89PNG'
    assert [(row['curve'], row['value']) for row in found['rows']] == [
        ('frames', 4), ('frames', 8), ('channels', 1), ('channels', 2), ('iterations', 1), ('iterations', 2),
        ('hidden_channels', 8), ('hidden_channels', 16), ('hidden_channels', 24)]
    for row in found['rows']:
        assert row['seconds'] > 0 and row['peak_bytes'] > row['kept_bytes']
        assert row['sizes']['height'] == 5
        if row['sizes']['channels'] >= 32:
            assert row['kept_bytes'] == pytest.approx(row['predicted_bytes'], rel=0.02)
    assert len(found['left_out']) == len({json.dumps(row['sizes']) for row in found['rows']})


def test_workers_keep_what_one_keeps(ran):
    (row, ) = ran[1]['workers']
    assert row['workers'] == 2 and row['alone'] > 0 and row['reduced'] > 0
    # A base of its own process: 7 x 7 positions.
    base = next(each for each in ran[1]['rows'] if each['curve'] == 'frames' and each['value'] == 8)
    assert row['kept_bytes'] == pytest.approx(base['kept_bytes'] * 7 / 5, rel=0.02)


def test_an_earlier_run_is_fitted_again_without_measuring(ran, tmp_path, monkeypatch, capsys):
    found = dict(ran[1], rows=[dict(row, seconds=2 * row['seconds']) for row in ran[1]['rows']])
    (tmp_path / 'slower.json').write_text(json.dumps(found))
    monkeypatch.setitem(TOOL['main'].__globals__, 'measure', None)
    assert TOOL['main'](['--refit', str(tmp_path / 'slower.json'), '--json', str(tmp_path / 'again.json')]) == 0
    again = json.loads((tmp_path / 'again.json').read_text())
    for name, rate in again['rates'].items():
        assert rate == pytest.approx(2 * ran[1]['rates'][name], rel=1e-6, abs=1e-15)
    assert TOOL['main'](['--refit', str(tmp_path / 'absent.json')]) == 2
    assert 'absent.json' in capsys.readouterr().err


def test_what_cannot_be_measured_is_told(capsys, monkeypatch):
    with pytest.raises(SystemExit):
        TOOL['main'](['--rounds', '0'])
    assert '--rounds and --workers count from 1, got 0' in capsys.readouterr().err
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    assert TOOL['main'](['--device', 'cuda']) == 2
    assert 'this PyTorch sees no GPU' in capsys.readouterr().err
