"""Laws of shrinkage: zero below the threshold, textbook values above it, and a gradient that can bring it back."""
import math

import pytest
import torch

from lsef_plugins.functional import group_shrink, noise_scale, shrink

EXPONENTS = (1.0, 1.5, 2.0, 3.0, 7.0, math.inf)
F64 = torch.float64


def values(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64) * 2


def tensor(value):
    return torch.tensor(value, dtype=F64)


# ---- values ------------------------------------------------------------------------------------------------------

def test_the_textbook_operators_are_members_of_the_family():
    r, tau = values(4, 5), tensor(0.7)
    inside = r.abs() <= tau
    torch.testing.assert_close(shrink(r, tau, 1.0), r.sign() * (r.abs() - tau).relu(), rtol=0, atol=1e-15)
    torch.testing.assert_close(shrink(r, tau, 2.0), (r - tau ** 2 / r).masked_fill(inside, 0), rtol=0, atol=1e-15)
    torch.testing.assert_close(shrink(r, tau, 3.0), (r - tau ** 3 / (r * r.abs())).masked_fill(inside, 0), rtol=0,
                               atol=1e-15)
    assert torch.equal(shrink(r, tau, math.inf), r.masked_fill(inside, 0))


@pytest.mark.parametrize('tau', [0.0, 0.3, 2.0, 1e3])
def test_no_point_near_the_soft_threshold_scores_lower(tau):
    """p = 1 is the proximal map: it minimises (r - s)^2 / 2 + tau |s| for every element."""
    r, tau = values(200), tensor(tau)
    s = shrink(r, tau, 1.0)

    def objective(z):
        return 0.5 * (r - z).square() + tau * z.abs()

    for step in (-3.0, -0.1, -1e-4, 1e-4, 0.1, 3.0):
        assert (objective(s + step) >= objective(s)).all()


@pytest.mark.parametrize('exponent', EXPONENTS)
def test_zero_exactly_where_the_threshold_is_not_exceeded(exponent):
    tau = torch.tensor([[0.5], [1.5]], dtype=F64)
    r = torch.cat([values(2, 300), tau, -tau, torch.zeros(2, 1, dtype=F64)], 1)
    assert torch.equal(shrink(r, tau, exponent) == 0, r.abs() <= tau)


@pytest.mark.parametrize('exponent', EXPONENTS)
def test_odd_and_never_beyond_its_input(exponent):
    r, tau = values(300), tensor(0.6)
    s = shrink(r, tau, exponent)
    assert torch.equal(shrink(-r, tau, exponent), -s)
    assert (s * r >= 0).all() and (s.abs() <= r.abs()).all()
    assert (r - s).abs().max() <= tau + 1e-15, 'and takes away no more than the threshold'


@pytest.mark.parametrize('exponent', EXPONENTS)
def test_equivariant_to_the_scale_of_its_units(exponent):
    r, tau = values(100), tensor(0.6)
    for factor in (1e-20, 1e15):
        torch.testing.assert_close(shrink(factor * r, factor * tau, exponent), factor * shrink(r, tau, exponent),
                                   rtol=1e-12, atol=0)


def test_a_larger_exponent_keeps_more():
    r, tau = values(300), tensor(0.6)
    kept = [shrink(r, tau, p).abs() for p in EXPONENTS]
    above = r.abs() > tau
    for less, more in zip(kept, kept[1:]):
        assert (more >= less).all() and (more > less)[above].all()


def test_soft_thresholding_never_moves_two_inputs_apart():
    a, b, tau = values(300), values(300, seed=1), tensor(0.6)
    assert ((shrink(a, tau, 1.0) - shrink(b, tau, 1.0)).abs() <= (a - b).abs() + 1e-15).all()


@pytest.mark.parametrize('exponent', EXPONENTS)
def test_a_zero_threshold_changes_nothing(exponent):
    r = values(50)
    r[0] = 0
    r.requires_grad_()
    s = shrink(r, tensor(0.0), exponent)
    assert torch.equal(s, r)
    s.sum().backward()
    assert r.grad.isfinite().all() and torch.equal(r.grad[1:], torch.ones(49, dtype=F64))


@pytest.mark.parametrize('exponent', EXPONENTS)
def test_a_broken_input_is_not_hidden(exponent):
    s = shrink(torch.tensor([math.nan, math.inf, -math.inf, 0.1]), torch.tensor(0.5), exponent)
    assert s[0].isnan() and s[1] == math.inf and s[2] == -math.inf and s[3] == 0


@pytest.mark.parametrize('exponent', EXPONENTS[:-1])
def test_a_broken_threshold_is_not_hidden(exponent):
    assert shrink(torch.tensor([0.1, 2.0]), torch.tensor(math.nan), exponent).isnan().all()


@pytest.mark.parametrize('exponent', [0.5, 0.0, -1.0, math.nan])
def test_an_exponent_below_one_is_refused(exponent):
    with pytest.raises(ValueError, match='exponent is p >= 1'):
        shrink(torch.ones(2), torch.ones(()), exponent)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float32])
def test_the_dtype_is_kept(dtype):
    r = values(2, 50).to(dtype)
    s = shrink(r, torch.tensor(0.5, dtype=dtype), 2.0)
    assert s.dtype == dtype
    torch.testing.assert_close(s.double(), shrink(r.double(), tensor(0.5), 2.0), rtol=2e-2, atol=2e-2)


# ---- gradients ---------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('exponent', EXPONENTS)
def test_the_gradient_without_revival_is_the_derivative(exponent):
    """Threshold per row, broadcast; no element within 1e-2 of its threshold, where the derivative jumps."""
    r, tau = values(2, 3, 7), torch.tensor([0.5, 0.9, 1.4], dtype=F64)[:, None]
    near = (r.abs() - tau).abs() < 1e-2
    r = torch.where(near, r + 0.05, r).requires_grad_()
    tau.requires_grad_(not math.isinf(exponent))
    assert torch.autograd.gradcheck(lambda a, b: shrink(a, b, exponent, revival=0.0), (r, tau))


@pytest.mark.parametrize('exponent', [1.0, 2.0, 3.0])
def test_revival_weighs_every_element_by_how_near_it_is_to_the_threshold(exponent):
    r, tau = values(5, 6), torch.full((5, 1), 0.8, dtype=F64, requires_grad=True)
    cotangent = values(5, 6, seed=1)
    shrink(r, tau, exponent, revival=0.25).backward(cotangent)
    with torch.no_grad():
        weight = torch.sigmoid((r.abs() - tau) / (0.25 * tau))
        ratio = (tau / r.abs()).clamp_max(1)
        expected = (cotangent * -exponent * r.sign() * weight * ratio ** (exponent - 1)).sum(1, keepdim=True)
    torch.testing.assert_close(tau.grad, expected, rtol=1e-12, atol=1e-12)


def test_revival_leaves_the_values_and_the_gradient_to_the_input_alone():
    results = []
    for revival in (0.0, 0.25):
        r = values(40).requires_grad_()
        s = shrink(r, tensor(0.6), 2.0, revival)
        s.square().sum().backward()
        results.append((s.detach(), r.grad))
    assert torch.equal(results[0][0], results[1][0]) and torch.equal(results[0][1], results[1][1])


@pytest.mark.parametrize('revival, revived', [(0.25, True), (0.0, False)])
def test_revival_brings_down_a_threshold_that_has_emptied_the_output(revival, revived):
    """Events of 8 sigma, a threshold of 60: without revival nothing ever moves."""
    generator = torch.Generator().manual_seed(0)
    event = (torch.rand(4000, generator=generator) < 0.05) * 8.0
    r = event + torch.randn(4000, generator=generator)
    log_kappa = torch.tensor(math.log(60.0), requires_grad=True)
    optimizer = torch.optim.Adam([log_kappa], lr=0.05)
    for _ in range(200):
        optimizer.zero_grad()
        (shrink(r, log_kappa.exp(), 2.0, revival) - event).square().mean().backward()
        optimizer.step()
    kappa = log_kappa.exp().item()
    assert (1 < kappa < 6) if revived else kappa == pytest.approx(60, rel=1e-6)


@pytest.mark.parametrize('exponent', EXPONENTS)
def test_a_flat_or_empty_input_has_a_finite_gradient(exponent):
    for r, tau in ((torch.zeros(5), 0.0), (torch.zeros(5), 1e-30), (torch.full((5,), 3.0), 1e30)):
        r, tau = r.requires_grad_(), torch.tensor(tau, requires_grad=True)
        shrink(r, tau, exponent).sum().backward()
        assert r.grad.isfinite().all() and tau.grad.isfinite()


# ---- groups ------------------------------------------------------------------------------------------------------

def test_a_group_keeps_its_direction_and_loses_length():
    r = values(2, 3, 4, 5)
    norm = torch.linalg.vector_norm(r, dim=(1, 3), keepdim=True)
    tau = norm.median()
    s = group_shrink(r, norm, tau, 2.0)
    torch.testing.assert_close(torch.linalg.vector_norm(s, dim=(1, 3), keepdim=True), shrink(norm, tau, 2.0),
                               rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(s, r * (s.norm(dim=(1, 3), keepdim=True) / norm), rtol=1e-12, atol=1e-12)
    assert torch.equal((s == 0).all(3).all(1), (norm <= tau).squeeze(3).squeeze(1))


def test_group_shrinkage_is_differentiable_and_knows_its_exponent():
    r = values(2, 3, 4, 2).requires_grad_()
    tau = tensor(2.3).requires_grad_()

    def shrunk(r, tau, exponent=1.0):
        return group_shrink(r, torch.linalg.vector_norm(r, dim=(1, 3), keepdim=True), tau, exponent, 0.0)

    assert torch.autograd.gradcheck(shrunk, (r, tau))
    assert (shrunk(r, tau, 3.0).abs() >= shrunk(r, tau).abs()).all()
    assert (shrunk(r, tau, 3.0).abs() > shrunk(r, tau).abs()).any()


def test_an_empty_group_stays_empty_with_a_finite_gradient():
    r = torch.zeros(1, 2, 3, 2, requires_grad=True)
    tau = torch.tensor(0.1, requires_grad=True)
    s = group_shrink(r, torch.linalg.vector_norm(r, dim=(1, 3), keepdim=True), tau)
    s.sum().backward()
    assert s.abs().max() == 0 and r.grad.isfinite().all() and tau.grad.isfinite()


def test_revival_reaches_the_groups():
    r = values(2, 3, 4, 2)
    norm = torch.linalg.vector_norm(r, dim=(1, 3), keepdim=True)
    tau = (2 * norm.max()).requires_grad_()
    group_shrink(r, norm, tau, revival=0.25).square().sum().backward()
    assert tau.grad == 0  # an empty output has no direction to grow in under a square
    tau.grad = None
    (group_shrink(r, norm, tau, revival=0.25) * r).sum().backward()
    assert tau.grad < 0


# ---- the noise scale ---------------------------------------------------------------------------------------------

def test_the_scale_is_the_standard_deviation_of_gaussian_noise_per_clip_and_channel():
    sigma = torch.tensor([[0.1, 2.0, 30.0], [7.0, 0.5, 1.0]])
    r = sigma[..., None, None] * torch.randn(2, 3, 40, 100, generator=torch.Generator().manual_seed(0))
    # The median of 4,000 absolute Gaussians: s.d. 1.17 / sqrt(4000) = 1.9 % of sigma; four of them.
    torch.testing.assert_close(noise_scale(r, r)[..., 0, 0], sigma, rtol=0.075, atol=0)
    assert noise_scale(r, r).shape == (2, 3, 1, 1)


def test_the_scale_does_not_see_the_events():
    generator = torch.Generator().manual_seed(1)
    r = torch.randn(2, 3, 20, 50, generator=generator)
    noisy = torch.where(torch.rand(r.shape, generator=generator) < 0.1, torch.full_like(r, 1e4), r)
    ratio = noise_scale(noisy, r) / noise_scale(r, r)
    # A tenth of the elements moves the median of |r| to its 0.556 quantile: 12-15 % more, not 1e3 times.
    assert (ratio > 1).all() and (ratio < 1.3).all()


def test_subsampling_is_accurate_to_a_few_percent_and_hears_every_frame():
    """17 x 3,001 values, of which about 4,096 are used."""
    r = torch.randn(6, 2, 17, 3001, generator=torch.Generator().manual_seed(2), dtype=F64)
    exact = 1.4826 * r.abs().flatten(2).median(-1).values
    error = noise_scale(r, r)[..., 0, 0] / exact - 1
    assert error.abs().max() > 0, 'sampled at all'
    assert error.square().mean().sqrt() < 0.03
    # Each frame is heard: eleven of the seventeen are loud.
    loud = r.clone()
    loud[:, :, 1:12] *= 100
    assert (noise_scale(loud, loud) > 2 * noise_scale(r, r)).all()


def test_below_a_thousandth_of_the_feature_nothing_is_noise():
    x = torch.full((2, 3, 4, 5), 7.0)
    torch.testing.assert_close(noise_scale(torch.zeros_like(x), x), torch.full((2, 3, 1, 1), 7e-3), rtol=1e-5, atol=0)
    assert noise_scale(torch.zeros(2, 3, 4, 5), torch.zeros(2, 3, 4, 5)).abs().max() == 0


def test_the_scale_carries_no_gradient():
    r = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(3)).requires_grad_()
    assert not noise_scale(r, r * 2).requires_grad


def test_no_clips_and_no_positions_have_an_empty_scale():
    assert noise_scale(torch.zeros(0, 3, 4, 5), torch.zeros(0, 3, 4, 5)).shape == (0, 3, 1, 1)
    assert noise_scale(torch.zeros(2, 3, 4, 0), torch.zeros(2, 3, 4, 0)).tolist() == [[[[0.0]]] * 3] * 2
