"""On a real GPU: the compiled operators are their formulas on the CPU in float64, with the same bits every time."""
import ctypes

import pytest
import torch

from lsef_plugins import ops
from lsef_plugins.ops.low_rank_sparse import OUTPUTS

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason='there is no GPU here')
F64 = torch.float64
SIZES = [(2, 5, 8, 49), (1, 1, 1, 1), (3, 33, 4, 32), (2, 3, 3, 33), (1, 6, 16, 196), (1, 2, 32, 40), (8, 512, 8, 49)]
TOLERANCE = {torch.float64: 1e-11, torch.float32: 1e-5, torch.bfloat16: 2 ** -7, torch.float16: 2 ** -10}


@pytest.fixture(autouse=True)
def on_the_gpu(library):
    if 'cuda' not in library['devices']:
        pytest.fail('there is a GPU, but the library was built without CUDA: set CUDA_HOME and build it again')
    with ops.backend('compiled'):
        yield


def problem(size, dtype):
    n, c, t, p = size
    generator = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=F64)

    sums = torch.promote_types(dtype, torch.float32)
    small = (normal(n, t, t) / (2 * t ** 0.5), 0.3 + torch.rand(n, c, generator=generator, dtype=F64),
             torch.rand(n, t, generator=generator, dtype=F64), normal(n, c), normal(n, c))
    return [normal(n, c, t, p).to(dtype), *(z.to(sums) for z in small)]


def everything(arguments):
    """All operators, forward and backward."""
    x, operator, tau, keep, a, b = arguments = [z.detach().clone().requires_grad_() for z in arguments]
    found = ops.low_rank_sparse(x, operator, tau, keep, a, b, outputs=OUTPUTS)
    s, m = ops.scale_shrink(x, tau, (1, 3, 5), 2.0, 2 * tau, magnitude=True)
    length = (x.shape[1] * x.shape[3]) ** 0.5 * (tau.mean() + 0.2)
    frames = ops.frame_shrink(x, length, (1, 3, 5), 2.0, 2 * tau, magnitude=True)
    known = ops.frame_shrink(x, length, exponent=1.0, norms=ops.frame_norms(x))[:1]
    g, scale = ops.gram(x), ops.residual_scale(x, operator)
    size = x.shape[1] * x.shape[3]
    maps = (*found, s, m, *frames, *known)
    loss = sum(z.to(scale.dtype).square().mean() for z in maps) + g.square().mean() / size ** 2
    return [z.detach() for z in (*maps, g, scale)], torch.autograd.grad(loss, arguments)


@pytest.mark.parametrize('dtype', TOLERANCE, ids=str)
@pytest.mark.parametrize('size', SIZES, ids=str)
def test_every_operator_is_its_formula(size, dtype):
    arguments = problem(size, dtype)
    found = everything([z.cuda() for z in arguments])
    with ops.backend('reference'):
        expected = everything([z.double() for z in arguments])
    for f, e in zip((z for part in found for z in part), (z for part in expected for z in part)):
        assert f.isfinite().all()
        largest = max(e.abs().max().item(), 1)
        torch.testing.assert_close(f.cpu().double(), e, rtol=0, atol=8 * TOLERANCE[dtype] * largest)


def test_the_same_bits_every_time():
    arguments = [z.cuda() for z in problem((8, 512, 8, 49), torch.float32)]
    first, second = everything(arguments), everything(arguments)
    assert all(torch.equal(a, b) for x, y in zip(first, second) for a, b in zip(x, y))


def test_a_graph_replays_on_another_stream():
    arguments = [z.cuda() for z in problem((2, 5, 8, 49), torch.float32)]
    expected = ops.low_rank_sparse(*arguments).merged
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = ops.low_rank_sparse(*arguments).merged
    captured.zero_()
    graph.replay()
    assert torch.equal(captured, expected)


@pytest.mark.parametrize('dtype', [torch.float32, F64], ids=str)
@pytest.mark.parametrize('t', [1, 2, 3, 7, 8, 16, 31, 32])
def test_eigenvalues_without_a_word_to_the_host(t, dtype):
    """Graded, repeated and ordinary spectra; captured by a CUDA graph, which no synchronisation survives."""
    generator = torch.Generator().manual_seed(0)
    q = torch.linalg.qr(torch.randn(300, t, t, generator=generator, dtype=F64))[0]
    truth = torch.stack([torch.logspace(-12, 0, t, dtype=F64), torch.arange(t, dtype=F64) % 2 + 1,
                         torch.rand(t, generator=generator, dtype=F64)]).repeat(100, 1)
    a = q * truth[:, None] @ q.mT
    a = ((a + a.mT) / 2).to(dtype).cuda()
    graph = torch.cuda.CUDAGraph()
    ops.symmetric_eigh(a)
    with torch.cuda.graph(graph):
        values, vectors = ops.symmetric_eigh(a)
    graph.replay()
    unit, v = 16 * torch.finfo(dtype).eps * (1 + t / 8), vectors.double()
    assert (values.cpu() - truth.sort(-1).values).abs().max() <= 2 * unit
    assert (a.double() @ v - v * values.double()[:, None]).abs().max() <= 2 * unit
    assert (v.mT @ v - torch.eye(t, dtype=F64, device='cuda')).abs().max() <= unit
    a[7, t - 1, 0] = float('nan')
    broken, _ = ops.symmetric_eigh(a)
    assert broken[7].isnan().all() and torch.equal(broken[8:], values[8:])


@pytest.mark.parametrize('dtype, tolerance', [(F64, 1e-10), (torch.float32, 2e-3)], ids=str)
@pytest.mark.parametrize('t', [2, 4, 7, 8, 16, 31, 32])
def test_the_repair_of_frames_is_its_formula(t, dtype, tolerance):
    x = torch.randn(40, t, 60, generator=torch.Generator().manual_seed(0), dtype=F64)
    x[1, t // 2] *= 30
    g = (x @ x.mT).to(dtype)
    operator = (torch.linspace(0.1, 3, t, dtype=dtype)[:, None] / t).expand_as(g).contiguous()
    for predictor in (None, operator):
        with ops.backend('reference'):
            expected = ops.frame_repair(g, predictor=predictor)
        found = ops.frame_repair(g.cuda(), predictor=None if predictor is None else predictor.cuda())
        for f, e in zip(found, expected):
            torch.testing.assert_close(f.cpu(), e, rtol=0, atol=tolerance)
    with ops.backend('reference'):
        expected = ops.isolation(operator, g)
    torch.testing.assert_close(ops.isolation(operator.cuda(), g.cuda()).cpu(), expected, rtol=0, atol=tolerance)


def test_devices_are_not_mixed():
    x, operator, tau, *_ = problem((2, 3, 8, 5), torch.float32)
    with pytest.raises(RuntimeError, match='must lie on the device of the features'):
        torch.ops.lsef.low_rank_sparse(x.cuda(), operator, tau.cuda(), None, None, None, 2.0, 0.0, 1)


# Of csrc/cuda_stage.cuh: linear, rows and channels last, alone and in fours, for all fast numbers of frames.
WAYS = [('contiguous', (8, 512, 8, 49)), ('contiguous', (2, 33, 16, 49)), ('contiguous', (2, 5, 32, 17)),
        ('contiguous', (4, 512, 8, 784)), ('contiguous', (1, 3, 16, 1000)), ('contiguous', (2, 256, 32, 196)),
        ('channels last', (8, 520, 8, 49)), ('channels last', (1, 24, 16, 21)), ('channels last', (2, 2048, 32, 9)),
        ('frames first', (2, 64, 8, 784)), ('frames first', (2, 64, 8, 49))]


def laid_out(x, layout):
    if layout == 'channels last':
        return x[..., None].to(memory_format=torch.channels_last_3d).flatten(3)
    return x.transpose(1, 2).contiguous().transpose(1, 2) if layout == 'frames first' else x


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize('layout, size', WAYS, ids=str)
def test_the_fast_kernels_through_every_layout(layout, size, dtype):
    """Alone and whole; sums with the accuracy of float32 parts, which no single rounding to the dtype would give."""
    x, *small = problem(size, dtype)
    x = laid_out(x.cuda(), layout)
    for outputs in (('merged', ), OUTPUTS):
        results = []
        for backend, device, wide in (('compiled', 'cuda', x.dtype), ('reference', 'cuda', F64)):
            arguments = [z.detach().to(device, wide if wide == F64 else z.dtype).requires_grad_() for z in (x, *small)]
            with ops.backend(backend):
                found = [z for z in ops.low_rank_sparse(*arguments, outputs=outputs) if z is not None]
                g = ops.gram(arguments[0].detach())
            ups = [torch.sin(torch.arange(z.numel(), device=device) * 0.7).view(z.shape).to(x.dtype).to(z.dtype)
                   for z in found]
            results.append([*found, g, *torch.autograd.grad(found, arguments, ups, allow_unused=True)])
        if 'sums' in outputs:            # the number of those above the threshold may turn on the last bit of one
            counts = [found[len(outputs) - 1][..., 0] for found in results]
            assert (counts[0] - counts[1]).abs().max() <= 2
        for f, e in zip(*results):
            if f.dim() == 3 and f.shape[2] == 5:
                f, e = f[..., 1:], e[..., 1:]
            assert f.isfinite().all()
            tolerance = {torch.float32: 2e-5, torch.float64: 2e-5}.get(f.dtype, 2 * TOLERANCE[dtype])
            torch.testing.assert_close(f.double(), e, rtol=0, atol=tolerance * max(1, e.abs().max().item()))


@pytest.mark.parametrize('layout, size', WAYS, ids=str)
def test_the_fast_kernels_give_the_same_bits_every_time(layout, size):
    x, *small = (z.cuda() for z in problem(size, torch.bfloat16))
    arguments = [laid_out(x, layout), *small]
    first, second = everything(arguments), everything(arguments)
    assert all(torch.equal(a, b) for x, y in zip(first, second) for a, b in zip(x, y))


def test_each_instruction_does_what_the_manual_says(library, primitives):
    """The layouts of the tensor cores' operands, one instruction at a time: look here first if all else fails."""
    run = ctypes.CDLL(library['library']).lsef_cuda_primitive
    for name, which, given, expected in primitives:
        given, found = given.cuda(), torch.zeros_like(expected).cuda()
        torch.cuda.synchronize()
        assert run(which, ctypes.c_void_p(given.data_ptr()), ctypes.c_void_p(found.data_ptr()), None) == 0
        torch.cuda.synchronize()
        assert torch.equal(found.cpu(), expected), name
