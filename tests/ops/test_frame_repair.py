"""Frames their neighbours cannot explain: the compiled pass finds what the formula finds, also in degenerate clips."""
import math

import pytest
import torch

from lsef_plugins import ops
from lsef_plugins.functional import stable_operator
from lsef_plugins.ops import frame_repair, isolation

F64 = torch.float64
TOLERANCE = {torch.float64: 1e-11, torch.float32: 2e-3}


def clips(t, n=6, seed=0):
    """Grams of drifting clips: plain, a bad frame, two, a constant clip, a clip of zeros, a dropped frame."""
    generator = torch.Generator().manual_seed(seed)
    base = torch.randn(n, 2, 60, generator=generator, dtype=F64)
    time = torch.linspace(0, 1, t, dtype=F64)
    x = base[:, :1] + 0.3 * time[:, None] * base[:, 1:] + 0.1 * torch.randn(n, t, 60, generator=generator, dtype=F64)
    x[1, t // 2] = 30 * torch.randn(60, generator=generator, dtype=F64)
    x[2, 0], x[2, t - 1] = 5 * x[2, 0].flip(0), -3 * x[2, t - 1]
    x[3], x[4], x[5, t // 3] = x[3, :1].expand(t, 60), 0, 0
    return x @ x.mT


def both(function):
    found = []
    for name in ('reference', 'compiled'):
        with ops.backend(name):
            result = function()
        found.append(result if isinstance(result, tuple) else (result, ))
    return found


@pytest.mark.parametrize('dtype', TOLERANCE, ids=str)
@pytest.mark.parametrize('local', [True, False])
@pytest.mark.parametrize('t', [2, 3, 4, 5, 8, 9, 16, 17, 31, 32])
def test_compiled_and_formula_find_the_same(library, t, local, dtype):
    """The fourth clip is left to the next test: its errors are rounding, its floor decides."""
    g = clips(t)[[0, 1, 2, 5]].to(dtype)
    expected, found = both(lambda: frame_repair(g, 2.5, 1.7, local))
    for e, f in zip(expected, found):
        assert f.dtype == dtype
        torch.testing.assert_close(f, e, rtol=0, atol=TOLERANCE[dtype])
    if t >= 8:
        assert found[0][1, t // 2] > 0.9 and (found[0][0] < 0.9).all()


@pytest.mark.parametrize('t', [4, 8, 16])
def test_a_constant_clip_and_a_clip_of_zeros_have_no_bad_frame(computed_by, t):
    for local in (True, False):
        outlying, repair = frame_repair(clips(t)[3:5], local=local)
        assert outlying.abs().max() == 0 and torch.equal(repair, torch.eye(t, dtype=F64).expand(2, t, t))


@pytest.mark.parametrize('bandwidth', [1e-3, 0.3, 2.0, 1e6])
def test_any_bandwidth(library, bandwidth):
    """Of narrow ones every neighbour's kernel underflows."""
    g = clips(8)[[0, 1, 2, 5]]
    for e, f in zip(*both(lambda: frame_repair(g, 2.5, bandwidth))):
        assert f.isfinite().all()
        torch.testing.assert_close(f, e, rtol=0, atol=1e-11)


@pytest.mark.parametrize('t', [4, 8, 15])
def test_another_predictor_is_taken_as_it_is(library, t):
    g = clips(t)[[0, 1, 2, 5]]
    with ops.backend('reference'):
        predictor = stable_operator(g).operator
    for e, f in zip(*both(lambda: frame_repair(g, 2.5, 2.0, True, predictor))):
        torch.testing.assert_close(f, e, rtol=0, atol=1e-11)
    with ops.backend('compiled'):
        assert not torch.equal(frame_repair(g, predictor=predictor)[0], frame_repair(g)[0])


@pytest.mark.parametrize('dtype', TOLERANCE, ids=str)
@pytest.mark.parametrize('t', [1, 2, 4, 7, 8, 16, 32])
def test_isolation_is_its_formula(library, t, dtype):
    g, m = clips(t + 2)[:, 1:-1, 1:-1].to(dtype), torch.full((6, t, t), 0.9 / t, dtype=dtype)
    expected, found = both(lambda: isolation(m, g))
    torch.testing.assert_close(found[0], expected[0], rtol=0, atol=TOLERANCE[dtype])
    assert found[0].min() >= 0 and found[0].max() <= 1 and torch.equal(found[0][4], torch.ones(t, dtype=dtype))


@pytest.mark.parametrize('start', ['local', 'geometric_median'])
@pytest.mark.parametrize('passes', [1, 2])
def test_the_stable_operator_and_its_gradient_are_the_same_by_either_body(library, start, passes):
    # Not the constant clip: where the cut is a multiple eigenvalue its derivative is one of many.
    g = clips(8)[[0, 1, 2, 4, 5]]

    def operator():
        z = g.clone().requires_grad_()
        found = stable_operator(z, start=start, robust_iters=passes)
        gradient, = torch.autograd.grad(found.operator.square().sum(), z)
        assert not found.frame_gate.requires_grad and not found.outlying.requires_grad
        return (*(z.detach() for z in found), gradient * g.diagonal(dim1=1, dim2=2).sum(-1)[:, None, None])

    for e, f in zip(*both(operator)):
        torch.testing.assert_close(f, e, rtol=1e-9, atol=1e-8)


def test_a_gradient_that_is_asked_for_is_the_formulas(library):
    g = clips(6)[:3].requires_grad_()
    with ops.backend('auto'):
        outlying, repair = frame_repair(g)
    assert outlying.requires_grad and repair.requires_grad and not isolation(repair, g).requires_grad


@pytest.mark.parametrize('broken', [math.nan, math.inf])
def test_a_broken_clip_disturbs_none_beside_it(compiled, broken):
    g = clips(8)
    expected = frame_repair(g)
    g[1, 2, 2] = broken
    good = torch.arange(6) != 1
    for f, e in zip(frame_repair(g), expected):
        assert torch.equal(f[good], e[good])


def test_the_same_bits_with_any_number_of_threads_and_nothing_for_no_clips(compiled):
    g, threads, results = clips(8, 100), torch.get_num_threads(), []
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            results.append((*frame_repair(g), isolation(g / 1e3, g)))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for a, b in zip(*results))
    assert frame_repair(g[:0])[1].shape == (0, 8, 8) and isolation(g[:0], g[:0]).shape == (0, 8)


def test_more_frames_than_the_compiled_operator_takes_are_computed_by_the_formula(library):
    g = clips(33)[:3]
    with ops.backend('auto'):
        assert frame_repair(g)[0].shape == (3, 33) and isolation(g / 1e3, g).shape == (3, 33)
    with pytest.raises(RuntimeError, match='too many frames'):
        torch.ops.lsef.isolation(g, g)


def test_torch_finds_nothing_wrong_with_the_registration_and_compiles_it(compiled):
    g = clips(8)
    torch.library.opcheck(torch.ops.lsef.frame_repair.default, (g, None, True, 2.5, 2.0, 1e-5))
    torch.library.opcheck(torch.ops.lsef.frame_repair.default, (g, g, False, 2.5, 2.0, 1e-5))
    torch.library.opcheck(torch.ops.lsef.isolation.default, (g, g))

    def gates(z):
        found = stable_operator(z)
        return found.frame_gate.sum() + found.operator.sum()

    torch.testing.assert_close(torch.compile(gates, fullgraph=True, backend='aot_eager')(g), gates(g))


def test_the_compiled_operator_names_what_it_refuses(compiled):
    g = clips(8)
    with pytest.raises(RuntimeError, match='Gram matrices are square'):
        torch.ops.lsef.frame_repair(g[:, :4], None, True, 2.5, 2.0, 1e-5)
    with pytest.raises(RuntimeError, match='predictor must be contiguous, of its shape'):
        torch.ops.lsef.frame_repair(g, g[:3], True, 2.5, 2.0, 1e-5)
    with pytest.raises(RuntimeError, match='Gram matrices are float32 or float64'):
        torch.ops.lsef.isolation(g.half(), g.half())
