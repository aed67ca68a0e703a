r"""Auxiliary losses on the decomposition, free of the feature's scale and size, one value per clip.

All but the density are computed from the Gram ``g`` ``(b, t, t)`` and the operator ``m`` ``(b, t, t)`` of
``stable = m x``: none reads the features again. Axes: ``b`` clips, ``t`` frames.

Source:
    Ours. The paper's abstract names the aims (low rank, sparsity, consistency over scales), no loss.
"""
from typing import Callable, Sequence

import torch
from torch import Tensor

from .rank import participation_ratio
from .temporal import moving_average


def _energy(m: Tensor, g: Tensor) -> Tensor:
    """tr(m g m^T), the energy of m x: ``(b, t, t), (b, t, t) -> (b,)``."""
    return (m @ g * m).sum((-2, -1)).clamp_min(0)


def _trace(g: Tensor) -> Tensor:
    return g.diagonal(dim1=-2, dim2=-1).sum(-1)


def _ratio(part: Tensor, whole: Tensor) -> Tensor:
    """part / whole, zero where there is nothing."""
    return torch.where(whole > 0, part / torch.where(whole > 0, whole, torch.ones_like(whole)),
                       torch.zeros_like(part))


def reconstruction_energy(m: Tensor, g: Tensor) -> Tensor:
    """Energy that the stable part leaves unexplained, as a ratio of the clip's: 0 (all stable) upwards."""
    identity = torch.eye(g.shape[-1], dtype=g.dtype, device=g.device)
    return _ratio(_energy(identity - m, g), _trace(g))


def energy_ratio(part: Tensor, whole: Tensor) -> Tensor:
    """Energy of ``part`` ``(b, ...)`` as a ratio of that of ``whole``, each clip over its own peak first.

    The reconstruction energy of a stable part that no operator has made is this ratio of what it leaves.
    """
    peak = torch.maximum(part.detach().abs().flatten(1).amax(1), whole.detach().abs().flatten(1).amax(1))
    unit = torch.where(peak > 0, peak, torch.ones_like(peak))[:, None]
    return _ratio(*((each.flatten(1) / unit).square().sum(1) for each in (part, whole)))


def rank_excess(m: Tensor, g: Tensor, rank: int) -> Tensor:
    """Modes the stable part uses beyond one, as a ratio of those it may use: 0 (one mode) to 1 (``rank`` modes)."""
    room = max(min(rank, g.shape[-1]) - 1, 1)
    return (participation_ratio(m @ g @ m.transpose(-1, -2)) - 1).clamp_min(0) / room


def transient_density(s: Tensor) -> Tensor:
    r"""Effective part of the elements that is not zero, :math:`(\|s\|_1/\|s\|_2)^2 / \text{size}`: in [0, 1].

    ``s`` ``(b, ...)``; 0 for a transient that is empty. Each clip is first scaled by its own peak, so that no
    square leaves the range of its dtype.
    """
    flat = s.flatten(1)
    if flat.shape[1] == 0:
        return flat.sum(1)
    peak = flat.detach().abs().amax(1, keepdim=True)
    flat = flat / torch.where(peak > 0, peak, torch.ones_like(peak))
    return _ratio(flat.abs().sum(1).square(), flat.square().sum(1) * flat.shape[1])


def scale_consistency(m: Tensor, g: Tensor, operator_of: Callable[[Tensor], Tensor],
                      windows: Sequence[int]) -> Tensor:
    r"""How far taking the stable part and smoothing over time fail to commute, as a ratio of energy.

    The mean over windows :math:`w > 1` of :math:`\|(M_w A_w - A_w M) X\|^2 / \|A_w X\|^2`, where :math:`M_w` is
    the operator of the smoothed clip, ``operator_of(A_w g A_w^T)``.
    """
    averages = [moving_average(g.shape[-1], w, g.dtype, g.device) for w in windows if w > 1]
    if not averages:
        return _trace(g) * 0
    smoothed = [average @ g @ average.T for average in averages]
    total = _trace(g) * 0
    # All scales in one batch: the cost of a T x T stage is that of its calls.
    for average, of_scale, operator in zip(averages, smoothed, operator_of(torch.cat(smoothed)).chunk(len(averages))):
        total = total + _ratio(_energy(operator @ average - average @ m, g), _trace(of_scale))
    return total / len(averages)
