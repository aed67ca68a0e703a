"""The model of the neck's cost says what the neck has, keeps and counts."""
import math

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from lsef_plugins import ops
from lsef_plugins.nn import LSEF, cost
from lsef_plugins.nn.cost import Rates, Sizes

CASES = (Sizes(2, 24, 8, 7, 5), Sizes(3, 72, 5, 6, 6), Sizes(1, 300, 16, 4, 5), Sizes(2, 40, 8, 9, 7, iterations=2),
         Sizes(2, 24, 9, 6, 10, iterations=4), Sizes(2, 32, 8, 7, 7, windows=(1, 5)),
         Sizes(2, 48, 6, 8, 7, windows=(1, ), hidden_channels=20),
         Sizes(1, 32, 3, 9, 8), Sizes(2, 56, 8, 7, 6, rank=3), Sizes(2, 72, 8, 7, 6, kernel=1),
         Sizes(1, 300, 16, 4, 5, kernel=5))
HALF = tuple(sizes._replace(dtype='bfloat16') for sizes in CASES if sizes.iterations == 1)


def neck_of(sizes):
    torch.manual_seed(0)
    neck = LSEF(sizes.channels, rank=sizes.rank, iterations=sizes.iterations,
                cim=dict(windows=sizes.windows, hidden_channels=sizes.hidden_channels, kernel=sizes.kernel))
    torch.nn.init.normal_(neck.cim.out.weight, std=0.02)
    x = torch.randn(*sizes[:5]).to(getattr(torch, sizes.dtype)).requires_grad_()
    return neck, x


def run(neck, x):
    with torch.autocast('cpu', torch.bfloat16, enabled=x.dtype == torch.bfloat16):
        return neck(x)


def kept_bytes(neck, x):
    own = {z.untyped_storage().data_ptr() for z in (x, *neck.parameters())}
    kept = {}

    def pack(z):
        storage = z.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes(), z      # held, so that no address comes twice
        return z

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda z: z):
        run(neck, x)
    return sum(size for size, _ in kept.values())


@pytest.mark.parametrize('sizes', CASES, ids=str)
def test_parameters_are_exactly_those_of_the_neck(sizes):
    neck, _ = neck_of(sizes)
    assert cost.parameters(sizes) == sum(p.numel() for p in neck.parameters())


@pytest.mark.parametrize('sizes', (*CASES, *HALF), ids=str)
def test_what_is_kept_for_the_backward_pass_is_predicted_to_two_per_cent(compiled, sizes):
    assert kept_bytes(*neck_of(sizes)) == pytest.approx(cost.saved_bytes(sizes), rel=0.02)


@pytest.mark.parametrize('sizes', CASES, ids=str)
def test_operations_are_exactly_those_pytorch_counts(compiled, sizes):
    neck, x = neck_of(sizes)
    with FlopCounterMode(display=False) as counter:
        run(neck, x)
    assert cost.operations(sizes) == counter.get_total_flops()


def test_what_the_bands_are_of_changes_no_figure(compiled):
    sizes = CASES[1]
    torch.manual_seed(0)
    neck = LSEF(sizes.channels, cim=dict(bands_of='stable'))
    torch.nn.init.normal_(neck.cim.out.weight, std=0.02)
    x = torch.randn(*sizes[:5], requires_grad=True)
    assert cost.parameters(sizes) == sum(p.numel() for p in neck.parameters())
    assert kept_bytes(neck, x) == pytest.approx(cost.saved_bytes(sizes), rel=0.02)
    with FlopCounterMode(display=False) as counter:
        run(neck, x)
    assert cost.operations(sizes) == counter.get_total_flops()


def test_without_compiled_operators_about_twice_as_much_is_kept():
    with ops.backend('reference'):
        kept = kept_bytes(*neck_of(CASES[0]))
    assert 1.8 < kept / cost.saved_bytes(CASES[0]) < 2.6


def test_growth_laws():
    base = Sizes(2, 512, 8, 7, 7)
    for double in (base._replace(batch=4), base._replace(height=14)):
        assert cost.parameters(double) == cost.parameters(base)
        assert cost.operations(double) == pytest.approx(2 * cost.operations(base), rel=1e-4)
        assert cost.saved_bytes(double) == pytest.approx(2 * cost.saved_bytes(base), rel=5e-3)    # one copy of weights
    longer = base._replace(frames=16)
    assert cost.parameters(longer) == cost.parameters(base)
    assert cost.saved_bytes(longer) == pytest.approx(2 * cost.saved_bytes(base), rel=1e-2)
    assert 2 < cost.operations(longer) / cost.operations(base) < 4      # products over time grow with t^2
    # From 256 channels on the merge no longer widens: the narrow maps stay, all else doubles.
    wider = base._replace(channels=1024)
    assert 1.9 < cost.parameters(wider) / cost.parameters(base) < 2
    assert 1.9 < cost.saved_bytes(wider) / cost.saved_bytes(base) < 2
    more = [cost.saved_bytes(base._replace(iterations=k)) for k in (1, 2, 3)]
    assert more[2] - more[1] == more[1] - more[0] > 2 * 4 * base.elements


def test_the_fit_finds_planted_rates_and_a_planted_nothing():
    many = [Sizes(b, c, t, 7, w, k, hidden_channels=m) for b in (1, 4) for c in (64, 512) for t in (4, 16, 48)
            for w in (7, 28) for k in (1, 3) for m in (None, 8)]
    for planted in (Rates(1e-3, 4e-8, 2e-8, 2e-11, 1e-11, 3e-6, 1e-6), Rates(1e-3, 4e-8, 2e-8, 0, 1e-11, 3e-6, 0)):
        found = cost.fitted([(sizes, cost.seconds(sizes, planted)) for sizes in many])
        for name in Rates._fields:
            assert getattr(found, name) == pytest.approx(getattr(planted, name), rel=1e-6, abs=1e-18), name


def test_a_rate_is_never_negative():
    sizes = [Sizes(b, c, 8, 7, 7) for b in (1, 2, 4) for c in (64, 128, 256)]      # the larger the faster
    found = cost.fitted([(each, 1 / each.elements) for each in sizes])
    assert min(found) >= 0 and max(found) > 0


def test_a_ring_sends_nothing_alone_and_at_most_twice_the_gradients():
    sizes = CASES[0]
    sent = [cost.reduced_bytes(sizes, workers) for workers in (1, 2, 4, 1000)]
    whole = 4 * cost.parameters(sizes)
    assert sent[:3] == [0, whole, 1.5 * whole] and math.isclose(sent[3], 2 * whole, rel_tol=2e-3)


def test_what_cannot_be_is_told():
    with pytest.raises(ValueError, match='kernel is an odd number of frames, got 2'):
        cost.parameters(CASES[0]._replace(kernel=2))
    with pytest.raises(ValueError, match='frames must be 1 or more'):
        cost.saved_bytes(CASES[0]._replace(frames=0))
    with pytest.raises(ValueError, match="'float16' is not modelled; choose one of float32, bfloat16"):
        cost.saved_bytes(CASES[0]._replace(dtype='float16'))
    with pytest.raises(ValueError, match='7 rates need as many measurements, got 1'):
        cost.fitted([(CASES[0], 1.0)])
    with pytest.raises(ValueError, match='measured seconds are positive'):
        cost.fitted([(CASES[0], 0.0)] * 7)
    with pytest.raises(ValueError, match='workers counts processes'):
        cost.reduced_bytes(CASES[0], 0)
