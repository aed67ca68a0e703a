r"""The transient at several time scales in one pass: pool over time first, shrink afterwards.

.. math::  S_w = \operatorname{clip}\bigl(\operatorname{shrink}(A_w R,\ \tau\|a_w\|_2),\ \pm\lambda\|a_w\|_2\bigr)

:math:`\|a_w\|_2`, the norm of the average's row, is what pooling leaves of the noise: the threshold falls with it, so
the rate of false alarms is the same at every scale. The limit :math:`\lambda` bounds what one element may say. The
residual is read once and each map written once, its magnitude beside it on request.
Axes: ``b`` clips, ``c`` channels, ``t`` frames, ``n`` positions, ``s`` scales.

Source:
    The abstract of arXiv:2511.11406 asks for multi-scale reconstruction; the equations are ours.
"""
from typing import Any, Optional, Sequence, Tuple

import torch
from torch import Tensor

from .layout import in_own_dtype, per_clip_and_channel, sums_dtype
from .library import serves, when_loaded
from .recompute import differentiable_once
from .shrinkage import shrink

MAX_WINDOWS = 8     # LSEF_MAX_WINDOWS of csrc/kernels.h


def moving_average(frames: int, window: int, dtype=torch.float32, device=None) -> Tensor:
    """Centred moving average over ``window`` frames (odd), shorter at the clip's ends. Returns ``(t, t)``."""
    if window < 1 or window % 2 == 0:
        raise ValueError(f'A centred moving average needs an odd window >= 1 (in frames), got {window}.')
    position = torch.arange(frames, device=device)
    inside = (position[:, None] - position).abs() <= window // 2
    average = inside.to(dtype)
    return average / average.sum(-1, keepdim=True)


def scale_shrink(r: Tensor, tau: Tensor, windows: Sequence[int] = (1, 3, 5), exponent: float = 2.0,
                 limit: Optional[Tensor] = None, revival: float = 0.25,
                 magnitude: bool = False) -> Tuple[Tensor, Any]:
    r""":math:`S_w` of all windows, ``(s, b, c, t, n)`` in the dtype of ``r``, and with ``magnitude`` :math:`|S_w|`.

    Args:
        r: residual ``(b, c, t, n)``.
        tau, limit: in the units of r, a number, ``(c, )``, ``(b, c)`` or ``(b, c, 1, 1)``; no limit by default. The
            limit receives no gradient.
        windows: odd numbers of frames.
        exponent, revival: of :func:`~lsef_plugins.ops.shrink`.
    """
    tau = per_clip_and_channel(tau, r, 'tau')
    limit = None if limit is None else per_clip_and_channel(limit, r, 'limit').detach()
    windows = tuple(int(w) for w in windows)
    if len(windows) <= MAX_WINDOWS and all(w >= 1 and w % 2 for w in windows) and serves(r, exponent):
        found = torch.ops.lsef.scale_shrink(r, tau.contiguous(), None if limit is None else limit.contiguous(),
                                            list(windows), float(exponent), float(revival), magnitude)
        return found[0], (found[1] if magnitude else None)
    # Not recomputed in the backward pass, as low_rank_sparse is: here that costs 10 to 20 % of a neck's training step.
    return _formula(r, tau, limit, windows, float(exponent), float(revival), magnitude)


@in_own_dtype
def _formula(r, tau, limit, windows, exponent, revival, with_magnitude):
    whole, found = r.to(sums_dtype(r)), []
    for window in windows:
        average = moving_average(r.shape[2], window, whole.dtype, r.device)
        norm = average.square().sum(-1).sqrt()[:, None]
        # (t, t) @ (b, c, t, n)
        pooled = whole if window == 1 else torch.matmul(average, whole)
        transient = shrink(pooled, tau[..., None, None] * norm, exponent, revival)
        if limit is not None:
            bound = limit[..., None, None] * norm
            transient = torch.minimum(torch.maximum(transient, -bound), bound)
        found.append(transient.to(r.dtype))
    s = torch.stack(found) if len(found) > 1 else found[0][None]
    return s, (s.abs() if with_magnitude else None)


@when_loaded
def _register() -> None:
    torch.library.register_fake('lsef::scale_shrink')(_shape)
    torch.library.register_fake('lsef::scale_shrink_backward')(_backward_shape)
    torch.library.register_autograd('lsef::scale_shrink', _backward, setup_context=_remember)


def _shape(r, tau, limit, windows, exponent, revival, with_magnitude):
    shape = (len(windows), *r.shape)
    return r.new_empty(shape), r.new_empty(shape if with_magnitude else 0)


def _backward_shape(to_s, to_m, r, tau, limit, windows, exponent, revival):
    return torch.empty_like(r), torch.empty_like(tau)


def _remember(ctx, inputs, output) -> None:
    r, tau, limit, ctx.windows, ctx.exponent, ctx.revival, ctx.with_magnitude = inputs
    ctx.save_for_backward(r, tau, limit)
    ctx.set_materialize_grads(False)


@differentiable_once
def _backward(ctx, to_s, to_m):
    r, tau, limit = ctx.saved_tensors
    to_m = to_m if ctx.with_magnitude else None
    if to_s is None and to_m is None:
        return (None, ) * 7
    to_r, to_tau = torch.ops.lsef.scale_shrink_backward(to_s, to_m, r, tau, limit, ctx.windows, ctx.exponent,
                                                        ctx.revival)
    return to_r, to_tau, None, None, None, None, None
