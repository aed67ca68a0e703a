"""The command plans, and tells what is wrong with what it was asked."""
import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def command(monkeypatch):
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '')      # the command sets it; given back afterwards
    spec = importlib.util.spec_from_file_location('compare_necks', ROOT / 'tools' / 'compare_necks.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


def test_the_plan_costs_nothing(command, capsys):
    assert command(['--plan']) == 0
    told = capsys.readouterr().out
    assert 'core hours' in told and 'lsef-stable-nosem/avg' in told and told.startswith('6 cells')
    assert command(['--plan', '--arms', 'main', 'tconv/mmd', '--cells', 'default_clean', '--severities', '1', '3']) == 0
    told = capsys.readouterr().out
    assert told.startswith('1 cells (default_clean) x 15 arms') and 'lsef-stable-nosem/avg' not in told
    assert 'from 5 pretrained backbones\n' in told, 'one for each seed'
    assert command(['--plan', '--seeds', '3', '--starts', '1']) == 0
    assert 'from 1 pretrained backbone\n' in capsys.readouterr().out


@pytest.mark.parametrize('arguments, message', [
    (['--arms', 'lsef/max'], 'There is no arm lsef/max; there are none/avg'),
    (['--cells', 'easy_clean'], 'There is no cell easy_clean; there are default_clean'),
    (['--size', 'huge'], 'There is no size huge; there are small'),
    (['--kinds', 'rain'], 'There is no corruption rain'),
    (['--severities', '6'], 'A severity is 1 to 5'),
    (['--jobs', '0'], 'count from 1'),
    (['--starts', '0'], '--starts and --corrupted-clips count from 1'),
    (['--against', 'lsef/max'], 'There is no arm lsef/max'),
    (['--against', 'lsef/avg', '--arms', 'none/avg'],
     '--against lsef/avg is not among the arms of this report (none/avg). Add it to --arms.')])
def test_what_is_wrong_is_told(command, capsys, arguments, message):
    assert command([*arguments, '--plan']) == 2
    assert message in capsys.readouterr().err


def test_a_device_that_is_not_there_is_told_before_anything_is_drawn(command, capsys, tmp_path, monkeypatch):
    import torch
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    assert command(['--device', 'cuda', '--out', str(tmp_path / 'out')]) == 2
    assert 'torch sees no CUDA device' in capsys.readouterr().err and not (tmp_path / 'out').exists()


def test_an_arm_is_shown_as_a_config_that_builds(command, capsys, tmp_path):
    from mmaction.registry import MODELS
    from mmengine.config import Config
    capsys.readouterr()
    assert command(['--show', 'tconv/mmd']) == 0
    path = tmp_path / 'arm.py'
    path.write_text(capsys.readouterr().out, encoding='utf-8')
    cfg = Config.fromfile(path)
    model = MODELS.build(cfg.model)
    assert type(model.neck).__name__ == 'TemporalConvolutionNeck' and cfg.optim_wrapper.classifier.lr == 0.01
