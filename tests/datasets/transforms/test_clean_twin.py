"""A twin is the corrupted clip and nothing else, and its clean one is what it was."""
import numpy as np
import pytest

import lsef_plugins  # noqa: F401
from lsef_plugins.datasets.transforms.clean_twin import CleanTwin
from lsef_plugins.registry import TRANSFORMS

BURST = dict(type='NoiseBurst', severity=4)


@pytest.fixture(autouse=True)
def scope():
    from mmengine.registry import init_default_scope
    init_default_scope('mmaction')


def sample(clips=1, t=8, stacked=False, **changes):
    rng = np.random.default_rng(0)
    imgs = [rng.integers(0, 256, (6, 5, 3), dtype=np.uint8) for _ in range(clips * t)]
    return dict(imgs=np.stack(imgs) if stacked else imgs, clip_len=t, num_clips=clips, filename='a/b.mp4',
                frame_inds=np.arange(clips * t), **changes)


@pytest.mark.parametrize('clips', [1, 3])
@pytest.mark.parametrize('stacked', [False, True])
def test_clean_clips_come_first_and_then_what_the_corruption_alone_makes_of_them(clips, stacked):
    before, alone = sample(clips, stacked=stacked), TRANSFORMS.build(BURST).transform(sample(clips))['imgs']
    results = CleanTwin(BURST).transform(sample(clips, stacked=stacked))
    assert type(results['imgs']) is type(before['imgs']) and len(results['imgs']) == 2 * clips * 8
    assert np.array_equal(results['imgs'][:clips * 8], before['imgs'])
    assert np.array_equal(results['imgs'][clips * 8:], alone) and not np.array_equal(alone, before['imgs'])
    assert results['num_clips'] == 2 * clips and results['clean_clips'] == clips
    assert np.array_equal(results['frame_inds'], [*range(clips * 8)] * 2)


def test_views_are_formatted_crop_by_crop_with_the_twins_behind_the_clean_clips():
    results = CleanTwin(BURST).transform(sample(2))
    kept = np.stack(results['imgs']).reshape(4, 8, 6, 5, 3)
    results['imgs'] = [*results['imgs'], *results['imgs']]              # two crops
    found = TRANSFORMS.build(dict(type='FormatShape', input_format='NCTHW')).transform(results)['imgs']
    assert np.array_equal(found, np.concatenate([kept, kept]).transpose(0, 4, 1, 2, 3))


def test_single_frames_of_a_sampler_are_one_clip():
    results = CleanTwin(BURST).transform({**sample(1, 8), 'clip_len': 1, 'num_clips': 8})
    assert results['clean_clips'] == 1 and results['num_clips'] == 16 and len(results['imgs']) == 16


def test_what_corrupts_in_place_cannot_reach_the_clean_clip():
    @TRANSFORMS.register_module(force=True)
    class Blacken:
        def __call__(self, results):
            for frame in results['imgs']:
                frame[:] = 0
            return results

    results = CleanTwin(dict(type='Blacken')).transform(sample())
    assert np.array_equal(results['imgs'][:8], sample()['imgs']) and not np.any(results['imgs'][8:])


@pytest.mark.parametrize('make, words', [
    (lambda: CleanTwin('NoiseBurst'), "config of a step.*got 'NoiseBurst'"),
    (lambda: CleanTwin(BURST).transform(dict(filename='a')), 'no decoded frames.*only filename.*behind the step'),
    (lambda: CleanTwin(BURST).transform({**sample(1, 8), 'imgs': sample(1, 24)['imgs']}),
     r'24 frames and 1 clip\(s\) of 8: put it before.*ThreeCrop'),
    (lambda: CleanTwin(dict(type='Resize', scale=(3, 3), keep_ratio=False)).transform(
        {**sample(), 'img_shape': (6, 5), 'modality': 'RGB'}), 'Resize made frames .*twins have the same shape')])
def test_wrong_use_is_told(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_its_repr_names_the_corruption():
    assert 'NoiseBurst' in repr(CleanTwin(BURST))
