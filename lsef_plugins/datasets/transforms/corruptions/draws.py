"""What all corruptions share: what one is, where its randomness comes from, and numbers of frames.

Axes: ``t`` frames of a clip, each ``(h, w, c)`` uint8.
"""
from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

Frames = list[np.ndarray]


class Corruption(NamedTuple):
    """A way to break a clip, and how far it goes at severity 1, 2, ... 5.

    ``needs_time``: a clip of a single frame cannot be broken in this way.
    """

    corrupt: Callable[[Sequence[np.ndarray], Any, Any], Frames]
    levels: tuple[Any, ...]
    unit: str
    needs_time: bool = True


def sample_rng(*identity: Any) -> np.random.RandomState:
    """A random state that depends on what is named and on nothing else.

    Python's ``hash`` differs from process to process; this one does not. The parts are length-prefixed, so
    ``('ab', 'c')`` and ``('a', 'bc')`` are two samples.
    """
    digest = hashlib.blake2b(digest_size=32)
    for part in identity:
        text = str(part).encode('utf-8', 'surrogateescape')
        digest.update(len(text).to_bytes(8, 'little') + text)
    return np.random.RandomState(np.frombuffer(digest.digest(), dtype='<u4').astype(np.uint32))


def affected_count(t: int, ratio: float) -> int:
    """How many of ``t`` frames a share of ``ratio`` in (0, 1] means: at least one, never all."""
    return min(math.ceil(ratio * t), t - 1)


def to_pixels(values: np.ndarray) -> np.ndarray:
    """Real intensities to uint8: rounded, and clipped at black and white."""
    return np.rint(np.clip(values, 0, 255)).astype(np.uint8)
