"""Convolutions in all but their loops: values, gradients, names, what hosts and exporters see."""
import pytest
import torch
from torch import nn

from lsef_plugins.nn.multiplied import PointwiseConv3d, TemporalConv3d
from lsef_plugins.ops import plain_operations

POINTWISE = {'bias': dict(), 'no bias': dict(bias=False), 'groups': dict(groups=3, bias=False),
             'groups, bias': dict(groups=3)}
TEMPORAL = {'kernel 3': 3, 'kernel 5': 5, 'kernel 9': 9}        # of 4 frames, 1 frame
KINDS = [*POINTWISE, *TEMPORAL]
SIZES = ((2, 6, 4, 3, 5), (3, 6, 1, 1, 1), (0, 6, 4, 3, 5))


def pair(kind, dtype=torch.float64):
    torch.manual_seed(0)
    if kind in TEMPORAL:
        kernel = TEMPORAL[kind]
        ours = TemporalConv3d(6, 9, kernel).to(dtype)
        theirs = nn.Conv3d(6, 9, (kernel, 1, 1), padding=(kernel // 2, 0, 0)).to(dtype)
    else:
        ours = PointwiseConv3d(6, 9, **POINTWISE[kind]).to(dtype)
        theirs = nn.Conv3d(6, 9, 1, **POINTWISE[kind]).to(dtype)
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


def volume(size, dtype=torch.float64, last=False):
    x = torch.randn(*size, generator=torch.Generator().manual_seed(1)).to(dtype)
    return (x.to(memory_format=torch.channels_last_3d) if last else x).requires_grad_()


@pytest.mark.parametrize('last', [False, True], ids=['contiguous', 'channels last'])
@pytest.mark.parametrize('size', SIZES, ids=str)
@pytest.mark.parametrize('kind', KINDS)
def test_values_and_gradients_are_the_convolutions(kind, size, last):
    found = []
    for layer in pair(kind):
        x = volume(size, last=last)
        y = layer(x)
        weights = torch.randn(y.shape, generator=torch.Generator().manual_seed(2), dtype=y.dtype)
        found.append((y.detach(), *torch.autograd.grad((y * weights).sum(), (x, *layer.parameters()))))
    for ours, theirs in zip(*found):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
@pytest.mark.parametrize('kind', KINDS)
def test_half_precision_and_autocast_give_the_dtype_of_the_convolution(kind, dtype):
    step = torch.finfo(dtype).eps
    for layers, x, context in ((pair(kind, dtype), volume(SIZES[0], dtype), torch.autocast('cpu', enabled=False)),
                               (pair(kind, torch.float32), volume(SIZES[0], torch.float32),
                                torch.autocast('cpu', dtype=dtype))):
        with context:
            ours, theirs = (layer(x) for layer in layers)
        assert ours.dtype == theirs.dtype == dtype
        torch.testing.assert_close(ours, theirs, rtol=4 * step, atol=4 * step)
        ours.float().square().sum().backward()
        assert all(p.grad.dtype == p.dtype and p.grad.isfinite().all() for p in layers[0].parameters())


@pytest.mark.parametrize('kind', KINDS)
def test_hosts_find_a_convolution(kind):
    ours, theirs = pair(kind)
    assert isinstance(ours, nn.Conv3d) and 'Conv3d' in [base.__name__ for base in type(ours).__bases__]
    assert {k: v.shape for k, v in ours.state_dict().items()} == {k: v.shape for k, v in theirs.state_dict().items()}
    seen = []
    ours.register_forward_hook(lambda module, args, y: seen.append(y.shape))
    ours(volume(SIZES[0]))
    assert seen == [(2, 9, 4, 3, 5)]


@pytest.mark.parametrize('kind, product', [('bias', 'baddbmm'), ('kernel 3', 'bmm')])
def test_graphs_for_others_hold_the_convolution_and_eager_does_not(kind, product, monkeypatch):
    ours, x = pair(kind, torch.float32)[0], volume(SIZES[0], torch.float32)
    assert 'aten::_convolution' in str(torch.jit.trace(ours, x).inlined_graph)
    names = []
    for name in ('bmm', 'baddbmm'):
        real = getattr(torch, name)
        monkeypatch.setattr(torch, name, lambda *args, f=real, n=name: names.append(n) or f(*args))
    with plain_operations():
        plain = ours(x)
    assert not names
    torch.testing.assert_close(plain, ours(x))
    assert names == [product]


@pytest.mark.parametrize('kind', ['groups, bias', 'kernel 3'])
def test_it_compiles_as_a_whole(kind):
    ours, x = pair(kind, torch.float32)[0], volume(SIZES[0], torch.float32)
    compiled = torch.compile(ours, fullgraph=True, backend='aot_eager')
    torch.testing.assert_close(compiled(x), ours(x))


@pytest.mark.parametrize('kind', ['bias', 'kernel 3'])
def test_another_number_of_channels_is_refused(kind):
    with pytest.raises(RuntimeError):
        pair(kind)[0](torch.zeros(1, 5, 2, 2, 2, dtype=torch.float64))


@pytest.mark.parametrize('kind', KINDS)
def test_autocast_leaves_double_precision_alone_as_that_of_the_convolution(kind):
    layers, x = pair(kind), volume(SIZES[0])
    with torch.autocast('cpu', torch.bfloat16):
        ours, theirs = (layer(x) for layer in layers)
    assert ours.dtype == theirs.dtype == torch.float64
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
