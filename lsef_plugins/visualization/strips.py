"""The pictures of a decomposed clip: the frames, the stable part, and where the transient is.

Axes: ``c`` channels, ``t`` time, ``h w`` space; pictures are ``(height, width, 3)`` uint8 RGB.
"""
from typing import List, Sequence, Tuple

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


def stable_pictures(stable: Tensor, frames: np.ndarray, chosen: Sequence[int], size: Tuple[int, int],
                    pixels: bool) -> List[np.ndarray]:
    """The stable part ``(c, t, h, w)`` at the chosen frames: the picture itself for pixels, else its strength."""
    if pixels:
        maps = stable.permute(1, 2, 3, 0).numpy()
        if maps.shape[-1] == 1:
            maps = np.repeat(maps, 3, axis=-1)
        return [_to_bytes(255 * enlarge(maps[t], size)) for t in chosen]
    strength = stable.square().mean(0).sqrt().numpy()
    full = max(float(np.percentile(strength, FULL_STRENGTH)), np.finfo(np.float32).tiny)
    return [_tinted(frames[t], enlarge(strength[t] / full, size), DARKER, size) for t in chosen]


def transient_pictures(transient: Tensor, frames: np.ndarray, chosen: Sequence[int], size: Tuple[int, int],
                       pixels: bool) -> List[np.ndarray]:
    """The transient ``(c, t, h, w)`` over pale frames: brighter orange, darker blue; features by strength alone."""
    if pixels:
        signed = transient.mean(0).numpy()
    else:
        signed = transient.square().mean(0).sqrt().numpy()
    magnitude = np.abs(signed)
    loud = magnitude[magnitude > 0]
    full = float(np.percentile(loud, FULL_STRENGTH)) if loud.size else 1.0
    pictures = []
    for t in chosen:
        level = enlarge((signed[t] / full).astype(np.float32), size)
        picture = _tinted(frames[t], level.clip(0), BRIGHTER, size)
        pictures.append(_over(picture, (-level).clip(0), DARKER))
    return pictures


def _tinted(frame: np.ndarray, strength: np.ndarray, colour: Tuple[int, int, int], size) -> np.ndarray:
    grey = cv2.cvtColor(enlarge(frame, size), cv2.COLOR_RGB2GRAY).astype(np.float32)
    pale = PAPER - 0.42 * (PAPER - grey)
    return _over(np.repeat(pale[..., None], 3, axis=-1), strength, colour)


def _over(picture: np.ndarray, strength: np.ndarray, colour: Tuple[int, int, int]) -> np.ndarray:
    alpha = 0.92 * np.sqrt(strength.clip(0, 1))[..., None]
    return _to_bytes((1 - alpha) * picture.astype(np.float32) + alpha * np.asarray(colour, np.float32))


def _to_bytes(picture: np.ndarray) -> np.ndarray:
    return picture.round().clip(0, 255).astype(np.uint8)
