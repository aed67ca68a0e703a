"""Pixels as features."""
import numpy as np
import pytest
import torch

from lsef_plugins.visualization import decompose_pixels, pixel_features
from lsef_plugins.visualization.pixels import default_rank


@pytest.fixture
def frames():
    return np.random.default_rng(0).integers(0, 256, (10, 96, 128, 3), np.uint8)


def test_features_are_the_frames_areas_means_channel_by_channel(frames):
    x = pixel_features(frames, short_side=48, blur=0)
    assert x.shape == (1, 3, 10, 48, 64)
    means = frames.reshape(10, 48, 2, 64, 2, 3).mean((2, 4)).transpose(3, 0, 1, 2) / 255
    np.testing.assert_allclose(x[0].numpy(), means, atol=.003)      # OpenCV rounds to whole grey levels


def test_the_blur_keeps_the_mean_and_takes_the_contrast(frames):
    sharp, soft = pixel_features(frames, blur=0), pixel_features(frames, blur=1.0)
    assert soft.mean() == pytest.approx(float(sharp.mean()), abs=.003) and soft.std() < .5 * sharp.std()


def test_small_frames_are_not_enlarged(frames):
    assert pixel_features(frames[:, :20, :30]).shape == (1, 3, 10, 20, 30)


def test_rank_and_kappa_arrive(frames):
    one = decompose_pixels(frames, rank=1)
    assert np.linalg.matrix_rank(one.stable[0].transpose(0, 1).flatten(1).numpy(), tol=1e-3) == 1
    usual = decompose_pixels(frames)
    assert np.linalg.matrix_rank(usual.stable[0].transpose(0, 1).flatten(1).numpy(), tol=1e-3) == default_rank(10) == 2
    torch.testing.assert_close(decompose_pixels(frames, kappa=6.0).threshold, 2 * usual.threshold)
    assert not torch.equal(decompose_pixels(frames, iterations=3).transient, usual.transient)


def test_what_is_no_clip_of_pictures_is_refused(frames):
    for wrong in (frames[0], frames[..., :1], frames.astype(float), frames[:0]):
        with pytest.raises(ValueError, match=r'RGB pictures \(t, h, w, 3\) of uint8'):
            pixel_features(wrong)
    with pytest.raises(ValueError, match='short_side is at least 4'):
        pixel_features(frames, short_side=2)
