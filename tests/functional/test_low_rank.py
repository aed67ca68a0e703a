"""Laws of the low-rank operator on the Gram: what a truncated or shrunk SVD would give, without its NaN gradients."""
import pytest
import torch

from lsef_plugins.functional import gram, safe_scale, spectral_shrinkage
from lsef_plugins.functional.low_rank import MODES

T, D, RANK = 7, 23, 3
DISTINCT = (3.0, 2.2, 1.6, 0.9, 0.5, 0.3, 0.1)
SPECTRA = {
    'distinct': DISTINCT,
    'equal inside the kept block': (2.0, 2.0, 2.0, 0.9, 0.5, 0.3, 0.1),
    'equal inside the dropped block': (3.0, 2.2, 1.6, 0.9, 0.3, 0.3, 0.3),
    'rank equal to the cap plus one': (3.0, 2.2, 1.6, 0.9, 0.0, 0.0, 0.0),
}


def planted(singular_values, seed=0, batch=1, d=D):
    """Clips (b, t, d) in float64 with known singular values, and their left singular vectors (b, t, t)."""
    generator = torch.Generator().manual_seed(seed)
    t = len(singular_values)
    u = torch.linalg.qr(torch.randn(batch, t, t, generator=generator, dtype=torch.float64))[0]
    v = torch.linalg.qr(torch.randn(batch, d, t, generator=generator, dtype=torch.float64))[0]
    return u * torch.tensor(singular_values, dtype=torch.float64) @ v.mT, u


def stable(x, rank=RANK, mode='garrote'):
    return spectral_shrinkage(x @ x.mT, rank, mode) @ x


def jacobian_norm(function, x):
    jacobian = torch.autograd.functional.jacobian(function, x)
    return torch.linalg.matrix_norm(jacobian.reshape(x.numel(), x.numel()), 2).item()


# ---- the Gram ----------------------------------------------------------------------------------------------------

def test_gram_holds_the_inner_products_of_the_frames():
    x = torch.randn(3, 5, 4, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = torch.einsum('bctn,bcsn->bts', x, x)
    torch.testing.assert_close(gram(x), expected, rtol=1e-13, atol=1e-13)


def test_gram_is_symmetric_to_the_last_bit():
    g = gram(torch.randn(3, 5, 9, 101, generator=torch.Generator().manual_seed(1)))
    assert torch.equal(g, g.mT)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_gram_of_half_precision_accumulates_in_float32(dtype):
    x = (torch.randn(2, 6, 5, 700, generator=torch.Generator().manual_seed(2)) + 1).to(dtype)
    g = gram(x)
    assert g.dtype == torch.float32
    # Rounding of a float32 sum of 4,200 terms; accumulating in bfloat16 would be wrong by 1e-2.
    torch.testing.assert_close(g.double(), gram(x.double()), rtol=1e-5, atol=0)


# ---- the operator ------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('mode', MODES)
@pytest.mark.parametrize('rank', [1, 2, 5, 6])
def test_rank_never_exceeds_the_cap(mode, rank):
    x, _ = planted(DISTINCT, seed=rank, batch=4)
    values = torch.linalg.svdvals(stable(x, rank, mode))
    assert (values[:, rank:] <= 1e-12 * values[:, :1]).all()
    assert (values[:, rank - 1] > 1e-3).all(), 'and the cap is used'


@pytest.mark.parametrize('mode, gain', [
    ('garrote', lambda top, cut: 1 - cut ** 2 / top ** 2), ('soft', lambda top, cut: 1 - cut / top),
    ('hard', lambda top, cut: torch.ones_like(top))])
def test_each_mode_keeps_its_direction_with_its_textbook_gain(mode, gain):
    x, u = planted(DISTINCT, batch=2)
    sigma = torch.tensor(DISTINCT, dtype=torch.float64)
    gains = torch.zeros_like(sigma)
    gains[:RANK] = gain(sigma[:RANK], sigma[RANK])
    torch.testing.assert_close(spectral_shrinkage(x @ x.mT, RANK, mode), u * gains @ u.mT, rtol=0, atol=1e-12)


@pytest.mark.parametrize('rank', [1, 3, 6])
def test_hard_mode_is_the_truncated_svd(rank):
    x, _ = planted(DISTINCT, batch=3)
    u, s, vh = torch.linalg.svd(x, full_matrices=False)
    truncated = (u[..., :rank] * s[:, None, :rank]) @ vh[:, :rank]
    low = stable(x, rank, 'hard')
    torch.testing.assert_close(low, truncated, rtol=0, atol=1e-12)
    # Eckart and Young: what is left is the tail of the spectrum, and it is orthogonal to what is kept.
    torch.testing.assert_close((x - low).square().sum((1, 2)), s[:, rank:].square().sum(-1), rtol=1e-12, atol=0)
    assert (low * (x - low)).sum((1, 2)).abs().max() < 1e-12
    torch.testing.assert_close(stable(low, rank, 'hard'), low, rtol=0, atol=1e-7)


def test_no_matrix_near_the_soft_mode_scores_lower_on_the_nuclear_norm_objective():
    """Soft mode is the proximal map of sigma_{r+1} * nuclear norm."""
    x, _ = planted(DISTINCT)
    tau = DISTINCT[RANK]
    low = stable(x, RANK, 'soft')

    def objective(y):
        return 0.5 * (x - y).square().sum() + tau * torch.linalg.matrix_norm(y, 'nuc').sum()

    best = objective(low)
    generator = torch.Generator().manual_seed(3)
    for size in (1e-3, 1e-1, 1.0):
        for _ in range(20):
            step = torch.randn(x.shape, generator=generator, dtype=torch.float64)
            assert objective(low + size * step / step.norm()) >= best - 1e-12
        assert objective(low * (1 + size)) >= best and objective(low * (1 - size)) >= best


def test_a_generous_cap_costs_the_garrote_nothing_under_noise():
    """Rank 1 planted, rank 3 allowed: the truncated SVD keeps two modes of noise, the garrote does not."""
    generator = torch.Generator().manual_seed(4)
    planted_base = torch.ones(16, 8, 1) * torch.randn(16, 1, 600, generator=generator)
    x = (planted_base + 0.3 * torch.randn(16, 8, 600, generator=generator)).double()

    def error(mode, rank):
        return (stable(x, rank, mode) - planted_base).norm() / planted_base.norm()

    assert error('garrote', 3) < 1.05 * error('garrote', 1)
    assert error('hard', 3) > 1.5 * error('hard', 1)


@pytest.mark.parametrize('mode', MODES)
@pytest.mark.parametrize('factor', [1e-280, 1e-40, 1e30, 1e200])
def test_the_operator_does_not_know_the_units_of_the_gram(mode, factor):
    x, _ = planted(DISTINCT, batch=2)
    g = x @ x.mT
    torch.testing.assert_close(spectral_shrinkage(factor * g, RANK, mode), spectral_shrinkage(g, RANK, mode),
                               rtol=0, atol=1e-12)


@pytest.mark.parametrize('mode', MODES)
def test_the_operator_turns_with_the_frames(mode):
    x, _ = planted(DISTINCT)
    q, _ = torch.linalg.qr(torch.randn(T, T, generator=torch.Generator().manual_seed(5), dtype=torch.float64))
    torch.testing.assert_close(stable(q @ x, RANK, mode), q @ stable(x, RANK, mode), rtol=0, atol=1e-12)


@pytest.mark.parametrize('mode', ['garrote', 'soft'])
def test_the_stable_part_is_continuous_where_the_kept_and_the_dropped_mode_change_places(mode):
    """The gain of the r-th mode is 0 at the crossing, so it does not matter which one is kept."""
    below, _ = planted((2.0, 1.5, 1.0, 1.0 - 1e-9, 0.2))
    above, _ = planted((2.0, 1.5, 1.0 - 1e-9, 1.0, 0.2))
    assert (stable(below, 3, mode) - stable(above, 3, mode)).norm() < 1e-7
    assert (stable(below, 3, 'hard') - stable(above, 3, 'hard')).norm() > 1, 'hard mode jumps, as documented'


@pytest.mark.parametrize('mode', MODES)
def test_a_clip_of_smaller_rank_gets_no_arbitrary_direction(mode):
    """Rank 1 with a cap of 3: the operator is the projector on that one direction."""
    direction = torch.linspace(1, 2, 6, dtype=torch.float64)[:, None]
    g = (direction @ direction.T)[None]
    expected = direction @ direction.T / direction.square().sum()
    torch.testing.assert_close(spectral_shrinkage(g, 3, mode)[0], expected, rtol=0, atol=1e-7)


@pytest.mark.parametrize('mode, kept', [('garrote', 0.0), ('soft', 0.0), ('hard', 2.0)])
def test_equal_singular_values_have_no_base_to_be_found(mode, kept):
    g = torch.eye(5, dtype=torch.float64).expand(2, 5, 5) * 3
    p = spectral_shrinkage(g, 2, mode)
    torch.testing.assert_close(p.diagonal(dim1=1, dim2=2).sum(-1), torch.full((2,), kept, dtype=torch.float64),
                               rtol=0, atol=1e-12)


@pytest.mark.parametrize('mode', MODES)
def test_a_zero_clip_stays_zero_with_zero_gradient_and_leaves_its_neighbours_alone(mode):
    alone, _ = planted(DISTINCT, seed=6)
    x = torch.cat([torch.zeros_like(alone), alone]).requires_grad_()
    low = stable(x, RANK, mode)
    low.square().sum().backward()
    assert low[0].abs().max() == 0 and x.grad[0].abs().max() == 0
    torch.testing.assert_close(low[1:].detach(), stable(alone, RANK, mode), rtol=0, atol=1e-14)
    reference = alone.clone().requires_grad_()
    stable(reference, RANK, mode).square().sum().backward()
    torch.testing.assert_close(x.grad[1:], reference.grad, rtol=0, atol=1e-13)


@pytest.mark.parametrize('mode', MODES)
@pytest.mark.parametrize('rank', [4, 9])
def test_from_as_many_modes_as_frames_on_everything_is_stable(mode, rank):
    g = gram(torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(7)))
    assert torch.equal(spectral_shrinkage(g, rank, mode), torch.eye(4).expand(2, 4, 4))


# ---- its gradient ------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('mode', MODES)
@pytest.mark.parametrize('spectrum', SPECTRA, ids=str)
def test_the_closed_form_gradient_is_the_derivative(mode, spectrum):
    """Also at repeated singular values. Hard mode is damped by (1e-3 l_1 / gap)^2 < 1e-4 here."""
    x, _ = planted(SPECTRA[spectrum], d=9)
    x.requires_grad_()
    assert torch.autograd.gradcheck(lambda z: stable(z, RANK, mode), (x,), eps=1e-6, atol=1e-5, rtol=1e-3)
    # Batched, and as an operator on its own.
    y, _ = planted(SPECTRA[spectrum], batch=2, seed=1, d=7)
    y.requires_grad_()
    assert torch.autograd.gradcheck(lambda z: spectral_shrinkage(z @ z.mT, RANK, mode), (y,), eps=1e-6, atol=1e-5,
                                    rtol=1e-3)


@pytest.mark.parametrize('mode', MODES)
def test_the_gradient_of_a_symmetric_matrix_is_symmetric(mode):
    x, _ = planted(DISTINCT)
    g = (x @ x.mT).requires_grad_()
    cotangent = torch.randn(1, T, T, generator=torch.Generator().manual_seed(8), dtype=torch.float64)
    gradient, = torch.autograd.grad(spectral_shrinkage(g, RANK, mode), g, cotangent)
    torch.testing.assert_close(gradient, gradient.mT, rtol=0, atol=1e-13)


@pytest.mark.parametrize('gap', [1e-1, 1e-2, 1e-4, 1e-8, 0.0])
@pytest.mark.parametrize('mode, bound', [('garrote', 3.0), ('soft', 2.0)])
def test_the_jacobian_stays_bounded_while_the_gap_closes(mode, bound, gap):
    """Autograd through an SVD measures 5 at a gap of 0.1, 5e7 at 1e-8 and NaN at 0."""
    x, _ = planted((1.0, 0.5, 0.5 - gap, 0.2, 0.1), d=6)
    assert jacobian_norm(lambda z: stable(z, 2, mode), x) < bound


@pytest.mark.parametrize('mode', MODES)
@pytest.mark.parametrize('spectrum', [(1.0,) * 5, (1.0, 0, 0, 0, 0), (1.0, 0.5, 0.5, 0.5, 0.1), (0.0,) * 5], ids=str)
def test_the_gradient_is_finite_and_bounded_at_degenerate_spectra(mode, spectrum):
    x, _ = planted(spectrum, d=6)
    norm = jacobian_norm(lambda z: stable(z, 2, mode), x)
    # The largest seen over LAPACKs is 3.46 (five equal values, garrote); autograd through an SVD gives 5e7.
    assert norm < (5.0 if mode != 'hard' else 60)


# ---- errors and the guard of the range -----------------------------------------------------------------------------

def test_a_mode_that_does_not_exist_is_named():
    with pytest.raises(ValueError, match="'nuclear' is not a spectral gain; choose one of garrote, soft, hard"):
        spectral_shrinkage(torch.eye(4)[None], 2, 'nuclear')


def test_a_rank_below_one_is_refused():
    with pytest.raises(ValueError, match='at least 1, got 0'):
        spectral_shrinkage(torch.eye(4)[None], 0)


@pytest.mark.parametrize('shape', [(4, 4), (2, 4, 5), (2, 3, 4, 4)])
def test_what_is_no_batch_of_grams_is_told_where_grams_come_from(shape):
    with pytest.raises(ValueError, match=r'gram\(x\) makes them'):
        spectral_shrinkage(torch.zeros(shape), 2)


def test_safe_scale_is_exactly_one_for_ordinary_clips():
    peak = torch.tensor([1e-11, 0.3, 1.0, 65504.0, 1e11, 0.0, float('inf'), float('nan')])
    assert torch.equal(safe_scale(peak), torch.ones_like(peak))


def test_safe_scale_brings_extreme_clips_into_range_by_a_power_of_two():
    peak = torch.tensor([1e-38, 1e-20, 3e14, 1e38])
    scale = safe_scale(peak)
    assert torch.equal(torch.frexp(scale)[0], torch.full_like(peak, 0.5)), 'a power of two: multiplying is exact'
    scaled = peak * scale
    assert ((scaled > 2 ** -8) & (scaled < 2 ** 8)).all()


# ---- the gradient of the Gram ------------------------------------------------------------------------------------

def test_the_gram_passes_gradcheck_and_its_gradient_is_that_of_two_products():
    x = torch.randn(2, 3, 5, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(gram, (x, ))
    weight = torch.randn(2, 5, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)   # not symmetric
    ours, = torch.autograd.grad((gram(x) * weight).sum(), x)
    plain = torch.einsum('bctn,bcsn->bts', x, x)
    theirs, = torch.autograd.grad((plain * (weight + weight.mT) / 2).sum(), x)
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_the_gradient_of_the_gram_returns_to_the_dtype_of_the_clip(dtype):
    x = torch.randn(1, 3, 5, 4, generator=torch.Generator().manual_seed(0)).to(dtype).requires_grad_()
    gram(x).sum().backward()
    assert x.grad.dtype == dtype
    torch.testing.assert_close(x.grad, (2 * x.detach().float().sum(2, keepdim=True).expand(x.shape)).to(dtype))


def test_the_backward_pass_of_the_gram_reads_the_clip_in_one_product():
    from torch.utils.flop_counter import FlopCounterMode
    x = torch.randn(2, 3, 5, 40, requires_grad=True)
    with FlopCounterMode(display=False) as forward:
        g = gram(x)
    with FlopCounterMode(display=False) as backward:
        g.sum().backward()
    assert backward.get_total_flops() == forward.get_total_flops()
