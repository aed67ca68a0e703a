"""A compiled operator counts what its formula counts."""
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from lsef_plugins import ops


def counted(compute):
    with FlopCounterMode(display=False) as counter:
        found = compute()
    with FlopCounterMode(display=False) as backward:
        found.sum().backward()
    return counter.get_total_flops(), backward.get_total_flops()


def split(x, operator, tau):
    return sum(ops.low_rank_sparse(x, operator, tau, outputs=('stable', 'transient'))[1:3])


def gram_of_the_rest(x, operator, tau):
    return ops.gram(x, operator, tau)


@pytest.mark.parametrize('operation', [lambda x, m, tau: ops.gram(x), split, gram_of_the_rest])
def test_compiled_and_formula_count_the_same(library, operation):
    x = torch.randn(2, 3, 5, 40, requires_grad=True)
    operator, tau = torch.rand(2, 5, 5, requires_grad=True), torch.rand(2, 3, requires_grad=True)
    found = []
    for name in ('reference', 'compiled'):
        with ops.backend(name):
            found.append(counted(lambda: operation(x, operator, tau)))
    forward, backward = found[1]
    assert forward == found[0][0] > 0
    # A formula that is computed again in the backward pass counts its product twice.
    assert backward == found[0][1] > 0
