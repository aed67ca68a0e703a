"""The fused pass is its formula: values, gradients, dtypes, strides, lengths, and nothing of a NaN is hidden."""
import math

import pytest
import torch

from lsef_plugins import ops
from lsef_plugins.ops import low_rank_sparse
from lsef_plugins.ops.low_rank_sparse import OUTPUTS

F64 = torch.float64
EXPONENTS = (1.0, 2.0, math.inf)
SIZES = [(2, 3, 8, 49), (1, 1, 1, 1), (3, 5, 4, 7), (2, 33, 3, 130), (1, 2, 17, 257), (2, 1, 33, 16), (1, 70, 8, 3)]
# Rounding of the result (bf16 8, fp16 11, fp32 24 bits), some operations deep; sums are always in float32 or better.
TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-5, torch.bfloat16: 2 ** -7, torch.float16: 2 ** -10}


def problem(n, c, t, p, dtype=F64, seed=0):
    """Arguments with everything in use; no element within 1e-3 of its threshold, where the derivative jumps."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=F64)

    x = normal(n, c, t, p).to(dtype)
    operator = normal(n, t, t) / (2 * t ** 0.5)
    tau = 0.3 + torch.rand(n, c, generator=generator, dtype=F64)
    distance = (x.double() - operator[:, None] @ x.double()).abs() - tau[..., None, None]
    if dtype == F64:
        x = torch.where(distance.abs() < 1e-3, x * 1.05, x)
    sums = torch.promote_types(dtype, torch.float32)
    small = [operator, tau, torch.rand(n, t, generator=generator, dtype=F64), normal(n, c), normal(n, c)]
    return [x, *(z.to(sums) for z in small)]


def gradients(arguments, cotangents, **options):
    arguments = [z.detach().clone().requires_grad_() for z in arguments]
    found = low_rank_sparse(*arguments, outputs=OUTPUTS, **options)
    loss = sum((z.double() * g).sum() for z, g in zip(found, cotangents))
    loss.backward()
    return [z.grad for z in arguments]


def cotangents_of(found, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(z.shape, generator=generator, dtype=F64) for z in found]


def assert_near(found, expected, tolerance, names):
    """Within the tolerance of the largest element, and finite in the same places."""
    for z, e, name in zip(found, expected, names):
        assert z.dtype == e.dtype and z.shape == e.shape and torch.equal(z.isfinite(), e.isfinite()), name
        scale = max(e.abs().max().item(), 1e-3) if e.numel() else 1
        torch.testing.assert_close(z, e, rtol=0, atol=tolerance * scale, msg=lambda m, n=name: f'{n}: {m}')


ARGUMENTS = ('x', 'operator', 'tau', 'keep', 'a', 'b')


def test_the_parts_are_those_of_the_formula(computed_by):
    """Element by element, in Python floats."""
    x, operator, tau, keep, a, b = problem(2, 3, 5, 4)
    found = low_rank_sparse(x, operator, tau, keep, a, b, 2.0, outputs=OUTPUTS)
    for n, c, t, p in ((0, 0, 0, 0), (1, 2, 4, 3), (0, 1, 2, 1), (1, 0, 3, 2)):
        low = sum(float(operator[n, t, u] * x[n, c, u, p]) for u in range(5))
        r = float(x[n, c, t, p]) - low
        s = r * max(0.0, 1 - (float(tau[n, c]) / abs(r)) ** 2) * float(keep[n, t])
        y = float(x[n, c, t, p]) + float(a[n, c]) * low + float(b[n, c]) * s
        for part, expected in zip(found, (y, low, s, r * float(keep[n, t]))):
            assert float(part[n, c, t, p]) == pytest.approx(expected, rel=1e-12, abs=1e-12)
    s, low, r = found.transient, found.stable, found.residual
    expected = [(s != 0).sum((2, 3)), s.abs().sum((2, 3)), s.square().sum((2, 3)), low.square().sum((2, 3)),
                r.square().sum((2, 3))]
    torch.testing.assert_close(found.sums, torch.stack([e.to(F64) for e in expected], -1))


@pytest.mark.parametrize('exponent', EXPONENTS)
def test_the_gradient_is_the_derivative(computed_by, exponent):
    arguments = [z.requires_grad_() for z in problem(2, 2, 3, 2)]

    def parts(*z):
        found = low_rank_sparse(*z, exponent=exponent, revival=0.0, outputs=OUTPUTS)
        return (*found[:4], found.sums[..., 1:])

    assert torch.autograd.gradcheck(parts, arguments)


@pytest.mark.parametrize('size', SIZES, ids=str)
@pytest.mark.parametrize('dtype', TOLERANCE, ids=str)
def test_compiled_and_formula_agree(library, size, dtype):
    arguments = problem(*size, dtype=dtype)
    with ops.backend('reference'):
        expected = low_rank_sparse(*arguments, outputs=OUTPUTS)
        cotangents = cotangents_of(expected)
        expected_gradients = gradients(arguments, cotangents)
    with ops.backend('compiled'):
        found = low_rank_sparse(*arguments, outputs=OUTPUTS)
        found_gradients = gradients(arguments, cotangents)
    assert_near(found[:4], expected[:4], TOLERANCE[dtype], OUTPUTS)
    assert_near(found[4:], expected[4:], max(1e-5, TOLERANCE[dtype]), OUTPUTS[4:])
    # A gradient sums up to t * p products of either sign.
    assert_near(found_gradients, expected_gradients, 2 * TOLERANCE[dtype], ARGUMENTS)


@pytest.mark.parametrize('frames', range(1, 34))
def test_compiled_and_formula_agree_at_every_number_of_frames(library, frames):
    arguments = problem(1, 3, frames, 21)
    with ops.backend('reference'):
        expected = low_rank_sparse(*arguments, outputs=OUTPUTS)
        cotangents = cotangents_of(expected)
        expected_gradients = gradients(arguments, cotangents)
    with ops.backend('compiled'):
        assert_near(low_rank_sparse(*arguments, outputs=OUTPUTS), expected, 1e-12, OUTPUTS)
        assert_near(gradients(arguments, cotangents), expected_gradients, 1e-12, ARGUMENTS)


def channels_last(x):
    return x[..., None].to(memory_format=torch.channels_last_3d).flatten(3)


def of_frames(x):
    """The clips of a 2D recognizer: frames are images of one batch, (b t, c, n)."""
    return x.transpose(1, 2).contiguous().transpose(1, 2)


def every_other(x):
    return torch.stack([x, x + 1], -1).flatten(3)[..., ::2]


@pytest.mark.parametrize('layout', [channels_last, of_frames, every_other])
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16], ids=str)
def test_any_strides_give_the_same_bits(compiled, layout, dtype):
    x, *small = problem(2, 5, 8, 50, dtype)
    strided = layout(x)
    assert torch.equal(strided, x) and strided.stride() != x.stride()
    expected, found = (low_rank_sparse(z, *small, outputs=OUTPUTS) for z in (x, strided))
    for e, f in zip(expected, found):
        assert torch.equal(e, f)
    if layout is not every_other:
        assert found.merged.stride() == strided.stride(), 'and stay what they are'
    cotangents = cotangents_of(expected)
    for e, f in zip(gradients([x, *small], cotangents), gradients([strided, *small], cotangents)):
        assert torch.equal(e, f)


def test_gradients_of_any_strides_are_read_as_they_come(compiled):
    """That of a sum has the stride 0 everywhere."""
    x, *small = problem(2, 3, 8, 20)
    results = []
    for grad in (torch.ones(()).expand(x.shape).to(F64), torch.ones_like(x), channels_last(torch.ones_like(x))):
        z = x.clone().requires_grad_()
        low_rank_sparse(z, *small).merged.backward(grad)
        results.append(z.grad)
    assert torch.equal(results[0], results[1]) and torch.equal(results[0], results[2])


@pytest.mark.parametrize('size', [(0, 3, 8, 5), (2, 0, 8, 5), (2, 3, 8, 0)], ids=str)
def test_nothing_in_nothing_out(computed_by, size):
    arguments = problem(*size)
    found = low_rank_sparse(*arguments, outputs=OUTPUTS)
    assert found.merged.shape == size and found.sums.abs().sum() == 0
    for gradient, argument in zip(gradients(arguments, cotangents_of(found)), arguments):
        assert gradient.shape == argument.shape and gradient.abs().sum() == 0


@pytest.mark.parametrize('broken', [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize('exponent', EXPONENTS)
def test_a_broken_value_stays_in_its_column_and_is_not_hidden_there(library, broken, exponent):
    x, *small = problem(2, 3, 8, 20, torch.float32)
    x[1, 2, 3, 4] = broken
    found = {}
    for name in ('reference', 'compiled'):
        with ops.backend(name):
            found[name] = low_rank_sparse(x, *small, exponent=exponent, outputs=OUTPUTS[:4])
    for e, f in zip(*(parts[:4] for parts in found.values())):
        assert torch.equal(e.isnan(), f.isnan()) and torch.equal(e.isinf(), f.isinf())
        intact = f.clone()
        intact[1, 2, :, 4] = 0
        assert intact.isfinite().all() and not f[1, 2, :, 4].isfinite().any()


def test_the_same_bits_every_time_and_with_any_number_of_threads(compiled):
    arguments = problem(3, 70, 8, 49, torch.float32)
    cotangents = cotangents_of(low_rank_sparse(*arguments, outputs=OUTPUTS))
    threads, results = torch.get_num_threads(), []
    try:
        for count in (1, 2, 3, 1):
            torch.set_num_threads(count)
            results.append([*low_rank_sparse(*arguments, outputs=OUTPUTS), *gradients(arguments, cotangents)])
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other))


def test_half_precision_is_computed_in_float32_and_rounded_once(compiled):
    x, *small = problem(2, 3, 8, 49, torch.bfloat16)
    exact = low_rank_sparse(x.float(), *small, outputs=OUTPUTS[:4])
    for rounded, e in zip(low_rank_sparse(x, *small, outputs=OUTPUTS[:4])[:4], exact):
        assert torch.equal(rounded, e.bfloat16())


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16], ids=str)
def test_every_half_precision_number_is_read_and_written_as_torch_does(compiled, dtype):
    """All 65,536 of them; and what float32 rounds to, subnormal, overflowing and half-way numbers included."""
    every = torch.arange(-2 ** 15, 2 ** 15, dtype=torch.int32).to(torch.int16).view(dtype).view(1, 1, 1, -1)
    zero = torch.zeros(1, 1, 1)
    same = low_rank_sparse(every, zero, torch.zeros(()), outputs=('merged', )).merged
    assert torch.equal(same.isnan(), every.isnan())
    assert torch.equal(same.nan_to_num(0.0).view(torch.int16), every.nan_to_num(0.0).view(torch.int16))
    generator = torch.Generator().manual_seed(0)
    grid = every[every.isfinite()].float()
    half_way = (grid[1:] + grid[:-1]) / 2
    wide = torch.randn(4000, generator=generator) * 10.0 ** torch.randint(-40, 38, (4000, ), generator=generator)
    special = torch.tensor([65519.0, 65520.0, 65536.0, -0.0, 2.0 ** -25, 2.0 ** -25 * 1.001, math.inf, math.nan])
    values = torch.cat([half_way, half_way * (1 + 2 ** -20), half_way * (1 - 2 ** -20), wide, special])
    # One clip with one element, 1, for each value: the operator multiplies it by the value.
    ones = torch.ones(len(values), 1, 1, 1, dtype=dtype)
    written = low_rank_sparse(ones, values.view(-1, 1, 1), torch.zeros(()), outputs=('stable', )).stable.flatten()
    expected = values.to(dtype)
    assert torch.equal(written.isnan(), expected.isnan())
    known = ~expected.isnan()
    assert torch.equal(written[known], expected[known])


@pytest.mark.parametrize('outputs', [(name, ) for name in OUTPUTS] + [('stable', 'residual'), OUTPUTS], ids=str)
def test_only_what_is_asked_for_is_computed_and_sends_its_gradient(computed_by, outputs):
    arguments = [z.requires_grad_() for z in problem(2, 3, 4, 5)]
    found, whole = (low_rank_sparse(*arguments, outputs=names) for names in (outputs, OUTPUTS))
    for name, part, reference in zip(OUTPUTS, found, whole):
        assert (part is None) == (name not in outputs)
        if part is not None:
            assert torch.equal(part, reference)
    total, expected = (sum(getattr(z, name).square().sum() for name in outputs) for z in (found, whole))
    for g, e in zip(torch.autograd.grad(total, arguments, allow_unused=True),
                    torch.autograd.grad(expected, arguments, allow_unused=True)):
        torch.testing.assert_close(torch.zeros(1).to(F64) if g is None else g.sum(),
                                   torch.zeros(1).to(F64) if e is None else e.sum(), check_stride=False)


@pytest.mark.parametrize('shape', [(), (3, ), (1, 3), (2, 1), (2, 3), (2, 3, 1, 1)], ids=str)
def test_a_gate_may_be_shared_and_receives_the_sum(computed_by, shape):
    x, operator, *_ = problem(2, 3, 4, 5)
    tau = torch.full(shape, 0.5, dtype=F64, requires_grad=True)
    found = low_rank_sparse(x, operator, tau, b=torch.ones((), dtype=F64), exponent=1.0, revival=0.0).merged
    full = torch.full((2, 3), 0.5, dtype=F64, requires_grad=True)
    expected = low_rank_sparse(x, operator, full, b=torch.ones((), dtype=F64), exponent=1.0, revival=0.0).merged
    assert torch.equal(found, expected)
    found.sum().backward()
    expected.sum().backward()
    by_row = full.grad.view(2, 3, 1, 1) if len(shape) == 4 else full.grad
    torch.testing.assert_close(tau.grad, by_row.sum_to_size(shape))


def test_revival_weighs_the_threshold_as_in_the_elementwise_formula(library):
    arguments = problem(2, 3, 8, 20)
    cotangents = cotangents_of(low_rank_sparse(*arguments, outputs=OUTPUTS))
    for exponent in (1.0, 2.0):
        found = {}
        for name in ('reference', 'compiled'):
            with ops.backend(name):
                found[name] = gradients(arguments, cotangents, exponent=exponent, revival=0.25)
        assert_near(found['compiled'], found['reference'], 1e-12, ARGUMENTS)
        exact = gradients(arguments, cotangents, exponent=exponent, revival=0.0)
        assert (exact[2] - found['compiled'][2]).abs().min() > 1e-3 and torch.equal(exact[0], found['compiled'][0])


def test_the_backward_pass_saves_nothing_but_the_arguments(computed_by):
    arguments = [z.requires_grad_() for z in problem(2, 3, 8, 20)]
    pointers = {z.data_ptr() for z in arguments}
    saved = []

    def pack(z):
        saved.append(z)
        return z

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda z: z):
        low_rank_sparse(*arguments, outputs=OUTPUTS)
    large = [z for z in saved if z.numel() >= arguments[0].numel()]
    assert large and all(z.data_ptr() in pointers for z in large)


@pytest.mark.parametrize('dtype', [F64, torch.float32, torch.bfloat16], ids=str)
def test_torch_finds_nothing_wrong_with_the_registration(compiled, dtype):
    for size in ((2, 3, 8, 5), (0, 3, 4, 5)):
        x, *small = [z.requires_grad_() for z in problem(*size, dtype=dtype)]
        torch.library.opcheck(torch.ops.lsef.low_rank_sparse.default, (x, *small, 2.0, 0.25, 31))
        torch.library.opcheck(torch.ops.lsef.low_rank_sparse.default, (x, *small[:2], None, None, None, 1.0, 0.25, 6))
        x, *small = problem(*size, dtype=dtype)
        torch.library.opcheck(torch.ops.lsef.low_rank_sparse_backward.default,
                              (x, None, x, None, None, x, *small, 2.0, 0.25))


def test_torch_compiles_the_whole_without_a_break(compiled):
    arguments = [z.requires_grad_() for z in problem(2, 3, 8, 20, torch.float32)]

    def loss(*z):
        found = low_rank_sparse(*z, outputs=('merged', 'transient'))
        return found.merged.square().mean() + found.transient.sin().mean()

    expected = torch.autograd.grad(loss(*arguments), arguments)
    found = torch.autograd.grad(torch.compile(loss, fullgraph=True, backend='aot_eager')(*arguments), arguments)
    for f, e in zip(found, expected):
        torch.testing.assert_close(f, e)


@pytest.mark.parametrize('change, message', [
    (dict(x=torch.zeros(2, 3, 4)), r'floating features \(b, c, t, n\)'),
    (dict(x=torch.zeros(2, 3, 4, 5, dtype=torch.int64)), 'floating features'),
    (dict(operator=torch.zeros(4, 4)), 'one matrix over time for each clip'),
    (dict(operator=torch.zeros(2, 4, 5)), r'\(b, t, t\) = \(2, 4, 4\)'),
    (dict(tau=torch.zeros(2, 4)), r'one per channel \(3, \)'),
    (dict(a=torch.zeros(3, 2)), 'a .* does not fit features'),
    (dict(keep=torch.zeros(4)), 'one number for each frame'),
    (dict(exponent=0.5), 'exponent is p >= 1'),
    (dict(outputs='stable'), 'outputs names any of merged, stable'),
    (dict(outputs=('sparse', )), 'outputs names any of'),
    (dict(outputs=()), 'outputs names any of')], ids=lambda v: next(iter(v)) if isinstance(v, dict) else None)
def test_what_does_not_belong_together_is_refused(change, message):
    arguments = dict(x=torch.zeros(2, 3, 4, 5), operator=torch.zeros(2, 4, 4), tau=torch.ones(()))
    with pytest.raises(ValueError, match=message):
        low_rank_sparse(**{**arguments, **change})


def test_the_compiled_operator_refuses_what_it_does_not_know(compiled):
    x, operator, tau, *_ = problem(1, 1, 65, 3)
    with pytest.raises(RuntimeError, match='up to 64 frames'):
        low_rank_sparse(x, operator, tau)
    x, operator, tau, *_ = problem(1, 1, 4, 3)
    with pytest.raises(RuntimeError, match='exponents 1, 2 and inf'):
        low_rank_sparse(x, operator, tau, exponent=3.0)
    with ops.backend('auto'):
        low_rank_sparse(x, operator, tau, exponent=3.0)
    with pytest.raises(RuntimeError, match='exponents 1, 2 and inf, got 3'):
        torch.ops.lsef.low_rank_sparse(x, operator, tau, None, None, None, 3.0, 0.0, 1)
    with pytest.raises(RuntimeError, match='operator must be contiguous, of its shape'):
        torch.ops.lsef.low_rank_sparse(x, operator[0], tau, None, None, None, 2.0, 0.0, 1)
