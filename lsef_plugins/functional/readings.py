r"""Few numbers that say what a decomposition does: rank, energies, thresholds, gates.

With :math:`x = \ell + s + e` (stable, transient, residual) of one clip, :math:`\|\cdot\|^2` over all of its axes,

.. math::
    \text{ratio}(\text{part}) = \|\text{part}\|^2 / \|x\|^2, \qquad
    \text{rank} = \frac{(\operatorname{tr} G_\ell)^2}{\|G_\ell\|_F^2}, \quad G_\ell = M G M^\top .

The parts add up to the features, their energies only nearly: the parts are not orthogonal. Everything is free of the
scale of the features. Nothing here waits for a device: sums and counts are added up on it, and read once.
Axes: ``b`` clips, ``c`` channels, ``t`` frames, ``n`` positions.
"""
from typing import Dict, Optional, Tuple

import torch
from torch import Tensor

from ..ops.residual_scale import SCALE_FLOOR_RATIO
from .rank import participation_ratio

#: A sum and how many values it is of, both scalars.
Mean = Tuple[Tensor, Tensor]
# Two ways to add up a root mean square differ by less than this part of it.
ROUNDING = 1e-3


def energy_ratios(x: Tensor, stable: Optional[Tensor], transient: Optional[Tensor]) -> Dict[str, Mean]:
    """``stable_ratio``, ``transient_ratio``, ``residual_ratio`` of clips ``(b, c, t, n)``; a part that is None is zero.

    Clips without energy count nowhere.
    """
    whole = _energy(x)
    residual = x if stable is None else x - stable
    residual = residual if transient is None else residual - transient
    parts = dict(stable=stable, transient=transient, residual=residual)
    return {f'{name}_ratio': _mean_ratio(torch.zeros_like(whole) if part is None else _energy(part), whole)
            for name, part in parts.items()}


def stable_rank(operator: Tensor, gram: Tensor) -> Mean:
    """Participation ratio of the stable part, from 1 to its rank: ``(b, t, t), (b, t, t)``.

    Clips without energy, or whose stable part has none, count nowhere.
    """
    of_stable = operator @ gram @ operator.transpose(-1, -2)
    alive = of_stable.diagonal(dim1=-2, dim2=-1).sum(-1) > 0
    return (participation_ratio(of_stable) * alive).sum(), alive.sum()


def threshold_readings(x: Tensor, scale: Tensor, threshold: Tensor) -> Dict[str, Mean]:
    """Thresholds of DDM over all (clip, channel) pairs that hold any energy.

    Args:
        x: ``(b, c, t, n)``.
        scale, threshold: ``(b, c, 1, 1)`` in the units of ``x``.

    Returns:
        ``threshold_ratio``: threshold over the root mean square of its channel. ``floor_ratio``: share of the pairs
        whose noise scale sits at its floor, a thousandth of that root mean square: channels that are mostly zero, of
        which the median says nothing.
    """
    size = max(x.shape[2] * x.shape[3], 1) ** 0.5
    rms = torch.linalg.vector_norm(x, dim=(2, 3)) / size
    alive = rms > 0
    at_floor = scale.flatten(1) <= (1 + ROUNDING) * SCALE_FLOOR_RATIO * rms
    return dict(threshold_ratio=_mean_ratio(threshold.flatten(1), rms),
                floor_ratio=((at_floor & alive).sum().to(rms.dtype), alive.sum()))


def gate_ratio(frame_gate: Tensor) -> Mean:
    """Mean of the frame gates ``(b, t)``: the share of the frames that is kept out of the transient."""
    return frame_gate.sum(), frame_gate.new_full((), frame_gate.numel())


def frame_energies(part: Tensor) -> Tensor:
    """Squared norm of each frame: ``(b, c, t, n) -> (b, t)``, float64."""
    return torch.linalg.vector_norm(part, dim=(1, 3), dtype=torch.float64).square()


def temporal_factors(operator: Tensor, gram: Tensor, rank: int) -> Tensor:
    r"""The curves of the stable part over time: ``(b, t, t), (b, t, t) -> (b, t, min(rank, t))``, float64.

    The eigenvectors of :math:`G_\ell = MGM^\top` times the roots of their eigenvalues, the strongest first: what the
    stable part's temporal singular vectors are, in units of the clip's root mean square frame.
    """
    energy = gram.diagonal(dim1=-2, dim2=-1).mean(-1)
    energy = torch.where(energy > 0, energy, torch.ones_like(energy))
    of_stable = (operator @ gram @ operator.transpose(-1, -2)).double() / energy[:, None, None]
    values, vectors = torch.linalg.eigh((of_stable + of_stable.transpose(-1, -2)) / 2)
    values, vectors = values.flip(-1)[:, :rank].clamp_min(0), vectors.flip(-1)[..., :rank]
    return vectors * values.sqrt()[:, None]


def _energy(part: Tensor) -> Tensor:
    return torch.linalg.vector_norm(part, dim=(1, 2, 3)).square()


def _mean_ratio(part: Tensor, whole: Tensor) -> Mean:
    alive = whole > 0
    ratio = torch.where(alive, part / torch.where(alive, whole, torch.ones_like(whole)), torch.zeros_like(whole))
    return ratio.sum(), alive.sum()
