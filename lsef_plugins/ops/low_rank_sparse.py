r"""A clip as stable + transient + residual in one pass over its features.

With the T x T operator :math:`M` of the stable part, column by column,

.. math::
    \ell = M x, \qquad r = k_t (x - \ell), \qquad s = k_t \operatorname{shrink}_p(x - \ell,\ \tau_c), \qquad
    y = x + a_c \ell + b_c s .

:math:`k_t` in [0, 1] is how much of frame t may count as transient. Whatever is asked for is written once, the
features are read once; the backward pass recomputes the parts and saves nothing but its arguments.
Axes: ``b`` clips, ``c`` channels, ``t`` frames, ``n`` positions.

Source:
    arXiv:2511.11406 (abstract) names the parts; the formula is ours (docs/method.md).
"""
from typing import Any, NamedTuple, Optional, Sequence, Tuple

import torch
from torch import Tensor

from .layout import check_features, in_own_dtype, per_clip_and_channel, sums_dtype
from .library import serves, when_loaded
from .recompute import differentiable_once, recomputed
from .shrinkage import shrink

OUTPUTS = ('merged', 'stable', 'transient', 'residual', 'sums')


class LowRankSparse(NamedTuple):
    """What was asked for, None otherwise: ``merged`` y, ``stable`` l, ``transient`` s and ``residual`` r, each like x,
    and ``sums`` ``(b, c, 5)``: elements of s that are not zero, l1 and energy of s, energy of l, energy of r."""
    merged: Any = None
    stable: Any = None
    transient: Any = None
    residual: Any = None
    sums: Any = None


def low_rank_sparse(x: Tensor, operator: Tensor, tau: Tensor, keep: Optional[Tensor] = None,
                    a: Optional[Tensor] = None, b: Optional[Tensor] = None, exponent: float = 2.0,
                    revival: float = 0.25, outputs: Sequence[str] = ('merged', )) -> LowRankSparse:
    """The parts of ``x`` ``(b, c, t, n)`` that ``outputs`` names, with gradients to every argument.

    Args:
        operator: ``(b, t, t)``, applied over time.
        tau: threshold in the units of x, not negative: a number, ``(c, )``, ``(b, c)`` or ``(b, c, 1, 1)``.
        keep: ``(b, t)``, 0 to 1; None is 1.
        a, b: what of the stable and the transient part is added to x, shaped like ``tau``; None is nothing.
        exponent, revival: of :func:`~lsef_plugins.ops.shrink`.

    Raises:
        ValueError: shapes that do not belong together, an unknown output, ``exponent`` below 1.
    """
    _check(x, operator, keep, outputs, exponent)
    sums = sums_dtype(x)
    operator = operator.to(sums)
    tau = per_clip_and_channel(tau, x, 'tau')
    keep = None if keep is None else keep.to(sums)
    a = None if a is None else per_clip_and_channel(a, x, 'a')
    b = None if b is None else per_clip_and_channel(b, x, 'b')
    wanted = tuple(name in outputs for name in OUTPUTS)
    tensors: Tuple[Optional[Tensor], ...] = (operator, tau, keep, a, b)
    if serves(x, exponent):
        bits = sum(1 << place for place, asked in enumerate(wanted) if asked)
        found = torch.ops.lsef.low_rank_sparse(
            x, *(None if z is None else z.contiguous() for z in tensors), float(exponent), float(revival), bits)
        return LowRankSparse(*(z if asked else None for z, asked in zip(found, wanted)))
    return LowRankSparse(*recomputed(_formula, (x, *tensors), (float(exponent), float(revival), wanted)))


def _check(x: Tensor, operator: Tensor, keep: Optional[Tensor], outputs: Sequence[str], exponent: float) -> None:
    check_features(x, operator, 'low_rank_sparse')
    batch, frames = x.shape[0], x.shape[2]
    if keep is not None and keep.shape != (batch, frames):
        raise ValueError(f'keep {tuple(keep.shape)} must be one number for each frame, (b, t) = {(batch, frames)}.')
    if isinstance(outputs, str) or not outputs or set(outputs) - set(OUTPUTS):
        raise ValueError(f'outputs names any of {", ".join(OUTPUTS)}, for example (\'stable\', ), got {outputs!r}.')
    if not exponent >= 1:
        raise ValueError(f'exponent is p >= 1 (1 soft, 2 garrote, inf hard), got {exponent}.')


@in_own_dtype
def _formula(x, operator, tau, keep, a, b, exponent, revival, wanted):
    whole = x.to(sums_dtype(x))
    # (b, 1, t, t) @ (b, c, t, n)
    stable = torch.matmul(operator[:, None], whole)
    residual = whole - stable
    transient = shrink(residual, tau[..., None, None], exponent, revival)
    if keep is not None:
        kept = keep[:, None, :, None]
        transient, residual = transient * kept, residual * kept
    merged = whole
    if a is not None:
        merged = merged + a[..., None, None] * stable
    if b is not None:
        merged = merged + b[..., None, None] * transient
    found = [z.to(x.dtype) if asked else None for z, asked in zip((merged, stable, transient, residual), wanted)]
    return (*found, _sums(stable, transient, residual) if wanted[4] else None)


def _sums(stable, transient, residual):
    parts = ((transient != 0).to(transient.dtype), transient.abs(), transient.square(), stable.square(),
             residual.square())
    return torch.stack([z.sum((2, 3)) for z in parts], -1)


@when_loaded
def _register() -> None:
    torch.library.register_fake('lsef::low_rank_sparse')(_shape)
    torch.library.register_fake('lsef::low_rank_sparse_backward')(_backward_shape)
    torch.library.register_autograd('lsef::low_rank_sparse', _backward, setup_context=_remember)


def _shape(x, operator, tau, keep, a, b, exponent, revival, outputs):
    parts = [torch.empty_like(x) if outputs & bit else x.new_empty(0) for bit in (1, 2, 4, 8)]
    return (*parts, operator.new_empty((*x.shape[:2], 5) if outputs & 16 else 0))


def _backward_shape(to_y, to_l, to_s, to_r, to_sums, x, operator, tau, keep, a, b, exponent, revival):
    gates = [torch.empty_like(tau) for _ in range(3)]
    return (torch.empty_like(x), torch.empty_like(operator), gates[0], tau.new_empty(x.shape[0], x.shape[2]),
            *gates[1:])


def _remember(ctx, inputs, output) -> None:
    *tensors, ctx.exponent, ctx.revival, ctx.outputs = inputs
    ctx.save_for_backward(*tensors)
    ctx.set_materialize_grads(False)


@differentiable_once
def _backward(ctx, *grads):
    x, operator, tau, keep, a, b = ctx.saved_tensors
    *to_parts, to_sums = (g if ctx.outputs >> place & 1 else None for place, g in enumerate(grads))
    if to_sums is None and all(g is None for g in to_parts):
        return (None, ) * 9
    found = torch.ops.lsef.low_rank_sparse_backward(
        *to_parts, None if to_sums is None else to_sums.contiguous(), x, operator, tau, keep, a, b, ctx.exponent,
        ctx.revival)
    to_x, to_operator, to_tau, to_keep, to_a, to_b = found
    return (to_x, to_operator, to_tau, None if keep is None else to_keep, None if a is None else to_a,
            None if b is None else to_b, None, None, None)
