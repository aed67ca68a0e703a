r"""DDM: the sparse, transient part of a clip (formula in :mod:`lsef_plugins.ops.shrinkage`)."""
import math
from typing import NamedTuple, Optional, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..functional.decomposition import apply_over_time, frame_keep
from ..ops import frame_norms, frame_shrink, low_rank_sparse, noise_scale, residual_scale, serves, shrink
from ..ops.exporting import is_traced, lower_median
from ..ops.residual_scale import MAD_TO_SIGMA, SCALE_FLOOR_RATIO

GROUPS = (None, 'frame')


class TransientPart(NamedTuple):
    """``transient`` and the gated ``residual`` it was taken from ``(b, c, t, n)``, its noise ``scale`` and the
    ``threshold`` ``(b, c, 1, 1)`` in the units of the feature; with ``group='frame'`` also the threshold on a
    frame's norm ``(b, 1, 1, 1)``, else None."""
    transient: Tensor
    residual: Tensor
    scale: Tensor
    threshold: Tensor
    frame_threshold: Optional[Tensor] = None


class Split(NamedTuple):
    """``stable`` and transient ``part`` that one pass over ``x`` has found, given the frame gate; ``version`` of
    ``stable`` when it was found, None where tensors have none."""
    x: Tensor
    frame_gate: Optional[Tensor]
    stable: Tensor
    part: TransientPart
    version: Optional[int] = None


class DynamicDecouplingModule(nn.Module):
    r"""DDM: the short-lived, sparse part of a feature sequence.

    From features :math:`x` and their stable part :math:`\ell` (SEM) the transient is

    .. math::
        s = (1 - g_t)\, r\,\bigl(1 - (\tau_c/|r|)^p\bigr)_+, \qquad r = x - \ell, \qquad
        \tau_c = \kappa_c\,\hat\sigma_c,

    so ``x = stable + transient + residual``: whatever DDM leaves behind is small (or belongs to a frame that SEM
    has gated, :math:`g_t`), whatever it takes is rare. :math:`\hat\sigma_c` is the robust noise scale of each
    clip and channel, without gradient; :math:`\kappa_c = \operatorname{softplus}(\theta_0 + \theta_c)` is learned.

    The parameter :math:`\theta_c` lives in a depthwise 1x1x1 convolution, ``offset``, starts at 0 and is an
    *offset*: optimizer constructors of the host know only convolutions, linear layers and norms, and weight decay
    draws the threshold back to its start instead of to nothing.

    Args:
        channels: number of feature channels.
        kappa: start of :math:`\kappa_c`, in standard deviations.
        exponent: p; 1 soft threshold, 2 garrote, ``math.inf`` hard (then :math:`\kappa` is not learned).
        group: ``None`` shrinks elements, ``'frame'`` whole frames, by their norm over channels and positions
            against the clip's median frame.
        gate_frames: keep frames that SEM found bad out of the transient.

    Shape:
        - ``x``, ``stable``: ``(b, c, t, n)``; ``frame_gate``: ``(b, t)`` or None
        - returns a :class:`TransientPart`, exactly zero wherever ``|x - stable| <= threshold`` (with
          ``group='frame'``: in every frame whose norm does not exceed ``frame_threshold``).

    Source:
        The abstract of arXiv:2511.11406 says that DDM isolates sparse transient signals and gives no equation;
        the operator is our reading of that sentence.
    """

    def __init__(self, channels: int, kappa: float = 3.0, exponent: float = 2.0, group: Optional[str] = None,
                 gate_frames: bool = True) -> None:
        super().__init__()
        if not (kappa > 0 and math.isfinite(kappa)):
            raise ValueError(f'kappa is a threshold in standard deviations and positive, got {kappa}.')
        if not exponent >= 1:
            raise ValueError(f'exponent is p >= 1 (1 soft, 2 garrote, inf hard), got {exponent}.')
        if group not in GROUPS:
            raise ValueError(f"group is None (elements) or 'frame', got {group!r}.")
        self.channels, self.start_kappa, self.exponent = channels, float(kappa), float(exponent)
        self.group, self.gate_frames = group, gate_frames
        self.offset = nn.Conv3d(channels, channels, 1, groups=channels, bias=False)
        nn.init.zeros_(self.offset.weight)

    @property
    def kappa(self) -> Tensor:
        """The thresholds in standard deviations, ``(1, c, 1, 1)``, positive."""
        theta0 = math.log(math.expm1(self.start_kappa)) if self.start_kappa < 30 else self.start_kappa
        theta = self.offset.weight
        return F.softplus(theta.to(torch.promote_types(theta.dtype, torch.float32)) + theta0).view(1, -1, 1, 1)

    def forward(self, x: Tensor, stable: Tensor, frame_gate: Optional[Tensor] = None,
                split: Optional[Split] = None) -> TransientPart:
        """The transient part of ``x`` beside ``stable``; ``split``: what :meth:`split` found for just these tensors."""
        # Another tensor (a hook has replaced it), or one that a hook has written into, has other parts.
        if (split is not None and split.x is x and split.stable is stable and split.frame_gate is frame_gate
                and split.version == _version(stable)):
            return split.part
        if x.shape != stable.shape:
            raise ValueError(
                f'x {tuple(x.shape)} and stable {tuple(stable.shape)} must describe the same (b, c, t, n) grid. '
                "If stable was pooled over time, expand it with repeat(stable, 'b c 1 n -> b c t n', t=x.shape[2]).")
        residual = x - stable
        scale = noise_scale(residual, x)
        threshold = self._threshold(scale)
        frame_threshold = None
        if self.group == 'frame':
            norms, frame_threshold = self._frames(residual, x)
            transient = frame_shrink(residual, frame_threshold, exponent=self.exponent, norms=norms)[0][0]
        else:
            transient = shrink(residual, threshold, self.exponent)
        if self.gate_frames and frame_gate is not None:
            keep = frame_keep(frame_gate, x)
            transient, residual = transient * keep, residual * keep
        return TransientPart(transient, residual, scale, threshold, frame_threshold)

    def splits(self, x: Tensor) -> bool:
        """Whether :meth:`split` spares reads of ``x``: a compiled operator shrinks its elements."""
        return self.group is None and serves(x, self.exponent)

    def split(self, x: Tensor, operator: Tensor, frame_gate: Optional[Tensor] = None) -> Split:
        """The stable part ``operator x`` of ``x``, and what :meth:`forward` finds beside it, in two reads of ``x``."""
        scale = residual_scale(x, operator)
        threshold = self._threshold(scale)
        keep = None if frame_gate is None or not self.gate_frames else 1 - frame_gate
        found = low_rank_sparse(x, operator, threshold, keep, exponent=self.exponent,
                                outputs=('stable', 'transient', 'residual'))
        return Split(x, frame_gate, found.stable, TransientPart(found.transient, found.residual, scale, threshold),
                     _version(found.stable))

    def without(self, x: Tensor, operator: Tensor) -> Tensor:
        """``x`` without the transient beside ``operator x``, like ``x``; no frame is gated."""
        if not self.splits(x):
            return x - self.forward(x, apply_over_time(operator, x)).transient
        threshold = self._threshold(residual_scale(x, operator))
        return low_rank_sparse(x, operator, threshold, b=threshold.new_full((1, ), -1.0),
                               exponent=self.exponent).merged

    def _threshold(self, scale: Tensor) -> Tensor:
        return self.kappa.to(scale.dtype) * scale

    def _frames(self, residual: Tensor, x: Tensor) -> Tuple[Tensor, Tensor]:
        """Norms ``(b, 1, t)`` of the frames and the threshold on them ``(b, 1, 1, 1)``: kappa robust standard
        deviations beyond the clip's median frame."""
        norms = frame_norms(residual)
        with torch.no_grad():
            # (b, 1, t): the median over t
            middle = lower_median(norms, keepdim=True)
            spread = MAD_TO_SIGMA * lower_median((norms - middle).abs(), keepdim=True)
            floor = SCALE_FLOOR_RATIO * frame_norms(x).square().mean(-1, keepdim=True).sqrt()
            spread = torch.maximum(spread, floor)
        return norms, (middle + self.kappa.mean().to(x.dtype) * spread)[..., None]

    def extra_repr(self) -> str:
        return (f'kappa={self.start_kappa}, exponent={self.exponent}, group={self.group}, '
                f'gate_frames={self.gate_frames}')


def _version(x: Tensor) -> Optional[int]:
    """Grows with every write into ``x``; a graph that is traced holds no such writes, inference mode counts none."""
    return None if is_traced() or x.is_inference() else x._version
