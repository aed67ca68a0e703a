"""The noise scale of what an operator leaves, in one read, is that of the residual itself."""
import itertools
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
                          (x.detach(), operator.detach(), None, 4096, 1.4826, 1e-3))
    torch.library.opcheck(torch.ops.lsef.residual_scale.default,
                          (x.detach(), None, x.detach().flip(3), 4096, 1.4826, 1e-3))
    graph = torch.compile(residual_scale, fullgraph=True, backend='aot_eager')
    assert torch.equal(graph(x.detach(), operator.detach()), residual_scale(x, operator))
    with pytest.raises(RuntimeError, match='sample must be 1 to 4096'):
        torch.ops.lsef.residual_scale(x.detach(), operator.detach(), None, 5000, 1.4826, 1e-3)
    with pytest.raises(RuntimeError, match='an operator or a residual, one of them'):
        torch.ops.lsef.residual_scale(x.detach(), None, None, 4096, 1.4826, 1e-3)


# ---- zeros of the feature: what a ReLU has cut off --------------------------------------------------------------

DTYPES = [F64, torch.float32, torch.bfloat16, torch.float16]


def rectified(size, dtype=F64, seed=0):
    """Features of which a ReLU has left half, channel 0 whole and the last one nothing; some positions never live."""
    x, operator = problem(size, F64, seed)
    alive = torch.rand(size[0], size[1], 1, size[3], generator=torch.Generator().manual_seed(seed + 1)) < 0.6
    x = (x * alive).relu()
    x[:, 0] = problem(size, F64, seed)[0][:, 0]
    x[:, -1] = 0
    return x.to(dtype), operator.to(torch.promote_types(dtype, torch.float32))


def one_by_one(r, x):
    """The definition, channel by channel, without a mask: the values that count, the lower middle one of them."""
    every = max(1, math.ceil(r.shape[2] * r.shape[3] / 4096))
    scale = torch.zeros(r.shape[:2], dtype=r.dtype)
    for clip, channel in itertools.product(*map(range, r.shape[:2])):
        values, features = (z[clip, channel, :, ::every].flatten() for z in (r, x))
        counted = values.abs()[features != 0].sort().values
        spread = 1.4826 * counted[(len(counted) - 1) // 2] if len(counted) else 0.0
        scale[clip, channel] = max(spread, 1e-3 * x[clip, channel].square().mean().sqrt())
    return scale[..., None, None]


@pytest.mark.parametrize('size', [size for size in SIZES if size[1] > 1], ids=str)
def test_only_where_the_feature_is_not_zero(computed_by, size):
    x, operator = rectified(size)
    r = x - operator[:, None] @ x
    expected = one_by_one(r, x)
    assert (expected[:, -1] == 0).all() and (expected[:, :-1] > 0).all()
    torch.testing.assert_close(residual_scale(x, operator), expected, rtol=1e-12, atol=0)
    torch.testing.assert_close(noise_scale(r, x), expected, rtol=1e-12, atol=0)
    # A residual has values of its own where the feature has none.
    other = problem(size, seed=5)[0]
    torch.testing.assert_close(noise_scale(other, x), one_by_one(other, x), rtol=1e-12, atol=0)


@pytest.mark.parametrize('dtype', DTYPES, ids=str)
@pytest.mark.parametrize('size', [(2, 3, 8, 49), (2, 3, 8, 513), (1, 2, 17, 1000)], ids=str)
def test_without_zeros_it_is_the_median_of_all_to_the_last_bit(computed_by, size, dtype):
    x, r = (problem(size, dtype, seed)[0] for seed in (0, 1))
    x = torch.where(x == 0, torch.ones_like(x), x)
    every = max(1, math.ceil(size[2] * size[3] / 4096))
    sums = torch.promote_types(dtype, torch.float32)
    middle = r[..., ::every].abs().flatten(2).median(-1).values
    expected = {(1.4826 * middle).to(dtype), (1.4826 * middle.to(sums)).to(dtype)}
    assert any(torch.equal(noise_scale(r, x)[..., 0, 0], each) for each in expected)


def test_positions_that_are_never_alive_change_nothing(computed_by):
    """A face does not get noisier because the picture around it is black: a whole median would fall to the floor."""
    x, operator = problem((2, 3, 8, 40))
    crowded = torch.cat([x, x.new_zeros(2, 3, 8, 160)], 3)[..., torch.randperm(200)]
    assert torch.equal(residual_scale(crowded, operator), residual_scale(x, operator))
    dead_frames = torch.cat([x, x.new_zeros(2, 3, 3, 40)], 2)
    r = torch.cat([x, problem((2, 3, 3, 40), seed=2)[0]], 2)
    assert torch.equal(noise_scale(r, dead_frames), noise_scale(x, x))


def test_it_grows_with_the_features(computed_by):
    x, operator = rectified((2, 4, 8, 30))
    assert torch.equal(residual_scale(4 * x, operator), 4 * residual_scale(x, operator))
    torch.testing.assert_close(residual_scale(-1e-3 * x, operator), 1e-3 * residual_scale(x, operator))


def test_it_knows_no_order_of_positions_and_no_direction_of_time(computed_by):
    x, operator = rectified((2, 4, 8, 30))
    scale = residual_scale(x, operator)
    torch.testing.assert_close(residual_scale(x[..., torch.randperm(30)], operator), scale, rtol=1e-12, atol=0)
    flipped = residual_scale(x.flip(2), operator.flip(1, 2))
    torch.testing.assert_close(flipped, scale, rtol=1e-12, atol=0)


@pytest.mark.parametrize('dtype', DTYPES, ids=str)
def test_zero_and_minus_zero_are_silent_and_the_least_number_is_not(computed_by, dtype):
    x = torch.zeros(1, 3, 1, 9, dtype=dtype)
    x[0, 1], x[0, 2] = -0.0, torch.finfo(dtype).tiny
    r = torch.ones_like(x)
    assert noise_scale(r, x).flatten().tolist() == pytest.approx([0, 0, 1.4826], rel=1e-2)


def test_a_channel_that_is_silent_but_for_one_value_is_judged_by_it(computed_by):
    x = torch.zeros(1, 1, 8, 20)
    x[0, 0, 3, 7] = 5.0
    assert residual_scale(x, torch.zeros(1, 8, 8)).item() == pytest.approx(1.4826 * 5)


def test_what_is_broken_is_heard_where_the_feature_is_zero(computed_by):
    x, operator = rectified((2, 3, 8, 20))
    place = tuple((x[0, 1] == 0).nonzero()[0].tolist())
    r = x - operator[:, None] @ x
    r[(0, 1, *place)] = math.nan
    assert noise_scale(r, x).isnan().flatten().tolist() == [False, True] + [False] * 4
    operator[1, 2, 3] = math.nan
    assert residual_scale(x, operator).isnan()[:, :2].flatten().tolist() == [False, False, True, True]


def test_infinite_residuals_are_large_ones(computed_by):
    """Beside the zeros that do not count: more than half of what does is infinite, then less."""
    x = torch.ones(1, 2, 1, 20)
    x[..., :11] = 0
    r = torch.full_like(x, 2.0)
    r[0, 0, 0, 15:], r[0, 1, 0, 16:] = math.inf, -math.inf
    assert noise_scale(r, x).flatten().tolist() == pytest.approx([math.inf, 1.4826 * 2])


def test_an_infinite_operator_counts_no_more_values_than_there_are(computed_by):
    """19 positions fill no vector of the compiled code: beside an infinite entry, what fills it up is NaN."""
    x, operator = problem((1, 1, 4, 19))
    operator[0, 0, 0] = math.inf
    r = x - operator[:, None] @ x
    assert r.isinf().sum() == 19 and residual_scale(x, operator).item() == pytest.approx(
        1.4826 * r.abs().flatten().sort().values[37].item(), rel=1e-12)


def test_a_broken_operator_breaks_a_silent_channel_too(computed_by):
    x, operator = torch.zeros(1, 2, 4, 3), torch.eye(4)[None].clone()
    operator[0, 1, 2] = math.nan
    assert residual_scale(x, operator).isnan().all()


def test_strides_and_mixed_dtypes_of_the_features(computed_by):
    x, operator = rectified((2, 5, 8, 600), torch.float32)
    r = x - operator[:, None] @ x
    last = [z[..., None].to(memory_format=torch.channels_last_3d).flatten(3) for z in (r, x)]
    assert last[0].stride() != r.stride() and torch.equal(noise_scale(*last), noise_scale(r, x))
    found = noise_scale(r.bfloat16(), x.double())
    torch.testing.assert_close(found.float(), noise_scale(r, x), rtol=2e-2, atol=0)


def test_a_residual_of_other_features_is_refused(computed_by):
    with pytest.raises(ValueError, match=r'of one shape \(b, c, t, n\); got \(2, 3, 4, 5\) and \(2, 3, 4, 1\)'):
        noise_scale(torch.ones(2, 3, 4, 5), torch.ones(2, 3, 4, 1))


def test_the_graph_of_a_compiler_has_the_same_scale(computed_by):
    x, operator = rectified((2, 3, 8, 20), torch.float32)
    r = x - operator[:, None] @ x
    graph = torch.compile(noise_scale, fullgraph=True, backend='aot_eager')
    assert torch.equal(graph(r, x), noise_scale(r, x))
    torch.compiler.reset()


# ---- what it is for ---------------------------------------------------------------------------------------------

@pytest.mark.parametrize('mean, least, most', [(30, 0.9, 1.1), (0, 0.4, 1.1), (-1, 0.4, 1.1)])
def test_noise_behind_a_relu_has_about_its_scale_before_it(computed_by, mean, least, most):
    """White noise of s.d. 1 around ``mean``: few values beyond three scales, however much of it the ReLU cuts off.
    The median of all would be 0.12 at -1, and 7 % of the values would pass for events; of those it leaves, half."""
    z = torch.randn(1, 1, 16, 4000, generator=torch.Generator().manual_seed(0), dtype=F64) + mean
    x = z.relu()
    r = x - x.mean(2, keepdim=True)
    scale = noise_scale(r, x).item()
    assert least < scale < most
    assert (r.abs() > 3 * scale).double().mean() < 0.03
    assert (r.abs() > 3 * scale)[x > 0].double().mean() < 0.06
