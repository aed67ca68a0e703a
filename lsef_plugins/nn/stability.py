r"""SEM: the stable, low-rank part of a clip (formula in :mod:`lsef_plugins.functional.decomposition`)."""
import math
import warnings
from typing import Callable, NamedTuple, Optional, Tuple, Union

import torch
from torch import Tensor, nn

from ..functional.decomposition import STARTS, apply_over_time, check_slow_basis, clip_gram, stable_operator
from ..functional.low_rank import MODES
from ..ops.exporting import is_traced

# Operator, Gram matrix, frame gate; and what makes the stable part of the first and the last.
Look = Tuple[Tensor, Tensor, Tensor]
Product = Callable[[Tensor, Tensor], Tensor]


class StablePart(NamedTuple):
    """``stable`` ``(b, c, t, n)``, the ``operator`` ``(b, t, t)`` over time that makes it from the features,
    their ``gram`` ``(b, t, t)`` (both float64), and the ``frame_gate`` ``(b, t)`` in [0, 1), 1 = a bad frame."""
    stable: Tensor
    operator: Tensor
    gram: Tensor
    frame_gate: Tensor


class StabilityEncodingModule(nn.Module):
    r"""SEM: the long-term tone of a clip, a low-rank part that single bad frames cannot bend.

    With the frames of a clip as rows of :math:`X`, the stable part is :math:`L = M X`, where the T x T operator
    :math:`M` of rank at most ``rank`` comes from the Gram :math:`XX^\top` alone. It has no parameters.

    Args:
        rank: largest rank of the stable part. A cap, not a guess: too large costs nothing under noise, too small
            loses slow drift.
        mode: ``garrote`` (continuous), ``soft`` or ``hard`` (the truncated SVD, with ``robust_iters=0``).
        robust_iters: frame-robust passes; 0 is plain low rank.
        frame_kappa: a frame is gated beyond this multiple of the clip's median prediction error.
        bandwidth: width of the prediction of a frame from its neighbours, in frames.
        start: ``local`` neighbours, or ``geometric_median`` (equivariant to any order of the frames).
        slow_basis: limit the base to slow cosines: their number, ``'dct'`` for t/2, or None.

    Shape:
        - ``x``: ``(b, c, t, n)``, float32 or float64 (:class:`LSEF` converts and guards).
        - returns a :class:`StablePart`.

    Source:
        arXiv:2511.11406 names SEM and its role, the low-rank emotional base; the estimator is ours.
    """

    def __init__(self, rank: int = 2, mode: str = 'garrote', robust_iters: int = 1, frame_kappa: float = 2.5,
                 bandwidth: float = 2.0, start: str = 'local',
                 slow_basis: Optional[Union[int, str]] = None) -> None:
        super().__init__()
        if isinstance(rank, bool) or not isinstance(rank, int) or rank < 1:
            raise ValueError(f'rank is the largest rank of the stable part, an integer >= 1, got {rank!r}.')
        if mode not in MODES:
            raise ValueError(f'mode {mode!r} is not a spectral gain; choose one of {", ".join(MODES)}.')
        if start not in STARTS:
            raise ValueError(f'start {start!r} is not a frame predictor; choose one of {", ".join(STARTS)}.')
        if robust_iters < 0:
            raise ValueError(f'robust_iters counts passes and cannot be negative, got {robust_iters}.')
        if not (frame_kappa > 0 and bandwidth > 0 and math.isfinite(bandwidth)):
            raise ValueError(f'frame_kappa and bandwidth (frames) are positive, got {frame_kappa} and {bandwidth}.')
        check_slow_basis(slow_basis)
        self.rank, self.mode, self.robust_iters = rank, mode, robust_iters
        self.frame_kappa, self.bandwidth, self.start, self.slow_basis = frame_kappa, bandwidth, start, slow_basis
        self._told_rank = False

    def operator_of(self, g: Tensor, robust: bool = True, gates: bool = True):
        """The stable operator of Gram matrices ``(b, t, t)``, and unless ``gates`` is False the frame gate."""
        return stable_operator(
            g, rank=self.rank, mode=self.mode, robust_iters=self.robust_iters if robust else 0,
            frame_kappa=self.frame_kappa, bandwidth=self.bandwidth, start=self.start, slow_basis=self.slow_basis,
            judge_isolation=gates)

    def forward(self, x: Tensor, robust: bool = True, look: Optional[Look] = None,
                product: Optional[Product] = None) -> StablePart:
        """The stable part of ``x``; ``look``: what :meth:`look` found already, ``product``: how operator and frame gate
        make the stable part, where one pass makes the transient beside it."""
        operator, g, gate = self.look(x, robust) if look is None else look
        if product is not None:
            return StablePart(product(operator, gate), operator, g, gate)
        with torch.autocast(x.device.type, enabled=False):
            stable = x if self.rank >= x.shape[2] else apply_over_time(operator, x)
        return StablePart(stable, operator, g, gate)

    def look(self, x: Tensor, robust: bool = True) -> Look:
        """Operator, Gram matrix and frame gate of :meth:`forward`, without the product."""
        if self.rank >= x.shape[2]:
            self._tell_rank(x.shape[2])
        with torch.autocast(x.device.type, enabled=False):
            g = clip_gram(x)
            operator, gate, _ = self.operator_of(g, robust)
        return operator, g, gate

    def _tell_rank(self, frames: int) -> None:
        if not self._told_rank and not is_traced():
            self._told_rank = True
            warnings.warn(f'SEM: rank {self.rank} is not below the {frames} frame(s) of a clip: all of it counts as '
                          'stable and nothing as transient. Give longer clips or a smaller rank. (Said once.)',
                          stacklevel=4)

    def extra_repr(self) -> str:
        return (f'rank={self.rank}, mode={self.mode}, robust_iters={self.robust_iters}, '
                f'frame_kappa={self.frame_kappa}, bandwidth={self.bandwidth}, start={self.start}, '
                f'slow_basis={self.slow_basis}')
