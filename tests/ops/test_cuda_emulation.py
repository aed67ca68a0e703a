"""The CUDA kernels, unchanged, on an emulation of blocks and warps: right, race-free, one read and one write.

What the emulation sees and what it does not is told in ``emulation/emulation.h``.
"""
import ctypes
import math

import pytest
import torch

from lsef_plugins import ops
from lsef_plugins.ops.low_rank_sparse import OUTPUTS

F64 = torch.float64
CODES = {torch.float32: 0, torch.float64: 1, torch.bfloat16: 2, torch.float16: 3}
EXPONENTS = {1.0: 1, 2.0: 2, math.inf: 0}
TOLERANCE = {torch.float64: 1e-12, torch.float32: 3e-6, torch.bfloat16: 2 ** -7, torch.float16: 2 ** -10}
# More channels than warps, fewer, none left over; columns that fill a warp, or do not; all T that neither divides.
SIZES = [(2, 5, 8, 49), (1, 1, 1, 1), (1, 4, 4, 32), (2, 3, 3, 33), (1, 6, 16, 7), (1, 2, 32, 40)]
POINTER, LONG, INT, DOUBLE = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int, ctypes.c_double


class Size(ctypes.Structure):
    _fields_ = [(axis, LONG) for axis in 'nctp']


class View(ctypes.Structure):
    _fields_ = [('data', POINTER), *((axis, LONG) for axis in 'nctp')]


def pointers(*names):
    return [(name, POINTER) for name in names]


def views(*names):
    return [(name, View) for name in names]


class LowRankSparse(ctypes.Structure):
    _fields_ = [('dtype', INT), ('exponent', INT), ('size', Size), ('revival', DOUBLE), *views('x'),
                *pointers('matrix', 'tau', 'keep', 'a', 'b'), *views('y', 'l', 's', 'r'), *pointers('sums'),
                *views('to_x'), *pointers('to_matrix', 'to_tau', 'to_keep', 'to_a', 'to_b')]


class Gram(ctypes.Structure):
    _fields_ = [('dtype', INT), ('exponent', INT), ('size', Size), *views('x'),
                *pointers('matrix', 'tau', 'keep', 'gram')]


class ResidualScale(ctypes.Structure):
    _fields_ = [('dtype', INT), ('size', Size), *views('x', 'r'), *pointers('matrix'), ('sample', LONG),
                ('to_sigma', DOUBLE), ('floor_ratio', DOUBLE), *pointers('scale')]


class ScaleShrink(ctypes.Structure):
    _fields_ = [('dtype', INT), ('exponent', INT), ('windows', INT), ('size', Size), ('revival', DOUBLE),
                ('half', INT * 8), *views('r'), *pointers('tau', 'limit'), ('s', View * 8), ('m', View * 8),
                *views('to_r'), *pointers('to_tau')]


class FrameShrink(ctypes.Structure):
    _fields_ = [('dtype', INT), ('exponent', INT), ('windows', INT), ('size', Size), ('revival', DOUBLE),
                ('half', INT * 8), *views('r'), *pointers('tau', 'limit'), ('known', INT), *pointers('norms'),
                ('s', View * 8), ('m', View * 8), *views('to_r'), *pointers('to_tau')]


class Eigh(ctypes.Structure):
    _fields_ = [('dtype', INT), ('n', LONG), ('t', LONG), *pointers('matrix', 'values', 'vectors')]


class FrameRepair(ctypes.Structure):
    _fields_ = [('dtype', INT), ('local', INT), ('n', LONG), ('t', LONG), ('kappa', DOUBLE), ('bandwidth', DOUBLE),
                ('floor_ratio', DOUBLE), *pointers('gram', 'predictor', 'outlying', 'repair')]


class Isolation(ctypes.Structure):
    _fields_ = [('dtype', INT), ('n', LONG), ('t', LONG), *pointers('gram', 'matrix', 'isolation')]


def view(x):
    return View(x.data_ptr(), *x.stride())


class Emulation:
    """Runs an entry point with the given order of fibers; knows which tensors lie in device memory."""

    def __init__(self, library):
        self.library = library
        library.lsef_cuda_part_bytes.restype = library.emulation_launches.restype = LONG
        library.lsef_cuda_frame_part_bytes.restype = LONG

    def begin(self, tensors, order):
        self.library.emulation_begin(order)
        for x in tensors:
            storage = x.untyped_storage()
            self.library.emulation_buffer(POINTER(x.data_ptr()), LONG(storage.nbytes() // x.element_size()),
                                          LONG(x.element_size()))

    def run(self, name, job, tensors, order=0):
        self.begin(tensors, order)
        # NaN, so that a part nobody has written shows.
        parts = torch.full((max(1, self.part_bytes(job) // 8), ), math.nan, dtype=F64)
        code = getattr(self.library, f'lsef_cuda_{name}')(ctypes.byref(job), POINTER(parts.data_ptr()), None)
        assert code == 0
        return self.library.emulation_launches()

    def part_bytes(self, job):
        if isinstance(job, (Eigh, FrameRepair, Isolation)):
            return 0
        if isinstance(job, FrameShrink):
            return self.library.lsef_cuda_frame_part_bytes(ctypes.byref(job.size), job.windows)
        return self.library.lsef_cuda_part_bytes(ctypes.byref(job.size))

    def counts(self, place):
        """(fewest reads, most reads, fewest writes, most writes) of an element of the tensor at this place."""
        found = (LONG * 4)()
        self.library.emulation_counts(place, found)
        return tuple(found)


@pytest.fixture(scope='module')
def emulation(emulated_library):
    return Emulation(ctypes.CDLL(str(emulated_library)))


def blank(like, *shape):
    return torch.full(shape or like.shape, math.nan, dtype=like.dtype)


def low_rank_problem(size, dtype, seed=0):
    n, c, t, p = size
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=F64)

    sums = torch.promote_types(dtype, torch.float32)
    small = (normal(n, t, t) / (2 * t ** 0.5), 0.3 + torch.rand(n, c, generator=generator, dtype=F64),
             torch.rand(n, t, generator=generator, dtype=F64), normal(n, c), normal(n, c))
    return [normal(n, c, t, p).to(dtype), *(z.to(sums) for z in small)]


def low_rank_job(arguments, exponent, revival=0.25):
    x, matrix, tau, keep, a, b = arguments
    job = LowRankSparse(dtype=CODES[x.dtype], exponent=EXPONENTS[exponent], size=Size(*x.shape), revival=revival,
                        x=view(x))
    for name, z in zip(('matrix', 'tau', 'keep', 'a', 'b'), (matrix, tau, keep, a, b)):
        setattr(job, name, z.data_ptr())
    return job


def forward(emulation, arguments, exponent=2.0, order=0):
    x, matrix = arguments[:2]
    job, maps = low_rank_job(arguments, exponent), [torch.empty_like(x).fill_(math.nan) for _ in range(4)]
    sums = blank(matrix, *x.shape[:2], 5)
    job.y, job.l, job.s, job.r, job.sums = (*map(view, maps), sums.data_ptr())
    launches = emulation.run('low_rank_sparse', job, [x, *maps], order)
    return [*maps, sums], launches


def backward(emulation, arguments, cotangents, exponent=2.0, order=0):
    x, matrix, tau, keep, *_ = arguments
    job, to_x = low_rank_job(arguments, exponent), torch.empty_like(x).fill_(math.nan)
    small = [blank(matrix), blank(tau), blank(keep), blank(tau), blank(tau)]
    job.y, job.l, job.s, job.r = map(view, cotangents[:4])
    job.sums, job.to_x = cotangents[4].data_ptr(), view(to_x)
    job.to_matrix, job.to_tau, job.to_keep, job.to_a, job.to_b = (z.data_ptr() for z in small)
    launches = emulation.run('low_rank_sparse_backward', job, [x, *cotangents[:4], to_x], order)
    return [to_x, *small], launches


def formula(arguments, cotangents, exponent):
    arguments = [z.detach().clone().requires_grad_() for z in arguments]
    with ops.backend('reference'):
        found = ops.low_rank_sparse(*arguments, exponent=exponent, outputs=OUTPUTS)
        torch.autograd.backward(found, cotangents)
    return [z.detach() for z in found], [z.grad for z in arguments]


def assert_near(found, expected, tolerance):
    for f, e in zip(found, expected):
        assert f.dtype == e.dtype and f.isfinite().all()
        torch.testing.assert_close(f, e, rtol=0, atol=tolerance * max(1.0, e.abs().max().item()))


def cotangents_of(x, matrix):
    generator = torch.Generator().manual_seed(1)
    maps = [torch.randn(x.shape, generator=generator, dtype=F64).to(x.dtype) for _ in range(4)]
    return [*maps, torch.randn(*x.shape[:2], 5, generator=generator, dtype=F64).to(matrix.dtype) / 10]


@pytest.mark.parametrize('dtype', CODES, ids=str)
@pytest.mark.parametrize('size', SIZES, ids=str)
def test_low_rank_sparse_is_its_formula_and_touches_every_element_once(emulation, size, dtype):
    arguments = low_rank_problem(size, dtype)
    cotangents = cotangents_of(*arguments[:2])
    expected, gradients = formula(arguments, cotangents, 2.0)
    found, launches = forward(emulation, arguments)
    assert launches == 1 and emulation.counts(0) == (1, 1, 0, 0)
    assert [emulation.counts(i) for i in range(1, 5)] == [(0, 0, 1, 1)] * 4
    assert_near(found, expected, TOLERANCE[dtype])
    found, launches = backward(emulation, arguments, cotangents)
    assert launches == 2 and emulation.counts(5) == (0, 0, 1, 1)
    assert [emulation.counts(i) for i in range(5)] == [(1, 1, 0, 0)] * 5
    assert_near(found, gradients, 4 * TOLERANCE[dtype])


@pytest.mark.parametrize('exponent', EXPONENTS)
def test_every_exponent(emulation, exponent):
    arguments = low_rank_problem((2, 3, 5, 20), F64)
    cotangents = cotangents_of(*arguments[:2])
    expected, gradients = formula(arguments, cotangents, exponent)
    assert_near(forward(emulation, arguments, exponent)[0], expected, 1e-12)
    assert_near(backward(emulation, arguments, cotangents, exponent)[0], gradients, 1e-12)


def channels_last(x):
    return x[..., None].to(memory_format=torch.channels_last_3d).flatten(3)


def test_any_strides(emulation):
    arguments = low_rank_problem((2, 5, 7, 21), torch.float32)
    cotangents = cotangents_of(*arguments[:2])
    strided = [channels_last(arguments[0]), *arguments[1:]]
    for found, expected in ((forward(emulation, strided)[0], forward(emulation, arguments)[0]),
                            (backward(emulation, strided, [*map(channels_last, cotangents[:4]), cotangents[4]])[0],
                             backward(emulation, arguments, cotangents)[0])):
        assert all(torch.equal(f, e) for f, e in zip(found, expected))


@pytest.mark.parametrize('size', [(2, 5, 8, 49), (1, 9, 16, 40)], ids=str)
def test_the_order_of_threads_changes_no_bit(emulation, size):
    arguments = low_rank_problem(size, torch.float32)
    cotangents = cotangents_of(*arguments[:2])
    results = [[*forward(emulation, arguments, order=order)[0],
                *backward(emulation, arguments, cotangents, order=order)[0],
                gram(emulation, arguments, order=order)[0]] for order in (0, 1, 2)]
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other))


def gram(emulation, arguments, events=True, order=0):
    x, matrix, tau, keep, *_ = arguments
    found = blank(matrix)
    job = Gram(dtype=CODES[x.dtype], exponent=2, size=Size(*x.shape), x=view(x), gram=found.data_ptr())
    if events:
        job.matrix, job.tau, job.keep = matrix.data_ptr(), tau.data_ptr(), keep.data_ptr()
    return found, emulation.run('gram', job, [x], order)


@pytest.mark.parametrize('events', [False, True])
@pytest.mark.parametrize('dtype', CODES, ids=str)
@pytest.mark.parametrize('size', SIZES, ids=str)
def test_the_gram_reads_once(emulation, size, dtype, events):
    arguments = low_rank_problem(size, dtype)
    x, matrix, tau, keep, *_ = arguments
    found, launches = gram(emulation, arguments, events)
    assert launches == 2 and emulation.counts(0) == (1, 1, 0, 0)
    with ops.backend('reference'):
        wide = [z.double() for z in (x, matrix, tau, keep)]
        expected = ops.gram(*wide) if events else ops.gram(wide[0])
    assert_near([found.double()], [expected], 1e-12 if dtype == F64 else 3e-6)
    assert torch.equal(found, found.transpose(1, 2))


def scale_job(r, tau, limit, exponent=2.0):
    job = ScaleShrink(dtype=CODES[r.dtype], exponent=EXPONENTS[exponent], windows=3, size=Size(*r.shape), revival=0.25,
                      r=view(r), tau=tau.data_ptr(), limit=limit.data_ptr())
    job.half[0], job.half[1], job.half[2] = 0, 1, 2
    return job


@pytest.mark.parametrize('dtype', CODES, ids=str)
@pytest.mark.parametrize('size', SIZES, ids=str)
def test_scale_shrink_is_its_formula_and_touches_every_element_once(emulation, size, dtype):
    r, _, tau, *_ = low_rank_problem(size, dtype)
    limit = 2 * tau
    maps = [blank(r) for _ in range(6)]
    job = scale_job(r, tau, limit)
    for w in range(3):
        job.s[w], job.m[w] = view(maps[w]), view(maps[3 + w])
    assert emulation.run('scale_shrink', job, [r, *maps]) == 1
    assert [emulation.counts(i) for i in range(7)] == [(1, 1, 0, 0)] + [(0, 0, 1, 1)] * 6
    z, threshold = r.clone().requires_grad_(), tau.clone().requires_grad_()
    generator = torch.Generator().manual_seed(2)
    cotangents = [torch.randn(r.shape, generator=generator, dtype=F64).to(dtype) for _ in range(6)]
    with ops.backend('reference'):
        s, m = ops.scale_shrink(z, threshold, (1, 3, 5), 2.0, limit, magnitude=True)
        torch.autograd.backward([s, m], [torch.stack(cotangents[:3]), torch.stack(cotangents[3:])])
    assert_near(maps, [*s.detach(), *m.detach()], TOLERANCE[dtype])
    to_r, to_tau = blank(r), blank(tau)
    job.to_r, job.to_tau = view(to_r), to_tau.data_ptr()
    for w in range(3):
        job.s[w], job.m[w] = view(cotangents[w]), view(cotangents[3 + w])
    assert emulation.run('scale_shrink_backward', job, [r, *cotangents, to_r]) == 1
    assert [emulation.counts(i) for i in range(8)] == [(1, 1, 0, 0)] * 7 + [(0, 0, 1, 1)]
    assert_near([to_r, to_tau], [z.grad, threshold.grad], 8 * TOLERANCE[dtype])


@pytest.mark.parametrize('order, zeros', [(0, 0), (1, 0.7), (2, 0.7), (0, 1)])
@pytest.mark.parametrize('sample', [4096, 100])
@pytest.mark.parametrize('size', [(2, 5, 8, 49), (1, 1, 1, 1), (1, 2, 3, 300), (2, 3, 8, 0)], ids=str)
def test_the_noise_scale_is_its_formula_and_reads_once(emulation, size, sample, order, zeros):
    x, matrix, *_ = low_rank_problem(size, F64)
    x[torch.rand(x.shape, generator=torch.Generator().manual_seed(3)) < zeros] = 0
    found = blank(matrix, *size[:2])
    job = ResidualScale(dtype=1, size=Size(*size), x=view(x), matrix=matrix.data_ptr(), sample=sample, to_sigma=1.4826,
                        floor_ratio=1e-3, scale=found.data_ptr())
    assert emulation.run('residual_scale', job, [x], order) == 1 and (size[3] == 0 or emulation.counts(0)[:2] == (1, 1))
    every = max(1, math.ceil(size[2] * size[3] / sample))
    torch.testing.assert_close(found, spread_where_alive(x - matrix[:, None] @ x, x, every), rtol=1e-12, atol=0)
    if size[3]:
        x[0, 0, 0, 0] = math.nan
        emulation.run('residual_scale', job, [x], order)
        assert found[0, 0].isnan() and found.isnan().sum() == 1


def spread_where_alive(r, x, every):
    """1.4826 times the lower median of the sampled |r| where x is not zero, at least a thousandth of x's rms."""
    sample = torch.where(x[..., ::every] == 0, math.nan, r[..., ::every].abs()).flatten(2)
    spread = 1.4826 * (sample.nanmedian(-1).values if x.shape[3] else x.new_zeros(x.shape[:2])).nan_to_num()
    return torch.maximum(spread, 1e-3 * x.square().mean((2, 3)).sqrt().nan_to_num())


@pytest.mark.parametrize('sample', [4096, 100])
@pytest.mark.parametrize('dtype', CODES, ids=str)
@pytest.mark.parametrize('size', [(2, 5, 8, 49), (1, 1, 1, 1), (1, 2, 3, 300), (2, 3, 8, 0)], ids=str)
def test_the_noise_scale_of_a_given_residual_reads_its_sample_once(emulation, size, dtype, sample):
    x, r = (low_rank_problem(size, dtype, seed)[0] for seed in (0, 1))
    x[torch.rand(x.shape, generator=torch.Generator().manual_seed(3)) < 0.7] = 0
    found = blank(x.to(torch.promote_types(dtype, torch.float32)), *size[:2])
    job = ResidualScale(dtype=CODES[dtype], size=Size(*size), x=view(x), r=view(r), sample=sample, to_sigma=1.4826,
                        floor_ratio=1e-3, scale=found.data_ptr())
    assert emulation.run('residual_scale', job, [x, r]) == 1
    every = max(1, math.ceil(size[2] * size[3] / sample))
    if size[3]:
        assert emulation.counts(0)[:2] == (1, 1) and emulation.counts(1)[:2] == (int(every == 1), 1)
    expected = spread_where_alive(r.to(found.dtype), x.to(found.dtype), every)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)
    if size[3]:
        r[0, 0], x[0, 0] = math.nan, 0
        emulation.run('residual_scale', job, [x, r])
        assert found[0, 0].isnan() and found.isnan().sum() == 1


# ---- frame_shrink ------------------------------------------------------------------------------------------------

def frame_problem(size, dtype, seed=0):
    r = low_rank_problem(size, dtype, seed)[0]
    generator = torch.Generator().manual_seed(seed + 1)
    sums = torch.promote_types(dtype, torch.float32)
    tau = (size[1] * size[3]) ** 0.5 * (0.8 + 0.4 * torch.rand(size[0], size[2], generator=generator, dtype=F64))
    return r, tau.to(sums), (1 + torch.rand(size[:2], generator=generator, dtype=F64)).to(sums)


def frame_job(r, tau, limit, norms, windows=(1, 3, 5), exponent=2.0, known=0):
    job = FrameShrink(dtype=CODES[r.dtype], exponent=EXPONENTS[exponent], windows=len(windows), size=Size(*r.shape),
                      revival=0.25, r=view(r), tau=tau.data_ptr(), limit=limit.data_ptr(), known=known,
                      norms=norms.data_ptr())
    for place, window in enumerate(windows):
        job.half[place] = window // 2
    return job


def frames_forward(emulation, r, tau, limit, windows=(1, 3, 5), known=None, order=0):
    norms = blank(tau, r.shape[0], len(windows), r.shape[2]) if known is None else known
    maps = [torch.empty_like(r).fill_(math.nan) for _ in range(2 * len(windows))]
    job = frame_job(r, tau, limit, norms, windows, known=int(known is not None))
    for w in range(len(windows)):
        job.s[w], job.m[w] = view(maps[w]), view(maps[len(windows) + w])
    launches = emulation.run('frame_shrink', job, [r, *maps], order)
    return maps, norms, launches


def frames_backward(emulation, r, tau, limit, norms, cotangents, order=0):
    to_r, to_tau = torch.empty_like(r).fill_(math.nan), blank(tau)
    job = frame_job(r, tau, limit, norms, known=1)
    job.to_r, job.to_tau = view(to_r), to_tau.data_ptr()
    for w in range(3):
        job.s[w], job.m[w] = view(cotangents[w]), view(cotangents[3 + w])
    launches = emulation.run('frame_shrink_backward', job, [r, *cotangents, to_r], order)
    return [to_r, to_tau], launches


@pytest.mark.parametrize('dtype', CODES, ids=str)
@pytest.mark.parametrize('size', SIZES, ids=str)
def test_frame_shrink_is_its_formula_and_reads_twice(emulation, size, dtype):
    """Once for the norms and once for the maps; once where the norms are known."""
    r, tau, limit = frame_problem(size, dtype)
    maps, norms, launches = frames_forward(emulation, r, tau, limit)
    assert launches == 2 and emulation.counts(0) == (2, 2, 0, 0)
    assert [emulation.counts(i) for i in range(1, 7)] == [(0, 0, 1, 1)] * 6
    again, _, launches = frames_forward(emulation, r, tau, limit, known=norms)
    assert launches == 1 and emulation.counts(0) == (1, 1, 0, 0)
    assert all(torch.equal(a, b) for a, b in zip(maps, again))
    alone = blank(norms)
    assert emulation.run('frame_norms', frame_job(r, tau, limit, alone), [r]) == 2
    assert emulation.counts(0) == (1, 1, 0, 0)
    torch.testing.assert_close(alone, norms, rtol=1e-14 if dtype == F64 else 1e-6, atol=0)
    z, threshold = r.clone().requires_grad_(), tau.clone().requires_grad_()
    generator = torch.Generator().manual_seed(2)
    cotangents = [torch.randn(r.shape, generator=generator, dtype=F64).to(dtype) for _ in range(6)]
    with ops.backend('reference'):
        s, m = ops.frame_shrink(z, threshold, (1, 3, 5), 2.0, limit, magnitude=True)
        torch.autograd.backward([s, m], [torch.stack(cotangents[:3]), torch.stack(cotangents[3:])])
        assert_near([norms], [ops.frame_norms(r, (1, 3, 5))], 1e-12 if dtype == F64 else 3e-6)
    assert_near(maps, [*s.detach(), *m.detach()], TOLERANCE[dtype])
    found, launches = frames_backward(emulation, r, tau, limit, norms, cotangents)
    assert launches == 2 and [emulation.counts(i) for i in range(7)] == [(2, 2, 0, 0)] * 7
    assert emulation.counts(7) == (0, 0, 1, 1)
    assert_near(found, [z.grad, threshold.grad], 8 * TOLERANCE[dtype])


def test_frame_shrink_knows_no_order_of_threads_and_takes_any_strides_and_eight_windows(emulation):
    r, tau, limit = frame_problem((2, 9, 8, 49), torch.float32)
    cotangents = [frame_problem(r.shape, torch.float32, seed)[0] for seed in range(6)]
    results = []
    for order, layout in ((0, torch.clone), (1, torch.clone), (2, torch.clone), (0, channels_last)):
        maps, norms, _ = frames_forward(emulation, layout(r), tau, limit, order=order)
        results.append([*maps, norms, *frames_backward(emulation, layout(r), tau, limit, norms,
                                                       [layout(z) for z in cotangents], order)[0]])
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other))
    windows = (1, 3, 5, 7, 9, 11, 13, 15)
    r, tau, limit = frame_problem((1, 5, 32, 33), torch.float32)
    found, *_ = frames_forward(emulation, r, tau, limit, windows)
    with ops.backend('reference'):
        s, m = ops.frame_shrink(r, tau, windows[:4], 2.0, limit, magnitude=True)
    assert_near([*found[:4], *found[8:12]], [*s, *m], 3e-6)


def test_more_blocks_than_the_folding_has_slices(emulation):
    """600 channels are 150 blocks; entries of one window and three share the threads differently."""
    r, tau, limit = frame_problem((1, 600, 3, 2), F64)
    for windows in ((1, ), (1, 3, 5)):
        maps, norms, _ = frames_forward(emulation, r, tau, limit, windows)
        with ops.backend('reference'):
            torch.testing.assert_close(norms, ops.frame_norms(r, windows), rtol=1e-13, atol=0)


# ---- symmetric_eigh ----------------------------------------------------------------------------------------------

def symmetric(t, dtype=F64, n=4, seed=0):
    """Gram matrices of noise, one of rank 1, a graded spectrum 1e-12 .. 1, one of two eigenvalues."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, t, t + 3, generator=generator, dtype=F64)
    a, q = x @ x.mT, torch.linalg.qr(x[..., :t])[0]
    a[1] = 3 * x[1, :, :1] @ x[1, :, :1].mT
    a[2] = q[2] * 10 ** torch.linspace(-12, 0, t, dtype=F64) @ q[2].mT
    a[3] = q[3] * (torch.arange(t, dtype=F64) % 2 + 1) @ q[3].mT
    return ((a + a.mT) / 2).to(dtype).contiguous()


def eigh(emulation, a, order=0):
    values, vectors = blank(a, *a.shape[:2]), blank(a)
    job = Eigh(CODES[a.dtype], *a.shape[:2], a.data_ptr(), values.data_ptr(), vectors.data_ptr())
    assert emulation.run('eigh', job, [a, values, vectors], order) == 1
    return values, vectors


@pytest.mark.parametrize('dtype', [torch.float32, F64], ids=str)
@pytest.mark.parametrize('t', [1, 2, 3, 4, 7, 8, 15, 16, 31, 32])
def test_eigh_reads_a_triangle_and_is_as_good_as_rounding(emulation, t, dtype):
    a = symmetric(t, dtype)
    values, vectors = eigh(emulation, a.tril())
    assert emulation.counts(0) == (int(t == 1), 1, 0, 0)
    assert [emulation.counts(i) for i in (1, 2)] == [(0, 0, 1, 1)] * 2
    unit, largest = torch.finfo(dtype).eps, torch.linalg.matrix_norm(a.double(), 2)
    expected, v = torch.linalg.eigvalsh(a.double()), vectors.double()
    assert ((values - expected).abs().amax(1) <= 16 * unit * largest).all()
    assert ((a.double() @ v - v * values.double()[:, None]).abs().amax((1, 2)) <= 32 * unit * largest).all()
    assert ((v.mT @ v - torch.eye(t, dtype=F64)).abs() <= 16 * unit).all()
    assert (values.diff(dim=1) >= 0).all()


def test_eigh_does_not_know_the_order_of_threads_nor_its_neighbours(emulation):
    for t in (7, 8, 32):
        a = symmetric(t)
        first = eigh(emulation, a)
        for order in (1, 2):
            assert all(torch.equal(f, e) for f, e in zip(eigh(emulation, a, order), first))
        a[0, 0, 0], a[2] = math.nan, math.inf
        values, vectors = eigh(emulation, a)
        assert values[[0, 2]].isnan().all() and vectors[[0, 2]].isnan().all()
        assert torch.equal(values[[1, 3]], first[0][[1, 3]]) and torch.equal(vectors[[1, 3]], first[1][[1, 3]])


def test_eigh_of_what_is_diagonal_already(emulation):
    a = torch.stack([torch.zeros(5, 5), torch.eye(5), torch.diag(torch.tensor([3.0, -1.0, 2.0, 1e-30, 1e30]))]).to(F64)
    values, vectors = eigh(emulation, a)
    assert torch.equal(values, a.diagonal(dim1=1, dim2=2).sort(-1).values)
    assert torch.equal(vectors[:2], torch.eye(5, dtype=F64).expand(2, 5, 5))
    assert emulation.library.lsef_cuda_eigh(ctypes.byref(Eigh(1, 1, 33)), None, None) == -1


# ---- frame_repair ------------------------------------------------------------------------------------------------

def frame_repair(emulation, g, predictor=None, local=1, order=0):
    outlying, repair = blank(g, *g.shape[:2]), blank(g)
    job = FrameRepair(CODES[g.dtype], local, *g.shape[:2], 2.5, 1.7, 1e-5, g.data_ptr(),
                      None if predictor is None else predictor.data_ptr(), outlying.data_ptr(), repair.data_ptr())
    known = [] if predictor is None else [predictor]
    assert emulation.run('frame_repair', job, [g, outlying, repair, *known], order) == 1
    assert emulation.counts(0) == (1, 1, 0, 0) and [emulation.counts(i) for i in (1, 2)] == [(0, 0, 1, 1)] * 2
    return outlying, repair


def isolation(emulation, operator, g, order=0):
    found = blank(g, *g.shape[:2])
    job = Isolation(CODES[g.dtype], *g.shape[:2], g.data_ptr(), operator.data_ptr(), found.data_ptr())
    assert emulation.run('isolation', job, [g, operator, found], order) == 1
    assert [emulation.counts(i) for i in range(3)] == [(1, 1, 0, 0)] * 2 + [(0, 0, 1, 1)]
    return found


@pytest.mark.parametrize('dtype, tolerance', [(F64, 1e-11), (torch.float32, 1e-3)], ids=str)
@pytest.mark.parametrize('t', [2, 4, 7, 8, 16, 31, 32])
def test_frame_repair_and_isolation_are_their_formulas(emulation, t, dtype, tolerance):
    g = symmetric(t, F64)
    g = (g + 3 * torch.eye(t, dtype=F64)).to(dtype)
    g[1, 0, 0] *= 50
    # Rows of different length, or dividing errors by it would not show.
    operator = (torch.linspace(0.1, 3, t, dtype=dtype)[:, None] / t).expand_as(g).contiguous()
    for local, predictor in ((1, None), (0, None), (1, operator)):
        results = [frame_repair(emulation, g, predictor, local, order) for order in (0, 1, 2)]
        for other in results[1:]:
            assert all(torch.equal(a, b) for a, b in zip(results[0], other))
        with ops.backend('reference'):
            expected = ops.frame_repair(g, 2.5, 1.7, bool(local), predictor)
        assert_near(results[0], expected, tolerance)
    results = [isolation(emulation, operator, g, order) for order in (0, 1, 2)]
    assert torch.equal(results[0], results[1]) and torch.equal(results[0], results[2])
    with ops.backend('reference'):
        assert_near(results[:1], [ops.isolation(operator, g)], tolerance)


def test_too_many_frames_are_refused(emulation):
    x = torch.zeros(1, 1, 33, 2)
    job = Gram(dtype=0, exponent=2, size=Size(*x.shape), x=view(x))
    assert emulation.library.lsef_cuda_gram(ctypes.byref(job), None, None) == -1
