"""The fast CUDA kernels on the emulation: every way through memory, 16 bytes at a time, as exact as their formulas.

What the emulation sees and what it does not is told in ``emulation/emulation.h``. Its GPU is small, so that small sizes
go through several stages and groups of channels.
"""
import ctypes
import importlib.util
import itertools
import math
from pathlib import Path

import pytest
import torch

from lsef_plugins import ops
from lsef_plugins.ops.low_rank_sparse import OUTPUTS

spec = importlib.util.spec_from_file_location('emulated_kernels', Path(__file__).with_name('test_cuda_emulation.py'))
kernels = importlib.util.module_from_spec(spec)
spec.loader.exec_module(kernels)

F64, DTYPES, MAPS = torch.float64, (torch.float32, torch.bfloat16, torch.float16), OUTPUTS[:4]
# Outputs are rounded to the dtype; sums stay float32, of products that are exact to some 17 bits (24 for float32).
ROUNDING = {torch.float32: 1e-6, torch.bfloat16: 2 ** -8, torch.float16: 2 ** -11}
SUMS = {torch.float32: 2e-6, torch.bfloat16: 3e-5, torch.float16: 3e-5}


class Emulation(kernels.Emulation):
    """The two jobs with whatever is asked for; None is not there."""

    def forward(self, arguments, outputs, exponent=2.0, order=0):
        x = arguments[0]
        job = self._job(arguments, exponent)
        found = {name: torch.empty_like(x).fill_(math.nan) for name in outputs if name != 'sums'}
        for name, field in zip(MAPS, 'ylsr'):
            if name in found:
                setattr(job, field, kernels.view(found[name]))
        if 'sums' in outputs:
            found['sums'] = kernels.blank(arguments[2], *x.shape[:2], 5)
            job.sums = found['sums'].data_ptr()
        places = [found[name] for name in outputs if name != 'sums']
        return found, self.run('low_rank_sparse', job, [x, *places], order)

    def backward(self, arguments, cotangents, exponent=2.0, order=0):
        x = arguments[0]
        job, to_x = self._job(arguments, exponent), torch.empty_like(x).fill_(math.nan)
        for g, field in zip(cotangents, 'ylsr'):
            if g is not None:
                setattr(job, field, kernels.view(g))
        job.sums, job.to_x = (None if cotangents[4] is None else cotangents[4].data_ptr()), kernels.view(to_x)
        small = [kernels.blank(arguments[2], *shape) for shape in self._shapes(x)]
        job.to_matrix, job.to_tau, job.to_keep, job.to_a, job.to_b = (z.data_ptr() for z in small)
        given = [g for g in cotangents[:4] if g is not None]
        return [to_x, *small], self.run('low_rank_sparse_backward', job, [x, *given, to_x], order)

    def gram(self, arguments, events, order=0):
        x, matrix, tau, keep = arguments[:4]
        n, _, t, _ = x.shape
        found = torch.full((n, t, t), math.nan, dtype=torch.promote_types(x.dtype, torch.float32))
        job = kernels.Gram(dtype=kernels.CODES[x.dtype], exponent=2, size=kernels.Size(*x.shape), x=kernels.view(x),
                           gram=found.data_ptr())
        if events:
            job.matrix, job.tau, job.keep = matrix.data_ptr(), tau.data_ptr(), keep.data_ptr()
        return found, self.run('gram', job, [x], order)

    def wide(self, place):
        """Accesses of 16 bytes to the tensor at this place."""
        self.library.emulation_wide.restype = ctypes.c_int64
        return self.library.emulation_wide(place)

    def primitive(self, which, given, found):
        self.library.emulation_begin(0)
        for z in (given, found):
            self.library.emulation_buffer(ctypes.c_void_p(z.data_ptr()), ctypes.c_int64(z.numel()), ctypes.c_int64(4))
        pointers = [ctypes.c_void_p(z.data_ptr()) for z in (given, found)]
        self.library.lsef_cuda_primitive(which, *pointers, None)

    @staticmethod
    def _job(arguments, exponent):
        x = arguments[0]
        job = kernels.LowRankSparse(dtype=kernels.CODES[x.dtype], exponent=kernels.EXPONENTS[exponent],
                                    size=kernels.Size(*x.shape), revival=0.25, x=kernels.view(x))
        for name, z in zip(('matrix', 'tau', 'keep', 'a', 'b'), arguments[1:]):
            if z is not None:
                setattr(job, name, z.data_ptr())
        return job

    @staticmethod
    def _shapes(x):
        n, c, t, _ = x.shape
        return (n, t, t), (n, c), (n, t), (n, c), (n, c)


@pytest.fixture(scope='module')
def emulation(emulated_library):
    return Emulation(ctypes.CDLL(str(emulated_library)))


def channels_last(x):
    return x[..., None].to(memory_format=torch.channels_last_3d).flatten(3)


def frames_first(x):
    """As a 2D recognizer has them: (n t, c, h, w), so that channels lie inside frames."""
    return x.transpose(1, 2).contiguous().transpose(1, 2)


def uneven(x):
    return torch.stack((x, x), -1)[..., 0]


def with_gaps(x):
    """The first positions of longer rows."""
    return torch.cat((x, x[..., :3]), -1)[..., :x.shape[-1]]


# Linear with a warp per channel, and with four; several groups of channels for a block; odd and even positions. Rows in
# several pieces, the last one short, alone and in fours; rows of an inner axis. Channels last: a set short of 16
# channels, positions left over, alone and in fours.
WAYS = [(torch.clone, (2, 9, 8, 49)), (torch.clone, (2, 5, 8, 49)), (torch.clone, (1, 1, 8, 1)),
        (torch.clone, (1, 6, 16, 14)), (torch.clone, (2, 10, 16, 15)), (torch.clone, (1, 3, 32, 17)),
        (torch.clone, (1, 19, 32, 3)), (torch.clone, (1, 3, 8, 520)), (torch.clone, (2, 9, 16, 72)),
        (torch.clone, (1, 2, 32, 264)),
        (torch.clone, (2, 8, 32, 64)), (frames_first, (2, 9, 8, 16)), (frames_first, (1, 3, 16, 40)),
        (channels_last, (2, 24, 8, 5)), (channels_last, (6, 40, 8, 9)), (channels_last, (1, 8, 16, 21)),
        (channels_last, (1, 56, 32, 5)), (channels_last, (5, 72, 16, 6))]


def named(way):
    return str(getattr(way, '__name__', way))


def problem(size, dtype, lay=torch.clone, seed=0):
    n, c, t, p = size
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=F64)

    sums = torch.promote_types(dtype, torch.float32)
    small = (normal(n, t, t) / (2 * t ** 0.5), 0.3 + torch.rand(n, c, generator=generator, dtype=F64),
             torch.rand(n, t, generator=generator, dtype=F64), normal(n, c), normal(n, c))
    arguments = [lay(normal(n, c, t, p).to(dtype)), *(z.to(sums) for z in small)]
    cotangents = [lay(normal(n, c, t, p).to(dtype)) for _ in range(4)]
    return arguments, [*cotangents, (normal(n, c, 5) / 10).to(sums)]


def formula(arguments, cotangents, outputs, exponent=2.0):
    """The parts and the gradients, computed in float64; the sums of channels hold what is left of a threshold."""
    arguments = [z.detach().double().contiguous().requires_grad_() for z in arguments]
    with ops.backend('reference'):
        found = ops.low_rank_sparse(*arguments, exponent=exponent, outputs=outputs)
    asked = [getattr(found, name) for name in outputs]
    torch.autograd.backward(asked, [cotangents[OUTPUTS.index(name)].double() for name in outputs])
    return [z.detach() for z in asked], [torch.zeros_like(z) if z.grad is None else z.grad for z in arguments]


def assert_close(found, expected, tolerance):
    assert found.isfinite().all()
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=tolerance * max(1.0, expected.abs().max().item()))


def assert_wide(emulation, places, bytes_each):
    for place in places:
        assert emulation.wide(place) * 16 == bytes_each, place


def check_forward(emulation, arguments, cotangents, outputs, order=0):
    x = arguments[0]
    expected, _ = formula(arguments, cotangents, outputs)
    found, launches = emulation.forward(arguments, outputs, order=order)
    used = [name for name in outputs if name != 'sums']
    assert launches == 1 and emulation.counts(0) == (1, 1, 0, 0)
    assert [emulation.counts(1 + i) for i in range(len(used))] == [(0, 0, 1, 1)] * len(used)
    assert_wide(emulation, range(1 + len(used)), x.numel() * x.element_size())
    for name, e in zip(outputs, expected):
        if name == 'sums':            # the number of those above the threshold may turn on the last bit of one
            assert (found[name][..., 0].double() - e[..., 0]).abs().max() <= 1
            assert_close(found[name][..., 1:], e[..., 1:], SUMS[x.dtype])
        else:
            assert_close(found[name], e, ROUNDING[x.dtype])


def check_backward(emulation, arguments, cotangents, outputs, order=0):
    x = arguments[0]
    _, expected = formula(arguments, cotangents, outputs)
    given = [g if name in outputs else None for name, g in zip(OUTPUTS, cotangents)]
    found, launches = emulation.backward(arguments, given, order=order)
    count = sum(g is not None for g in given[:4])
    assert launches == 2 and emulation.counts(1 + count) == (0, 0, 1, 1)
    assert [emulation.counts(i) for i in range(1 + count)] == [(1, 1, 0, 0)] * (1 + count)
    assert_wide(emulation, range(2 + count), x.numel() * x.element_size())
    assert_close(found[0], expected[0], ROUNDING[x.dtype])
    for f, e in zip(found[1:], expected[1:]):
        assert_close(f, e, SUMS[x.dtype])


@pytest.mark.parametrize('dtype', DTYPES, ids=str)
@pytest.mark.parametrize('lay, size', WAYS, ids=named)
def test_every_way_through_memory(emulation, lay, size, dtype):
    arguments, cotangents = problem(size, dtype, lay)
    for outputs in (('merged', ), OUTPUTS):
        check_forward(emulation, arguments, cotangents, outputs)
        check_backward(emulation, arguments, cotangents, outputs)
    x, matrix, tau, keep, *_ = arguments
    for events in (False, True):
        found, launches = emulation.gram(arguments, events)
        assert launches == 2 and emulation.counts(0) == (1, 1, 0, 0)
        assert_wide(emulation, [0], x.numel() * x.element_size())
        with ops.backend('reference'):
            wide = [z.double() for z in (x, matrix, tau, keep)]
            expected = ops.gram(*wide) if events else ops.gram(wide[0])
        assert_close(found, expected, 1e-6 if not events else SUMS[dtype])
        assert torch.equal(found, found.transpose(1, 2))


@pytest.mark.parametrize('outputs', [some for count in range(1, 6) for some in itertools.combinations(OUTPUTS, count)],
                         ids=' '.join)
def test_whatever_is_asked_for(emulation, outputs):
    arguments, cotangents = problem((1, 5, 8, 21), torch.float32)
    check_forward(emulation, arguments, cotangents, outputs)
    if outputs != ('sums', ):          # through the formula of the sums alone no gradient reaches a and b
        check_backward(emulation, arguments, cotangents, outputs)


@pytest.mark.parametrize('exponent', [1.0, 2.0, math.inf])
@pytest.mark.parametrize('without', range(2, 6))
def test_no_gate_and_every_exponent(emulation, exponent, without):
    """keep, a or b may be missing."""
    arguments, cotangents = problem((2, 5, 8, 21), torch.float32)
    gates = [None if without in (place, 2) and place > 2 else z for place, z in enumerate(arguments)]
    wide = [None if z is None else z.double() for z in gates]
    with ops.backend('reference'):
        expected = ops.low_rank_sparse(*wide, exponent=exponent, outputs=MAPS)
    found, _ = emulation.forward(gates, MAPS, exponent)
    for name in MAPS:
        assert_close(found[name], getattr(expected, name), 1e-6)
    whole = [z.requires_grad_() for z in wide if z is not None]
    with ops.backend('reference'):
        y = ops.low_rank_sparse(*wide, exponent=exponent).merged
    gradients = torch.autograd.grad(y, whole, cotangents[0].double(), allow_unused=True)
    found, _ = emulation.backward(gates, [cotangents[0], None, None, None, None], exponent)
    there = [f for f, z in zip(found, wide) if z is not None]
    assert all(emulation.wide(i) for i in range(3))
    for f, e in zip(there, gradients):
        assert_close(f, torch.zeros_like(f).double() if e is None else e, 2e-6)


@pytest.mark.parametrize('lay, size, dtype', [
    (*WAYS[0], torch.bfloat16), (*WAYS[1], torch.float32), (*WAYS[5], torch.float16), (*WAYS[7], torch.bfloat16),
    (*WAYS[13], torch.float32), (*WAYS[14], torch.bfloat16)], ids=named)
def test_the_order_of_threads_changes_no_bit(emulation, lay, size, dtype):
    arguments, cotangents = problem(size, dtype, lay)
    results = []
    for order in (0, 1, 2):
        parts, _ = emulation.forward(arguments, OUTPUTS, order=order)
        results.append([*parts.values(), emulation.forward(arguments, MAPS[:1], order=order)[0]['merged'],
                        *emulation.backward(arguments, cotangents, order=order)[0],
                        *emulation.backward(arguments, [cotangents[0], *[None] * 4], order=order)[0],
                        emulation.gram(arguments, True, order)[0], emulation.gram(arguments, False, order)[0]])
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other))


@pytest.mark.parametrize('dtype', DTYPES, ids=str)
@pytest.mark.parametrize('lay, size', [(torch.clone, (2, 5, 8, 21)), (channels_last, (1, 24, 16, 5))],
                         ids=named)
@pytest.mark.parametrize('place', range(6))
def test_nan_comes_out_where_the_formula_has_it(emulation, lay, size, dtype, place):
    arguments, cotangents = problem(size, dtype, lay)
    arguments[place][(0, 1, 2, 3) if place == 0 else (0, 1)] = math.nan
    expected, gradients = formula(arguments, cotangents, OUTPUTS)
    found, _ = emulation.forward(arguments, OUTPUTS)
    for name, e in zip(OUTPUTS, expected):
        # An element that is NaN counts as one that is not zero.
        columns = slice(1, None) if name == 'sums' else slice(None)
        assert torch.equal(found[name].isnan()[..., columns], e.isnan()[..., columns]), name
    assert expected[0].isnan().any() and not expected[0].isnan().all()
    found, _ = emulation.backward(arguments, cotangents)
    for f, e in zip(found, gradients):
        assert torch.equal(f.isnan(), e.isnan())


@pytest.mark.parametrize('lay, size, dtype', [
    (uneven, (2, 5, 8, 16), torch.float32), (torch.clone, (2, 5, 12, 16), torch.bfloat16),
    (torch.clone, (2, 5, 8, 16), F64), (channels_last, (2, 5, 8, 21), torch.float16),
    (frames_first, (2, 9, 8, 21), torch.bfloat16), (with_gaps, (2, 1, 8, 5), torch.bfloat16),
    (torch.clone, (1, 1, 32, 401), torch.bfloat16)],
    ids=named)
def test_what_does_not_lie_in_pieces_of_16_bytes_is_left_to_the_other_kernels(emulation, lay, size, dtype):
    arguments, cotangents = problem(size, dtype, lay)
    expected, gradients = formula(arguments, cotangents, MAPS)
    found, _ = emulation.forward(arguments, MAPS)
    assert emulation.wide(0) == 0 and emulation.counts(0)[1] == 1
    tolerance = 1e-12 if dtype == F64 else 4 * ROUNDING[dtype]
    for name, e in zip(MAPS, expected):
        assert_close(found[name], e, tolerance)
    found, _ = emulation.backward(arguments, [*cotangents[:4], None])
    assert emulation.wide(0) == 0
    for f, e in zip(found, gradients):
        assert_close(f, e, tolerance)


@pytest.mark.parametrize('which', ['y', 'x'])
def test_an_address_off_16_bytes_is_left_to_the_other_kernels(emulation, which):
    arguments, cotangents = problem((1, 3, 8, 16), torch.bfloat16)
    moved = torch.empty(arguments[0].numel() + 1, dtype=torch.bfloat16)[1:].view(arguments[0].shape)
    if which == 'x':
        arguments[0] = moved.copy_(arguments[0])
    else:
        cotangents[0] = moved.copy_(cotangents[0])
    _, expected = formula(arguments, cotangents, MAPS)
    found, _ = emulation.backward(arguments, [*cotangents[:4], None])
    assert emulation.wide(0) == 0
    assert_close(found[0], expected[0], 2 ** -6)


def test_the_gram_of_many_columns_does_not_drift(emulation):
    """The tensor cores round sums toward zero: over 40 000 columns that would be 1e-5."""
    x = problem((1, 40, 8, 1000), torch.bfloat16)[0][0]
    found, _ = emulation.gram([x, None, None, None], False)
    assert_close(found, ops.gram(x.double()), 3e-7)


def test_float16_gradients_far_below_its_least_number_reach_the_operator(emulation):
    arguments, cotangents = problem((1, 3, 8, 21), torch.float16)
    arguments[4] *= 1e-4
    arguments[5] *= 1e-4
    cotangents = [g * 1e-3 for g in cotangents[:1]]
    _, expected = formula(arguments, cotangents, ('merged', ))
    found, _ = emulation.backward(arguments, [*cotangents, None, None, None, None])
    largest = expected[1].abs().max().item()
    torch.testing.assert_close(found[1].double(), expected[1], rtol=0, atol=2e-5 * largest)


def test_empty_features(emulation):
    for size in ((2, 3, 8, 0), (2, 0, 8, 16)):
        arguments, cotangents = problem(size, torch.bfloat16)
        found, _ = emulation.backward(arguments, [*cotangents[:4], None])
        assert all(not f.count_nonzero() for f in found)
        assert not emulation.gram(arguments, True)[0].count_nonzero()


def test_each_instruction_does_what_the_manual_says(emulation, primitives):
    for name, which, given, expected in primitives:
        found = torch.zeros_like(expected)
        emulation.primitive(which, given, found)
        assert torch.equal(found, expected), name
