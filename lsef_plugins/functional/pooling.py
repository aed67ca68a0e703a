r"""What a classifier reads of a decomposition: a few numbers per channel and clip.

The transient of a clip is summarised at each window by its root mean square over time and space, in robust standard
deviations,

.. math::  m_w = \Bigl(\operatorname{mean}_{t,p} \bigl(S_w / (\hat\sigma\|a_w\|_2)\bigr)^2\Bigr)^{1/2}

(:mod:`lsef_plugins.functional.multiscale`). That has neither sign nor amplitude. Its excursions have: with the
deviation :math:`d_t` of a frame's features from the base,

.. math::
    e_w^+ = \max_t (A_w d)_t, \qquad e_w^- = \max_t (-A_w d)_t, \qquad
    e = \bigl(\operatorname{mean}_t d_t^2\bigr)^{1/2}

Axes: ``b`` clips, ``c`` channels, ``t`` frames, ``n`` positions (h w), ``s`` windows.

Source:
    Ours; the abstract of arXiv:2511.11406 says nothing of a head.
"""
import math
from typing import Optional, Sequence

import torch
from torch import Tensor

from .multiscale import transient_scales
from .temporal import moving_average


def transient_magnitude(residual: Tensor, threshold: Tensor, scale: Tensor, windows: Sequence[int] = (1, 3, 5),
                        exponent: float = 2.0, influence_clip: Optional[float] = 4.0, limit_spikes: bool = True,
                        frame_threshold: Optional[Tensor] = None) -> Tensor:
    """The module's :math:`m_w` of a residual: ``(b, c, t, n) -> (b, s, c)``, in standard deviations.

    From 0 to ``influence_clip``; zero exactly where nothing exceeds the threshold at that window. The arguments are
    those of :func:`transient_scales`.
    """
    frames, positions = residual.shape[2:]
    unit = torch.where(scale > 0, scale, torch.ones_like(scale))
    scales = transient_scales(residual, threshold, scale, windows, exponent, influence_clip,
                              frame_threshold=frame_threshold, limit_spikes=limit_spikes)
    found = []
    for window, transient in zip(windows, scales):
        norm = moving_average(frames, window, residual.dtype, residual.device).square().sum(-1).sqrt()[:, None]
        # vector_norm: its gradient at a channel without any transient is zero, that of a square root NaN.
        length = torch.linalg.vector_norm(transient / (unit * norm), dim=(2, 3))
        found.append(length / max(frames * positions, 1) ** 0.5)
    return torch.stack(found, 1)


def excursions(deviation: Tensor, windows: Sequence[int] = (1, 3)) -> Tensor:
    """The module's :math:`e_w^+` and :math:`e_w^-` of each window, then :math:`e`: ``(b, c, t) -> (b, 2 s + 1, c)``.

    In the units of ``deviation``; all of them are zero where it is.
    """
    frames = deviation.shape[2]
    found = []
    for window in windows:
        pooled = deviation @ moving_average(frames, window, deviation.dtype, deviation.device).T
        found += [pooled.amax(2), (-pooled).amax(2)]
    # vector_norm: its gradient at a channel that does not move is zero, that of a square root NaN.
    return torch.stack([*found, torch.linalg.vector_norm(deviation, dim=2) / max(frames, 1) ** 0.5], 1)


def gated_out_of_reach(deviation: Tensor, gate: Tensor, reach: float, limit: float = math.inf) -> Tensor:
    """Frames ``(b, c, t)`` or ``(b, c, t, n)`` times ``1 - gate`` ``(b, t)`` where they are far, and none above a size.

    Far is from a root mean square over c and n of ``reach + 1`` on; up to ``reach`` a frame is untouched, and between
    them gated by part. What is still larger than ``limit`` is shortened to it, gate or no gate.
    """
    axes = (1, *range(3, deviation.dim()))
    numbers = deviation.shape[1] * math.prod(deviation.shape[3:])   # no generator: torch.compile cannot hand one on
    size = torch.linalg.vector_norm(deviation, dim=axes, keepdim=True) / max(numbers, 1) ** 0.5
    gate = gate.to(deviation.dtype)[(slice(None), None, slice(None)) + (None, ) * (deviation.dim() - 3)]
    kept = 1 - gate * (size - reach).clamp(0, 1)
    return deviation * (kept * limit / size.clamp_min(limit) if limit < math.inf else kept)


def limited_mean(stable: Tensor, residual: Tensor, scale: Tensor, influence_clip: Optional[float] = 4.0) -> Tensor:
    """The mean of the features over time and space with limited deviations from the base: ``(b, c, t, n) -> (b, c)``.

    The plain mean of ``stable + residual`` where no deviation exceeds ``influence_clip`` times ``scale``
    ``(b, c, 1, 1)``; never further than that from the mean of the base.
    """
    return limited_features(stable, residual, scale, influence_clip).mean((2, 3))


def limited_features(stable: Tensor, residual: Tensor, scale: Tensor, influence_clip: Optional[float] = 4.0) -> Tensor:
    """``stable + residual`` ``(b, c, t, n)``, no element further from the base than ``influence_clip`` times ``scale``
    ``(b, c, 1, 1)``; None: no limit."""
    if influence_clip is not None:
        limit = influence_clip * scale
        residual = residual.clamp(-limit, limit)
    return stable + residual
