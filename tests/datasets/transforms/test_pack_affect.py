"""The guard: a rating is a float from the data set to the head, or somebody says so."""
import numpy as np
import pytest
import torch
from mmaction.structures import ActionDataSample

import lsef_plugins  # noqa: F401
from lsef_plugins.registry import TRANSFORMS

RATING = (0.3, -0.7)


def pack(kind='PackAffectInputs', **results):
    transform = TRANSFORMS.build(dict(type=kind))
    packed = transform(dict(imgs=np.zeros((1, 3, 4, 8, 8), np.uint8), **results))
    return packed['data_samples']


def test_the_hosts_packing_cuts_off_fractions_and_this_is_why_ours_exists():
    """If this fails a release of MMAction2 has been cured, and docs/affect.md may say so."""
    for label in (list(RATING), RATING, np.array(RATING, np.float32)):
        assert pack('PackActionInputs', label=label).gt_label.tolist() == [0, 0]
        assert ActionDataSample().set_gt_label(label).gt_label.tolist() == [0, 0]


@pytest.mark.parametrize('dtype', [np.float16, np.float32, np.float64])
@pytest.mark.parametrize('frames', [None, 1, 5])
def test_a_rating_is_never_truncated(dtype, frames):
    """The guard of the path: fails whenever a float target loses its fraction, its sign, its shape or its NaN."""
    rating = np.array(RATING if frames is None else [RATING] * frames, dtype)
    rating[..., 0].flat[0] = np.nan
    sample = pack(valence_arousal=rating, label=-1)
    found = sample.gt_valence_arousal
    assert found.dtype == torch.float32 and found.shape == rating.shape
    np.testing.assert_array_equal(found.numpy(), rating.astype(np.float32))
    moved = sample.to('cpu').clone().to_dict()['gt_valence_arousal']
    np.testing.assert_array_equal(moved.numpy(), rating.astype(np.float32))
    preprocessed = torch.utils.data.default_collate([found, found])
    assert preprocessed.dtype == torch.float32
    assert sample.gt_label.tolist() == [-1]


def test_it_survives_the_loader_and_the_data_preprocessor():
    from mmaction.registry import MODELS
    from mmengine.dataset import pseudo_collate
    transform = TRANSFORMS.build(dict(type='PackAffectInputs'))
    packed = [transform(dict(imgs=np.zeros((1, 3, 4, 8, 8), np.uint8), valence_arousal=np.array(RATING, np.float32)))
              for _ in range(2)]
    preprocessor = MODELS.build(dict(type='ActionDataPreprocessor', mean=[0.] * 3, std=[1.] * 3, format_shape='NCTHW'))
    for sample in preprocessor(pseudo_collate(packed), training=True)['data_samples']:
        assert sample.gt_valence_arousal.tolist() == pytest.approx(RATING)


def test_the_tensor_is_its_own():
    rating = np.array(RATING, np.float32)
    sample = pack(valence_arousal=rating)
    rating[:] = 0
    assert sample.gt_valence_arousal.tolist() == pytest.approx(RATING)
    assert pack(valence_arousal=torch.tensor(RATING)).gt_valence_arousal.tolist() == pytest.approx(RATING)


def test_class_labels_are_packed_as_the_host_does():
    for label in (3, np.array(3), [3], torch.tensor([0., 1., 1.])):
        assert torch.equal(pack(label=label).gt_label, pack('PackActionInputs', label=label).gt_label)
    assert 'gt_valence_arousal' not in pack(label=3) and 'gt_label' not in pack(valence_arousal=np.array(RATING))


def test_metrics_find_video_frame_and_scene():
    sample = pack(valence_arousal=np.array(RATING), video_id='17', frame_index=4, scene='Ballet', other=1).to_dict()
    assert (sample['video_id'], sample['frame_index'], sample['scene']) == ('17', 4, 'Ballet')
    assert 'other' not in sample
    transform = TRANSFORMS.build(dict(type='PackAffectInputs', meta_keys=('other', ), algorithm_keys=('mine', )))
    found = transform(dict(imgs=np.zeros(3), other=1, mine='x', scene='Ballet'))['data_samples']
    assert found.other == 1 and found.mine == 'x' and 'scene' not in found


@pytest.mark.parametrize('rating, words', [
    (np.array([0, 0]), 'holds int64 and must hold floats'),
    ([0, 1], 'holds int64 and must hold floats'),
    (np.zeros(3), r'has shape \(3,\) and must be \(valence, arousal\)'),
    (np.zeros((2, 5, 2)), r'has shape \(2, 5, 2\)'),
    (np.array([-5., .1]), r'1 of 2 numbers.*outside of \[-1, 1\]: \[-5\.0\].*Aff-Wild2'),
    (np.array([np.inf, .1]), r'outside of \[-1, 1\]: \[inf\]'),
])
def test_what_is_no_rating_is_told(rating, words):
    with pytest.raises(ValueError, match=words):
        pack(valence_arousal=rating)


@pytest.mark.parametrize('label', [RATING, list(RATING), np.array(RATING), .5])
def test_a_rating_under_the_key_of_the_class_is_told_where_it_belongs(label):
    with pytest.raises(ValueError, match=r"cut off the fractions\. Ratings belong into results\['valence_arousal'\]"):
        pack(label=label)
