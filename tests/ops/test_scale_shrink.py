"""All time scales of the transient in one pass are, scale by scale, the average over time and then the shrinkage."""
import math

import pytest
import torch

from lsef_plugins import ops
from lsef_plugins.ops import moving_average, scale_shrink, shrink, soft_threshold

F64 = torch.float64
EXPONENTS = (1.0, 2.0, math.inf)
SIZES = [(2, 3, 8, 49), (1, 1, 1, 1), (3, 5, 4, 7), (1, 2, 17, 257), (2, 1, 33, 16), (1, 70, 2, 3)]
TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-6, torch.bfloat16: 2 ** -8, torch.float16: 2 ** -11}
WINDOWS = (1, 3, 5)


def problem(size, dtype=F64, seed=0):
    """No pooled value within 1e-3 of its threshold or its limit, where the derivative jumps."""
    generator = torch.Generator().manual_seed(seed)
    sums = torch.promote_types(dtype, torch.float32)
    r = 2 * torch.randn(*size, generator=generator, dtype=F64)
    tau = 0.3 + torch.rand(size[:2], generator=generator, dtype=F64)
    return r.to(dtype), tau.to(sums), (3 * tau).to(sums)


def by_hand(r, tau, limit, windows, exponent):
    """Window by window, frame by frame, in float64."""
    r, tau, limit = (z.double() for z in (r, tau, limit))
    maps = []
    for window in windows:
        frames = []
        for t in range(r.shape[2]):
            seen = r[:, :, max(0, t - window // 2):t + window // 2 + 1]
            norm = seen.shape[2] ** -0.5
            s = shrink(seen.mean(2), tau[..., None] * norm, exponent)
            frames.append(s.clamp(-limit[..., None] * norm, limit[..., None] * norm))
        maps.append(torch.stack(frames, 2))
    return torch.stack(maps)


@pytest.mark.parametrize('dtype', TOLERANCE, ids=str)
@pytest.mark.parametrize('size', SIZES, ids=str)
def test_every_scale_is_averaged_then_shrunk_then_limited(computed_by, size, dtype):
    r, tau, limit = problem(size, dtype)
    expected = by_hand(r, tau, limit, (1, 3, 9), 2.0)
    s, m = scale_shrink(r, tau, (1, 3, 9), 2.0, limit, magnitude=True)
    assert s.dtype == m.dtype == dtype and torch.equal(m, s.abs())
    torch.testing.assert_close(s.double(), expected, rtol=0, atol=TOLERANCE[dtype] * expected.abs().max().item())


@pytest.mark.parametrize('exponent', EXPONENTS)
def test_every_exponent_with_and_without_limit(computed_by, exponent):
    r, tau, limit = problem((2, 3, 8, 49))
    for bound in (limit, None):
        found, none = scale_shrink(r, tau, WINDOWS, exponent, bound)
        expected = by_hand(r, tau, limit if bound is not None else limit * math.inf, WINDOWS, exponent)
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
        assert none is None


@pytest.mark.parametrize('frames', range(1, 34))
def test_every_number_of_frames(computed_by, frames):
    r, tau, limit = problem((1, 2, frames, 3))
    torch.testing.assert_close(scale_shrink(r, tau, WINDOWS, 2.0, limit)[0], by_hand(r, tau, limit, WINDOWS, 2.0),
                               rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize('exponent', EXPONENTS)
def test_the_gradient_is_the_derivative(computed_by, exponent):
    r, tau, limit = problem((2, 2, 6, 3))
    arguments = (r.requires_grad_(), tau.requires_grad_())
    assert torch.autograd.gradcheck(
        lambda r, tau: scale_shrink(r, tau, WINDOWS, exponent, limit, 0.0, magnitude=True), arguments)


@pytest.mark.parametrize('dtype', TOLERANCE, ids=str)
@pytest.mark.parametrize('exponent', EXPONENTS)
def test_compiled_and_formula_send_the_same_gradient(library, dtype, exponent):
    """With revival, and the magnitudes' gradient beside that of the maps, or alone."""
    r, tau, limit = problem((2, 33, 8, 49), dtype)
    generator = torch.Generator().manual_seed(1)
    cotangent, other = (torch.randn(3, *r.shape, generator=generator, dtype=F64).to(dtype) for _ in range(2))
    for both in (True, False):
        found = {}
        for name in ('reference', 'compiled'):
            z, threshold = r.clone().requires_grad_(), tau.clone().requires_grad_()
            with ops.backend(name):
                s, m = scale_shrink(z, threshold, WINDOWS, exponent, limit, 0.25, magnitude=True)
                ((s * cotangent).double().sum() * both + (m * other).double().sum()).backward()
            found[name] = z.grad, threshold.grad
        for g, e in zip(found['compiled'], found['reference']):
            assert g.dtype == e.dtype
            torch.testing.assert_close(g, e, rtol=0, atol=8 * TOLERANCE[dtype] * max(1.0, e.abs().max().item()))
        assert (found['compiled'][1].abs().max() > 0) != math.isinf(exponent)


def test_the_limit_receives_no_gradient(computed_by):
    r, tau, limit = problem((2, 3, 8, 5))
    scale_shrink(r.requires_grad_(), tau, WINDOWS, 2.0, limit.requires_grad_())[0].sum().backward()
    assert limit.grad is None and r.grad is not None


@pytest.mark.parametrize('broken', [math.nan, math.inf])
def test_a_broken_value_is_seen_wherever_a_window_holds_it(computed_by, broken):
    """The formula's average is a matrix product, in which zero times NaN spreads over the column; the loop's is not."""
    r, tau, limit = problem((1, 2, 9, 4), torch.float32)
    r[0, 1, 4, 2] = broken
    for bound in (None, limit):
        s, m = scale_shrink(r, tau, WINDOWS, 2.0, bound, magnitude=True)
        for half, (part, size) in enumerate(zip(s, m)):
            inside = part[0, 1, 4 - half:5 + half, 2]
            elsewhere = part.clone()
            elsewhere[0, 1, :, 2] = 0
            assert elsewhere.isfinite().all() and torch.equal(size.isnan(), part.isnan())
            if math.isnan(broken):
                assert inside.isnan().all()
            else:
                assert computed_by == 'reference' or (inside > 0).all()
            if computed_by == 'compiled':
                outside = torch.cat([part[0, 1, :4 - half, 2], part[0, 1, 5 + half:, 2]])
                assert outside.isfinite().all()


def channels_last(x):
    return x[..., None].to(memory_format=torch.channels_last_3d).flatten(3)


def test_the_same_bits_with_any_strides_and_any_number_of_threads(compiled):
    r, tau, limit = problem((3, 40, 8, 49), torch.float32)
    threads, results = torch.get_num_threads(), []
    try:
        for count, z in ((1, r), (2, r), (3, channels_last(r)), (1, r.transpose(1, 2).contiguous().transpose(1, 2))):
            torch.set_num_threads(count)
            z = z.detach().requires_grad_()
            threshold = tau.clone().requires_grad_()
            s, m = scale_shrink(z, threshold, WINDOWS, 2.0, limit, magnitude=True)
            (s.square() + 0.5 * m).sum().backward()
            results.append((s.detach(), m.detach(), z.grad, threshold.grad))
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other))


@pytest.mark.parametrize('size', [(0, 3, 8, 5), (2, 0, 8, 5), (2, 3, 8, 0)], ids=str)
def test_nothing_in_nothing_out(computed_by, size):
    r, tau, limit = problem(size)
    tau.requires_grad_()
    s, m = scale_shrink(r.requires_grad_(), tau, WINDOWS, 2.0, limit, magnitude=True)
    assert s.shape == m.shape == (3, *size)
    (s + m).sum().backward()
    assert r.grad.shape == size and tau.grad.abs().sum() == 0


def test_torch_finds_nothing_wrong_with_the_registration_and_compiles_it(compiled):
    r, tau, limit = problem((2, 3, 8, 5), torch.float32)
    torch.library.opcheck(torch.ops.lsef.scale_shrink.default,
                          (r.clone().requires_grad_(), tau.clone().requires_grad_(), limit, [1, 3], 2.0, 0.25, True))
    torch.library.opcheck(torch.ops.lsef.scale_shrink.default, (r, tau, None, [1], 1.0, 0.25, False))
    torch.library.opcheck(torch.ops.lsef.scale_shrink_backward.default,
                          (r[None], None, r, tau, limit, [3], 2.0, 0.25))

    def loss(z, threshold):
        s, m = scale_shrink(z, threshold, WINDOWS, 2.0, limit, magnitude=True)
        return s.square().sum() + m.sum()

    arguments = (r.requires_grad_(), tau.requires_grad_())
    expected = torch.autograd.grad(loss(*arguments), arguments)
    found = torch.autograd.grad(torch.compile(loss, fullgraph=True, backend='aot_eager')(*arguments), arguments)
    for f, e in zip(found, expected):
        torch.testing.assert_close(f, e)


def test_the_compiled_operator_names_what_it_refuses(compiled):
    r, tau, _ = problem((2, 3, 8, 5))
    for windows, message in (([], '1 to 8 windows, got 0'), ([1] * 9, '1 to 8 windows, got 9'), ([2], 'odd, got 2')):
        with pytest.raises(RuntimeError, match=message):
            torch.ops.lsef.scale_shrink(r, tau, None, windows, 2.0, 0.0, False)


@pytest.mark.parametrize('windows', [(2, ), (0, ), (-1, )], ids=str)
def test_a_window_without_a_centre_is_refused(computed_by, windows):
    r, tau, _ = problem((2, 3, 8, 5))
    with ops.backend('auto'), pytest.raises(ValueError, match='odd window >= 1'):
        scale_shrink(r, tau, windows)


def test_more_windows_than_the_compiled_operator_takes_are_computed_by_the_formula(library):
    r, tau, limit = problem((1, 2, 21, 3))
    windows = tuple(range(1, 20, 2))
    with ops.backend('auto'):
        torch.testing.assert_close(scale_shrink(r, tau, windows, 2.0, limit)[0],
                                   by_hand(r, tau, limit, windows, 2.0), rtol=1e-12, atol=1e-12)


# ---- one window of one frame: thresholds as they are named in textbooks ------------------------------------------

@pytest.mark.parametrize('dtype', TOLERANCE, ids=str)
@pytest.mark.parametrize('shape', [(), (3, ), (2, 3), (2, 1)], ids=str)
def test_soft_thresholds_are_scalar_or_per_channel_or_per_clip_and_channel(computed_by, shape, dtype):
    x = torch.randn(2, 3, 5, 7, generator=torch.Generator().manual_seed(0), dtype=F64).to(dtype)
    tau = (0.2 + torch.rand(shape, generator=torch.Generator().manual_seed(1), dtype=F64)).to(dtype)
    whole = tau.double().expand(2, 3)[..., None, None]
    expected = x.double().sign() * (x.double().abs() - whole).relu()
    found = soft_threshold(x, tau)
    assert found.dtype == dtype
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=4 * TOLERANCE[dtype])


def test_the_soft_threshold_has_its_derivative(computed_by):
    x = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0), dtype=F64)
    x = torch.where((x.abs() - 0.5).abs() < 1e-3, x * 1.1, x).requires_grad_()
    tau = torch.full((3, ), 0.5, dtype=F64, requires_grad=True)
    assert torch.autograd.gradcheck(soft_threshold, (x, tau))


def test_an_average_of_one_frame_is_the_identity():
    assert torch.equal(moving_average(6, 1), torch.eye(6))
