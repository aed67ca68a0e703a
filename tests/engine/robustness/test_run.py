"""Tests under corruption: the config's own pipeline and metrics, every condition measured once."""
import json
import pickle

import numpy as np
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
    second['clips'] = dict(count=9, digest='others')        # its list is the same file, what that names is not
    out.write_text(json.dumps(second))
    with pytest.raises(LaunchError, match=r'found.json holds results of another test set \(9 clips, now 4; '):
        robustness.measure(str(config), str(weights), ['jpeg'], [3], str(out), str(tmp_path / 'w'))
    assert json.loads(out.read_text()) == second


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
    (['sneeze'], [3], 'sneeze'), (['flicker'], [6], '6'), (['flicker'], [True], 'True'), (['flicker'], ['3'], "'3'")])
def test_what_cannot_be_measured_is_refused_before_anything_is_built(kinds, severities, message, trained):
    with pytest.raises(ValueError, match=message):
        robustness.measure(str(trained[0]), str(trained[1]), kinds, severities)
    with pytest.raises(LaunchError, match=r'gone\.pth does not exist'):
        robustness.measure(str(trained[0]), 'gone.pth', ['flicker'])


def changed(trained, tmp_path, **changes):
    """The path of the trained config with changes merged in."""
    from mmengine.config import Config
    cfg = Config.fromfile(str(trained[0]))
    cfg.merge_from_dict(changes)
    cfg.dump(str(tmp_path / 'changed.py'))
    return str(tmp_path / 'changed.py')


def test_weights_that_would_be_random_are_refused(trained, tmp_path):
    """MMEngine loads what fits and warns of the rest."""
    state, path = torch.load(trained[1])['state_dict'], tmp_path / 'other.pth'
    bare = changed(trained, tmp_path, **{'model.neck': None})
    stock = {name: value for name, value in state.items() if not name.startswith('neck')}
    for config, weights, words in (
            (trained[0], stock, r'other\.pth has no weights of the neck .* trained without one\. Train config\.py'),
            (trained[0], {**state, 'cls_head.fc_cls.bias': torch.zeros(9)}, r'size mismatch for cls_head\.fc_cls'),
            (trained[0], {'module.fc.bias': torch.zeros(9)}, r'does not fit .* weights are missing'),
            (bare, state, r'has a neck .* and .*changed\.py has none')):
        torch.save(dict(state_dict=weights), path)
        with pytest.raises(LaunchError, match=words):
            robustness.measure(str(config), str(path), ['jpeg'], [1], work_dir=str(tmp_path / 'w'))
    torch.save({f'module.{name}': value for name, value in stock.items()}, path)
    assert robustness.measure(bare, str(path), ['jpeg'], [1], work_dir=str(tmp_path / 'w'))['clips']['count'] == 4


def test_severity_zero_and_repetitions_are_no_conditions_of_their_own(trained, tmp_path):
    found = robustness.measure(str(trained[0]), str(trained[1]), ['jpeg', 'jpeg'], [0, 5, 5],
                               work_dir=str(tmp_path / 'w'))
    assert list(found['conditions']) == ['clean', 'jpeg/5']
    assert found['clips']['count'] == 4 and found['windows'] == {
        'count': 1, 'left_out': 'SampleFrames takes one clip of a video; --windows N takes N'}
    assert 'flip_rate' not in found['conditions']['clean']


def test_each_condition_reaches_the_pictures(trained, tmp_path, monkeypatch):
    """What the model sees differs from clean in the way the condition says, and clean is the config's own test."""
    from mmaction.models import ActionDataPreprocessor
    seen, stock = [], ActionDataPreprocessor.forward
    monkeypatch.setattr(ActionDataPreprocessor, 'forward', lambda self, data, training=False: (
        seen.append(torch.stack(list(data['inputs'])).clone()), stock(self, data, training))[1])
    robustness.measure(str(trained[0]), str(trained[1]), ['black_frames', 'light_drift'], [4],
                       work_dir=str(tmp_path / 'w'))
    clean, black, light = (torch.cat(seen[i:i + 2]).float() for i in (0, 2, 4))     # (clips, 1, 3, t, h, w)
    assert (black.amax((1, 2, 4, 5)) == 0).sum(1).tolist() == [2] * 4, 'a quarter of eight frames'
    kept = black.amax((1, 2, 4, 5)) > 0
    assert ((black - clean).abs().amax((1, 2, 4, 5)) == 0)[kept].all()
    gain = light.mean((1, 2, 4, 5)) / clean.mean((1, 2, 4, 5))
    assert (gain.amax(1) > 1.2).any() and (gain.amin(1) < 0.8).any()


def test_the_flip_rate_is_that_of_the_views_the_config_itself_gives(trained, tmp_path):
    """Against MMAction2's own scores of views: average_clips=None, dumped."""
    from lsef_plugins.engine import launch
    path = changed(trained, tmp_path)
    views = {'model.cls_head.average_clips': None, 'test_dataloader.dataset.pipeline.1.num_clips': 5}

    def of_views(weights, condition):
        """Scores (videos, windows, classes)."""
        cfg = launch.read_config(path, str(tmp_path / 'w'), 'none', dict(views))
        if condition:
            cfg.test_dataloader.dataset.pipeline = robustness.with_corruption(cfg.test_dataloader.dataset.pipeline,
                                                                              *condition)
        cfg.load_from, dump = str(weights), tmp_path / 'views.pkl'
        cfg.test_evaluator = dict(type='DumpResults', out_file_path=str(dump))
        launch.build_runner(cfg).test()
        return np.stack([each['pred_score'].numpy() for each in pickle.loads(dump.read_bytes())])

    # An untrained model says one class of everything: move its bias into the middle of its scores.
    scores, weights = of_views(trained[1], None), torch.load(trained[1])
    weights['state_dict']['cls_head.fc_cls.bias'][1] += float(np.median(scores[..., 0] - scores[..., 1]))
    torch.save(weights, tmp_path / 'balanced.pth')
    found = robustness.measure(path, str(tmp_path / 'balanced.pth'), ['gaussian_noise'], [1],
                               work_dir=str(tmp_path / 'w'), windows=5)
    assert found['windows'] == {'count': 5, 'left_out': ''}
    for name, condition in (('clean', None), ('gaussian_noise/1', ('gaussian_noise', 1))):
        classes = of_views(tmp_path / 'balanced.pth', condition).argmax(-1)
        assert classes.shape == (4, 5)
        assert found['conditions'][name]['flip_rate'] == pytest.approx((classes[:, 1:] != classes[:, :-1]).mean())
    assert found['conditions']['clean']['flip_rate'] > 0


@pytest.mark.parametrize('changes, windows, words', [
    (dict(test_dataloader=dict(dataset=dict(pipeline=[dict(type='DecordInit'), dict(
        type='SampleFrames', clip_len=1, num_clips=8), dict(type='DecordDecode')]))), 3, '--windows 3: SampleFrames'),
    ({}, 0, '--windows 0.*at least 1'), (dict(test_evaluator=None), None, 'describes no test'),
    (dict(test_dataloader=dict(dataset=dict(_delete_=True, type='RepeatDataset', times=1))), None,
     r'RepeatDataset\) has no pipeline')])
def test_a_config_that_cannot_be_corrupted_is_told_why(changes, windows, words, trained, tmp_path):
    with pytest.raises(LaunchError, match=words):
        robustness.measure(changed(trained, tmp_path, **changes), str(trained[1]), ['jpeg'], [1],
                           work_dir=str(tmp_path / 'w'), windows=windows)


def test_a_reference_is_looked_at_before_the_clips(trained, tmp_path, capsys):
    reference = dict(conditions={'clean': {}, 'jpeg/2': {}}, clips=dict(count=9, digest='others'), file='r.json')
    arguments = (str(trained[0]), str(trained[1]), ['jpeg'])
    with pytest.raises(LaunchError, match=r'The reference r\.json lacks jpeg/3, jpeg/5\. Measure it'):
        robustness.measure(*arguments, [2, 3, 5], work_dir=str(tmp_path / 'w'), reference=reference)
    with pytest.raises(LaunchError, match=r'r\.json was measured on other clips or labels \(9 clips, here 4\)'):
        robustness.measure(*arguments, [2], work_dir=str(tmp_path / 'w'), reference=reference)
    assert '[1/' not in capsys.readouterr().out


class Clips(list):
    """The part of a data set that is asked."""

    def get_data_info(self, index):
        return self[index]


def test_other_labels_names_or_windows_are_other_clips_and_other_folders_are_not():
    def digest(*clips):
        return robustness.run.clips_of(Clips(dict(filename=name, label=label, **more) for name, label, more in clips))
    first = [('root/val/a.mp4', 0, {}), ('root/val/b.mp4', 1, {})]
    same = digest(('/elsewhere/val/a.mp4', 0, {}), ('/elsewhere/val/b.mp4', 1, {}))
    assert digest(*first) == same and same['count'] == 2
    others = [first[:1], first[::-1], [first[0], ('root/val/b.mp4', 0, {})], [first[0], ('root/val/c.mp4', 1, {})],
              [first[0], ('root/val/b.mp4', 1, dict(frame_index=8))]]
    others += [[first[0], ('root/val/b.mp4', 1, dict(valence_arousal=np.array(pair)))] for pair in ([0, .5], [.5, 0])]
    assert len({digest(*clips)['digest'] for clips in (first, *others)}) == 8


def test_a_tested_rating_that_changes_is_another_test_set(tmp_path):
    from lsef_plugins.datasets import VEATICDataset
    from lsef_plugins.datasets.synthetic.layouts import write_layout
    write_layout('veatic', tmp_path / 'veatic', 1)
    path, = (tmp_path / 'veatic').rglob('*_arousal.csv')
    rows = path.read_text().splitlines()

    def digest(changed=None):
        lines = list(rows)
        if changed is not None:
            lines[changed] = lines[changed].rpartition(',')[0] + ',-0.125'
        path.write_text('\n'.join(lines) + '\n')
        return robustness.run.clips_of(VEATICDataset([], str(tmp_path / 'veatic'), split='test'))['digest']

    assert digest(len(rows) - 1) != digest() == digest(0)       # the last frame is tested, the first is trained on


@pytest.mark.parametrize('workers', (0, 1))
@pytest.mark.parametrize('content, words', [
    (None, r'gone\.mp4'), (b'not a video at all', 'A video cannot be decoded')])
def test_a_clip_that_cannot_be_read_is_told_in_one_line(content, words, workers, trained, tiny_videos, tmp_path):
    lines = tiny_videos.ann_val.read_text().splitlines()
    (tmp_path / 'list.txt').write_text('\n'.join([lines[0].replace('clip_0', str(tmp_path / 'gone')), *lines[1:]]))
    if content is not None:
        (tmp_path / 'gone.mp4').write_bytes(content)
    with pytest.raises(LaunchError, match=words) as caught:
        robustness.measure(str(trained[0]), str(trained[1]), ['jpeg'], [1], work_dir=str(tmp_path / 'w'), options={
            'test_dataloader.dataset.ann_file': str(tmp_path / 'list.txt'), 'test_dataloader.num_workers': workers})
    assert '\n' not in str(caught.value) and 'Traceback' not in str(caught.value)


def test_a_fault_of_a_program_keeps_its_traceback(trained, tmp_path, monkeypatch):
    def broken(*arguments):
        raise RuntimeError('a bug')
    monkeypatch.setattr(robustness.run, '_loop', broken)
    with pytest.raises(RuntimeError, match='a bug'):
        robustness.measure(str(trained[0]), str(trained[1]), ['jpeg'], [1], work_dir=str(tmp_path / 'w'))


def test_what_is_to_be_summarised_is_looked_for_after_the_clean_clips(trained, tmp_path, capsys):
    out = tmp_path / 'r.json'
    arguments = (str(trained[0]), str(trained[1]), ['jpeg'], [1, 2], str(out), str(tmp_path / 'w'))
    for _ in range(2):          # measured, and known from the file
        with pytest.raises(LaunchError, match='--metric acc/typo is not among the metrics of the test: acc/war'):
            robustness.measure(*arguments, check=lambda result: robustness.chosen_metric(result, 'acc/typo'))
        assert list(json.loads(out.read_text())['conditions']) == ['clean']
    assert capsys.readouterr().out.count('[1/3] clean') == 1
