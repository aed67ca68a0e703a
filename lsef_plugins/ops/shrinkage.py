r"""Shrinkage: what is small becomes exactly zero, what is large stays.

.. math::  \operatorname{shrink}_p(r, \tau) = r \,\bigl(1 - (\tau/|r|)^p\bigr)_+

One exponent spans the textbook operators: p = 1 is soft thresholding (the proximal map of :math:`\tau\|.\|_1`),
p = 2 the non-negative garrote, p = inf hard thresholding.

Source:
    arXiv:2511.11406 asks for sparse transients and gives no operator; this family is ours to choose. Garrote:
    Breiman (1995), Gao (1998).
"""
import math
from typing import Optional

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .exporting import must_be_plain
from .layout import per_clip_and_channel
from .library import serves


def shrink(r: Tensor, tau: Tensor, exponent: float = 2.0, revival: float = 0.25) -> Tensor:
    r"""Element-wise shrinkage of ``r`` by the threshold ``tau`` (same units, broadcast to ``r``, not negative).

    Zero exactly where ``|r| <= tau``, odd in ``r``, never beyond it. Saves ``r`` and ``tau`` only.

    Args:
        exponent: p >= 1 of the module's formula; ``math.inf`` for hard thresholding (no gradient to ``tau``).
        revival: the derivative with respect to ``tau`` counts an element with the weight
            ``sigmoid((|r| - tau) / (revival * tau))``, so that a threshold which has emptied the output can
            still come down. 0 is the exact derivative.

    Raises:
        ValueError: ``exponent`` below 1.
    """
    if not exponent >= 1:
        raise ValueError(f'exponent is p >= 1 (1 soft, 2 garrote, inf hard), got {exponent}.')
    if must_be_plain():
        return _shrunken(r, tau, float(exponent))
    rows = _rows(r, tau)
    if rows is not None and serves(r, exponent):
        # One window of one frame is no average.
        found, _ = torch.ops.lsef.scale_shrink(r, rows.contiguous(), None, [1], float(exponent), float(revival), False)
        return found[0]
    return _Shrink.apply(r, tau, float(exponent), float(revival))


def soft_threshold(x: Tensor, tau: Tensor) -> Tensor:
    r"""The proximal map of :math:`\tau\|.\|_1` on features ``(b, c, t, n)``, with the exact derivative.

    Args:
        tau: one number, one per channel ``(c, )``, or one per clip and channel ``(b, c)``.
    """
    return shrink(x, per_clip_and_channel(tau, x, 'tau')[..., None, None].to(x.dtype), 1.0, 0.0)


def _rows(r: Tensor, tau: Tensor) -> Optional[Tensor]:
    """A threshold per clip and channel in the form the compiled operator takes, None where it is another one."""
    if r.dim() != 4 or tau.dim() not in (0, 4) or tau.dtype != r.dtype:
        return None
    if tau.dim() == 4 and (tau.shape[2:] != (1, 1) or any(have not in (1, want)
                                                          for have, want in zip(tau.shape, r.shape))):
        return None
    return per_clip_and_channel(tau, r, 'tau')


def _shrunken(r: Tensor, tau: Tensor, exponent: float) -> Tensor:
    magnitude = r.abs()
    above = _above(magnitude, tau)
    if math.isinf(exponent):
        return torch.where(above, r, torch.zeros_like(r))
    ratio = (tau / torch.where(above, magnitude, torch.ones_like(magnitude)))
    return torch.where(above, r * (1 - _power(ratio, exponent)), torch.zeros_like(r))


class _Shrink(torch.autograd.Function):

    @staticmethod
    def forward(ctx, r, tau, exponent, revival):
        ctx.save_for_backward(r, tau)
        ctx.exponent, ctx.revival = exponent, revival
        return _shrunken(r, tau, exponent)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        r, tau = ctx.saved_tensors
        p = ctx.exponent
        magnitude = r.abs()
        above = _above(magnitude, tau)
        ratio = (tau / torch.where(above, magnitude, torch.ones_like(magnitude)))
        ratio = torch.where(above, ratio, torch.ones_like(ratio))
        grad_r = grad_tau = None
        if ctx.needs_input_grad[0]:
            slope = torch.ones_like(ratio) if math.isinf(p) else 1 + (p - 1) * _power(ratio, p)
            grad_r = torch.where(above, grad * slope, torch.zeros_like(grad))
        if ctx.needs_input_grad[1]:
            if math.isinf(p):
                grad_tau = torch.zeros_like(tau)
            else:
                weight = above.to(r.dtype)
                if ctx.revival > 0:
                    width = (ctx.revival * tau).clamp_min(torch.finfo(r.dtype).tiny)
                    weight = torch.sigmoid((magnitude - tau) / width)
                slope = -p * torch.sign(r) * weight * _power(ratio, p - 1)
                grad_tau = (grad * slope).sum_to_size(tau.shape)
        return grad_r, grad_tau, None, None


def _power(ratio: Tensor, exponent: float) -> Tensor:
    if exponent == 0:
        return torch.ones_like(ratio)
    if exponent == 1:
        return ratio
    return ratio * ratio if exponent == 2 else ratio ** exponent


def _above(magnitude: Tensor, tau: Tensor) -> Tensor:
    """Beyond the threshold, or not comparable: shrinkage must not hide that its input is broken behind a zero."""
    return ~(magnitude <= tau)


def group_shrink(r: Tensor, norm: Tensor, tau: Tensor, exponent: float = 2.0, revival: float = 0.25) -> Tensor:
    """Shrinks whole groups: ``r`` keeps its direction, ``norm`` (broadcast to ``r``) is shrunk by ``tau``."""
    shrunk = shrink(norm, tau, exponent, revival)
    safe = torch.where(norm > 0, norm, torch.ones_like(norm))
    return r * (shrunk / safe)
