"""A second derivative is refused by the formulas and by the compiled operators, never wrong without a word."""
import pytest
import torch

from lsef_plugins import ops
from lsef_plugins.ops.recompute import differentiable_once

OPERATOR = torch.full((2, 4, 4), 0.2, dtype=torch.float64)
TAU = torch.tensor(0.3, dtype=torch.float64)
CALLS = {'low_rank_sparse': lambda x: ops.low_rank_sparse(x, OPERATOR, TAU, b=-TAU).merged,
         'scale_shrink': lambda x: ops.scale_shrink(x, TAU)[0], 'soft_threshold': lambda x: ops.soft_threshold(x, TAU),
         'frame_shrink': lambda x: ops.frame_shrink(x, TAU)[0]}


def features():
    return torch.randn(2, 3, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()


@pytest.mark.parametrize('name', CALLS)
def test_a_gradient_penalty_is_refused(computed_by, name):
    x = features()
    grad, = torch.autograd.grad(CALLS[name](x).square().sum(), x, create_graph=True)
    # x is in this graph in another way as well, so that nothing else would fail.
    with pytest.raises(RuntimeError, match='differentiate twice|differentiable once'):
        (grad * x).sum().backward()


@pytest.mark.parametrize('name', CALLS)
def test_the_compiled_operators_refuse_where_the_gradient_that_comes_in_asks_for_none(compiled, name):
    x = features()
    grad, = torch.autograd.grad(CALLS[name](x).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match='a gradient penalty, a Hessian'):
        (grad * x).sum().backward()


@pytest.mark.parametrize('name', CALLS)
def test_a_graph_that_nobody_differentiates_again_changes_no_gradient(computed_by, name):
    x, found = features(), []
    for create in (False, True):
        found += torch.autograd.grad(CALLS[name](x).square().sum(), x, create_graph=create)
    assert torch.equal(*found) and found[0].abs().max() > 0


def test_what_has_no_gradient_stays_without():
    with torch.enable_grad():
        number, nothing = differentiable_once(lambda ctx, z: (z * 2, None))(None, torch.ones(2))
    assert nothing is None and torch.equal(number.detach(), torch.full((2, ), 2.0))
