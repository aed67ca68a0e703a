"""A flat patch hides a part of the face: for the whole clip, in passing, or for a moment.

There are no landmarks: positions and sizes are shares of the frame, meant for aligned face crops. Eyes are sought at
0.40 of the height and the mouth at 0.73, between the embedded faces (0.40, 0.69) and ArcFace's template for alignment
(0.46, 0.82; arXiv:1801.07698); from severity 3 on a patch covers both. On a video of a whole scene it is somewhere. Its
colour is drawn once for a clip: a mask, sunglasses, a hand keep theirs.

Source: that mouth and eyes are hidden is usual for occlusion in expression recognition; places, sizes and severities
are ours.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .draws import Frames, affected_count

# Centre (x, y), shares of the frame.
MOUTH, EYES = (0.50, 0.73), (0.50, 0.40)
# (width, height) at severity 1 to 5, shares of the frame.
MOUTH_SIZES = ((0.30, 0.12), (0.38, 0.16), (0.46, 0.21), (0.54, 0.27), (0.62, 0.34))
EYES_SIZES = ((0.46, 0.10), (0.56, 0.13), (0.66, 0.17), (0.76, 0.21), (0.86, 0.26))


def region(shape: tuple, centre: tuple[float, float], size: tuple[float, float]) -> tuple[slice, slice]:
    """Rows and columns of a rectangle in a frame ``(h, w, c)``, cut at its borders, at least one pixel."""
    spans = []
    for total, middle, extent in ((shape[0], centre[1], size[1]), (shape[1], centre[0], size[0])):
        first = min(max(round(total * (middle - extent / 2)), 0), total - 1)
        last = min(max(round(total * (middle + extent / 2)), first + 1), total)
        spans.append(slice(first, last))
    return spans[0], spans[1]


def colour(frames: Sequence[np.ndarray], rng: Any) -> np.ndarray:
    """One colour ``(c,)`` uint8."""
    return rng.randint(0, 256, frames[0].shape[2]).astype(np.uint8)


def patched(frame: np.ndarray, place: tuple[slice, slice], paint: np.ndarray) -> np.ndarray:
    """A copy of the frame with the place painted over."""
    out = frame.copy()
    out[place] = paint
    return out


def mouth_occlusion(frames: Sequence[np.ndarray], size: tuple[float, float], rng: Any) -> Frames:
    """The mouth is hidden in all frames, by a patch of ``size`` (width, height)."""
    paint, place = colour(frames, rng), region(frames[0].shape, MOUTH, size)
    return [patched(frame, place, paint) for frame in frames]


def eyes_occlusion(frames: Sequence[np.ndarray], size: tuple[float, float], rng: Any) -> Frames:
    """Both eyes are hidden in all frames, by a patch of ``size`` (width, height)."""
    paint, place = colour(frames, rng), region(frames[0].shape, EYES, size)
    return [patched(frame, place, paint) for frame in frames]


def moving_occlusion(frames: Sequence[np.ndarray], size: float, rng: Any) -> Frames:
    """A square of ``size`` of each side passes the face at an even speed, from one side to the other.

    Its centre goes from 0.15 to 0.85 of the width or back, between heights drawn from 0.3 to 0.85.
    """
    paint, back, heights = colour(frames, rng), rng.uniform() < 0.5, rng.uniform(0.3, 0.85, 2)
    x = np.linspace(0.85 if back else 0.15, 0.15 if back else 0.85, len(frames))
    y = np.linspace(heights[0], heights[1], len(frames))
    return [patched(frame, region(frame.shape, centre, (size, size)), paint)
            for frame, centre in zip(frames, zip(x.tolist(), y.tolist()))]


def brief_occlusion(frames: Sequence[np.ndarray], ratio: float, rng: Any) -> Frames:
    """Mouth or eyes (drawn) are hidden, as at severity 4 of theirs, for one run of a share ``ratio`` of the frames."""
    t, paint = len(frames), colour(frames, rng)
    centre, sizes = (MOUTH, MOUTH_SIZES) if rng.uniform() < 0.5 else (EYES, EYES_SIZES)
    n = affected_count(t, ratio)
    start = int(rng.uniform() * (t - n + 1))   # grows downward with n by at most one: runs are nested
    place = region(frames[0].shape, centre, sizes[3])
    return [patched(frame, place, paint) if start <= i < start + n else frame for i, frame in enumerate(frames)]
