"""A formula that saves nothing but its arguments: the backward pass computes it again; and backward passes that are the
last: a second derivative through a compiled operator is refused, where torch would go on without it."""
import functools
from typing import Any, Callable, Iterator, Optional, Sequence, Tuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .exporting import is_exported, is_traced, must_be_plain
from .layout import in_own_dtype


def recomputed(formula: Callable[..., Any], tensors: Sequence[Optional[Tensor]], constants: Sequence[Any]) -> Any:
    """``formula(*tensors, *constants)``, a tensor or a tuple of tensors and None, differentiable once.

    In a graph that is being traced it is simply the formula: what to keep is then the compiler's choice.
    """
    if must_be_plain() or is_traced() or is_exported() or not torch.is_grad_enabled():
        return formula(*tensors, *constants)
    return _Recomputed.apply(formula, tuple(constants), *tensors)


def differentiable_once(backward: Callable[..., Any]) -> Callable[..., Any]:
    """Decorator for the backward pass of a compiled operator: whoever differentiates its result is told.

    ``torch.autograd.function.once_differentiable`` speaks only where a gradient that comes in asks for one itself; the
    result depends on what was saved as well.
    """
    @functools.wraps(backward)
    def guarded(ctx, *grads):
        with torch.no_grad():
            found = backward(ctx, *grads)
        if is_traced() or not torch.is_grad_enabled():
            return found
        return tuple(_Last.apply(z.detach().requires_grad_()) if isinstance(z, Tensor) else z for z in found)

    return guarded


class _Last(torch.autograd.Function):

    @staticmethod
    def forward(ctx, z):
        return z.view_as(z)

    @staticmethod
    def backward(ctx, grad):
        raise RuntimeError('The operators of lsef_plugins are differentiable once; a second derivative (a gradient '
                           'penalty, a Hessian) must not pass through them. Take it of tensors beyond them, or keep '
                           'create_graph=True to the part of the model without them.')


class _Recomputed(torch.autograd.Function):

    @staticmethod
    def forward(ctx, formula, constants, *tensors):
        ctx.save_for_backward(*tensors)
        ctx.formula, ctx.constants = formula, constants
        ctx.set_materialize_grads(False)
        return formula(*tensors, *constants)

    @staticmethod
    @once_differentiable
    def backward(ctx, *grads):
        return (None, None, *_gradients(ctx.saved_tensors[0], ctx, grads))


@in_own_dtype
def _gradients(x: Tensor, ctx: Any, grads: Sequence[Optional[Tensor]]) -> Iterator[Optional[Tensor]]:
    needed = ctx.needs_input_grad[2:]
    tensors = [None if z is None else z.detach().requires_grad_(need) for z, need in zip(ctx.saved_tensors, needed)]
    with torch.enable_grad():
        found = ctx.formula(*tensors, *ctx.constants)
    pairs = [(out, g) for out, g in zip(found if isinstance(found, tuple) else (found, ), grads)
             if g is not None and out is not None and out.requires_grad]
    wanted = [z for z, need in zip(tensors, needed) if need and z is not None]
    results: Tuple[Optional[Tensor], ...] = (None, ) * len(wanted)
    if pairs and wanted:
        results = torch.autograd.grad([out for out, _ in pairs], wanted, [g for _, g in pairs], allow_unused=True)
    source = iter(results)
    return (next(source) if need and z is not None else None for z, need in zip(tensors, needed))
