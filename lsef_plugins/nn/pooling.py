r"""What a classifier reads of a clip (formulas in :mod:`lsef_plugins.functional.pooling`)."""
import math
from typing import Any, Mapping, Optional, Sequence

import torch
from torch import Tensor, nn

from ..functional.pooling import excursions, gated_out_of_reach, limited_mean, transient_magnitude
from ..functional.temporal import check_windows
from ..ops import noise_scale
from .dynamics import TransientPart
from .lsef import LSEF
from .stability import StablePart

READINGS = ('pool', 'stable', 'excursion', 'transient')
READ = ('pool', 'excursion')
#: Of the base's size: below it a clip's movement counts as small and is not blown up to the size of an event.
STILLNESS = 0.3
#: Of the base's size: the default of ``reach``.
REACH = 2.0
#: Of the base's size: no frame, gated or not, counts for more.
LIMIT = 4.0
#: Of the clip's size: the unit of a clip without a base, such as one that is silent but for a frame or two.
UNIT_FLOOR = 1e-3


class DecompositionPooling(nn.Module):
    r"""A clip's features as a vector: what stays, and how far the clip moves away from it at which time scale.

    ============= ============================================================================== ==================
    reading       what                                                                           numbers
    ============= ============================================================================== ==================
    ``pool``      mean of the features, deviations from the base limited by ``influence_clip``   c
    ``stable``    mean of the stable part                                                        c
    ``excursion`` of the features' mean over space: how far up and how far down it moves from    c * (2 windows + 1)
                  the clip's base in each window, then its root mean square
    ``transient`` root mean square of :math:`S_w` for each window: unsigned, element by element  c * windows
    ============= ============================================================================== ==================

    All are in units of u, the root mean square of the clip's stable part (from four frames on one bad frame does not
    move it) and at least a thousandth of the features'; ``excursion`` and ``transient`` are then divided by their own
    root mean square (those of a clip that moves by less than 0.3 u: by less). So every reading is of the order of one
    without batch statistics, and the vector does not know the scale of the features (in float32, from 1e-20 to 1e15).

    In ``pool`` and ``excursion`` a frame is gated where it is further from the base than ``reach`` u, and none counts
    for more than 4 u: so one bad frame, however large, moves the vector by a bounded amount, and hardly up to some
    hundred times the base. Nearer frames are not gated: at 8 frames a clip an event is one frame, which stands alone as
    bad ones do.

    Args:
        channels: number of feature channels.
        read: any of ``pool``, ``stable``, ``excursion``, ``transient``.
        windows: odd numbers of frames, ascending from 1.
        rank, sem, ddm, on_nonfinite: as of :class:`LSEF`; ``ddm`` with ``transient`` only. The base is that of
            ``slow_basis=3`` cosines and the threshold starts at one standard deviation, unlike in LSEF: what is read
            here as transient is lost to nobody, since it is read anyway; what a flexible base has swallowed is.
        influence_clip: what one element may deviate from the base at most, in standard deviations, in ``pool`` and
            ``transient``; None: no limit.
        reach: how far from the base, in u, SEM's frame gate begins to count in ``pool`` and ``excursion``; one u
            further it counts in full. 0: it counts near the base too, for clips whose events last several frames of the
            map (of 16 frames, say): bad frames of the size of an event are kept out, and so is an event of one frame.
        limit_spikes: in ``transient``, limit each value of the residual by its neighbours in time. False where events
            last no more than one frame of the map.

    Shape:
        - ``x``: ``(b, c, t, h, w)``; returns ``(b, out_channels)`` in x's dtype, readings in the order above,
          windows one after the other. A clip that is not finite reads NaN.

    Source:
        Ours; arXiv:2511.11406 (abstract) says nothing of a head.
    """

    def __init__(self, channels: int, read: Sequence[str] = READ, windows: Sequence[int] = (1, 3),
                 rank: int = 2, sem: Optional[Mapping[str, Any]] = None, ddm: Optional[Mapping[str, Any]] = None,
                 influence_clip: Optional[float] = 4.0, limit_spikes: bool = True,
                 on_nonfinite: str = 'auto', reach: float = REACH) -> None:
        super().__init__()
        if isinstance(read, str) or not read or set(read) - set(READINGS) or len(set(read)) != len(read):
            raise ValueError(f"read is a tuple of any of {', '.join(READINGS)}, each once, got {read!r}.")
        for name, value in (('sem', sem), ('ddm', ddm)):
            if value is not None and not isinstance(value, Mapping):
                raise ValueError(f'{name} is a dict of arguments; what is read is chosen by read=, got {value!r}.')
            if 'type' in (value or {}):
                raise ValueError(f'{name}=dict(type=...) is for LSEF and LSEFNeck: these readings are of SEM and '
                                 'DDM, and take their arguments only. Put a decomposition of your own into the neck.')
        if ddm is not None and 'transient' not in read:
            raise ValueError(f"ddm is DDM's, which only the reading 'transient' asks; read={tuple(read)!r} would "
                             f'ignore {dict(ddm)!r}. Add it to read, or leave ddm out.')
        if influence_clip is not None and not influence_clip > 0:
            raise ValueError(f'influence_clip is in standard deviations and positive, or None, got {influence_clip}.')
        if isinstance(reach, bool) or not isinstance(reach, (int, float)) or not reach >= 0:
            raise ValueError("reach is how far from the base, in its own size, a frame must be before SEM's frame gate "
                             f'counts, a number from 0, got {reach!r}.')
        if reach != REACH and not {'pool', 'excursion'} & set(read):
            raise ValueError(f"reach is of the readings 'pool' and 'excursion'; read={tuple(read)!r} would ignore "
                             f'{reach!r}. Add one of them to read, or leave reach out.')
        check_windows(windows)
        self.read = tuple(name for name in READINGS if name in read)
        self.windows, self.reach = tuple(windows), float(reach)
        self.influence_clip, self.limit_spikes = influence_clip, limit_spikes
        self.separation = LSEF(
            channels, rank=rank, sem={'slow_basis': 3, **(sem or {})}, on_nonfinite=on_nonfinite, merge=(),
            ddm={'kappa': 1.0, **(ddm or {})} if 'transient' in self.read else False)
        self.channels = channels
        numbers = {'excursion': 2 * len(self.windows) + 1, 'transient': len(self.windows)}
        self.out_channels = channels * sum(numbers.get(name, 1) for name in self.read)

    def forward(self, x: Tensor) -> Tensor:
        stable, parts, _, finite = self.separation.separate(x)
        assert stable is not None   # SEM is never switched off here
        with torch.autocast(x.device.type, enabled=False):
            unit = _unit(stable.stable, x)
            found = []
            if 'pool' in self.read:
                found.append(self._pooled(x, stable, parts, unit[..., None, None]))
            if 'stable' in self.read:
                found.append(stable.stable.mean((2, 3)) / unit)
            if 'excursion' in self.read:
                found.append(self._excursion(x, stable, unit))
            if parts is not None:
                found.append(self._magnitude(parts, unit))
        vector = torch.cat(found, 1)
        if finite is not None:
            vector = torch.where(finite[:, None], vector, torch.full_like(vector, float('nan')))
        return vector.to(x.dtype)

    def _pooled(self, x: Tensor, stable: StablePart, parts: Optional[TransientPart], unit: Tensor) -> Tensor:
        features = x.to(stable.stable.dtype).flatten(3)
        residual = features - stable.stable
        scale = noise_scale(residual, features) if parts is None else parts.scale
        # Before the limit of each element: behind a ReLU a channel that only a bad frame wakes knows no other scale.
        near = gated_out_of_reach(residual / unit, stable.frame_gate, self.reach, LIMIT)
        return limited_mean(stable.stable / unit, near, scale / unit, self.influence_clip)

    def _excursion(self, x: Tensor, stable: StablePart, unit: Tensor) -> Tensor:
        features = x.to(stable.stable.dtype).flatten(3).mean(3)                             # (b, c, t)
        deviation = (features - stable.stable.mean((2, 3))[..., None]) / unit[..., None]
        deviation = gated_out_of_reach(deviation, stable.frame_gate, self.reach, LIMIT)
        return over_its_size(excursions(deviation, self.windows).flatten(1))

    def _magnitude(self, parts: TransientPart, unit: Tensor) -> Tensor:
        assert self.separation.ddm is not None
        found = transient_magnitude(parts.residual, parts.threshold, parts.scale, self.windows,
                                    self.separation.ddm.exponent, self.influence_clip, self.limit_spikes,
                                    parts.frame_threshold)
        # Not in standard deviations, whose gradient is stopped: features would grow for ever to outgrow them.
        return over_its_size((found * (parts.scale.flatten(1) / unit)[:, None]).flatten(1))

    def reset_identity(self) -> None:
        """Thresholds at their start, whatever an initialiser did to the parameters."""
        self.separation.reset_identity()

    def extra_repr(self) -> str:
        return (f'channels={self.channels}, read={self.read}, windows={self.windows}, '
                f'influence_clip={self.influence_clip}, limit_spikes={self.limit_spikes}, reach={self.reach}')


def _unit(stable: Tensor, x: Tensor) -> Tensor:
    """Root mean square ``(b, 1)`` of the clips' bases with its floor, 1 for clips without any energy."""
    features = x.to(stable.dtype).flatten(3)
    # No len(x): it would fix the clips of an exported graph.
    count = max(math.prod(stable.shape[1:]), 1) ** 0.5
    sizes = [torch.linalg.vector_norm(part, dim=(1, 2, 3)) / count for part in (stable, UNIT_FLOOR * features)]
    # vector_norm: the gradient of a square root is NaN in a clip of zeros.
    unit = torch.linalg.vector_norm(torch.stack(sizes), dim=0)
    return torch.where(unit > 0, unit, torch.ones_like(unit))[:, None]


def excursions_about_the_mean(x: Tensor, windows: Sequence[int] = (1, 3)) -> Tensor:
    """What LSEFHead reads of maps ``(b, c, t, h, w)``, about their plain mean: no decomposition, no gates, no limits.

    ``(b, (2 windows + 2) c)``; the unit is the root mean square of the mean over time. A rival, not a reading.
    """
    base = x.mean(2)
    unit = torch.linalg.vector_norm(base, dim=(1, 2, 3)) / max(base[0].numel(), 1) ** 0.5
    unit = torch.where(unit > 0, unit, torch.ones_like(unit))[:, None]
    z = x.mean((3, 4))
    mean = z.mean(2)
    moved = excursions((z - mean[..., None]) / unit[..., None], windows).flatten(1)
    return torch.cat([mean / unit, over_its_size(moved)], 1)


def over_its_size(x: Tensor) -> Tensor:
    """Numbers ``(b, k)`` in units of the base over their root mean square, those of a clip that hardly moves less."""
    # No hypot: ONNX does not know it.
    return x / (x.square().mean(1, keepdim=True) + STILLNESS ** 2).sqrt()
