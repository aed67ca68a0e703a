r"""One clip as stable + transient + residual: the frame-robust low-rank operator, then shrinkage.

Plain low rank is not robust: one bad frame *is* a component of rank 1. So each frame is first predicted from
its neighbours, and frames that their neighbours cannot explain are replaced by their prediction before the
spectrum is taken. With the prediction :math:`M_0` and :math:`A = I - M_0`,

.. math::
    \rho_t = (A G A^\top)_{tt} / \|A_t\|^2, \qquad
    s_t = \Bigl(1 - \frac{k^2 \operatorname{median}(\rho)}{\rho_t}\Bigr)_+, \qquad
    B = I - \operatorname{diag}(s) A, \qquad
    M = P(B G B^\top)\, B

and the stable part is :math:`L = M X`. An event is no bad frame although it, too, must not bend the base: what is
kept out of the transient is :math:`s_t` times the frame's :func:`isolation`, since bad frames stand alone and events
last. Everything happens on the T x T Gram; X is not read again.
Axes: ``b`` clips, ``c`` channels, ``t`` frames, ``n`` positions (h w).

Source:
    arXiv:2511.11406 gives the roles of the three parts and no equation. The operator is ours
    (docs/method.md); its ingredients are Weiszfeld's geometric median and iteratively reweighted projection.
"""
from typing import Callable, NamedTuple, Optional, Union

import torch
from torch import Tensor

from ..ops import frame_repair, gram, isolation
from .low_rank import spectral_shrinkage
from .temporal import dct_basis

STARTS = ('local', 'geometric_median')
# Fewer frames than this cannot outvote a bad one.
MIN_ROBUST_FRAMES = 4


class StableOperator(NamedTuple):
    """What SEM finds on the Gram: ``operator`` ``(b, t, t)``, ``frame_gate`` ``(b, t)`` in [0, 1), 1 = bad frame.

    ``outlying`` ``(b, t)`` in [0, 1) is what the operator repaired: bad frames, and the frames of an event as well.
    """
    operator: Tensor
    frame_gate: Tensor
    outlying: Tensor


def stable_operator(
    g: Tensor,
    rank: int = 2,
    mode: str = 'garrote',
    robust_iters: int = 1,
    frame_kappa: float = 2.5,
    bandwidth: float = 2.0,
    start: str = 'local',
    slow_basis: Optional[Union[int, str]] = None,
    exact_gradient: bool = False,
    judge_isolation: bool = True,
) -> StableOperator:
    """The operator over time whose product with the clip is the stable part, and the gate of each frame.

    Args:
        g: Gram matrices ``(b, t, t)``, float64 for full accuracy.
        rank: largest rank of the stable part; a cap, not a guess. From ``rank >= t`` on everything is stable.
        mode: the spectral gain, see :func:`spectral_shrinkage`.
        robust_iters: passes of the frame-robust step; 0 is plain low rank. Clips of fewer than 4 frames are
            always plain.
        frame_kappa: a frame is gated beyond this multiple of the clip's median prediction error.
        bandwidth: width of the neighbour prediction, in frames.
        start: what predicts a frame: ``local`` neighbours, or the clip's ``geometric_median`` (which does not
            depend on the order of the frames).
        slow_basis: number of slowest cosines the base may consist of, ``'dct'`` for t/2, None for no limit.
        exact_gradient: let the gradient pass through the repair. For checking only: it explodes on
            degenerate clips.
        judge_isolation: tell bad frames from the frames of an event in ``frame_gate``. False spares that where only the
            operator is wanted; ``frame_gate`` is then ``outlying``.

    Raises:
        ValueError: an unknown ``start`` or ``mode``, a number out of its range, or no Gram matrices.
    """
    if start not in STARTS:
        raise ValueError(f'start {start!r} is not a frame predictor; choose one of {", ".join(STARTS)}.')
    if robust_iters < 0:
        raise ValueError(f'robust_iters counts passes and cannot be negative, got {robust_iters}.')
    if g.dim() != 3 or g.shape[-1] != g.shape[-2]:
        raise ValueError(f'stable_operator takes Gram matrices (b, t, t), got {tuple(g.shape)}; clip_gram(x) makes '
                         'them from (b, c, t, n).')
    if not (frame_kappa > 0 and bandwidth > 0):
        raise ValueError(f'frame_kappa and bandwidth (frames) are positive, got {frame_kappa} and {bandwidth}.')
    batch, frames, _ = g.shape
    project = _projection(g, rank, mode, slow_basis)
    no_gate = g.new_zeros(batch, frames)
    if rank >= frames:
        return StableOperator(project(g), no_gate, no_gate)
    if robust_iters == 0 or frames < MIN_ROBUST_FRAMES:
        return StableOperator(project(g), no_gate, no_gate)

    def stop(z: Tensor) -> Tensor:
        return z if exact_gradient else z.detach()

    predictor: Optional[Tensor] = None
    operator, outlying = g, no_gate
    for _ in range(robust_iters):
        outlying, repair = frame_repair(stop(g), frame_kappa, bandwidth, start == 'local', predictor)
        repaired = repair @ g @ repair.transpose(-1, -2)
        operator = project((repaired + repaired.transpose(-1, -2)) / 2) @ repair
        predictor = stop(operator)
    # An order of frames is needed to tell an event from a bad frame; the geometric median knows none.
    gate = outlying * isolation(operator, g) if judge_isolation and start == 'local' else outlying
    return StableOperator(operator, gate, outlying)


def _projection(g: Tensor, rank: int, mode: str,
                slow_basis: Optional[Union[int, str]]) -> Callable[[Tensor], Tensor]:
    check_slow_basis(slow_basis)
    frames = g.shape[-1]
    size = frames
    if slow_basis is not None:
        wanted = frames // 2 if slow_basis == 'dct' else slow_basis
        # One more than the rank, so that the cut at the (r+1)-th eigenvalue exists.
        size = max(rank + 1, min(frames, int(wanted)))
    if size >= frames:
        return lambda k: spectral_shrinkage(k, rank, mode)
    basis = dct_basis(frames, size, g.dtype, g.device)
    return lambda k: basis @ spectral_shrinkage(basis.T @ k @ basis, rank, mode) @ basis.T


def check_slow_basis(slow_basis: Optional[Union[int, str]]) -> None:
    number = isinstance(slow_basis, int) and not isinstance(slow_basis, bool) and slow_basis >= 1
    if not (number or slow_basis is None or slow_basis == 'dct'):
        raise ValueError(f"slow_basis is a number of cosines >= 1, 'dct' (half the frames) or None, "
                         f'got {slow_basis!r}.')


def apply_over_time(operator: Tensor, x: Tensor) -> Tensor:
    """``(b, t, t)`` or ``(t, t)`` applied to ``(b, c, t, n)``, in x's dtype."""
    matrix = operator.to(x.dtype)
    # (b, 1, t, t) @ (b, c, t, n)
    return torch.matmul(matrix[:, None] if matrix.dim() == 3 else matrix, x)


def clip_gram(x: Tensor) -> Tensor:
    """The Gram of ``(b, c, t, n)`` in float64, where the T x T stage is computed."""
    return gram(x).double()


def frame_keep(gate: Tensor, x: Tensor) -> Tensor:
    """What of each frame may count as transient, ``1 - gate``: ``(b, t) -> (b, 1, t, 1)`` in x's dtype."""
    return (1 - gate).to(x.dtype)[:, None, :, None]
