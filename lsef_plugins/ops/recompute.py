"""A formula that saves nothing but its arguments: the backward pass computes it again."""
from typing import Any, Callable, Optional, Sequence, Tuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .exporting import is_exported, is_traced, must_be_plain


def recomputed(formula: Callable[..., Any], tensors: Sequence[Optional[Tensor]], constants: Sequence[Any]) -> Any:
    """``formula(*tensors, *constants)``, a tensor or a tuple of tensors and None, differentiable once.

    In a graph that is being traced it is simply the formula: what to keep is then the compiler's choice.
    """
    if must_be_plain() or is_traced() or is_exported() or not torch.is_grad_enabled():
        return formula(*tensors, *constants)
    return _Recomputed.apply(formula, tuple(constants), *tensors)


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
        needed = ctx.needs_input_grad[2:]
        tensors = [None if z is None else z.detach().requires_grad_(need)
                   for z, need in zip(ctx.saved_tensors, needed)]
        with torch.enable_grad():
            found = ctx.formula(*tensors, *ctx.constants)
        pairs = [(out, g) for out, g in zip(found if isinstance(found, tuple) else (found, ), grads)
                 if g is not None and out is not None and out.requires_grad]
        wanted = [z for z, need in zip(tensors, needed) if need and z is not None]
        results: Tuple[Optional[Tensor], ...] = (None, ) * len(wanted)
        if pairs and wanted:
            results = torch.autograd.grad([out for out, _ in pairs], wanted, [g for _, g in pairs], allow_unused=True)
        source = iter(results)
        return (None, None, *(next(source) if need and z is not None else None for z, need in zip(tensors, needed)))
