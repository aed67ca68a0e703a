r"""Inner products of a clip's frames, all that the spectral part ever sees of the features.

.. math::  G = \sum_c X_c X_c^\top \in \mathbb{R}^{T \times T}

One read of the features, sums in float32 (float64 for float64) whatever their dtype: a Gram accumulated in bfloat16
loses four digits. With an operator and thresholds it is the Gram of what the transient leaves, :math:`X - S`, and
:math:`S` is computed on the way and never written (:mod:`lsef_plugins.ops.low_rank_sparse` has its formula).
Axes: ``b`` clips, ``c`` channels, ``t`` frames, ``n`` positions.
"""
from typing import Optional, Tuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .exporting import must_be_plain
from .layout import check_features, in_own_dtype, per_clip_and_channel, sums_dtype
from .library import serves, when_loaded
from .low_rank_sparse import low_rank_sparse


def gram(x: Tensor, operator: Optional[Tensor] = None, tau: Optional[Tensor] = None, keep: Optional[Tensor] = None,
         exponent: float = 2.0, revival: float = 0.25) -> Tensor:
    """``(b, c, t, n) -> (b, t, t)``, exactly symmetric; with ``operator`` and ``tau`` the Gram of ``x - transient``.

    Args:
        operator, tau, keep, exponent, revival: as in :func:`low_rank_sparse`.

    Raises:
        ValueError: an operator without thresholds or the other way round, shapes that do not belong together.
    """
    if (operator is None) != (tau is None):
        raise ValueError('gram(x) is the Gram of x; for that of x - transient give both operator and tau.')
    check_features(x, operator, 'gram')
    if operator is not None and tau is not None:
        if torch.is_grad_enabled() or not serves(x, exponent):
            # The gradient passes through the transient, which its backward would need anyway.
            left = low_rank_sparse(x, operator, tau, keep, b=tau.new_full((1, ), -1.0), exponent=exponent,
                                   revival=revival)
            return gram(left.merged)
        sums = sums_dtype(x)
        return torch.ops.lsef.gram(
            x, operator.to(sums).contiguous(), per_clip_and_channel(tau, x, 'tau').contiguous(),
            None if keep is None else keep.to(sums).contiguous(), float(exponent))
    if serves(x):
        return torch.ops.lsef.gram(x, None, None, None, 2.0)
    x = x.to(sums_dtype(x))
    return _formula(x) if must_be_plain() else _Gram.apply(x)


@in_own_dtype
def _formula(x: Tensor) -> Tensor:
    # (b, c, t, n) @ (b, c, n, t) -> (b, c, t, t); per channel, so that no permuted copy is made
    g = torch.matmul(x, x.transpose(-1, -2)).sum(1)
    return (g + g.transpose(-1, -2)) / 2


class _Gram(torch.autograd.Function):
    """One product in the backward pass, where autograd makes one for each of the two factors."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return _formula(x)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        return _derivative(ctx.saved_tensors[0], grad)


@in_own_dtype
def _derivative(x: Tensor, grad: Tensor) -> Tensor:
    # (b, 1, t, t) @ (b, c, t, n)
    return torch.matmul((grad + grad.transpose(-1, -2))[:, None], x.to(grad.dtype)).to(x.dtype)


@when_loaded
def _register() -> None:
    torch.library.register_fake('lsef::gram')(_shape)
    torch.library.register_autograd('lsef::gram', _backward, setup_context=_remember)


def _shape(x, operator, tau, keep, exponent):
    return x.new_empty((x.shape[0], x.shape[2], x.shape[2]), dtype=sums_dtype(x))


def _remember(ctx, inputs, output) -> None:
    if inputs[1] is not None:
        raise RuntimeError('lsef::gram of x - s has no gradient; lsef_plugins.ops.gram composes it.')
    ctx.save_for_backward(inputs[0])


def _backward(ctx, grad: Tensor) -> Tuple[Optional[Tensor], ...]:
    return _derivative(ctx.saved_tensors[0], grad), None, None, None, None
