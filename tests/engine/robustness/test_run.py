"""Tests under corruption: the config's own pipeline and metrics, every condition measured once."""
import json

import pytest
import torch

import lsef_plugins  # noqa: F401
from lsef_plugins.engine import robustness
from lsef_plugins.engine.launch import LaunchError

STEPS = [dict(type='DecordInit'), dict(type='SampleFrames', clip_len=8), dict(type='DecordDecode'),
         dict(type='Resize', scale=(32, 32)), dict(type='PackActionInputs')]


def test_the_corruption_comes_right_behind_the_step_that_decodes_and_changes_nothing_else():
    changed = robustness.with_corruption(STEPS, 'flicker', 4, seed=7)
    assert changed[3] == dict(type='VideoCorruption', kind='flicker', severity=4, seed=7)
    assert changed[:3] + changed[4:] == STEPS
    changed[0]['type'] = 'other'
    assert STEPS[0]['type'] == 'DecordInit'


def test_a_pipeline_that_decodes_nothing_is_refused():
    with pytest.raises(LaunchError, match='No step of the test pipeline decodes.*PackActionInputs'):
        robustness.with_corruption(STEPS[3:], 'flicker', 1)


@pytest.fixture(scope='module')
def trained(tmp_path_factory, tiny_config):
    """A config file with the neck, and weights of it."""
    from mmaction.registry import MODELS
    from mmengine.registry import init_default_scope
    folder = tmp_path_factory.mktemp('robustness')
    cfg = tiny_config(folder / 'work', model=dict(neck=dict(type='LSEFNeck')),
                      test_evaluator=dict(_delete_=True, type='AverageRecallMetric'))
    path = folder / 'config.py'
    cfg.dump(str(path))
    init_default_scope('mmaction')
    torch.manual_seed(0)
    torch.save(dict(state_dict=MODELS.build(cfg.model).state_dict(), meta={}), folder / 'weights.pth')
    return path, folder / 'weights.pth'


def test_conditions_are_measured_once_and_saved_one_by_one(trained, tmp_path, capsys):
    config, weights = trained
    out = tmp_path / 'deep' / 'found.json'
    first = robustness.measure(str(config), str(weights), ['black_frames'], [3], str(out), str(tmp_path / 'w'))
    assert list(first['conditions']) == ['clean', 'black_frames/3']
    assert 0 <= first['conditions']['clean']['acc/war'] <= 1
    saved = json.loads(out.read_text())
    assert saved == first
    saved['conditions']['clean']['acc/war'] = 0.123  # what is there is believed, not measured again
    out.write_text(json.dumps(saved))
    capsys.readouterr()
    second = robustness.measure(str(config), str(weights), ['black_frames', 'flicker'], [3], str(out),
                                str(tmp_path / 'w'))
    assert second['conditions']['clean']['acc/war'] == 0.123
    assert list(second['conditions']) == ['clean', 'black_frames/3', 'flicker/3']
    assert '[1/1] flicker/3' in capsys.readouterr().out
    assert not [path for path in out.parent.iterdir() if path.name != out.name]


def test_results_of_others_are_not_overwritten(trained, tmp_path):
    out = tmp_path / 'found.json'
    out.write_text(json.dumps(dict(fingerprint='other', checkpoint='theirs.pth', conditions={})))
    with pytest.raises(LaunchError, match=r'found\.json holds results of theirs\.pth.*another name'):
        robustness.measure(str(trained[0]), str(trained[1]), ['flicker'], [3], str(out), str(tmp_path / 'w'))
    out.write_text('{half')
    with pytest.raises(LaunchError, match='is no file of results'):
        robustness.measure(str(trained[0]), str(trained[1]), ['flicker'], [3], str(out), str(tmp_path / 'w'))


def test_other_weights_are_another_experiment(trained, tmp_path):
    config, weights = trained
    from lsef_plugins.engine.launch import read_config
    cfg = read_config(str(config), None, 'none', None)
    other = tmp_path / 'other.pth'
    other.write_bytes(weights.read_bytes() + b'\0')
    same, changed = (robustness.fingerprint_of(cfg, str(path)) for path in (weights, other))
    assert same == robustness.fingerprint_of(cfg, str(weights)) != changed
    cfg.model.neck.rank = 3
    assert robustness.fingerprint_of(cfg, str(weights)) != same


@pytest.mark.parametrize('kinds, severities, message', [
    (['sneeze'], [3], 'sneeze'), (['flicker'], [6], '6')])
def test_what_cannot_be_measured_is_refused_before_anything_is_built(kinds, severities, message, trained):
    with pytest.raises(ValueError, match=message):
        robustness.measure(str(trained[0]), str(trained[1]), kinds, severities)
    with pytest.raises(LaunchError, match=r'gone\.pth does not exist'):
        robustness.measure(str(trained[0]), 'gone.pth', ['flicker'])
