"""A decomposition that finds what was planted scores perfect; each error lowers the score it belongs to."""
import json

import numpy as np
import pytest
import torch

import lsef_plugins  # noqa: F401
from lsef_plugins.datasets.synthetic import PRESETS, generate, load_truth
from lsef_plugins.evaluation.functional import energy_inside, separation, subspace_angles
from lsef_plugins.evaluation.metrics import DecompositionRecoveryMetric
from lsef_plugins.evaluation.metrics.decomposition_recovery import mean_of_frames

T = 16
SLOW = np.linspace(-1, 1, T)
EVENT = np.where((np.arange(T) >= 6) & (np.arange(T) <= 9), 1., 0.)


def planted(event=EVENT, slow=SLOW, clips=1):
    """Planted curves of a clip whose base is one slow curve in two actions, and whose event is in a third."""
    stable = np.stack([slow, .5 * slow, 0 * slow], 1)
    transient = np.stack([0 * event, 0 * event, event], 1)
    return dict(stable=np.stack([stable] * clips), transient=np.stack([transient] * clips),
                blink=np.zeros((clips, T, 1)))


def found(event=EVENT, curves=None, gate=None, views=1, **drifts):
    """A decomposition of it that is right unless something else is given."""
    curves = np.stack([1 + .1 * SLOW, 1 - .3 * SLOW], 1) if curves is None else curves
    one = dict(stable=np.ones(T), transient=1e-6 + event, residual=np.full(T, 1e-8),
               frame_gate=np.zeros(T) if gate is None else gate, curves=curves)
    return {**{name: np.stack([value] * views) for name, value in one.items()}, **drifts}


def score(samples, size=None, **options):
    metric = DecompositionRecoveryMetric(**options)
    metric.process(None, samples)
    return metric.evaluate(size or len(samples))


def sample(decomposition=None, truth=None, place='neck', **meta):
    return dict(decomposition={place: decomposition or found()}, planted=truth or planted(), **meta)


def test_what_was_planted_scores_perfect():
    quiet = sample(found(event=0 * EVENT), planted(event=0 * EVENT))
    scores = score([sample(), quiet])
    perfect = dict.fromkeys((
        'stable_captured', 'stable_explained', 'frame_precision', 'frame_recall', 'frame_iou', 'event_precision',
        'event_recall', 'event_f1', 'event_separation', 'event_clips'), 1)
    nothing = dict.fromkeys(('stable_angle', 'stable_angle_mean', 'false_event_ratio', 'false_events',
                             'gate_in_events', 'gate_elsewhere'), 0)
    assert scores == pytest.approx({f'recovery/{name}': value for name, value in
                                    dict(perfect, **nothing, clips=2).items()}, abs=1e-6)


def test_the_decomposition_itself_recovers_planted_features():
    """LSEF on planted features, its summary as the hook makes it: near perfect in every score."""
    from lsef_plugins.engine.hooks.decomposition_tap_hook import summary_of
    from lsef_plugins.nn import LSEF
    from lsef_plugins.nn.listening import Listener
    generator = torch.Generator().manual_seed(0)
    patterns = torch.randn(3, 24 * 36, generator=generator)
    patterns[2] *= torch.rand(24 * 36, generator=generator) < .15         # an event is in few places
    slow, event = torch.tensor(SLOW).float(), torch.tensor(EVENT).float()
    samples = []
    for strength in (3., 0.):
        x = 6 * patterns[0] + slow[:, None] * 3 * patterns[1] + strength * event[:, None] * patterns[2]
        x = x + .1 * torch.randn(T, 24 * 36, generator=generator)
        heard, lsef = [], LSEF(24)
        listener = Listener(lsef, lambda place, each, heard=heard: heard.append(each))
        listener.open()
        lsef(x.view(T, 24, 6, 6).transpose(0, 1)[None])
        summary = {name: value.double().numpy() for name, value in summary_of(heard[0]).items()}
        samples.append(sample(summary, planted(event=EVENT * (strength > 0))))
    scores = score(samples)
    assert scores['recovery/stable_angle'] < .5 and scores['recovery/stable_explained'] > .999
    assert scores['recovery/frame_iou'] == scores['recovery/event_f1'] == scores['recovery/event_separation'] == 1
    assert scores['recovery/false_events'] == 0 and scores['recovery/gate_in_events'] < .05


def test_the_angle_is_that_of_the_worst_direction_and_a_missing_one_is_not_forgiven():
    tilted = np.stack([np.ones(T), np.cos(.4) * SLOW / np.linalg.norm(SLOW) + np.sin(.4) * QUICK], 1)
    scores = score([sample(found(curves=tilted))])
    assert scores['recovery/stable_angle'] == pytest.approx(np.degrees(.4))
    assert scores['recovery/stable_angle_mean'] == pytest.approx(np.degrees(.4) / 2)
    assert scores['recovery/stable_captured'] == pytest.approx(np.cos(.4) ** 2)
    assert scores['recovery/stable_explained'] == pytest.approx(np.cos(.4) ** 2)
    alone = score([sample(found(curves=np.ones((T, 1))))])
    assert alone['recovery/stable_angle'] == pytest.approx(90) and alone['recovery/stable_captured'] < 1e-9
    nothing = score([sample(found(curves=np.zeros((T, 2))))])
    assert nothing['recovery/stable_angle_mean'] == pytest.approx(90)
    assert np.isnan(nothing['recovery/stable_explained'])


# A curve of norm one that is neither slow nor constant.
QUICK = np.cos(np.pi * np.arange(T)) - np.polyval(np.polyfit(SLOW, np.cos(np.pi * np.arange(T)), 1), SLOW)
QUICK /= np.linalg.norm(QUICK)


def test_scale_and_mixture_of_what_was_found_and_planted_do_not_matter():
    rng = np.random.default_rng(0)
    curves = rng.normal(size=(T, 2))
    expected = score([sample(found(curves=curves))])
    for changed in (sample(found(curves=1e6 * curves)), sample(found(curves=curves[:, ::-1])),
                    sample(found(curves=curves), planted(slow=-7 * SLOW)),
                    sample({**found(curves=curves), 'transient': 9 * found()['transient'],
                            'residual': 9 * found()['residual']})):
        scores = score([changed])
        # What is explained depends on how the energies of the found curves are shared out, not on their order.
        assert scores == pytest.approx(expected, abs=1e-6, nan_ok=True)


def test_a_shifted_event_is_half_right_and_a_second_one_is_false():
    shifted = np.roll(EVENT, 2)
    scores = score([sample(found(event=shifted))])
    assert scores['recovery/frame_precision'] == scores['recovery/frame_recall'] == .5
    assert scores['recovery/frame_iou'] == pytest.approx(1 / 3) and scores['recovery/event_f1'] == 0
    assert score([sample(found(event=shifted))], min_iou=.3)['recovery/event_f1'] == 1
    twice = EVENT + np.where(np.arange(T) >= 14, 1., 0.)
    scores = score([sample(found(event=twice))])
    assert scores['recovery/event_recall'] == 1 and scores['recovery/event_precision'] == .5
    assert scores['recovery/frame_precision'] == pytest.approx(4 / 6) and scores['recovery/frame_recall'] == 1


def test_false_events_are_counted_in_clips_without_any():
    quiet = planted(event=0 * EVENT)
    two = EVENT + np.where(np.arange(T) >= 14, 1., 0.)
    scores = score([sample(), sample(found(event=two), quiet), sample(found(event=0 * EVENT), quiet),
                    sample(found(event=EVENT), quiet), sample(found(event=0 * EVENT), quiet)])
    assert scores['recovery/false_event_ratio'] == .5 and scores['recovery/false_events'] == .75
    assert scores['recovery/event_clips'] == 1 and scores['recovery/clips'] == 5
    assert scores['recovery/event_precision'] == pytest.approx(1 / 4) and scores['recovery/event_recall'] == 1
    assert np.isnan(score([sample()])['recovery/false_event_ratio'])


def test_gates_are_told_apart_by_where_they_are():
    gate = np.where(EVENT > 0, .5, .1)
    gate[0] = 0
    scores = score([sample(found(gate=gate)), sample(found(gate=0 * gate))])
    assert scores['recovery/gate_in_events'] == .25
    assert scores['recovery/gate_elsewhere'] == pytest.approx(1.1 / 24)


def test_a_faint_movement_is_no_event_and_what_counts_as_one_can_be_said():
    faint = planted(event=.2 * EVENT)
    assert score([sample(truth=faint)])['recovery/event_clips'] == 0
    assert score([sample(truth=faint)], event_level=.15)['recovery/event_f1'] == 1
    blink = {**planted(event=0 * EVENT), 'blink': np.where(np.arange(T) == 3, -1.6, 0.)[None, :, None]}
    assert score([sample(truth=blink)])['recovery/event_clips'] == 0
    assert score([sample(truth=blink)], transient=('transient', 'blink'))['recovery/event_clips'] == 1


def test_more_may_be_asked_of_the_stable_part():
    truth = {**planted(), 'pose': QUICK[None, :, None]}
    assert score([sample(truth=truth)])['recovery/stable_angle'] < 1e-5
    assert score([sample(truth=truth)], stable=('stable', 'pose'))['recovery/stable_angle'] == pytest.approx(90)


def test_the_first_view_is_scored_or_all_of_them_each_with_the_truth_of_its_clip():
    """Two clips in two crops: crop by crop, clip by clip; the events of the second clip are elsewhere."""
    late = np.roll(EVENT, 4)
    truth = {name: np.concatenate([planted()[name], planted(event=late)[name]]) for name in planted()}
    views = [found(event=event) for event in (EVENT, late, EVENT, late)]
    both = {name: np.concatenate([view[name] for view in views]) for name in views[0]}
    scores = score([sample(both, truth)], views='all')
    assert scores['recovery/frame_iou'] == 1 and scores['recovery/clips'] == 4
    assert score([sample(both, truth)])['recovery/clips'] == 1
    swapped = {name: value[[1, 0, 3, 2]] for name, value in both.items()}
    assert score([sample(swapped, truth)], views='all')['recovery/frame_iou'] == 0


def test_twins_are_not_scored_against_the_truth_and_their_drift_is_averaged_over_clips():
    views = [found(), found(event=0 * EVENT, curves=np.zeros((T, 2)))]
    both = {name: np.concatenate([view[name] for view in views]) for name in views[0]}
    samples = [sample({**both, 'stable_drift': np.array([.1]), 'feature_drift': np.array([.5])}, clean_clips=1),
               sample({**both, 'stable_drift': np.array([.3]), 'feature_drift': np.array([.7])}, clean_clips=1)]
    scores = score(samples, views='all')
    assert scores['recovery/clips'] == 2 and scores['recovery/frame_iou'] == 1
    assert scores['recovery/stable_drift'] == pytest.approx(.2)
    assert scores['recovery/feature_drift'] == pytest.approx(.6)
    for each in samples:
        del each['planted']
    assert score(samples) == pytest.approx({'recovery/stable_drift': .2, 'recovery/feature_drift': .6})


def test_frames_of_a_shorter_map_have_the_mean_of_the_frames_they_cover():
    curves = np.arange(12.).reshape(6, 2)
    assert np.array_equal(mean_of_frames(curves, 6), curves)
    assert mean_of_frames(curves, 2).tolist() == [[2, 3], [8, 9]]
    expected = torch.nn.functional.adaptive_avg_pool1d(torch.tensor(curves.T)[None], 4)[0].T
    assert np.allclose(mean_of_frames(curves, 4), expected)
    short = {name: value[:, ::2] for name, value in found().items()}
    short['transient'] = np.array([[0, 0, 0, 1., 1., 1., 0, 0]])
    truth = planted(event=np.roll(EVENT, 1))            # frames 7 to 10: half of 6 and 7, 8 and 9, half of 10 and 11
    assert score([sample(short, truth)], event_level=.4)['recovery/frame_iou'] == 1
    assert score([sample(short, truth)], event_level=.6)['recovery/frame_iou'] == pytest.approx(1 / 3)


def test_several_places_have_names_of_their_own():
    two = dict(decomposition={'neck.0': found(), 'neck.1': found(event=0 * EVENT)}, planted=planted())
    scores = score([two])
    assert scores['recovery/neck.0/frame_recall'] == 1 and scores['recovery/neck.1/frame_recall'] == 0


@pytest.mark.parametrize('change, options, words', [
    (dict(decomposition=None), {}, "needs decomposition.*type='DecompositionTapHook'.*custom_hooks"),
    (dict(planted=None), {}, "meta keys 'planted'.*LoadPlantedTruth.*PackAffectInputs.*meta_keys"),
    ({}, dict(transient=('sneeze', )), 'no planted curves named sneeze.*blink, stable, transient'),
    (dict(decomposition={'neck': {name: np.repeat(value, 2, 1) for name, value in found().items()}}), {},
     r'neck has 1 view\(s\) of 32 frames of a sample whose planted curves are 1 clip\(s\) of 16.*num_segments'),
    (dict(planted=planted(clips=2)), {}, r'1 view\(s\) of 16 frames.*2 clip\(s\)')])
def test_what_is_missing_is_told(change, options, words):
    with pytest.raises(ValueError, match=words):
        score([{**sample(), **change}], **options)


@pytest.mark.parametrize('options, words', [
    (dict(views='last'), "views is 'first'.*got 'last'"), (dict(min_iou=0), 'min_iou is above 0'),
    (dict(event_level=0), 'event_level and event_kappa are positive'), (dict(stable='stable'), "stable names planted"),
    (dict(transient=()), 'transient names planted')])
def test_wrong_options_are_told(options, words):
    with pytest.raises(ValueError, match=words):
        DecompositionRecoveryMetric(**options)


def test_an_empty_evaluation_is_told():
    with pytest.raises(ValueError, match='given no samples'):
        DecompositionRecoveryMetric().compute_metrics([])


@pytest.fixture(scope='module')
def faces(tmp_path_factory):
    import dataclasses
    preset = dataclasses.replace(PRESETS['default'], name='tiny', size=32)
    return generate(preset, tmp_path_factory.mktemp('faces'), (8, 7), workers=1, progress=False)


def face_config(tiny_config, faces, work_dir, steps=(), clips=1, crops=False, pack='PackAffectInputs', hook=True):
    cfg = tiny_config(work_dir, model=dict(neck=dict(type='LSEFNeck')), train_cfg=dict(max_epochs=1))
    sampler = dict(type='SampleFrames', clip_len=8, frame_interval=3, out_of_bound_opt='repeat_last')
    pipelines = []
    for test in (False, True):
        twins = list(steps) if test else []
        crop = [dict(type='ThreeCrop', crop_size=32)] if test and crops else []
        sampled = dict(sampler, test_mode=test, num_clips=clips if test else 1)
        pipelines.append([dict(type='DecordInit'), sampled, dict(type='LoadPlantedTruth'), dict(type='DecordDecode'),
                          *twins, *crop, dict(type='FormatShape', input_format='NCTHW'), dict(type=pack)])
    for loader, pipeline, split in ((cfg.train_dataloader, pipelines[0], 'train'), (cfg.val_dataloader, pipelines[1],
                                                                                    'val')):
        loader.dataset.update(ann_file=str(faces / f'{split}.txt'), data_prefix=dict(video=str(faces / 'videos')),
                              pipeline=pipeline)
    cfg.test_dataloader = cfg.val_dataloader
    cfg.model.cls_head.num_classes = 7
    cfg.val_evaluator = cfg.test_evaluator = [dict(type='AverageRecallMetric'), dict(
        type='DecompositionRecoveryMetric', views='all')]
    cfg.custom_hooks = [dict(type='DecompositionTapHook')] if hook else []
    return cfg


def runner_of(cfg):
    from mmengine.runner import Runner
    return Runner.from_cfg(cfg)


@pytest.mark.parametrize('clips, crops', [(1, False), (2, True)])
def test_a_run_scores_every_clip_against_the_truth_of_its_own_frames(tiny_config, faces, tmp_path, clips, crops):
    """Validation within a training; the angles are computed again from the truth files and the neck's own input."""
    runner, caught = runner_of(face_config(tiny_config, faces, tmp_path, clips=clips, crops=crops)), []
    handle = runner.model.neck.register_forward_pre_hook(
        lambda module, args: None if module.training else caught.append(args[0].detach()))
    runner.train()
    handle.remove()
    [path] = tmp_path.rglob('scalars.json')
    scores = [json.loads(line) for line in path.read_text().splitlines()][-1]
    maps = torch.cat(caught)
    views = clips * (3 if crops else 1)
    assert len(maps) == 7 * views == scores['recovery/clips'] and 'acc/uar' in scores
    with torch.no_grad():
        parts = runner.model.neck.streams[0].decompose(maps)
    stable, strength = parts.stable, parts.transient.double().square().sum((1, 3, 4)).numpy()
    starts = [5] if clips == 1 else [0, 10]             # SampleFrames: a clip spans 22 of 32 frames
    angles, captured, ranks = [], [], []
    for index in range(7):
        truth = load_truth(faces / 'truth' / 'val' / f'{index:05d}.npz')
        for view in range(views):
            inside = starts[view % clips] + 3 * np.arange(8)
            rows = stable[index * views + view].transpose(0, 1).flatten(1).double().numpy()
            left = np.linalg.svd(rows)[0][:, :2]
            angles.append(subspace_angles(np.c_[np.ones(8), truth.base[inside]], left).max())
            captured.append(energy_inside(truth.base[inside] - truth.base[inside].mean(0), left))
            mask = np.linalg.norm(truth.transient[inside], axis=1) >= .25
            ranks.append(separation(strength[index * views + view], mask))
    assert scores['recovery/stable_angle'] == pytest.approx(np.mean(angles), abs=.01)
    assert scores['recovery/stable_captured'] == pytest.approx(np.mean(captured), abs=1e-4)
    assert scores['recovery/event_separation'] == pytest.approx(np.nanmean(ranks), abs=1e-4)
    assert scores['recovery/event_clips'] == np.isfinite(ranks).sum() > 0


def test_twins_of_a_run_drift_and_the_test_loop_scores_as_well(tiny_config, faces, tmp_path):
    drifts = []
    for severity in (0, 5):
        twin = dict(type='CleanTwin', corruption=dict(type='NoiseBurst', severity=severity))
        scores = runner_of(face_config(tiny_config, faces, tmp_path / str(severity), [twin])).test()
        assert scores['recovery/clips'] == 7
        drifts.append((scores['recovery/stable_drift'], scores['recovery/feature_drift']))
    assert drifts[0] == pytest.approx((0, 0), abs=1e-9) and min(drifts[1]) > 1e-6


@pytest.mark.parametrize('change, words', [(dict(pack='PackActionInputs'), "needs the meta keys 'planted'"),
                                           (dict(hook=False), "DecompositionTapHook'.*to custom_hooks")])
def test_a_run_without_the_truth_or_the_hook_is_told(tiny_config, faces, tmp_path, change, words):
    with pytest.raises(ValueError, match=words):
        runner_of(face_config(tiny_config, faces, tmp_path, **change)).test()


WORKER = '''
import json
import sys
import numpy as np
import lsef_plugins
from mmengine.dist import get_rank, init_dist
from lsef_plugins.evaluation.metrics import DecompositionRecoveryMetric
init_dist('pytorch', backend='gloo')
samples = np.load(sys.argv[1], allow_pickle=True)['samples'].tolist()
metric = DecompositionRecoveryMetric()
mine = samples[get_rank()::2]
if len(samples) % 2 and get_rank() == 1:
    mine.append(samples[0])                 # what a distributed sampler repeats
metric.process(None, mine)
found = metric.evaluate(len(samples))
print('RESULT' + json.dumps(found))
'''


@pytest.mark.slow
def test_processes_score_the_data_set_as_one_does(two_processes, tmp_path):
    rng = np.random.default_rng(0)
    samples = [sample(found(event=np.roll(EVENT, int(rng.integers(4))) * (rng.random() < .8),
                            curves=rng.normal(size=(T, 2)), gate=rng.random(T)),
                      planted(event=EVENT * (rng.random() < .7))) for _ in range(9)]
    np.savez(tmp_path / 'samples.npz', samples=np.array(samples, dtype=object))
    first, second = two_processes(WORKER, tmp_path / 'samples.npz')
    assert first == pytest.approx(score(samples)) and second == first
