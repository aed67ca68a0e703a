"""The pictures of a decomposed clip: the frames, the stable part, and where the transient is.

Axes: ``c`` channels, ``t`` time, ``h w`` space; pictures are ``(height, width, 3)`` uint8 RGB.
"""
from typing import Any, List, Optional, Sequence, Tuple

import cv2
import numpy as np
from torch import Tensor

BRIGHTER, DARKER = (213, 94, 0), (0, 114, 178)
PAPER = 255.0
#: The transient is drawn at full strength from this percentile of its magnitude over the shown clip on.
FULL_STRENGTH = 99.7


def enlarge(picture: np.ndarray, size: Tuple[int, int]) -> np.ndarray:
    """Any picture or map at ``(width, height)``: area average when it shrinks, cubic when it grows."""
    shrinks = picture.shape[0] >= size[1] and picture.shape[1] >= size[0]
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)


def stable_pictures(frames: np.ndarray, chosen: Sequence[int], size: Tuple[int, int], stable: Tensor,
                    operator: Optional[Tensor], pixels: bool) -> List[np.ndarray]:
    """The stable part at the chosen frames.

    The stable part of features is ``operator`` ``(t, t)`` applied over time, and the same operator on the frames
    themselves shows, in full sharpness, which mixture of frames that is. Without an operator: the stable part
    ``(c, t, h, w)`` itself for pixels, its strength over the frames for other features.
    """
    if operator is not None:
        large = np.stack([enlarge(frame, size) for frame in frames]).astype(np.float32)
        mixed = np.tensordot(operator.float().numpy()[list(chosen)], large, axes=1)
        return [_to_bytes(picture) for picture in mixed]
    if pixels:
        maps = stable.permute(1, 2, 3, 0).numpy()
        maps = np.repeat(maps, 3, axis=-1) if maps.shape[-1] == 1 else maps
        return [_to_bytes(255 * enlarge(maps[t], size)) for t in chosen]
    strength = stable.square().mean(0).sqrt().numpy()
    full = max(float(np.percentile(strength, FULL_STRENGTH)), np.finfo(np.float32).tiny)
    return [_tinted(frames[t], enlarge(strength[t] / full, size), DARKER, size) for t in chosen]


def operator_of(parts: Any, clip: int) -> Optional[Tensor]:
    """The operator over time ``(t, t)`` that made the stable part, where it alone did (one pass of the alternation)."""
    operator = getattr(parts, 'operator', None)
    if operator is None:
        return None
    matrix = operator[clip].detach().double().cpu()
    stable, transient, residual = (part[clip].detach().double().cpu().transpose(0, 1).flatten(1)    # (t, c h w)
                                   for part in (parts.stable, parts.transient, parts.residual))
    miss = (matrix @ (stable + transient + residual) - stable).norm()
    return matrix if miss <= 1e-4 * stable.norm() and matrix.any() else None


def transient_pictures(transient: Tensor, frames: np.ndarray, chosen: Sequence[int], size: Tuple[int, int],
                       pixels: bool) -> List[np.ndarray]:
    """The transient ``(c, t, h, w)`` over pale frames: brighter orange, darker blue; features by strength alone."""
    # Few pixels are transient and shall be seen; of the features nearly all are, a little.
    signed, contrast = (transient.mean(0).numpy(), .5) if pixels else (transient.square().mean(0).sqrt().numpy(), 2.)
    magnitude = np.abs(signed)
    loud = magnitude[magnitude > 0]
    full = float(np.percentile(loud, FULL_STRENGTH)) if loud.size else 1.0
    pictures = []
    for t in chosen:
        level = enlarge((signed[t] / full).astype(np.float32), size)
        picture = _tinted(frames[t], level.clip(0) ** contrast, BRIGHTER, size)
        pictures.append(_over(picture, (-level).clip(0) ** contrast, DARKER))
    return pictures


def _tinted(frame: np.ndarray, strength: np.ndarray, colour: Tuple[int, int, int], size) -> np.ndarray:
    grey = cv2.cvtColor(enlarge(frame, size), cv2.COLOR_RGB2GRAY).astype(np.float32)
    pale = PAPER - 0.42 * (PAPER - grey)
    return _over(np.repeat(pale[..., None], 3, axis=-1), strength, colour)


def _over(picture: np.ndarray, strength: np.ndarray, colour: Tuple[int, int, int]) -> np.ndarray:
    alpha = 0.92 * strength.clip(0, 1)[..., None]
    return _to_bytes((1 - alpha) * picture.astype(np.float32) + alpha * np.asarray(colour, np.float32))


def _to_bytes(picture: np.ndarray) -> np.ndarray:
    return picture.round().clip(0, 255).astype(np.uint8)
