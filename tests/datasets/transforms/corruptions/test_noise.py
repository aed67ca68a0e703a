"""Laws of the sensor noise: the distributions are those of their names, up to clipping and rounding."""
import numpy as np
import pytest

from lsef_plugins.datasets.transforms.corruptions import CORRUPTIONS, corrupt_clip, sample_rng
from lsef_plugins.datasets.transforms.corruptions.noise import normal_quantiles, shot_table


def grey(value, t=4, size=64):
    return [np.full((size, size, 3), value, np.uint8) for _ in range(t)]


def noisy(kind, severity, value, seed=0):
    return np.stack(corrupt_clip(grey(value), kind, severity, sample_rng(seed))).astype(float)


@pytest.mark.parametrize('severity', (1, 2, 3, 4, 5))
def test_gaussian_noise_is_that_of_its_level(severity):
    sigma = CORRUPTIONS['gaussian_noise'].levels[severity - 1]
    out = noisy('gaussian_noise', severity, 128) - 128
    z = np.random.RandomState(0).standard_normal(400_000)
    expected = np.clip(sigma * z, -128, 127)
    assert out.std() == pytest.approx(expected.std(), rel=0.02)
    assert out.mean() == pytest.approx(expected.mean(), abs=4 * expected.std() / out.size ** 0.5)
    inside = min(sigma, 100.)
    assert (np.abs(out) < inside).mean() == pytest.approx((np.abs(expected) < inside).mean(), abs=0.02)


def test_the_quantiles_are_a_standard_normal():
    z = normal_quantiles()
    assert z.std() == pytest.approx(1, abs=1e-3) and z.mean() == pytest.approx(0, abs=1e-12)
    assert (np.diff(z) > 0).all() and (z ** 4).mean() == pytest.approx(3, abs=0.03) and 4 < z.max() < 4.5


@pytest.mark.parametrize('severity', (1, 2, 3, 4, 5))
@pytest.mark.parametrize('value', (0, 40, 120))
def test_shot_noise_counts_photons(severity, value):
    photons = CORRUPTIONS['shot_noise'].levels[severity - 1]
    out = noisy('shot_noise', severity, value)
    counts = np.random.RandomState(0).poisson(value / 255 * photons, 400_000)
    expected = np.clip(counts * 255 / photons, 0, 255)
    assert out.mean() == pytest.approx(expected.mean(), rel=0.03, abs=0.5)
    assert out.std() == pytest.approx(expected.std(), rel=0.03, abs=0.5)
    steps = np.rint(np.arange(photons + 1) * 255 / photons)
    assert set(np.unique(out)) <= set(steps), 'whole photons'


def test_bright_pixels_have_more_shot_noise_and_no_photons_none():
    spread = [noisy('shot_noise', 1, value).std() for value in (0, 20, 80, 160)]
    assert spread[0] == 0 and all(a < b for a, b in zip(spread, spread[1:]))
    assert shot_table(60.)[0].max() == 0


@pytest.mark.parametrize('kind', ('gaussian_noise', 'shot_noise'))
def test_frames_channels_and_pixels_are_independent(kind):
    out = noisy(kind, 2, 128) - 128
    first = out[0, ..., 0]
    others = (out[1, ..., 0], out[0, ..., 1], np.roll(first, 1, 0), np.roll(first, 1, 1))
    correlation = np.corrcoef([each.ravel() for each in (first, *others)])
    assert np.abs(correlation - np.eye(5)).max() < 5 / 64
