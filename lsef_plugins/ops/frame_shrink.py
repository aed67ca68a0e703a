r"""Group shrinkage at several time scales: a frame keeps its direction, its norm over channels and positions shrinks.

.. math::
    S_w = \operatorname{clip}\Bigl(V_t\,\frac{\operatorname{shrink}_p(\|V_t\|,\ \tau_t\|a_w\|_2)}{\|V_t\|},\
    \pm\lambda_c\|a_w\|_2\Bigr), \qquad V = A_w R, \qquad \|V_t\|^2 = \sum_{c,n} V_{ctn}^2 .

With one window of one frame and no limit it is group shrinkage itself, for p = 1 the proximal map of
:math:`\sum_t \tau_t \|r_t\|_2`. The norms are summed in float32 at least and in a fixed order; the backward pass needs
the features, the norms and nothing else. A frame of zeros stays zero and receives no gradient through its norm.
Axes: ``b`` clips, ``c`` channels, ``t`` frames, ``n`` positions, ``s`` scales.

Source:
    Yuan and Lin (2006) for p = 1. The abstract of arXiv:2511.11406 asks for sparse transients; this is ours to choose.
"""
from typing import Any, Optional, Sequence, Tuple

import torch
from torch import Tensor

from .layout import in_own_dtype, per_clip_and_channel, sums_dtype
from .library import serves, when_loaded
from .recompute import differentiable_once, recomputed
from .scale_shrink import MAX_WINDOWS, moving_average
from .shrinkage import group_shrink


def frame_shrink(r: Tensor, tau: Tensor, windows: Sequence[int] = (1, ), exponent: float = 2.0,
                 limit: Optional[Tensor] = None, revival: float = 0.25, magnitude: bool = False,
                 norms: Optional[Tensor] = None) -> Tuple[Tensor, Any]:
    r""":math:`S_w` of all windows, ``(s, b, c, t, n)`` in the dtype of ``r``, and with ``magnitude`` :math:`|S_w|`.

    Args:
        r: features ``(b, c, t, n)``.
        tau: threshold on a frame's norm: one number, one per clip ``(b, 1)`` or one per frame ``(b, t)``; two axes of
            length 1 may stand where ``r`` has channels and positions.
        windows: odd numbers of frames.
        limit: largest magnitude of an element, a number, ``(c, )``, ``(b, c)`` or ``(b, c, 1, 1)``. Without gradient.
        exponent, revival: of :func:`~lsef_plugins.ops.shrink`.
        norms: :func:`frame_norms` of ``r`` and ``windows`` where they are known already, which spares a read. The
            gradient is that of a norm all the same.

    Raises:
        ValueError: ``tau`` or ``limit`` does not fit, a window without a centre, ``exponent`` below 1.
    """
    tau = _per_frame(tau, r)
    limit = None if limit is None else per_clip_and_channel(limit, r, 'limit').detach()
    windows = tuple(int(w) for w in windows)
    if _serves(r, windows, exponent):
        found = torch.ops.lsef.frame_shrink(
            r, None if norms is None else norms.contiguous(), tau.contiguous(),
            None if limit is None else limit.contiguous(), list(windows), float(exponent), float(revival), magnitude)
        return found[0], (found[1] if magnitude else None)
    return recomputed(_formula, (r, tau, limit), (windows, float(exponent), float(revival), magnitude))


@torch.no_grad()
def frame_norms(r: Tensor, windows: Sequence[int] = (1, )) -> Tensor:
    """Norms over channels and positions of the averaged frames, ``(b, c, t, n) -> (b, s, t)`` in the dtype of sums."""
    windows = tuple(int(w) for w in windows)
    if _serves(r, windows):
        return torch.ops.lsef.frame_norms(r, list(windows))
    whole = r.to(sums_dtype(r))
    return torch.stack([torch.linalg.vector_norm(_averaged(whole, w), dim=(1, 3)) for w in windows], 1)


def group_soft_threshold(x: Tensor, tau: Tensor) -> Tensor:
    r"""The proximal map of :math:`\tau \sum_t \|x_t\|_2`: each frame of ``(b, c, t, n)`` loses ``tau`` of its length.

    Args:
        tau: one number, one per clip ``(b, 1)``, or one per frame ``(b, t)``.
    """
    return frame_shrink(x, tau, exponent=1.0, revival=0.0)[0][0]


def _serves(r: Tensor, windows: Tuple[int, ...], exponent: float = 2.0) -> bool:
    return 1 <= len(windows) <= MAX_WINDOWS and all(w >= 1 and w % 2 for w in windows) and serves(r, exponent)


def _per_frame(tau: Tensor, r: Tensor) -> Tensor:
    if r.dim() != 4 or not r.is_floating_point():
        raise ValueError(f'frame_shrink takes floating features (b, c, t, n), got {r.dtype} {tuple(r.shape)}.')
    tau = tau.to(sums_dtype(r))
    if tau.dim() == 4 and tau.shape[1] == tau.shape[3] == 1:
        tau = tau[:, 0, :, 0]
    frames = (r.shape[0], r.shape[2])
    if tau.dim() not in (0, 2) or any(have not in (1, want) for have, want in zip(tau.shape, frames)):
        raise ValueError(f'tau {tuple(tau.shape)} does not fit the frames of features (b, c, t, n) = {tuple(r.shape)}: '
                         f'give one number, one per clip ({frames[0]}, 1), or one per frame {frames}.')
    return tau.expand(frames)


@in_own_dtype
def _averaged(whole: Tensor, window: int) -> Tensor:
    average = moving_average(whole.shape[2], window, whole.dtype, whole.device)
    # (t, t) @ (b, c, t, n)
    return whole if window == 1 else torch.matmul(average, whole)


def _formula(r, tau, limit, windows, exponent, revival, with_magnitude):
    whole, found = r.to(sums_dtype(r)), []
    for window in windows:
        # The norms of the rows of the average: (t, 1)
        row = moving_average(r.shape[2], window, whole.dtype, r.device).square().sum(-1).sqrt()[:, None]
        pooled = _averaged(whole, window)
        # vector_norm: its gradient at a frame of zeros is zero, that of a square root NaN.
        norm = torch.linalg.vector_norm(pooled, dim=(1, 3), keepdim=True)
        transient = group_shrink(pooled, norm, tau[:, None, :, None] * row, exponent, revival)
        if limit is not None:
            bound = limit[..., None, None] * row
            transient = torch.minimum(torch.maximum(transient, -bound), bound)
        found.append(transient.to(r.dtype))
    s = torch.stack(found) if len(found) > 1 else found[0][None]
    return s, (s.abs() if with_magnitude else None)


@when_loaded
def _register() -> None:
    torch.library.register_fake('lsef::frame_norms')(_norms_shape)
    torch.library.register_fake('lsef::frame_shrink')(_shape)
    torch.library.register_fake('lsef::frame_shrink_backward')(_backward_shape)
    torch.library.register_autograd('lsef::frame_shrink', _backward, setup_context=_remember)


def _norms_shape(r, windows):
    return r.new_empty((r.shape[0], len(windows), r.shape[2]), dtype=sums_dtype(r))


def _shape(r, norms, tau, limit, windows, exponent, revival, with_magnitude):
    shape = (len(windows), *r.shape)
    found = _norms_shape(r, windows) if norms is None else tau.new_empty(0)
    return r.new_empty(shape), r.new_empty(shape if with_magnitude else 0), found


def _backward_shape(to_s, to_m, r, norms, tau, limit, windows, exponent, revival):
    return torch.empty_like(r), torch.empty_like(tau)


def _remember(ctx, inputs, output) -> None:
    r, norms, tau, limit, ctx.windows, ctx.exponent, ctx.revival, ctx.with_magnitude = inputs
    ctx.save_for_backward(r, output[2] if norms is None else norms, tau, limit)
    ctx.set_materialize_grads(False)


@differentiable_once
def _backward(ctx, to_s, to_m, _):
    r, norms, tau, limit = ctx.saved_tensors
    to_m = to_m if ctx.with_magnitude else None
    if to_s is None and to_m is None:
        return (None, ) * 8
    to_r, to_tau = torch.ops.lsef.frame_shrink_backward(to_s, to_m, r, norms, tau, limit, ctx.windows, ctx.exponent,
                                                        ctx.revival)
    return to_r, None, to_tau, None, None, None, None, None
