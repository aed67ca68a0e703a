r"""Corruptions of lens, camera and codec: blur, low resolution, JPEG, shake.

Lengths are shares of the frame's shorter side, so that a level looks the same on a crop of 64 pixels and on a video of
720: ImageNet-C's pixels divided by its 224. Motion has one direction for a clip, shake a position for each frame. The
borders are mirrored. Wide kernels are taken apart, up to ten times faster than whole: 0.5 to 2 ms on a crop of 224.

Source: severities of ImageNet-C (Hendrycks and Dietterich, arXiv:1903.12261; hendrycks/robustness) but for the shake,
which is ours. Other than there: the motion is a straight line of even exposure with the standard deviation of its
one-sided Gaussian (``2 sqrt(3) sqrt(1 - 2/pi) = 2.09`` sigma long); the disc of the defocus is antialiased by
supersampling; the low resolution is brought back by interpolation, as a player does, not in blocks.
"""
from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np

from .draws import Frames

AREA, WIDEST = 121, 11     # OpenCV's filters are quick for kernels of so many elements, and 20 times slower beyond


def each(frames: Sequence[np.ndarray], change: Callable[[np.ndarray], np.ndarray]) -> Frames:
    """``change`` of each frame; OpenCV wants contiguous arrays and forgets a single channel."""
    return [change(np.ascontiguousarray(frame)).reshape(frame.shape) for frame in frames]


def side(frames: Sequence[np.ndarray]) -> int:
    """The shorter side of the frames in pixels."""
    return min(frames[0].shape[:2])


def disc(radius: float) -> np.ndarray:
    """An even disc of ``radius`` pixels that sums to 1, ``(k, k)`` float32 with odd k."""
    reach, fine = math.ceil(radius), 8
    at = (np.arange((2 * reach + 1) * fine) + 0.5) / fine - reach - 0.5
    inside = (at[:, None] ** 2 + at ** 2 <= radius ** 2).reshape(2 * reach + 1, fine, 2 * reach + 1, fine).mean((1, 3))
    return (inside / inside.sum()).astype(np.float32)


def line(dy: float, dx: float, y0: float = 0., x0: float = 0.) -> np.ndarray:
    """A straight line of even exposure along (dy, dx) pixels, its middle at (y0, x0).

    Returns:
        ``(j, k)`` float32 with odd j and k, sum 1.
    """
    down, right = (math.ceil(abs(d) / 2 + abs(middle)) + 1 for d, middle in ((dy, y0), (dx, x0)))
    kernel = np.zeros((2 * down + 1, 2 * right + 1))
    points = 8 * math.ceil(math.hypot(dy, dx)) + 8
    for share in (np.arange(points) + 0.5) / points - 0.5:      # each point is spread over the four pixels around it
        y, x = down + y0 + share * dy, right + x0 + share * dx
        top, left = int(y), int(x)
        kernel[top:top + 2, left:left + 2] += np.outer((1 - y + top, y - top), (1 - x + left, x - left))
    return (kernel / kernel.sum()).astype(np.float32)


def line_pieces(dy: float, dx: float) -> tuple[list[np.ndarray], np.ndarray]:
    """A line as few small kernels, each of them moved by whole pixels.

    Returns:
        n kernels, and their moves (down, right) ``(n, 2)`` int.
    """
    for n in itertools.count(1):
        places = (np.arange(n) - (n - 1) / 2)[:, None] * (dy / n, dx / n)
        moves = np.rint(places).astype(int)
        kernels = [line(dy / n, dx / n, *rest) for rest in places - moves]
        if max(kernel.size for kernel in kernels) <= AREA:
            break
    return kernels, moves


def motion_blur(frames: Sequence[np.ndarray], length: float, rng: Any) -> Frames:
    """All frames are smeared along a straight line, ``length`` of the shorter side, at most 45 degrees from level."""
    angle, pixels, (h, w) = math.radians(rng.uniform(-45, 45)), length * side(frames), frames[0].shape[:2]
    kernels, moves = line_pieces(pixels * math.sin(angle), pixels * math.cos(angle))
    reach = int(np.abs(moves).max()) + max(max(kernel.shape) for kernel in kernels) // 2

    def smear(frame: np.ndarray) -> np.ndarray:
        padded = cv2.copyMakeBorder(frame, reach, reach, reach, reach, cv2.BORDER_REFLECT)
        total: Any = np.full(padded[:h, :w].shape, len(kernels) // 2, np.uint16)
        for kernel, (down, right) in zip(kernels, moves):
            seen = cv2.filter2D(padded, -1, kernel, borderType=cv2.BORDER_REFLECT)
            total += seen[reach + down:reach + down + h, reach + right:reach + right + w]
        return (total // len(kernels)).astype(np.uint8)
    return each(frames, smear)


def defocus(frames: Sequence[np.ndarray], radius: float, rng: Any) -> Frames:
    """Every point becomes a disc of ``radius`` (of the shorter side); a large one is laid over a smaller picture."""
    pixels, (h, w) = radius * side(frames), frames[0].shape[:2]
    shrink = max(1., pixels / (WIDEST // 2))
    kernel = disc(max(pixels / shrink, 0.6))            # below it, a disc would be a single pixel
    small = (max(1, round(w / shrink)), max(1, round(h / shrink)))

    def blur(frame: np.ndarray) -> np.ndarray:
        if shrink == 1:
            return cv2.filter2D(frame, -1, kernel, borderType=cv2.BORDER_REFLECT)
        seen = cv2.filter2D(cv2.resize(frame, small, interpolation=cv2.INTER_AREA), -1, kernel,
                            borderType=cv2.BORDER_REFLECT)
        return cv2.resize(seen, (w, h), interpolation=cv2.INTER_LINEAR)
    return each(frames, blur)


def low_resolution(frames: Sequence[np.ndarray], ratio: float, rng: Any) -> Frames:
    """Each side is recorded with a share ``ratio`` of its pixels, and interpolated back."""
    h, w = frames[0].shape[:2]
    small = (max(1, int(w * ratio)), max(1, int(h * ratio)))
    return each(frames, lambda frame: cv2.resize(cv2.resize(frame, small, interpolation=cv2.INTER_AREA), (w, h),
                                                 interpolation=cv2.INTER_LINEAR))


def jpeg(frames: Sequence[np.ndarray], quality: int, rng: Any) -> Frames:
    """Each frame is stored as a JPEG of ``quality`` (1 to 100) and read again."""
    channels = frames[0].shape[2]
    if channels not in (1, 3):
        raise ValueError(f'The corruption jpeg got frames of {channels} channels, and a JPEG has 3 (RGB) or 1 (grey).')

    def stored(frame: np.ndarray) -> np.ndarray:
        bgr = frame if channels == 1 else cv2.cvtColor(frame, cv2.COLOR_RGB2BGR)
        content = cv2.imencode('.jpg', bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        read: Any = cv2.imdecode(content, cv2.IMREAD_GRAYSCALE if channels == 1 else cv2.IMREAD_COLOR)
        return read if channels == 1 else cv2.cvtColor(read, cv2.COLOR_BGR2RGB)
    return each(frames, stored)


def camera_shake(frames: Sequence[np.ndarray], level: tuple[float, float], rng: Any) -> Frames:
    """The camera moves from frame to frame: ``level`` is (largest shift, of the shorter side; largest roll, degrees).

    Shifts down and right and the roll are drawn evenly and independently for each frame.
    """
    h, w = frames[0].shape[:2]
    reach, roll = level[0] * side(frames), level[1]
    out = []
    for frame, (down, right, turn) in zip(frames, rng.uniform(-1, 1, (len(frames), 3))):
        moved = cv2.getRotationMatrix2D(((w - 1) / 2, (h - 1) / 2), roll * turn, 1)
        moved[:, 2] += reach * right, reach * down
        out += each([frame], lambda x, m=moved: cv2.warpAffine(    # type: ignore[misc]
            x, m, (w, h), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT))
    return out
