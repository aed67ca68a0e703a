"""The planted truth of a sample is that of the very frames that were sampled, however they were sampled."""
from pathlib import Path

import numpy as np
import pytest

import lsef_plugins  # noqa: F401
from lsef_plugins.datasets.synthetic import load_truth
from lsef_plugins.datasets.synthetic.actions import BLINK
from lsef_plugins.datasets.synthetic.presets import PRESETS
from lsef_plugins.datasets.synthetic.signals import draw_signals
from lsef_plugins.datasets.synthetic.truth import truth_file_of
from lsef_plugins.datasets.transforms.planted_truth import LoadPlantedTruth
from lsef_plugins.registry import TRANSFORMS

T = PRESETS['default'].frames


@pytest.fixture
def clip(tmp_path):
    """The video and the truth of a clip in the layout of the generator; the video itself is not read."""
    truth_file = tmp_path / 'data' / 'truth' / 'val' / '00003.npz'
    truth_file.parent.mkdir(parents=True)
    truth = draw_signals(PRESETS['default'], 'val', 3, 0)
    truth_file.write_bytes(truth.to_bytes())
    return str(tmp_path / 'data' / 'videos' / 'val' / '00003.mp4'), truth


def sampled(clip, sampler, start_index=0, **changes):
    from mmengine.registry import init_default_scope
    init_default_scope('mmaction')
    results = dict(filename=clip, total_frames=T, start_index=start_index, modality='RGB', **changes)
    results = TRANSFORMS.build(sampler).transform(results)
    return TRANSFORMS.build(dict(type='LoadPlantedTruth')).transform(results)


@pytest.mark.parametrize('sampler, shape', [
    (dict(type='SampleFrames', clip_len=8, frame_interval=3, num_clips=1, test_mode=True), (1, 8)),
    (dict(type='SampleFrames', clip_len=4, frame_interval=2, num_clips=3, test_mode=True), (3, 4)),
    (dict(type='SampleFrames', clip_len=4, frame_interval=2, num_clips=1), (1, 4)),
    (dict(type='SampleFrames', clip_len=1, frame_interval=1, num_clips=6, test_mode=True), (1, 6)),
    (dict(type='UniformSample', clip_len=5, num_clips=2, test_mode=True), (2, 5))], ids=str)
@pytest.mark.parametrize('start_index', [0, 1])
def test_each_sampler_gets_the_truth_of_its_frames(clip, sampler, shape, start_index):
    results = sampled(clip[0], sampler, start_index)
    frames = np.asarray(results['frame_inds']).reshape(shape) - start_index
    planted = results['planted']
    for name, curve in (('stable', clip[1].base), ('transient', clip[1].transient)):
        assert planted[name].shape == (*shape, 11) and np.array_equal(planted[name], curve[frames])
    assert planted['pose'].shape == (*shape, 6) and planted['light'].shape == (*shape, 3)
    assert np.array_equal(planted['pose'][..., 0], clip[1].nuisance[frames, 0])


def test_a_blink_is_told_as_what_the_face_does(clip):
    planted = sampled(clip[0], dict(type='SampleFrames', clip_len=T, test_mode=True))['planted']
    assert np.allclose(planted['blink'][0], clip[1].nuisance[:, 9:10] * BLINK)
    assert np.allclose(planted['speech'][0, :, 2], clip[1].nuisance[:, 10])


def test_a_file_can_be_named(clip, tmp_path):
    truth_file = truth_file_of(clip[0])
    step = LoadPlantedTruth(str(truth_file))
    planted = step.transform(dict(frame_inds=np.arange(4), clip_len=4, num_clips=1))['planted']
    assert np.array_equal(planted['stable'][0], clip[1].base[:4]) and str(truth_file) in repr(step)


def test_the_truth_lies_beside_the_data_in_both_layouts(tmp_path):
    for clip, truth in (('a/videos/train/00001.mp4', 'a/truth/train/00001.npz'),
                        ('b/Clip/clip_224x224/00007', 'b/truth/00007.npz'),
                        ('b/Clip/original/00007.mp4', 'b/truth/00007.npz')):
        (tmp_path / truth).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / truth).touch()
        assert truth_file_of(tmp_path / clip) == tmp_path / truth


def test_a_clip_without_truth_is_told_where_it_was_looked_for(clip, tmp_path):
    with pytest.raises(FileNotFoundError, match=r'99999.mp4 has no planted truth.*truth/val/99999.npz and .*99999.npz'):
        truth_file_of(Path(clip[0]).with_name('99999.mp4'))
    with pytest.raises(FileNotFoundError, match='a folder named truth above it'):
        truth_file_of(tmp_path / 'elsewhere' / 'x.mp4')


@pytest.mark.parametrize('change, words', [
    (dict(frame_inds=None), 'LoadPlantedTruth needs frame_inds and got.*behind the step that samples'),
    (dict(frame_inds=np.arange(30, 34)), 'sampled at frames 30 to 33 and its truth has 32'),
    (dict(frame_inds=np.arange(4), start_index=1), 'sampled at frames -1 to 2'),
    (dict(filename=None), "needs results\\['filename'\\]")])
def test_what_is_missing_is_told(clip, change, words):
    results = dict(filename=clip[0], frame_inds=np.arange(4), clip_len=4, num_clips=1, **{})
    results.update(change)
    results = {key: value for key, value in results.items() if value is not None}
    with pytest.raises(ValueError, match=words):
        LoadPlantedTruth().transform(results)


def test_it_is_packed_as_meta_information(clip):
    results = sampled(clip[0], dict(type='SampleFrames', clip_len=4, frame_interval=2, test_mode=True), label=2)
    results.update(imgs=np.zeros((1, 3, 4, 2, 2), np.uint8), clean_clips=1)
    sample = TRANSFORMS.build(dict(type='PackAffectInputs')).transform(results)['data_samples']
    assert np.array_equal(sample.to_dict()['planted']['stable'], results['planted']['stable'])
    assert sample.clean_clips == 1
    assert load_truth(truth_file_of(clip[0])).label == clip[1].label
