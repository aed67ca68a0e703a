"""What the operators take: features ``(b, c, t, n)`` of any floating dtype and any strides, thresholds beside them."""
import functools
from typing import Any, Callable, Optional

import torch
from torch import Tensor


def sums_dtype(x: Tensor) -> torch.dtype:
    """Where sums over features are kept: float64 for float64 features, float32 for all others."""
    return torch.promote_types(x.dtype, torch.float32)


def in_own_dtype(formula: Callable[..., Any]) -> Callable[..., Any]:
    """Decorator: under autocast, too, ``formula(x, ...)`` computes in the dtypes it was given, as compiled code."""
    @functools.wraps(formula)
    def computed(x, *args):
        if x.device.type == 'meta':     # knows no autocast
            return formula(x, *args)
        with torch.autocast(x.device.type, enabled=False):
            return formula(x, *args)

    return computed


def check_features(x: Tensor, operator: Optional[Tensor], name: str) -> None:
    """Refuses what is no features ``(b, c, t, n)``, and an operator that is not ``(b, t, t)``."""
    if x.dim() != 4 or not x.is_floating_point():
        raise ValueError(f'{name} takes floating features (b, c, t, n), got {x.dtype} {tuple(x.shape)}; '
                         'flatten(3) makes them of maps (b, c, t, h, w).')
    batch, frames = x.shape[0], x.shape[2]
    if operator is not None and operator.shape != (batch, frames, frames):
        raise ValueError(f'operator {tuple(operator.shape)} must be one matrix over time for each clip of x, '
                         f'(b, t, t) = {(batch, frames, frames)}.')


def per_clip_and_channel(gate: Tensor, x: Tensor, name: str) -> Tensor:
    """A gate as ``(b, c)`` in the dtype of sums: from a number, ``(c, )``, ``(b, c)`` or ``(b, c, 1, 1)``.

    A length of 1 stands for all clips or all channels.

    Raises:
        ValueError: any other shape.
    """
    gate = gate.to(sums_dtype(x))
    if gate.dim() == 4 and gate.shape[2:] == (1, 1):
        gate = gate.flatten(1)
    wanted = x.shape[:2]
    if gate.dim() > 2 or any(have not in (1, want) for have, want in zip(gate.shape[::-1], wanted[::-1])):
        raise ValueError(
            f'{name} {tuple(gate.shape)} does not fit features (b, c, t, n) = {tuple(x.shape)}: give one number, one '
            f'per channel ({wanted[1]}, ), or one per clip and channel {tuple(wanted)}.')
    return gate.expand(wanted)
