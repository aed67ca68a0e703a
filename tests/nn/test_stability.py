"""Laws of SEM on float32 features: the formulas of functional/, each argument arriving, autocast kept out."""
import warnings

import pytest
import torch
from torch.nn.functional import pad

from lsef_plugins.functional import apply_over_time, clip_gram, stable_operator
from lsef_plugins.nn import StabilityEncodingModule

OPTIONS = [dict(), dict(rank=1), dict(rank=4), dict(mode='soft'), dict(mode='hard'), dict(robust_iters=0),
           dict(robust_iters=2), dict(frame_kappa=1.2), dict(bandwidth=0.7), dict(start='geometric_median'),
           dict(slow_basis='dct'), dict(slow_basis=5)]


def clip(b=2, c=5, t=9, n=14, seed=0):
    """A tone, a drift, noise, and a bad frame."""
    g = torch.Generator().manual_seed(seed)
    x = 3 * torch.randn(b, c, 1, n, generator=g) + torch.randn(b, c, t, n, generator=g)
    x = x + torch.linspace(-1, 1, t)[:, None] * torch.randn(b, c, 1, n, generator=g)
    return x + 8 * pad(torch.randn(b, c, 1, n, generator=g), (0, 0, 3, t - 4))


def flat(x):
    return x.transpose(1, 2).flatten(2).double()


@pytest.mark.parametrize('options', OPTIONS, ids=str)
def test_no_argument_is_lost_on_the_way_to_the_formula(options):
    x = clip()
    part = StabilityEncodingModule(**options)(x)
    found = stable_operator(clip_gram(x), **options)
    assert torch.equal(part.operator, found.operator) and torch.equal(part.frame_gate, found.frame_gate)
    assert torch.equal(part.stable, apply_over_time(found.operator, x)) and torch.equal(part.gram, clip_gram(x))
    if options:
        assert (part.stable - StabilityEncodingModule()(x).stable).abs().max() > 1e-3


def test_a_pass_without_robustness_is_plain_low_rank():
    x = clip()
    assert torch.equal(StabilityEncodingModule()(x, robust=False).stable,
                       StabilityEncodingModule(robust_iters=0)(x).stable)
    assert StabilityEncodingModule()(x, robust=False).frame_gate.abs().max() == 0


@pytest.mark.parametrize('rank', [1, 2, 5])
def test_rank_never_exceeds_the_cap_in_float32(rank):
    values = torch.linalg.svdvals(flat(StabilityEncodingModule(rank=rank)(clip()).stable))
    # Rounding of the product to float32: 6e-8 per element.
    assert (values[:, rank:] < 1e-6 * values[:, :1]).all()


def test_hard_mode_is_the_truncated_svd_in_float32():
    x = clip()
    u, s, vh = torch.linalg.svd(flat(x), full_matrices=False)
    truncated = (u[..., :2] * s[:, None, :2]) @ vh[:, :2]
    low = flat(StabilityEncodingModule(mode='hard', robust_iters=0)(x).stable)
    assert (low - truncated).norm() < 1e-5 * truncated.norm()


@pytest.mark.parametrize('options', OPTIONS[:6], ids=str)
@pytest.mark.parametrize('factor', [-2.0, 1e-3, 1e3])
def test_scaling_the_features_scales_the_stable_part(options, factor):
    x = clip()
    sem = StabilityEncodingModule(**options)
    torch.testing.assert_close(sem(factor * x).stable, factor * sem(x).stable, rtol=0, atol=abs(factor) * 3e-4)
    assert (sem(factor * x).stable - factor * sem(x).stable).norm() < 1e-5 * (factor * x).norm()


def test_the_order_of_the_positions_does_not_matter():
    x = clip()
    order = torch.randperm(14, generator=torch.Generator().manual_seed(1))
    sem = StabilityEncodingModule()
    torch.testing.assert_close(sem(x[..., order]).stable, sem(x).stable[..., order], rtol=0, atol=2e-5)


@pytest.mark.parametrize('frames, rank', [(1, 1), (1, 2), (2, 2), (4, 7)])
def test_a_clip_no_longer_than_the_rank_is_all_stable_and_that_is_said_once(frames, rank):
    x = clip()[:, :, :frames].requires_grad_()
    sem = StabilityEncodingModule(rank=rank)
    with pytest.warns(UserWarning, match=f'rank {rank} is not below the {frames} frame'):
        part = sem(x)
    assert torch.equal(part.stable, x) and part.frame_gate.abs().max() == 0
    assert torch.equal(part.operator, torch.eye(frames, dtype=torch.float64).expand(2, frames, frames))
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        part = sem(x)
    cotangent = torch.randn_like(x)
    part.stable.backward(cotangent)
    assert torch.equal(x.grad, cotangent)


def test_ordinary_clips_are_not_warned_about():
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        StabilityEncodingModule(rank=2)(clip()[:, :, :3])


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_autocast_does_not_reach_the_gram(dtype):
    x = clip()
    with torch.autocast('cpu', dtype=dtype):
        part = StabilityEncodingModule()(x)
    assert torch.equal(part.stable, StabilityEncodingModule()(x).stable) and part.gram.dtype == torch.float64


def test_float64_features_are_decomposed_in_float64():
    x = clip().double()
    part = StabilityEncodingModule(mode='hard', robust_iters=0, rank=3)(x)
    values = torch.linalg.svdvals(flat(part.stable))
    assert part.stable.dtype == torch.float64 and (values[:, 3:] < 1e-12 * values[:, :1]).all()


def test_a_graded_spectrum_is_resolved():
    """One frame 1,000 times the others: a float32 eigendecomposition would turn the second mode by 0.2 to 0.5."""
    x = clip()
    x[:, :, 4] *= 1e3
    u, s, vh = torch.linalg.svd(flat(x), full_matrices=False)
    low = flat(StabilityEncodingModule(rank=2, mode='hard', robust_iters=0)(x).stable)
    second = (u[..., 1:2] * s[:, None, 1:2]) @ vh[:, 1:2]
    others = [t for t in range(9) if t != 4]
    assert (low - (u[..., :1] * s[:, None, :1]) @ vh[:, :1] - second)[:, others].norm() < 1e-2 * second.norm()


def test_a_clip_no_longer_than_the_rank_compiles_as_a_whole():
    x = clip()[:, :, :2]
    sem = StabilityEncodingModule(rank=2)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        expected = sem(x).stable
    torch._dynamo.reset()
    compiled = torch.compile(StabilityEncodingModule(rank=2), fullgraph=True, backend='aot_eager')
    assert torch.equal(compiled(x).stable, expected)


def test_it_owns_nothing_to_train_and_prints_its_arguments():
    sem = StabilityEncodingModule(rank=3, start='geometric_median', slow_basis=4)
    assert not list(sem.parameters()) and not sem.state_dict()
    assert 'rank=3' in repr(sem) and 'start=geometric_median' in repr(sem) and 'slow_basis=4' in repr(sem)


@pytest.mark.parametrize('options, message', [
    (dict(rank=0), 'an integer >= 1, got 0'), (dict(rank=1.5), 'an integer >= 1, got 1.5'),
    (dict(rank=True), 'an integer >= 1, got True'), (dict(mode='svd'), "mode 'svd' is not a spectral gain"),
    (dict(start='median'), "start 'median' is not a frame predictor"),
    (dict(robust_iters=-1), 'cannot be negative, got -1'),
    (dict(frame_kappa=0), 'frame_kappa and bandwidth .frames. are positive, got 0'),
    (dict(bandwidth=float('inf')), 'are positive, got 2.5 and inf'),
    (dict(slow_basis='dft'), "slow_basis is a number of cosines >= 1, 'dct'")], ids=str)
def test_an_argument_out_of_its_range_is_refused_at_construction(options, message):
    with pytest.raises(ValueError, match=message):
        StabilityEncodingModule(**options)
