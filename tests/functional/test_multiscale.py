"""Laws of the transient at several time scales."""
import math

import pytest
import torch

from lsef_plugins.functional import limit_by_neighbours, moving_average, shrink, transient_scales

WINDOWS = (1, 3, 7)


def unit(b, c):
    return torch.ones(b, c, 1, 1)


def test_the_rate_of_false_alarms_is_the_same_at_every_window_and_frame():
    """White noise of s.d. 1 at a threshold of 2: 4.55 % exceed it, at the clip's ends too."""
    r = torch.randn(4, 25, 9, 1000, generator=torch.Generator().manual_seed(0))
    scales = list(transient_scales(r, 2 * unit(4, 25), unit(4, 25), WINDOWS))
    assert len(scales) == len(WINDOWS)
    for transient in scales:
        rate = (transient != 0).float().mean((0, 1, 3))
        # 100,000 draws per frame: s.d. 0.066 %.
        torch.testing.assert_close(rate, torch.full((9,), 0.0455), rtol=0, atol=0.0033)


def test_pooled_first_and_shrunk_afterwards():
    r = torch.randn(2, 3, 8, 5, generator=torch.Generator().manual_seed(1))
    tau = torch.tensor([[0.3, 0.6, 0.9], [0.2, 0.5, 0.4]])[..., None, None]
    for window, transient in zip(WINDOWS, transient_scales(r, tau, tau, WINDOWS, 3.0, None)):
        average = moving_average(8, window)
        for t in range(8):
            pooled = torch.einsum('s,bcsn->bcn', average[t], r)
            expected = shrink(pooled, tau[..., 0] * average[t].norm(), 3.0)
            torch.testing.assert_close(transient[:, :, t], expected, rtol=1e-5, atol=1e-6)


def test_the_influence_clip_bounds_every_element_in_units_of_the_pooled_noise():
    r = 50 * torch.randn(2, 3, 8, 5, generator=torch.Generator().manual_seed(2))
    scale = torch.tensor([[0.3, 0.6, 0.9], [0.2, 0.5, 0.4]])[..., None, None]
    free = list(transient_scales(r, scale, scale, WINDOWS, influence_clip=None))
    clipped = list(transient_scales(r, scale, scale, WINDOWS, influence_clip=4.0))
    for window, loose, tight in zip(WINDOWS, free, clipped):
        limit = 4 * scale * moving_average(8, window).norm(dim=1)[:, None]
        torch.testing.assert_close(tight, torch.maximum(torch.minimum(loose, limit), -limit), rtol=1e-6, atol=0)
        assert (loose.abs() > limit).any()


def test_a_long_weak_event_is_seen_only_at_the_long_window():
    r = torch.zeros(1, 1, 11, 1)
    r[:, :, 3:8] = 2.5
    one, three, five = transient_scales(r, 3 * unit(1, 1), unit(1, 1), (1, 3, 5))
    assert one.abs().max() == 0 and three[0, 0, 5, 0] > 0 and five[0, 0, 5, 0] > 0


def test_revival_and_exponent_reach_the_shrinkage():
    r = torch.randn(1, 2, 6, 4, generator=torch.Generator().manual_seed(3))

    def gradient(**options):
        tau = (100 * unit(1, 2)).requires_grad_()
        sum((s * r).sum() for s in transient_scales(r, tau, unit(1, 2), WINDOWS, **options)).backward()
        return tau.grad.abs().sum()

    assert gradient(revival=0.0) == 0 and gradient(revival=50.0) > 0
    soft, hard = (next(transient_scales(r, unit(1, 2), unit(1, 2), (1,), p, None)) for p in (1.0, math.inf))
    assert torch.equal(hard, torch.where(r.abs() > 1, r, torch.zeros_like(r)))
    torch.testing.assert_close(soft, r.sign() * (r.abs() - 1).relu())


def test_with_a_threshold_on_frames_whole_pooled_frames_are_shrunk():
    r = torch.randn(2, 3, 8, 5, generator=torch.Generator().manual_seed(5))
    tau = torch.tensor([2.0, 4.0]).view(2, 1, 1, 1)
    scales = transient_scales(r, unit(2, 3), unit(2, 3), WINDOWS, 2.0, None, frame_threshold=tau)
    for window, transient in zip(WINDOWS, scales):
        average = moving_average(8, window)
        pooled = torch.einsum('ts,bcsn->bctn', average, r)
        length = pooled.square().sum((1, 3), keepdim=True).sqrt()
        expected = pooled * shrink(length, tau * average.norm(dim=1)[:, None]) / length
        torch.testing.assert_close(transient, expected, rtol=1e-4, atol=1e-5)
    zeros = torch.zeros(1, 3, 8, 5, requires_grad=True)
    sum(s.sum() for s in transient_scales(zeros, unit(1, 3), unit(1, 3), frame_threshold=unit(1, 1))).backward()
    assert zeros.grad.abs().max() == 0


@pytest.mark.parametrize('frames', [1, 2, 6])
def test_reversing_time_reverses_every_scale(frames):
    r = torch.randn(2, 3, frames, 4, generator=torch.Generator().manual_seed(4))
    forward = transient_scales(r, 0.3 * unit(2, 3), unit(2, 3), WINDOWS)
    backward = transient_scales(r.flip(2), 0.3 * unit(2, 3), unit(2, 3), WINDOWS)
    for a, b in zip(forward, backward):
        torch.testing.assert_close(a.flip(2), b, rtol=0, atol=1e-6)


def test_a_value_reaches_as_far_as_its_further_neighbour_or_the_floor():
    r = torch.tensor([5.0, 9.0, -7.0, 8.0, 2.0, -3.0, -6.0, 0.5]).view(1, 1, 8, 1)
    # 5 <= 9; 9 -> 5; -7 between 9 and 8 -> -1; 8 between -7 and 2 -> 2; 2 <= 8; -3 >= -6; -6 -> -3; 0.5 below the floor
    expected = torch.tensor([5.0, 5.0, -1.0, 2.0, 2.0, -3.0, -3.0, 0.5]).view(1, 1, 8, 1)
    assert torch.equal(limit_by_neighbours(r, torch.ones(1, 1, 1, 1)), expected)


def test_noise_below_the_floor_is_not_reshaped_and_nothing_grows():
    r = torch.randn(2, 3, 9, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(limit_by_neighbours(r, torch.full((2, 3, 1, 1), 10.0)), r)
    limited = limit_by_neighbours(r, torch.full((2, 3, 1, 1), 0.5))
    assert (limited.abs() <= r.abs()).all() and (limited * r >= 0).all() and not torch.equal(limited, r)


@pytest.mark.parametrize('frames', [1, 2])
def test_frames_without_neighbours_keep_the_floor(frames):
    r = 5 * torch.ones(1, 1, frames, 1)
    assert limit_by_neighbours(r, torch.ones(1, 1, 1, 1)).unique().tolist() == [1.0 if frames == 1 else 5.0]


def test_spikes_are_limited_before_anything_is_pooled():
    r = torch.zeros(1, 1, 9, 1)
    r[:, :, 4] = 50
    one = torch.ones(1, 1, 1, 1)
    free, limited = (list(transient_scales(r, one, one, influence_clip=None, limit_spikes=on))
                     for on in (False, True))
    assert min(s.abs().max() for s in free) > 9 and limited[0].abs().max() == 0
    assert max(s.abs().max() for s in limited) < 0.5
    r[:, :, 5] = 40                                             # two frames are an event, as long as its shorter end
    for ours, theirs in zip(transient_scales(r, one, one, limit_spikes=True),
                            transient_scales(r.clamp(max=40), one, one)):
        assert torch.equal(ours, theirs)
