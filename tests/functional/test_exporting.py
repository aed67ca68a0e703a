"""Laws of the plain operations: the same figures as ever, and none of the operations exporters do not know."""
import math

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from lsef_plugins.functional import jacobi, plain_operations, safe_scale, shrink, spectral_shrinkage
from lsef_plugins.functional.low_rank import MODES
from lsef_plugins.nn import LSEF
from lsef_plugins.ops.exporting import lower_median, lower_median_where, must_be_plain

UNKNOWN = ('eigh', 'median', 'frexp', 'ldexp', 'item', 'nonzero', '_local_scalar_dense')


class Recorded(TorchDispatchMode):
    """The names of the operations that ran."""

    def __init__(self):
        super().__init__()
        self.names = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.add(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


def both_ways(function, *args):
    with plain_operations():
        plain = function(*args)
    return plain, function(*args)


def clip(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize('mode', MODES)
@pytest.mark.parametrize('frames', [4, 7])
def test_the_spectral_step_is_that_of_the_svd_and_of_eigh(mode, frames):
    x = clip(5, frames, 30)
    x[1, 2] *= 1e3
    x[2] = x[2, :1]
    x[3] = 0
    plain, eager = both_ways(spectral_shrinkage, x @ x.mT, 2, mode)
    u, s, _ = torch.linalg.svd(x, full_matrices=False)
    top, cut = s[:, :2].square(), s[:, 2:3].square()
    gain = dict(garrote=1 - cut / top, soft=1 - (cut / top).sqrt(), hard=torch.ones_like(top))[mode]
    gain = torch.where(top > 1e-7 * top[:, :1], gain, torch.zeros_like(gain))
    truth = u[..., :2] * gain[:, None] @ u[..., :2].mT
    for index, (ours, theirs) in enumerate(zip(plain, truth)):
        # In the constant clip the root of eigenvalues that are rounding alone: 4e-10 on one CPU.
        torch.testing.assert_close(ours, theirs, rtol=0, atol=2e-8 if (mode, index) == ('soft', 2) else 1e-12)
    # eigh is the one that is less accurate here: 2e-10 with a frame x 1e3, 1e-9 (soft) in a constant clip
    torch.testing.assert_close(plain, eager, rtol=0, atol=1e-8)


@pytest.mark.parametrize('exponent', [1.0, 2.0, 3.0, math.inf])
def test_shrinkage_is_the_same_bit_for_bit(exponent):
    r, tau = clip(3, 4, 50), torch.tensor(0.7, dtype=torch.float64)
    plain, eager = both_ways(shrink, r, tau, exponent)
    assert torch.equal(plain, eager) and 0 < (eager == 0).sum() < eager.numel()


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_the_safe_scale_is_the_same_bit_for_bit(dtype):
    exponents = [*range(-149, 128)] if dtype == torch.float32 else [*range(-1074, 1024, 3)]
    powers = torch.tensor([math.ldexp(1.0, e) for e in exponents], dtype=dtype)
    peaks = torch.cat([powers, powers * 1.5, powers.new_tensor([0.0, math.inf, math.nan, 1.0, 3e-13, 7e12])])
    plain, eager = both_ways(safe_scale, peaks)
    assert torch.equal(plain, eager) and len(eager.unique()) > 50


@pytest.mark.parametrize('length', [1, 2, 7, 8])
def test_the_median_is_the_same_bit_for_bit(length):
    x = clip(3, length)
    for keepdim in (False, True):
        plain, eager = both_ways(lower_median, x, keepdim)
        assert torch.equal(plain, eager) and torch.equal(eager, x.median(-1, keepdim=keepdim).values)


@pytest.mark.parametrize('length', [1, 2, 7, 8])
def test_the_median_of_some_values_is_theirs_either_way(length):
    x = clip(6, length).abs()
    counted = clip(6, length, seed=1) > 0
    counted[0], counted[1] = True, False
    x[2, 0], x[3], x[4, -1] = math.nan, math.inf, math.inf
    plain, eager = both_ways(lower_median_where, counted, x)
    assert torch.equal(plain.nan_to_num(-1), eager.nan_to_num(-1))
    assert torch.equal(eager[0], x[0].median()) and eager[1] == 0 and eager[2].isnan()
    assert eager[3] == (math.inf if counted[3].any() else 0)
    for row in (4, 5):
        assert eager[row] == (x[row][counted[row]].median() if counted[row].any() else 0)


@pytest.mark.parametrize('options', [
    {}, dict(sem=dict(start='geometric_median', mode='soft')), dict(sem=dict(slow_basis='dct')), dict(iterations=2),
    dict(ddm=dict(group='frame')), dict(sem=False), dict(ddm=False), dict(rank=9)],
    ids=lambda options: ' '.join(map(str, options.items())) or 'default')
def test_the_module_is_the_same_without_operations_that_exporters_do_not_know(options, monkeypatch):
    layer = LSEF(3, **options).double().eval()
    with torch.no_grad():
        for index, parameter in enumerate(layer.parameters()):
            parameter.add_(0.3 * clip(*parameter.shape, seed=index))
    x = clip(3, 3, 9, 4, 5)
    x[0, :, 4] *= 50
    x[1] *= 1e-20
    # As while tracing: in eager mode the rounds look whether they are done.
    monkeypatch.setattr(jacobi, 'is_traced', lambda: True)
    with torch.no_grad(), plain_operations(), Recorded() as recorded:
        plain = layer(x)
    with torch.no_grad():
        eager = layer(x)
    assert not (eager - x).abs().max() < 1e-3
    torch.testing.assert_close(plain, eager, rtol=1e-9, atol=1e-9)
    assert not [name for name in recorded.names if any(bad in name for bad in UNKNOWN)]


@pytest.mark.parametrize('value', [math.nan, math.inf, -math.inf])
def test_clips_that_are_not_finite_pass_and_touch_no_other(value):
    layer = LSEF(3).eval()
    with torch.no_grad():
        layer.cim.out.weight.add_(0.3)
    x = clip(3, 3, 6, 4, 4).float()
    alone = layer(x[:1]).detach()
    x[1, 2, 3, 1, 1] = value
    with torch.no_grad(), plain_operations():
        y = layer(x)
    torch.testing.assert_close(y[:1], alone)
    assert torch.equal(y[1].nan_to_num(), x[1].nan_to_num()) and torch.isfinite(y[2]).all()


def test_what_was_asked_for_ends_with_its_block_also_after_an_error():
    assert not must_be_plain()
    with pytest.raises(RuntimeError), plain_operations():
        with plain_operations():
            assert must_be_plain()
        assert must_be_plain()
        raise RuntimeError
    assert not must_be_plain()
