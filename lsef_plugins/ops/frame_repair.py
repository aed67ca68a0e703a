r"""Which frames their neighbours cannot explain, and how they are repaired, from the Gram of the frames alone.

With a prediction :math:`M_0` of every frame from the others, :math:`A = I - M_0` and the Gram :math:`G`,

.. math::
    \rho_t = (A G A^\top)_{tt} / \|A_t\|^2, \qquad
    s_t = \Bigl(1 - \frac{k^2 \operatorname{median}(\rho)}{\rho_t}\Bigr)_+, \qquad B = I - \operatorname{diag}(s) A .

:math:`M_0` is a Gaussian over time times the weights of the frames in their geometric median (Weiszfeld's steps on the
Gram). All of it is T x T and without gradient: some 150 calls of PyTorch, one of the compiled body.
Axes: ``b`` clips, ``t`` frames.

Source:
    arXiv:2511.11406 gives no equation; the construction is ours (docs/method.md). Weiszfeld (1937).
"""
import math
from typing import Optional, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .exporting import at_least, lower_median
from .layout import in_own_dtype
from .library import serves, when_loaded

# A frame is never judged finer than this part of the clip's mean frame energy: a constant clip has no bad frame.
FRAME_FLOOR_RATIO = 1e-5
WEISZFELD_STEPS = 8     # kMedianSteps of csrc/repair.h
MAX_FRAMES = 32         # LSEF_REPAIR_MAX_FRAMES of csrc/kernels.h


def frame_repair(g: Tensor, frame_kappa: float = 2.5, bandwidth: float = 2.0, local: bool = True,
                 predictor: Optional[Tensor] = None) -> Tuple[Tensor, Tensor]:
    """How outlying each frame is, ``(b, t)`` in [0, 1), and the repair ``B`` ``(b, t, t)``, from Grams ``(b, t, t)``.

    Without gradient by the compiled body, which serves wherever ``g`` asks for none; t >= 2.

    Args:
        frame_kappa: a frame is outlying beyond this multiple of the clip's median prediction error.
        bandwidth: width of the neighbour prediction, in frames.
        local: predict a frame by neighbours in time; False: by the geometric median.
        predictor: ``(b, t, t)``, another prediction; its errors are not divided by the norm of its rows.
    """
    if predictor is not None:
        predictor = predictor.to(g.dtype)
    if _serves(g, predictor):
        outlying, repair = torch.ops.lsef.frame_repair(
            g.contiguous(), None if predictor is None else predictor.contiguous(), local, float(frame_kappa),
            float(bandwidth), FRAME_FLOOR_RATIO)
        return outlying, repair
    return _formula(g, frame_kappa, bandwidth, local, predictor)


def isolation(operator: Tensor, g: Tensor) -> Tensor:
    r"""How alone each frame is with what the stable part leaves of it: ``(b, t, t), (b, t, t) -> (b, t)``, 0 to 1.

    :math:`1 - \max(\cos(R_t, R_{t-1}), \cos(R_t, R_{t+1}), 0)^2` for the residuals :math:`R = (I - M) X`. A bad frame
    stands alone; an event lasts several frames and moves the same features in each of them. Without gradient.
    """
    operator, g = operator.detach(), g.detach()
    if operator.dtype == g.dtype and operator.shape == g.shape and _serves(g, operator):
        return torch.ops.lsef.isolation(operator.contiguous(), g.contiguous())
    return _isolation(operator, g)


def _serves(g: Tensor, other: Optional[Tensor]) -> bool:
    differentiable = torch.is_grad_enabled() and (g.requires_grad or (other is not None and other.requires_grad))
    return g.dtype in (torch.float32, torch.float64) and g.shape[-1] <= MAX_FRAMES and not differentiable and serves(g)


@in_own_dtype
def _formula(g: Tensor, frame_kappa: float, bandwidth: float, local: bool, predictor: Optional[Tensor]
             ) -> Tuple[Tensor, Tensor]:
    known = predictor is not None
    if predictor is None:
        weights = geometric_median_weights(g)
        predictor = neighbour_predictor(weights, bandwidth) if local else weights[:, None, :].expand_as(g)
    identity = torch.eye(g.shape[-1], dtype=g.dtype, device=g.device)
    deviation = identity - predictor
    error = (deviation @ g * deviation).sum(-1).clamp_min(0)
    if not known:
        error = error / deviation.square().sum(-1)
    floor = FRAME_FLOOR_RATIO * g.diagonal(dim1=-2, dim2=-1).mean(-1, keepdim=True)
    limit = frame_kappa ** 2 * torch.maximum(lower_median(error, keepdim=True), floor)
    outlying = torch.where(error > limit, 1 - limit / at_least(error, torch.finfo(g.dtype).tiny),
                           torch.zeros_like(error))
    return outlying, identity - outlying[..., None] * deviation


def geometric_median_weights(g: Tensor) -> Tensor:
    """Weights of the frames in their geometric median, from the Gram alone: ``(b, t, t) -> (b, t)``, sum 1."""
    frames = g.shape[-1]
    diagonal = g.diagonal(dim1=-2, dim2=-1)
    tiny = torch.finfo(g.dtype).tiny
    weights = torch.full_like(diagonal, 1 / frames)
    for _ in range(WEISZFELD_STEPS):
        projected = (g @ weights[..., None]).squeeze(-1)
        constant = (weights * projected).sum(-1, keepdim=True)
        distance = (diagonal - 2 * projected + constant).clamp_min(0).sqrt()
        floor = 1e-3 * distance.mean(-1, keepdim=True)
        weights = 1 / at_least(torch.maximum(distance, floor), tiny ** 0.5)
        weights = weights / weights.sum(-1, keepdim=True)
    return weights


def neighbour_predictor(weights: Tensor, bandwidth: float) -> Tensor:
    r"""Predicts every frame from the others nearby: ``(b, t) -> (b, t, t)``, rows sum to 1, zero diagonal.

    :math:`M_{tt'} \propto \exp(-(t-t')^2 / 2\beta^2)\, w_{t'}` with ``bandwidth`` :math:`\beta` in frames and
    positive ``weights``; t >= 2.
    """
    frames = weights.shape[-1]
    time = torch.arange(frames, dtype=weights.dtype, device=weights.device)
    # As a softmax, because the kernel of every neighbour may underflow.
    logits = weights.log()[..., None, :] - 0.5 * ((time[:, None] - time) / bandwidth) ** 2
    itself = torch.eye(frames, dtype=torch.bool, device=weights.device)
    return logits.masked_fill(itself, -math.inf).softmax(-1)


@in_own_dtype
def _isolation(operator: Tensor, g: Tensor) -> Tensor:
    left = torch.eye(g.shape[-1], dtype=g.dtype, device=g.device) - operator
    residual = left @ g @ left.transpose(-1, -2)
    norm = residual.diagonal(dim1=-2, dim2=-1).clamp_min(0).sqrt()
    next_one = residual.diagonal(offset=1, dim1=-2, dim2=-1)
    lengths = norm[:, 1:] * norm[:, :-1]
    cosine = torch.where(lengths > 0, next_one / torch.where(lengths > 0, lengths, torch.ones_like(lengths)),
                         torch.zeros_like(lengths)).clamp(0, 1)
    alike = torch.maximum(F.pad(cosine, (1, 0)), F.pad(cosine, (0, 1)))
    return 1 - alike.square()


@when_loaded
def _register() -> None:
    torch.library.register_fake('lsef::frame_repair')(_shapes)
    torch.library.register_fake('lsef::isolation')(_isolation_shape)


def _shapes(g, predictor, local, kappa, bandwidth, floor_ratio):
    return g.new_empty(g.shape[:2]), g.new_empty(g.shape)


def _isolation_shape(operator, g):
    return g.new_empty(g.shape[:2])
