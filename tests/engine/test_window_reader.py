"""A recognizer reads a window as its own test pipeline would, and says what does not fit."""
import copy

import numpy as np
import pytest
import torch

from lsef_plugins.engine.recognizers import split_pipeline
from lsef_plugins.visualization.sliding import FrameWindows, plan_windows
from lsef_plugins.visualization.source import open_source
from lsef_plugins.visualization.timeline import numbers_of, read_timeline

NECK = dict(type='LSEFNeck', rank=3)


SEGMENTS = dict(
    _delete_=True, type='Recognizer2D', neck=dict(type='LSEFNeck'),
    backbone=dict(type='ResNet', depth=18, norm_eval=False),
    cls_head=dict(type='TSNHead', num_classes=2, in_channels=512, consensus=dict(type='AvgConsensus', dim=1)),
    data_preprocessor=dict(type='ActionDataPreprocessor', mean=[114.75] * 3, std=[57.375] * 3, format_shape='NCHW'))


def of_segments(config, **sampler):
    steps = config.test_dataloader.dataset.pipeline
    steps[1] = dict(type='SampleFrames', clip_len=1, frame_interval=1, num_clips=6, test_mode=True, **sampler)
    steps[4]['input_format'] = 'NCHW'


@pytest.fixture(scope='module')
def reader_of(tiny_config, tmp_path_factory):
    """A reader of a changed tiny config, its checkpoint's weights included."""
    from lsef_plugins.register_all import register_all
    register_all()
    from lsef_plugins.engine.window_reader import RecognizerReader

    def build(change=lambda config: None, model=dict(neck=NECK), state=None, **options):   # noqa: B006
        folder = tmp_path_factory.mktemp('reader')
        config = tiny_config(folder, model=copy.deepcopy(model))     # it takes the marks of what it merges away
        change(config)
        config.dump(folder / 'config.py')
        if state is not None:
            torch.save(state, folder / 'weights.pth')
            options['checkpoint'] = str(folder / 'weights.pth')
        return RecognizerReader(str(folder / 'config.py'), **options)
    return build


@pytest.fixture(scope='module')
def frames(tiny_videos):
    return open_source(tiny_videos.root / 'clip_0.mp4').read(range(24))


def test_a_window_is_what_the_whole_test_pipeline_makes_of_it(reader_of, tiny_videos, frames):
    from mmengine.dataset import Compose, pseudo_collate
    reader = reader_of()
    assert reader.sampling(24, 25.) == (8, 2)
    indices = np.arange(4, 20, 2)           # what SampleFrames takes from the middle of 24
    reading = reader([frames[i] for i in indices], indices)
    cfg = reader.recognizer.cfg
    results = Compose(cfg.test_pipeline)(dict(filename=str(tiny_videos.root / 'clip_0.mp4'), label=-1, start_index=0,
                                              modality='RGB'))
    with torch.no_grad():
        sample, = reader.recognizer.test_step(pseudo_collate([results]))
    torch.testing.assert_close(reading.probabilities, sample.pred_score.double().numpy(), check_dtype=False)
    assert reading.probabilities.sum() == pytest.approx(1) and reading.ratings is None
    assert np.array_equal(reading.frames, results['inputs'][0].permute(1, 2, 3, 0).numpy())
    whole = reading.parts.stable + reading.parts.transient + reading.parts.residual
    assert whole.shape == (1, 64, 8, 1, 1)
    with torch.no_grad():
        clip = torch.from_numpy(reading.frames).permute(3, 0, 1, 2).float()[None]
        torch.testing.assert_close(whole, reader.recognizer.backbone((clip - 114.75) / 57.375), rtol=1e-4, atol=1e-5)
    assert 'rank 3' in reader.words(8) and '64 channels' in reader.words(8) and 'Untrained' in reader.notes()


def test_a_video_is_read_in_windows_with_a_probability_each(reader_of, tiny_videos):
    reader = reader_of(interval=1)
    source = open_source(tiny_videos.root / 'clip_1.mp4')
    timeline = read_timeline(FrameWindows(source, np.arange(24), plan_windows(24, 8)), reader, 25.)
    assert timeline.probabilities.shape == (5, 2) and len(timeline.squares['base']) == 24
    assert np.isfinite(timeline.squares['transient']).all()


def test_scores_become_probabilities_and_several_labels_their_own(reader_of, frames):
    indices, found = np.arange(0, 16, 2), {}
    for name, head in (('prob', dict(average_clips='prob')), ('score', dict(average_clips='score')),
                       ('none', dict(average_clips=None)), ('several', dict(multi_class=True))):
        reading = reader_of(model=dict(neck=NECK, cls_head=head))([frames[i] for i in indices], indices)
        found[name] = reading.probabilities
    for name in ('score', 'none'):
        np.testing.assert_allclose(found[name], found['prob'], rtol=1e-6)
    log_odds = np.log(found['several'] / (1 - found['several']))
    np.testing.assert_allclose(np.exp(log_odds) / np.exp(log_odds).sum(), found['prob'], rtol=1e-5)


def test_ratings_of_a_clip_and_of_its_frames(reader_of, frames):
    indices = np.arange(0, 16, 2)
    for count, shape in ((None, (1, 2)), (4, (4, 2))):
        head = dict(_delete_=True, type='ValenceArousalHead', in_channels=64, num_frames=count)
        reading = reader_of(model=dict(neck=NECK, cls_head=head))([frames[i] for i in indices], indices)
        assert reading.ratings.shape == shape and reading.probabilities is None
        assert (np.abs(reading.ratings) < 1).all()


def test_a_recognizer_of_segments_gets_a_window_of_them(reader_of, frames):
    reader = reader_of(of_segments, SEGMENTS)
    assert reader.sampling(24, 25.) == (6, 4)           # 2 s do not fit into 24 frames: as far apart as fits
    assert reader.sampling(1000, 25.) == (6, 8)         # 2 s of 25 frames, 6 of them
    reading = reader(frames[2:24:4], np.arange(2, 24, 4))
    assert reading.parts.stable.shape[:3] == (1, 512, 6) and reading.frames.shape == (6, 32, 32, 3)
    assert reading.probabilities.shape == (2,)


def test_of_crops_that_are_one_map_the_last_one_is_told(reader_of, frames):
    def three(config, crop='ThreeCrop'):
        of_segments(config)
        steps = config.test_dataloader.dataset.pipeline
        steps[3:4] = [dict(type='Resize', scale=(48, 32), keep_ratio=False), dict(type=crop, crop_size=32)]
    indices = np.arange(2, 24, 4)
    whole = []
    for change in (three, lambda config: three(config, 'CenterCrop')):
        torch.manual_seed(0)
        reader = reader_of(change, SEGMENTS)
        reading = reader([frames[i] for i in indices], indices)
        parts = reading.parts
        whole.append(parts.stable + parts.transient + parts.residual)
        assert parts.stable.shape[:3] == (1, 512, 6) and parts.frame_gate.shape == (1, 6)
        assert reader.shape[2] == 6 and numbers_of(reading, 6).squares['transient'].shape == (6, )
        gram = parts.operator @ parts.gram @ parts.operator.mT
        flat = parts.stable.double().transpose(1, 2).flatten(2)
        own = flat @ flat.mT
        torch.testing.assert_close(gram / gram.diagonal(dim1=1, dim2=2).sum(), own / own.diagonal(dim1=1, dim2=2).sum(),
                                   rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(*whole, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('twice', [False, True])
def test_once_is_one_clip_as_the_pipeline_places_one(reader_of, twice):
    def several(config):
        config.test_dataloader.dataset.pipeline[1].update(num_clips=5, twice_sample=twice)
    one, many = reader_of(), reader_of(several)
    assert many.sampled(40, 25.).clips == 5 and len(many.sampled(40, 25.).indices) == 8 * 5 * (1 + twice)
    assert many.sampled(40, 25., once=True).indices.tolist() == one.sampled(40, 25.).indices.tolist()
    rounds = reader_of(lambda config: of_segments(config, twice_sample=True), SEGMENTS)
    assert len(rounds.sampled(24, 25.).indices) == 12
    assert rounds.sampled(24, 25., once=True).indices.tolist() == [2, 6, 10, 14, 18, 22]


def test_types_may_be_classes_and_have_scopes(reader_of):
    from mmaction.datasets import transforms

    def scoped(config):
        for step in config.test_dataloader.dataset.pipeline:
            step['type'] = f"mmaction.{step['type']}"

    def uniform(config, kind='UniformSample'):
        config.test_dataloader.dataset.pipeline[1] = dict(type=kind, clip_len=8, test_mode=True)
    plain, other = reader_of(), reader_of(scoped)
    assert other.sampler == plain.sampler and other.samples
    assert other.sampled(24, 25.).indices.tolist() == plain.sampled(24, 25.).indices.tolist()
    for kind in ('UniformSample', 'mmaction.UniformSample'):
        assert reader_of(lambda config, kind=kind: uniform(config, kind)).sampler == (8, None, 8)
    classes = plain.recognizer.cfg.copy()
    for step in classes.test_dataloader.dataset.pipeline:
        step['type'] = getattr(transforms, step['type'])
    assert split_pipeline(classes, 'it') == (plain.sampler, *split_pipeline(classes, 'it')[1:])
    uniform(classes, transforms.UniformSample)
    assert split_pipeline(classes, 'it').sampler == (8, None, 8)


def test_the_pipeline_is_the_one_that_the_tested_data_set_has(reader_of):
    def other_variable(config):
        config.test_pipeline = [dict(type='SampleFrames', clip_len=4), *config.test_pipeline[2:]]

    def other_data_set(config):
        config.test_dataloader.dataset.pipeline[1]['clip_len'] = 4
    assert reader_of(other_variable).sampler.window == 8 and reader_of(other_data_set).sampler.window == 4


def test_a_stretch_shorter_than_a_window_names_the_interval_that_fits(reader_of):
    reader = reader_of()
    with pytest.raises(ValueError, match=r'12 frames \(0.48 s\) are shorter than one window of 8 frames, 2 apart. Take '
                                         r'them closer together \(--interval 1\)'):
        reader.sampling(12, 25.)
    with pytest.raises(ValueError, match='Take a longer video, or leave --config out'):
        reader.sampling(7, 25.)
    with pytest.raises(ValueError, match='interval is at least 1 frame'):
        reader_of(interval=0)


def test_what_does_not_fit_is_told(reader_of, tmp_path):
    def undecoded(config):
        config.test_dataloader.dataset.pipeline = config.test_dataloader.dataset.pipeline[3:]

    def unsampled(config):
        config.test_dataloader.dataset.pipeline.pop(1)

    def hungry(config):
        config.test_dataloader.dataset.pipeline.insert(3, dict(type='PoseCompact'))
    for change, words in ((undecoded, 'no step of the test pipeline decodes'),
                          (unsampled, 'says how many frames a clip has')):
        with pytest.raises(ValueError, match=words):
            reader_of(change)
    with pytest.raises(ValueError, match="a step of the test pipeline asks for 'keypoint'"):
        reader_of(hungry)([np.zeros((32, 32, 3), np.uint8)] * 8, np.arange(8))
    with pytest.raises(ValueError, match="has no LSEFNeck. Add neck=dict"):
        reader_of(model={})
    with pytest.raises(ValueError, match='--stream 1: this recognizer has 1'):
        reader_of(stream=1)


def test_checkpoints_of_other_models_are_told_apart(reader_of):
    whole = reader_of().recognizer.state_dict()
    other = {name: value + .5 if value.is_floating_point() else value for name, value in whole.items()}
    reader = reader_of(state=dict(state_dict={f'module.{name}': value for name, value in other.items()},
                                  meta=dict(dataset_meta=dict(classes=['left', 'right']))))
    assert reader.classes == ('left', 'right')
    assert all(torch.equal(value, other[name]) for name, value in reader.recognizer.state_dict().items())
    assert reader.notes().startswith('Checkpoint weights.pth.')
    without = {name: value for name, value in whole.items() if not name.startswith('neck')}
    with pytest.raises(ValueError, match='has no weights of the neck .* trained without one. Train config.py from it'):
        reader_of(state=dict(state_dict=without))
    with pytest.raises(ValueError, match=r'does not fit .*weights are missing, such as backbone'):
        reader_of(state=dict(state_dict={'other.weight': torch.zeros(1)}))
    wrong = dict(whole, **{'cls_head.fc_cls.weight': torch.zeros(9, 64)})
    with pytest.raises(ValueError, match='does not fit .*size mismatch for cls_head.fc_cls.weight'):
        reader_of(state=dict(state_dict=wrong))


class Bomb:
    def __reduce__(self):
        import os
        return os.system, ('true', )


def test_a_checkpoint_that_wants_to_run_code_is_refused(reader_of):
    with pytest.raises(ValueError, match='asks for .*system, which is not among the things a checkpoint may contain'):
        reader_of(state=dict(state_dict={}, meta=Bomb()))
