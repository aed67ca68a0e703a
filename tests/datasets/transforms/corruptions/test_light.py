"""Laws of the corruptions of light: gains of mean one, quick in a flicker, slow in a drift."""
import numpy as np
import pytest

from lsef_plugins.datasets.transforms.corruptions import CORRUPTIONS, corrupt_clip, sample_rng


def gains(kind, severity, seed=2, t=16):
    """(t,) the gain of each frame of an even grey clip, and that every pixel has it."""
    clip = [np.full((4, 4, 3), 100, np.uint8) for _ in range(t)]
    out = np.stack(corrupt_clip(clip, kind, severity, sample_rng(seed))).astype(float)
    assert (out == out[:, :1, :1, :1]).all()
    return out[:, 0, 0, 0] / 100


@pytest.mark.parametrize('kind', ('flicker', 'light_drift'))
def test_each_frame_has_one_gain_and_their_mean_is_one(kind):
    for severity, amplitude in enumerate(CORRUPTIONS[kind].levels, start=1):
        found = gains(kind, severity)
        assert np.abs(found - 1).max() == pytest.approx(amplitude, abs=0.006)
        assert found.mean() == pytest.approx(1, abs=0.006)


def test_a_drift_is_slow_and_a_flicker_is_not():
    for seed in range(20):
        drift, quick = gains('light_drift', 5, seed, 32), gains('flicker', 5, seed, 32)
        turns = (np.diff(np.sign(np.diff(drift))[np.diff(drift) != 0]) != 0).sum()
        assert np.abs(np.diff(drift)).max() < 0.25 < np.abs(np.diff(quick)).max()
        assert turns <= 3, 'half a period to a whole one has two turning points at most, and one of rounding'


def test_drifts_differ_in_phase_and_period():
    assert len({tuple(gains('light_drift', 3, seed)) for seed in range(10)}) == 10
