"""Laws of DDM: what is small stays behind, what is taken is large, bad frames are left out, kappa learns."""
import math

import pytest
import torch

from lsef_plugins.functional import noise_scale, shrink
from lsef_plugins.nn import DynamicDecouplingModule, dynamics


def pair(b=2, c=3, t=8, n=25, seed=0):
    g = torch.Generator().manual_seed(seed)
    sigma = torch.tensor([0.2, 1.0, 5.0])[:c, None, None]
    stable = 10 * torch.randn(b, c, 1, n, generator=g).expand(b, c, t, n)
    x = stable + sigma * torch.randn(b, c, t, n, generator=g)
    x[:, :, 4, :6] += 8 * sigma[..., 0]
    return x, stable


def randomised(module):
    with torch.no_grad():
        for i, p in enumerate(module.parameters()):
            p.add_(0.4 * torch.randn(p.shape, generator=torch.Generator().manual_seed(100 + i)))
    return module


@pytest.mark.parametrize('exponent', [1.0, 2.0, 3.0, math.inf])
def test_the_transient_is_the_shrunk_residual(exponent):
    x, stable = pair()
    ddm = randomised(DynamicDecouplingModule(3, kappa=2.0, exponent=exponent))
    part = ddm(x, stable)
    scale = noise_scale(x - stable, x)
    kappa = torch.nn.functional.softplus(ddm.offset.weight.flatten() + math.log(math.expm1(2.0)))
    assert torch.equal(part.scale, scale)
    torch.testing.assert_close(part.threshold, kappa[:, None, None] * scale, rtol=1e-6, atol=0)
    torch.testing.assert_close(part.transient, shrink(x - stable, part.threshold, exponent), rtol=0, atol=0)
    assert torch.equal(part.transient == 0, (x - stable).abs() <= part.threshold)
    assert 0 < (part.transient != 0).float().mean() < 0.3
    assert part.frame_threshold is None


@pytest.mark.parametrize('kappa', [1e-3, 0.5, 3.0, 29.0, 31.0, 500.0])
def test_kappa_starts_where_it_is_told(kappa):
    ddm = DynamicDecouplingModule(4, kappa=kappa)
    torch.testing.assert_close(ddm.kappa, torch.full((1, 4, 1, 1), kappa), rtol=1e-4, atol=0)
    assert ddm.offset.weight.abs().max() == 0, 'so that weight decay draws it back to its start'


def test_kappa_stays_positive():
    ddm = DynamicDecouplingModule(2)
    with torch.no_grad():
        ddm.offset.weight.fill_(-30)
    assert (ddm.kappa > 0).all()


def test_a_gated_frame_is_kept_out_of_the_transient_unless_told_otherwise():
    x, stable = pair()
    gate = torch.zeros(2, 8, dtype=torch.float64)
    gate[0, 4], gate[1, 2] = 0.75, 1.0
    keep = (1 - gate).float()[:, None, :, None]
    free = DynamicDecouplingModule(3)(x, stable)
    gated = DynamicDecouplingModule(3)(x, stable, gate)
    assert torch.equal(gated.transient, free.transient * keep) and torch.equal(gated.residual, free.residual * keep)
    assert torch.equal(gated.scale, free.scale)
    ungated = DynamicDecouplingModule(3, gate_frames=False)(x, stable, gate)
    assert torch.equal(ungated.transient, free.transient) and torch.equal(ungated.residual, x - stable)
    assert not torch.equal(gated.transient, free.transient)


def test_kappa_learns_from_each_channel_alone_and_the_scale_takes_no_gradient(monkeypatch):
    """With the scale held fixed the module's gradient is exact to finite differences, in float64."""
    x, stable = (z.double()[:1, :, :4, :5] for z in pair())
    ddm = randomised(DynamicDecouplingModule(3, kappa=1.0)).double()
    fixed = noise_scale(x - stable, x)
    # No element near its threshold, where the derivative jumps; the exact derivative instead of the revived one.
    tau = ddm.kappa.detach() * fixed
    x = torch.where(((x - stable).abs() / tau - 1).abs() < 0.02, x + 0.1 * tau, x)
    free = torch.autograd.grad(ddm(x.requires_grad_(), stable).transient.sum(), x)[0]
    monkeypatch.setattr(dynamics, 'noise_scale', lambda r, z: fixed)
    monkeypatch.setattr(dynamics, 'shrink', lambda r, tau, p: shrink(r, tau, p, revival=0.0))

    def transient(theta, z):
        return torch.func.functional_call(ddm, {'offset.weight': theta}, (z, stable)).transient

    theta = ddm.offset.weight.detach().clone().requires_grad_()
    assert torch.autograd.gradcheck(transient, (theta, x.detach().requires_grad_()))
    scale_now = noise_scale(x.detach() - stable, x.detach())
    monkeypatch.setattr(dynamics, 'noise_scale', lambda r, z: scale_now)
    held = torch.autograd.grad(transient(theta, x).sum(), x)[0]
    torch.testing.assert_close(free, held, rtol=0, atol=1e-12)


def test_an_emptied_transient_still_moves_kappa():
    x, stable = pair()
    ddm = DynamicDecouplingModule(3, kappa=25.0)
    part = ddm(x, stable)
    assert part.transient.abs().max() == 0
    (part.transient * (x - stable)).sum().backward()
    assert (ddm.offset.weight.grad != 0).all()


def test_the_largest_gradient_on_one_element_is_of_the_order_of_one():
    """Through the median a single element would receive that of all others together."""
    x, _ = pair(b=1, n=500)
    x.requires_grad_()
    DynamicDecouplingModule(3)(x, torch.zeros_like(x)).transient.abs().sum().backward()
    assert x.grad.abs().max() < 4


def test_whole_frames_are_shrunk_by_their_norm():
    x, stable = pair()
    ddm = DynamicDecouplingModule(3, group='frame')
    part = ddm(x, stable)
    norm = (x - stable).square().sum((1, 3)).sqrt()
    middle = norm.median(1, keepdim=True).values
    spread = 1.4826 * (norm - middle).abs().median(1, keepdim=True).values
    tau = middle + 3 * spread
    torch.testing.assert_close(part.frame_threshold.flatten(1), tau, rtol=1e-5, atol=0)
    torch.testing.assert_close(part.transient.square().sum((1, 3)).sqrt(), shrink(norm, tau), rtol=1e-4, atol=1e-4)
    taken = (part.transient != 0).all(3).all(1)
    assert taken[:, 4].all() and torch.equal(taken, norm > tau)
    ddm.zero_grad()
    part.transient.square().sum().backward()
    assert ddm.offset.weight.grad.isfinite().all() and ddm.offset.weight.grad.abs().max() > 0


@pytest.mark.parametrize('group', [None, 'frame'])
def test_a_clip_without_residual_has_no_transient_and_a_finite_gradient(group):
    for x in (torch.zeros(2, 3, 5, 4), torch.randn(2, 3, 1, 4).expand(2, 3, 5, 4).contiguous()):
        stable = x.clone()
        x.requires_grad_()
        ddm = DynamicDecouplingModule(3, group=group)
        part = ddm(x, stable)
        part.transient.sum().backward()
        assert part.transient.abs().max() == 0
        assert x.grad.isfinite().all() and ddm.offset.weight.grad.isfinite().all()


@pytest.mark.parametrize('group', [None, 'frame'])
def test_rounding_is_no_event(group):
    """A residual of 1e-5 of the feature lies below the floor of 1e-3 in each channel (and each frame)."""
    stable = torch.randn(2, 3, 6, 10, generator=torch.Generator().manual_seed(1)) + 5
    x = stable.clone()
    x[:, :, 2] *= 1 + 1e-5
    assert DynamicDecouplingModule(3, group=group)(x, stable).transient.abs().max() == 0


@pytest.mark.parametrize('group', [None, 'frame'])
@pytest.mark.parametrize('factor', [-2.0, 1e-6, 1e6])
def test_scaling_the_features_scales_the_transient(group, factor):
    x, stable = pair()
    ddm = DynamicDecouplingModule(3, group=group)
    ours, theirs = ddm(factor * x, factor * stable).transient, factor * ddm(x, stable).transient
    assert (ours - theirs).norm() < 1e-5 * theirs.norm()


@pytest.mark.parametrize('options, message', [
    (dict(kappa=0.0), 'standard deviations and positive, got 0.0'), (dict(kappa=-1.0), 'positive, got -1.0'),
    (dict(kappa=math.inf), 'positive, got inf'), (dict(kappa=math.nan), 'positive, got nan'),
    (dict(exponent=0.5), 'exponent is p >= 1 .* got 0.5'),
    (dict(group='channel'), "group is None .elements. or 'frame', got 'channel'")], ids=str)
def test_an_argument_out_of_its_range_is_refused_at_construction(options, message):
    with pytest.raises(ValueError, match=message):
        DynamicDecouplingModule(3, **options)


def test_a_pooled_stable_part_is_told_how_to_grow_back():
    x, stable = pair()
    with pytest.raises(ValueError, match='b c 1 n -> b c t n'):
        DynamicDecouplingModule(3)(x, stable[:, :, :1])


def test_it_prints_its_arguments():
    text = repr(DynamicDecouplingModule(3, kappa=2.5, exponent=1.0, group='frame', gate_frames=False))
    assert 'kappa=2.5, exponent=1.0, group=frame, gate_frames=False' in text
