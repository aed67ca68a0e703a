"""What the operators take: features ``(b, c, t, n)`` of any floating dtype and any strides, thresholds beside them."""
import torch
from torch import Tensor


def sums_dtype(x: Tensor) -> torch.dtype:
    """Where sums over features are kept: float64 for float64 features, float32 for all others."""
    return torch.promote_types(x.dtype, torch.float32)


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
