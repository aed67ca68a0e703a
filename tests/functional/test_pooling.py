"""What is read of a transient: events by their size and length, spikes hardly, nothing without bound."""
import math

import pytest
import torch

from lsef_plugins.functional import excursions, gated_out_of_reach, limited_mean, moving_average, transient_magnitude
from lsef_plugins.functional.pooling import limited_features

B, C, T, N = 2, 3, 9, 4


def units(sigma=1.0):
    return torch.full((B, C, 1, 1), float(sigma))


def noise(seed=0, size=1.0):
    return size * torch.randn(B, C, T, N, generator=torch.Generator().manual_seed(seed))


def spike(frames, value=50.0):
    r = torch.zeros(B, C, T, N)
    r[:, 1, frames, 2] = value
    return r


def test_the_magnitude_is_its_formula():
    r = 4 * noise()
    r[:, 0] = 0
    sigma, tau = 2 * units(), 3 * units()
    found = transient_magnitude(r, tau, sigma, (1, 3), exponent=2.0, influence_clip=1.5, limit_spikes=False)
    assert found.shape == (B, 2, C)
    for index, window in enumerate((1, 3)):
        for b in range(B):
            for c in range(C):
                total = 0.0
                for t in range(T):
                    near = [s for s in range(T) if abs(s - t) <= window // 2]
                    norm = 1 / math.sqrt(len(near))
                    for n in range(N):
                        value = sum(float(r[b, c, s, n]) for s in near) / len(near)
                        kept = value * (1 - (3 * norm / value) ** 2) if abs(value) > 3 * norm else 0.0
                        total += min(abs(kept) / (2 * norm), 1.5) ** 2
                assert float(found[b, index, c]) == pytest.approx(math.sqrt(total / (T * N)), abs=1e-5)


def test_a_flash_of_one_frame_says_nothing_and_an_event_of_two_says_what_it_is():
    one, two = (transient_magnitude(spike(frames), units(), units()) for frames in ([4], [4, 5]))
    plain = transient_magnitude(spike([4, 5]), units(), units(), limit_spikes=False)
    assert one.max() < 0.15 and one[:, 0].max() == 0
    assert torch.equal(two, plain) and two[:, 0, 1].min() > 0.9
    assert two[:, :, [0, 2]].abs().max() == 0


def test_one_value_however_large_moves_every_reading_by_a_bounded_amount():
    r = noise()
    before = transient_magnitude(r, units(), units())
    moved = [(transient_magnitude(r + spike([4], 10.0 ** k), units(), units()) - before).abs().max() for k in (2, 4, 6)]
    assert max(moved) < 0.2
    torch.testing.assert_close(moved[0], moved[2])
    free = transient_magnitude(r + spike([4], 1e6), units(), units(), influence_clip=None, limit_spikes=False)
    assert (free - before).max() > 1e4


def test_the_influence_clip_bounds_the_reading():
    loud = 1e3 * torch.ones(B, C, T, N)
    for clip in (1.5, 4.0):
        found = transient_magnitude(loud, units(), units(), influence_clip=clip)
        torch.testing.assert_close(found, torch.full_like(found, clip))


@pytest.mark.parametrize('factor', [1e-3, 1e3])
def test_the_reading_is_in_standard_deviations(factor):
    r = 2 * noise()
    torch.testing.assert_close(transient_magnitude(factor * r, factor * units(), factor * units()),
                               transient_magnitude(r, units(), units()), rtol=1e-4, atol=1e-5)


def test_reversing_time_or_sign_changes_nothing():
    r = 2 * noise()
    expected = transient_magnitude(r, units(), units())
    assert expected.min() > 0.1
    for other in (r.flip(2), -r):
        torch.testing.assert_close(transient_magnitude(other, units(), units()), expected)


def test_a_silent_channel_reads_zero_with_a_finite_gradient():
    r = noise()
    r[:, 1] = 0
    r.requires_grad_()
    sigma = units()
    sigma[:, 1] = 0
    found = transient_magnitude(r, sigma, sigma)
    assert found[:, :, 1].abs().max() == 0 and found[:, :, 0].min() > 0
    found.sum().backward()
    assert r.grad.isfinite().all()


@pytest.mark.parametrize('options', [dict(), dict(exponent=1.0, influence_clip=None), dict(limit_spikes=False)])
def test_the_gradient_is_the_derivative(options):
    r = (3 * noise()).double().requires_grad_()
    tau = (0.7 * units()).double()
    assert torch.autograd.gradcheck(lambda z: transient_magnitude(z, tau, tau * 1.3, **options), (r, ), atol=1e-5)


def test_with_a_threshold_on_frames_whole_frames_are_shrunk():
    r = noise(size=0.1)
    r[:, :, 4:6] += 5
    quiet = torch.full((B, 1, 1, 1), 1e3)
    assert transient_magnitude(r, units(), units(), frame_threshold=quiet).max() == 0
    assert transient_magnitude(r, units(), units(), frame_threshold=quiet / 1e3).min() > 0.5


def test_the_mean_is_the_plain_one_until_a_deviation_passes_the_limit():
    stable, r = noise(), noise(1, size=0.5)
    torch.testing.assert_close(limited_mean(stable, r, units(), 4.0), (stable + r).mean((2, 3)))
    torch.testing.assert_close(limited_mean(stable, 100 * r, units(), None), (stable + 100 * r).mean((2, 3)))
    base = stable.mean((2, 3))
    far = [limited_mean(stable, r + spike([4], value), units(), 4.0) - base for value in (1e2, 1e6)]
    torch.testing.assert_close(far[0], far[1])
    assert (limited_mean(stable, 1e6 * r.abs(), units(2), 4.0) - base).allclose(torch.full((B, C), 8.0), atol=1e-3)


@pytest.mark.parametrize('shape', [(0, C, T, N), (B, C, 1, N), (B, C, T, 1)])
def test_no_clips_one_frame_one_position(shape):
    r = torch.ones(shape)
    unit = torch.ones(*shape[:2], 1, 1)
    found = transient_magnitude(r, unit, unit)
    assert found.shape == (shape[0], 3, C) and found.isfinite().all()


def test_excursions_are_maxima_in_both_directions_and_the_size():
    d = torch.randn(B, C, T, generator=torch.Generator().manual_seed(3))
    found = excursions(d, (1, 3, 5))
    assert found.shape == (B, 7, C)
    for index, window in enumerate((1, 3, 5)):
        pooled = torch.einsum('st,bct->bcs', moving_average(T, window), d)
        torch.testing.assert_close(found[:, 2 * index], pooled.max(2).values)
        torch.testing.assert_close(found[:, 2 * index + 1], -pooled.min(2).values)
    torch.testing.assert_close(found[:, 6], d.square().mean(2).sqrt())
    assert excursions(0 * d).abs().max() == 0


def test_an_event_that_lasts_keeps_its_height_in_its_window_and_a_spike_does_not():
    def height(frames):
        d = torch.zeros(1, 1, 9)
        d[..., frames] = 2.0
        return excursions(d, (1, 3))[0, [0, 2], 0].tolist()

    assert height([4]) == pytest.approx([2, 2 / 3]) and height([3, 4, 5]) == pytest.approx([2, 2])


def test_excursions_have_a_gradient_where_nothing_moves():
    d = torch.zeros(1, 2, 5, requires_grad=True)
    excursions(d).sum().backward()
    assert d.grad.isfinite().all()
    d = torch.randn(2, 3, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(excursions, (d, ))


def test_a_frame_is_gated_only_where_it_is_far():
    """Up to the reach whatever the gate says, from the reach and one on as it says, and between them by part."""
    d = torch.randn(2, 4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    d = d / d.square().mean(1, keepdim=True).sqrt() * torch.tensor([0.0, 1.9, 2.25, 3.5, 1e6])
    gate = torch.tensor([[1.0, 1.0, 1.0, 0.75, 1.0], [0.0] * 5])
    keep = gated_out_of_reach(d, gate, 2.0).square().mean(1).sqrt() / d.square().mean(1).sqrt().clamp_min(1e-9)
    torch.testing.assert_close(keep[0], torch.tensor([0, 1, 0.75, 0.25, 0]).double())
    assert torch.equal(gated_out_of_reach(d, gate, 2.0)[1], d[1])
    assert torch.autograd.gradcheck(lambda z: gated_out_of_reach(z, gate[:, 1:4], 2.0),
                                    (d[..., 1:4].clone().requires_grad_(), ))


def test_no_frame_is_larger_than_the_limit_gate_or_no_gate():
    """In size over channels and positions; its direction stays, and what is smaller stays as it is."""
    d = torch.randn(2, 4, 3, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    d = d / d.square().mean((1, 3), keepdim=True).sqrt() * torch.tensor([0.0, 3.9, 1e9])[:, None]
    found = gated_out_of_reach(d, torch.zeros(2, 3), 2.0, 4.0)
    assert torch.equal(found[:, :, :2], d[:, :, :2])
    torch.testing.assert_close(found[:, :, 2], d[:, :, 2] * 4e-9)
    half = gated_out_of_reach(d, torch.tensor([[0.0, 0.0, 0.5]] * 2), 2.0, 4.0)
    torch.testing.assert_close(half[:, :, 2], d[:, :, 2] * 2e-9)        # first the gate's share, then the limit
    assert torch.autograd.gradcheck(lambda z: gated_out_of_reach(z, torch.full((2, 2), 0.3), 2.0, 4.0),
                                    (torch.cat([0.7 * d[:, :, 1:2], 5e-9 * d[:, :, 2:]], 2).requires_grad_(), ))


def test_what_is_limited_has_no_gradient_and_what_is_not_has_all_of_it():
    residual = torch.tensor([-9.0, -4.0, -3.9, 0.0, 4.0, 4.1]).view(1, 1, 6, 1).requires_grad_()
    limited_features(torch.zeros(1, 1, 6, 1), residual, torch.ones(1, 1, 1, 1), 4.0).sum().backward()
    assert residual.grad.flatten().tolist() == [0, 1, 1, 1, 1, 0]
    silent = torch.zeros(1, 1, 6, 1, requires_grad=True)
    limited_features(torch.zeros(1, 1, 6, 1), silent, torch.zeros(1, 1, 1, 1), 4.0).sum().backward()
    assert silent.grad.flatten().tolist() == [1] * 6, 'a channel that is silent may be woken'
