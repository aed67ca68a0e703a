"""The noise scale of what an operator leaves, in one read, is that of the residual itself."""
import math

import pytest
import torch

from lsef_plugins import ops
from lsef_plugins.ops import noise_scale, residual_scale

F64 = torch.float64
# With 4,096 values per median, the last two are sampled.
SIZES = [(2, 3, 8, 49), (1, 1, 1, 1), (3, 5, 4, 7), (1, 2, 17, 128), (2, 1, 33, 16), (2, 3, 8, 513), (1, 2, 17, 1000)]


def problem(size, dtype=F64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(*size, generator=generator, dtype=F64).to(dtype)
    operator = torch.randn(size[0], size[2], size[2], generator=generator, dtype=F64) / 5
    return x, operator.to(torch.promote_types(dtype, torch.float32))


@pytest.mark.parametrize('size', SIZES, ids=str)
def test_it_is_the_scale_of_the_residual(computed_by, size):
    """In float64, so that both see the same residual and pick the same middle value."""
    x, operator = problem(size)
    expected = noise_scale(x - operator[:, None] @ x, x)
    torch.testing.assert_close(residual_scale(x, operator), expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_of_any_dtype_in_float32(library, dtype):
    x, operator = problem((3, 40, 8, 49), dtype)
    found = {}
    for name in ('reference', 'compiled'):
        with ops.backend(name):
            found[name] = residual_scale(x, operator)
    assert found['compiled'].dtype == torch.float32
    torch.testing.assert_close(found['compiled'], found['reference'], rtol=1e-5, atol=0)


@pytest.mark.parametrize('count', [1, 2, 3, 16, 17, 63, 64, 65, 127, 129])
def test_of_two_middle_values_the_lower(computed_by, count):
    x = torch.randperm(count, generator=torch.Generator().manual_seed(0)).to(F64).view(1, 1, 1, count) + 1
    x = torch.where(torch.arange(count) % 2 == 0, x, -x)
    zero = torch.zeros(1, 1, 1, dtype=F64)
    assert residual_scale(x, zero).item() == pytest.approx(1.4826 * ((count - 1) // 2 + 1), rel=1e-12)


def test_a_quiet_channel_has_the_floor(computed_by):
    x = torch.full((2, 3, 4, 5), 7.0)
    torch.testing.assert_close(residual_scale(x, torch.eye(4).expand(2, 4, 4)), torch.full((2, 3, 1, 1), 7e-3),
                               rtol=1e-5, atol=0)
    assert residual_scale(torch.zeros(2, 3, 4, 5), torch.eye(4).expand(2, 4, 4)).abs().max() == 0


def test_subnormal_values_have_a_median_too(computed_by):
    x = torch.tensor([1.0, 2.0, 3.0]).view(1, 1, 1, 3) * 1e-40
    assert residual_scale(x, torch.zeros(1, 1, 1)).item() == pytest.approx(1.4826 * 2e-40, rel=1e-3)


@pytest.mark.parametrize('broken', [math.nan, math.inf, -math.nan])
def test_a_broken_value_breaks_the_scale_of_its_channel_only(computed_by, broken):
    x, operator = problem((2, 3, 4, 20))
    x[1, 2, 3, 4] = broken
    assert (~residual_scale(x, operator).isfinite()).flatten().tolist() == [False] * 5 + [True]


@pytest.mark.parametrize('size', [(0, 3, 8, 5), (2, 0, 8, 5), (2, 3, 8, 0)], ids=str)
def test_nothing_has_the_scale_zero(computed_by, size):
    assert residual_scale(*problem(size)).flatten().tolist() == [0.0] * (size[0] * size[1])


def test_the_same_bits_with_any_strides(compiled):
    x, operator = problem((2, 5, 8, 600), torch.float32)
    last = x[..., None].to(memory_format=torch.channels_last_3d).flatten(3)
    assert last.stride() != x.stride() and torch.equal(residual_scale(x, operator), residual_scale(last, operator))


def test_it_carries_no_gradient_and_is_registered_properly(compiled):
    x, operator = (z.requires_grad_() for z in problem((2, 3, 8, 5)))
    assert not residual_scale(x, operator).requires_grad
    torch.library.opcheck(torch.ops.lsef.residual_scale.default,
                          (x.detach(), operator.detach(), 4096, 1.4826, 1e-3))
    graph = torch.compile(residual_scale, fullgraph=True, backend='aot_eager')
    assert torch.equal(graph(x.detach(), operator.detach()), residual_scale(x, operator))
    with pytest.raises(RuntimeError, match='sample must be 1 to 4096'):
        torch.ops.lsef.residual_scale(x.detach(), None, 5000, 1.4826, 1e-3)
