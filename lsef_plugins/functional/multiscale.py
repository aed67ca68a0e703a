r"""The transient at several time scales: pool over time first, shrink afterwards.

.. math::  S_w = \operatorname{clip}\bigl(\operatorname{shrink}(A_w R,\ \tau\|a_w\|_2)\bigr)

:math:`\|a_w\|_2` is the norm of the average's row: the noise of the pooled residual falls by it, so the
threshold does too and the rate of false alarms is the same at every scale. The influence clip bounds what one
element may say, ``clip`` standard deviations: isolated spikes are the known weakness of a transient detector.

On demand each value of the residual is first limited by its neighbours in time: an event lasts, a spike stands alone,

.. math::
    r_t \leftarrow \min\bigl(\max(r_t,\ \min(r_{t-1}, r_{t+1}, -\tau)),\ \max(r_{t-1}, r_{t+1}, \tau)\bigr) .

Source:
    The abstract of arXiv:2511.11406 asks for multi-scale reconstruction; the equations are ours.
"""
from typing import Any, Iterator, Optional, Sequence, Tuple, Union

import torch
import torch.nn.functional as F
from torch import Tensor

from ..ops import frame_shrink, scale_shrink, serves

Maps = Union[Tensor, Tuple[Tensor, ...]]


def limit_by_neighbours(r: Tensor, floor: Tensor) -> Tensor:
    """Each value of ``r`` ``(b, c, t, n)`` reaches no further than ``floor`` or the further of its two neighbours.

    Neighbours count with their sign: a value between two of the opposite sign is a spike. ``floor`` (not negative,
    broadcast to ``r``, same units) is left to every value, so that noise below it is not reshaped.
    """
    before, after = F.pad(r, (0, 0, 1, 0))[:, :, :-1], F.pad(r, (0, 0, 0, 1))[:, :, 1:]
    upper = torch.maximum(torch.maximum(before, after), floor)
    lower = torch.minimum(torch.minimum(before, after), -floor)
    return torch.minimum(torch.maximum(r, lower), upper)


def transient_maps(residual: Tensor, threshold: Tensor, scale: Tensor, windows: Sequence[int] = (1, 3, 5),
                   exponent: float = 2.0, influence_clip: Optional[float] = 4.0,
                   revival: float = 0.25, frame_threshold: Optional[Tensor] = None, limit_spikes: bool = False,
                   magnitude: bool = False) -> Tuple[Maps, Any]:
    """:math:`S_w` of all windows, finest first, and :math:`|S_w|` if ``magnitude`` is asked for.

    One tensor ``(s, b, c, t, n)`` each where one pass makes them all, else a tuple of maps ``(b, c, t, n)``: allocators
    dislike large tensors, and formulas gain nothing by them.

    Args:
        residual: what the stable part leaves, bad frames already scaled down, ``(b, c, t, n)``.
        threshold, scale: ``(b, c, 1, 1)`` in the units of the feature.
        influence_clip: largest magnitude in units of ``scale``; None for no limit.
        frame_threshold: ``(b, 1, 1, 1)``; with it whole frames are shrunk, by their norm over channels and
            positions, instead of elements by ``threshold``.
        limit_spikes: apply :func:`limit_by_neighbours`, down to ``threshold``, before anything is pooled.
    """
    if limit_spikes:
        residual = limit_by_neighbours(residual, threshold)
    limit = None if influence_clip is None else influence_clip * scale
    shrinkage, tau = (scale_shrink, threshold) if frame_threshold is None else (frame_shrink, frame_threshold)
    if serves(residual, exponent):
        return shrinkage(residual, tau, windows, exponent, limit, revival=revival, magnitude=magnitude)
    found = [shrinkage(residual, tau, (window, ), exponent, limit, revival=revival)[0][0] for window in windows]
    return tuple(found), (tuple(z.abs() for z in found) if magnitude else None)


def transient_scales(*args: Any, **options: Any) -> Iterator[Tensor]:
    """Yields the maps :math:`S_w` ``(b, c, t, n)`` of :func:`transient_maps`, whose arguments it takes."""
    yield from transient_maps(*args, **options)[0]
