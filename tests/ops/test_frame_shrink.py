"""Whole frames are shrunk by their norm, at every time scale; values and gradients are the formula's by either body."""
import math

import pytest
import torch

from lsef_plugins import ops
from lsef_plugins.nn import DynamicDecouplingModule
from lsef_plugins.ops import frame_norms, frame_shrink, shrink

F64 = torch.float64
EXPONENTS = (1.0, 2.0, math.inf)
SIZES = [(2, 3, 8, 49), (1, 1, 1, 1), (3, 5, 4, 7), (1, 2, 17, 257), (2, 1, 33, 16), (1, 70, 2, 3)]
TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-6, torch.bfloat16: 2 ** -8, torch.float16: 2 ** -11}
WINDOWS = (1, 3, 5)


def problem(size, dtype=F64, seed=0):
    """Thresholds about the median norm, so that about half of the frames survive; frames of different size."""
    generator = torch.Generator().manual_seed(seed)
    sums = torch.promote_types(dtype, torch.float32)
    loud = 0.5 + torch.rand(size[0], 1, size[2], 1, generator=generator, dtype=F64)
    r = (2 * loud * torch.randn(*size, generator=generator, dtype=F64)).to(dtype)
    middle = r.double().square().sum((1, 3)).sqrt().mean() if r.numel() else torch.ones((), dtype=F64)
    tau = middle * (0.7 + 0.6 * torch.rand(size[0], size[2], generator=generator, dtype=F64))
    limit = 0.5 + torch.rand(size[:2], generator=generator, dtype=F64)
    return r, tau.to(sums), limit.to(sums)


def by_hand(r, tau, limit, windows, exponent):
    """Window by window, frame by frame, in float64."""
    r, tau, maps = r.double(), tau.double(), []
    for window in windows:
        frames = []
        for t in range(r.shape[2]):
            seen = r[:, :, max(0, t - window // 2):t + window // 2 + 1]
            row, mean = seen.shape[2] ** -0.5, seen.mean(2)
            norm = mean.square().sum((1, 2)).sqrt()
            s = mean * (shrink(norm, tau[:, t] * row, exponent) / norm)[:, None, None]
            bound = math.inf if limit is None else limit.double()[..., None] * row
            frames.append(s.clamp(-bound, bound))
        maps.append(torch.stack(frames, 2))
    return torch.stack(maps)


@pytest.mark.parametrize('dtype', TOLERANCE, ids=str)
@pytest.mark.parametrize('size', SIZES, ids=str)
def test_every_scale_is_averaged_then_shrunk_by_frames_then_limited(computed_by, size, dtype):
    r, tau, limit = problem(size, dtype)
    expected = by_hand(r, tau, limit, (1, 3, 9), 2.0)
    s, m = frame_shrink(r, tau, (1, 3, 9), 2.0, limit, magnitude=True)
    assert s.dtype == m.dtype == dtype and torch.equal(m, s.abs())
    largest = max(1, expected.abs().max().item())
    torch.testing.assert_close(s.double(), expected, rtol=0, atol=TOLERANCE[dtype] * largest)


@pytest.mark.parametrize('exponent', EXPONENTS)
def test_every_exponent_with_and_without_limit_and_with_norms_known(computed_by, exponent):
    r, tau, limit = problem((2, 3, 8, 49))
    for bound in (limit, None):
        expected = by_hand(r, tau, bound, WINDOWS, exponent)
        assert 0.2 < (expected == 0).double().mean() < 0.8
        for norms in (None, frame_norms(r, WINDOWS)):
            found, none = frame_shrink(r, tau, WINDOWS, exponent, bound, norms=norms)
            torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
            assert none is None


@pytest.mark.parametrize('frames', range(1, 34))
def test_every_number_of_frames(computed_by, frames):
    r, tau, limit = problem((2, 2, frames, 3))
    torch.testing.assert_close(frame_shrink(r, tau, WINDOWS, 2.0, limit)[0], by_hand(r, tau, limit, WINDOWS, 2.0),
                               rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize('dtype', TOLERANCE, ids=str)
def test_norms_are_those_of_the_averaged_frames(computed_by, dtype):
    r, *_ = problem((2, 40, 8, 49), dtype)
    found = frame_norms(r, (1, 5))
    assert found.shape == (2, 2, 8) and not frame_norms(r.float().requires_grad_()).requires_grad
    pooled = ops.moving_average(8, 5, F64) @ r.double()
    expected = torch.stack([z.square().sum((1, 3)).sqrt() for z in (r.double(), pooled)], 1)
    torch.testing.assert_close(found.double(), expected, rtol=1e-12 if dtype == F64 else 2e-6, atol=0)


# ---- gradients ---------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('known', [False, True])
@pytest.mark.parametrize('exponent', EXPONENTS)
def test_the_gradient_is_the_derivative(computed_by, exponent, known):
    """Through the norm as well, also where it was handed in."""
    r, tau, limit = problem((2, 2, 6, 3))
    arguments = (r.requires_grad_(), tau.requires_grad_())

    def shrunk(r, tau):
        return frame_shrink(r, tau, WINDOWS, exponent, limit, 0.0, True, frame_norms(r, WINDOWS) if known else None)

    assert torch.autograd.gradcheck(shrunk, arguments)


@pytest.mark.parametrize('dtype', TOLERANCE, ids=str)
@pytest.mark.parametrize('exponent', EXPONENTS)
def test_compiled_and_formula_send_the_same_gradient(library, dtype, exponent):
    """With revival, and the magnitudes' gradient beside that of the maps, or alone."""
    r, tau, limit = problem((2, 33, 8, 49), dtype)
    generator = torch.Generator().manual_seed(1)
    cotangent, other = (torch.randn(3, *r.shape, generator=generator, dtype=F64).to(dtype) for _ in range(2))
    # A magnitude has no slope at zero, and averages of short numbers are zero or nearly so by the order of summation.
    other = other * (by_hand(r, tau, None, WINDOWS, exponent).abs() > 1e-3)
    for both in (True, False):
        found = {}
        for name in ('reference', 'compiled'):
            z, threshold = r.clone().requires_grad_(), tau.clone().requires_grad_()
            with ops.backend(name):
                s, m = frame_shrink(z, threshold, WINDOWS, exponent, 4 * limit, 0.25, magnitude=True)
                ((s * cotangent).double().sum() * both + (m * other).double().sum()).backward()
            found[name] = z.grad, threshold.grad
        for g, e in zip(found['compiled'], found['reference']):
            assert g.dtype == e.dtype
            torch.testing.assert_close(g, e, rtol=0, atol=8 * TOLERANCE[dtype] * max(1.0, e.abs().max().item()))
        assert (found['compiled'][1].abs().max() > 0) != math.isinf(exponent)


def test_a_threshold_that_has_emptied_every_frame_is_revived(computed_by):
    r, *_ = problem((2, 3, 4, 5))
    for revival, comes_down in ((0.25, True), (0.0, False)):
        tau = (1.2 * frame_norms(r)[:, 0]).requires_grad_()
        (frame_shrink(r, tau, revival=revival)[0][0] * r).sum().backward()
        assert (tau.grad < 0).all() if comes_down else (tau.grad == 0).all()


def test_the_limit_receives_no_gradient(computed_by):
    r, tau, limit = problem((2, 3, 8, 5))
    frame_shrink(r.requires_grad_(), tau, limit=limit.requires_grad_())[0].sum().backward()
    assert limit.grad is None and r.grad is not None


@pytest.mark.parametrize('threshold', [0.0, 1e-30, 0.5])
def test_a_frame_of_zeros_stays_zero_with_a_finite_gradient(computed_by, threshold):
    r, _, _ = problem((2, 3, 4, 5), torch.float32)
    r[0], r[1, :, 2] = 0, 0
    r, tau = r.requires_grad_(), torch.full((2, 4), threshold, requires_grad=True)
    s, _ = frame_shrink(r, tau, exponent=1.0)
    s.sum().backward()
    assert s[0, 0].abs().max() == 0 and s[0, 1, :, 2].abs().max() == 0
    assert r.grad.isfinite().all() and tau.grad.isfinite().all() and r.grad[0].abs().max() == 0


def test_nothing_of_the_size_of_the_features_is_saved_but_they_themselves(computed_by):
    r, tau, limit = problem((2, 30, 8, 49), torch.float32)
    r.requires_grad_(), tau.requires_grad_()
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda z: saved.append(z) or z, lambda z: z):
        s, m = frame_shrink(r, tau, WINDOWS, 2.0, limit, magnitude=True)
        s.sum()
    large = [z for z in saved if z.numel() >= r.numel()]
    assert len(large) == 1 and large[0].data_ptr() == r.data_ptr()


# ---- what is broken, empty, strided ------------------------------------------------------------------------------

@pytest.mark.parametrize('broken', [math.nan, math.inf])
def test_a_broken_value_breaks_its_frame_and_no_other(computed_by, broken):
    r, tau, limit = problem((2, 3, 9, 4), torch.float32)
    r[0, 1, 4, 2] = broken
    for bound in (None, limit):
        s, m = frame_shrink(r, tau, (1, ), 2.0, bound, magnitude=True)
        assert s[0, 0, :, 4].isnan().all() and torch.equal(m.isnan(), s.isnan())
        s[0, 0, :, 4] = 0
        assert s.isfinite().all()


def test_a_broken_threshold_is_not_hidden(computed_by):
    r, tau, _ = problem((2, 3, 9, 4), torch.float32)
    tau[1, 3] = math.nan
    s = frame_shrink(r, tau)[0][0]
    assert s[1, :, 3].isnan().all() and s.isnan().sum() == 12


def channels_last(x):
    return x[..., None].to(memory_format=torch.channels_last_3d).flatten(3)


def test_the_same_bits_with_any_strides_and_any_number_of_threads(compiled):
    r, tau, limit = problem((3, 70, 8, 49), torch.float32)
    threads, results = torch.get_num_threads(), []
    try:
        for count, z in ((1, r), (2, r), (3, channels_last(r)), (1, r.transpose(1, 2).contiguous().transpose(1, 2))):
            torch.set_num_threads(count)
            z = z.detach().requires_grad_()
            threshold = tau.clone().requires_grad_()
            s, m = frame_shrink(z, threshold, WINDOWS, 2.0, limit, magnitude=True)
            (s.square() + 0.5 * m).sum().backward()
            results.append((s.detach(), m.detach(), z.grad, threshold.grad, frame_norms(z, WINDOWS)))
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other))


@pytest.mark.parametrize('size', [(0, 3, 8, 5), (2, 0, 8, 5), (2, 3, 8, 0), (2, 3, 0, 5)], ids=str)
def test_nothing_in_nothing_out(computed_by, size):
    if size[2] == 0 and computed_by == 'reference':
        return      # an average over no frames is no formula
    r, tau, limit = problem(size)
    tau.requires_grad_()
    s, m = frame_shrink(r.requires_grad_(), tau, WINDOWS, 2.0, limit, magnitude=True)
    assert s.shape == m.shape == (3, *size) and frame_norms(r).abs().sum() == 0
    (s + m).sum().backward()
    assert r.grad.shape == size and tau.grad.abs().sum() == 0


def test_torch_finds_nothing_wrong_with_the_registration_and_compiles_it(compiled):
    r, tau, limit = problem((2, 3, 8, 5), torch.float32)
    norms = frame_norms(r, (1, 3))
    torch.library.opcheck(torch.ops.lsef.frame_norms.default, (r, [1, 3]))
    for known in (None, norms):
        torch.library.opcheck(torch.ops.lsef.frame_shrink.default,
                              (r.clone().requires_grad_(), known, tau.clone().requires_grad_(), limit, [1, 3], 2.0,
                               0.25, True))
    torch.library.opcheck(torch.ops.lsef.frame_shrink.default, (r, None, tau, None, [1], 1.0, 0.25, False))
    torch.library.opcheck(torch.ops.lsef.frame_shrink_backward.default,
                          (r[None], None, r, norms[:, 1:].contiguous(), tau, limit, [3], 2.0, 0.25))

    def loss(z, threshold):
        s, m = frame_shrink(z, threshold, WINDOWS, 2.0, limit, magnitude=True, norms=frame_norms(z, WINDOWS))
        return s.square().sum() + m.sum()

    arguments = (r.requires_grad_(), tau.requires_grad_())
    expected = torch.autograd.grad(loss(*arguments), arguments)
    found = torch.autograd.grad(torch.compile(loss, fullgraph=True, backend='aot_eager')(*arguments), arguments)
    for f, e in zip(found, expected):
        torch.testing.assert_close(f, e)


def test_more_windows_than_the_compiled_operator_takes_are_computed_by_the_formula(library):
    r, tau, limit = problem((1, 2, 21, 3))
    windows = tuple(range(1, 20, 2))
    with ops.backend('auto'):
        torch.testing.assert_close(frame_shrink(r, tau, windows, 2.0, limit)[0],
                                   by_hand(r, tau, limit, windows, 2.0), rtol=1e-12, atol=1e-12)


def test_the_compiled_operator_names_what_it_refuses(compiled):
    r, tau, _ = problem((2, 3, 8, 5))
    with pytest.raises(RuntimeError, match='1 to 8 windows, got 0'):
        torch.ops.lsef.frame_norms(r, [])
    with pytest.raises(RuntimeError, match='tau must be contiguous, of its shape'):
        torch.ops.lsef.frame_shrink(r, None, tau[:, :3], None, [1], 2.0, 0.0, False)
    with pytest.raises(RuntimeError, match='norms must be contiguous, of its shape'):
        torch.ops.lsef.frame_shrink(r, tau, tau, None, [1], 2.0, 0.0, False)


@pytest.mark.parametrize('shape', [(3, ), (2, 4), (3, 5), (2, 3, 1, 1), (2, 1, 5, 7)], ids=str)
def test_a_group_threshold_that_fits_no_frame_is_refused(computed_by, shape):
    with pytest.raises(ValueError, match=r'one per frame \(2, 5\)'):
        frame_shrink(torch.zeros(2, 3, 5, 7), torch.zeros(shape))


def test_what_is_no_features_or_no_window_is_refused(computed_by):
    with pytest.raises(ValueError, match=r'takes floating features \(b, c, t, n\), got'):
        frame_shrink(torch.zeros(2, 3, 5, 7, 1), torch.zeros(()))
    for windows in ((2, ), (0, ), (-1, )):
        with ops.backend('auto'), pytest.raises(ValueError, match='odd window >= 1'):
            frame_shrink(torch.zeros(2, 3, 5, 7), torch.zeros(()), windows)


@pytest.mark.parametrize('shape', [(), (1, 1), (2, 1), (2, 5), (2, 1, 5, 1), (1, 1, 1, 1)], ids=str)
def test_thresholds_of_a_number_a_clip_a_frame(computed_by, shape):
    r, tau, _ = problem((2, 3, 5, 7))
    short = tau[:shape[0] if shape else 1, :1 if len(shape) < 2 or shape[-1 if len(shape) == 2 else 2] == 1 else 5]
    threshold = short.reshape(shape).requires_grad_()
    found = frame_shrink(r, threshold)[0][0]
    expected = by_hand(r, short.detach().expand(2, 5), None, (1, ), 2.0)[0]
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    found.sum().backward()
    assert threshold.grad.shape == shape


# ---- one window of one frame: the textbook's group threshold ------------------------------------------------------

@pytest.mark.parametrize('shape', [(), (2, 1), (2, 5)], ids=str)
def test_a_group_threshold_takes_its_length_off_every_frame(computed_by, shape):
    x = torch.randn(2, 3, 5, 7, generator=torch.Generator().manual_seed(0), dtype=F64)
    tau = 4 + torch.rand(shape, generator=torch.Generator().manual_seed(1), dtype=F64)
    length = x.square().sum((1, 3), keepdim=True).sqrt()
    per_frame = tau.expand(2, 5)[:, None, :, None]
    found = ops.group_soft_threshold(x, tau)
    torch.testing.assert_close(found, x * (1 - per_frame / length).relu(), rtol=1e-12, atol=1e-12)
    assert 0 < (found == 0).double().mean() < 1
    assert torch.autograd.gradcheck(ops.group_soft_threshold, (x.requires_grad_(), tau.requires_grad_()))


def test_no_frame_near_the_group_threshold_scores_lower(computed_by):
    """The proximal map: it minimises |x - s|^2 / 2 + tau sum_t |s_t|."""
    x = torch.randn(1, 3, 5, 7, generator=torch.Generator().manual_seed(0), dtype=F64)
    tau = torch.tensor(4.4, dtype=F64)
    s = ops.group_soft_threshold(x, tau)

    def objective(z):
        return 0.5 * (x - z).square().sum() + tau * z.square().sum((1, 3)).sqrt().sum()

    for seed in range(20):
        step = torch.randn(x.shape, generator=torch.Generator().manual_seed(seed), dtype=F64)
        for size in (1e-4, 1e-2, 1.0):
            assert objective(s + size * step) >= objective(s)


# ---- the module that uses it -------------------------------------------------------------------------------------

def test_ddm_shrinks_frames_alike_by_either_body(library):
    x = torch.randn(2, 5, 8, 9, generator=torch.Generator().manual_seed(0))
    x[0, :, 3] *= 6
    found = []
    for name in ('reference', 'compiled'):
        ddm, z = DynamicDecouplingModule(5, kappa=1.0, group='frame'), x.clone().requires_grad_()
        with ops.backend(name):
            parts = ddm(z, 0.5 * z, torch.linspace(0, 1, 8).expand(2, 8))
            parts.transient.square().sum().backward()
        found.append((parts.transient.detach(), parts.frame_threshold.detach(), z.grad, ddm.offset.weight.grad))
    assert 0 < (found[0][0] == 0).double().mean() < 1 and found[0][3].abs().sum() > 0
    torch.testing.assert_close(found[1], found[0], rtol=1e-5, atol=1e-5)
