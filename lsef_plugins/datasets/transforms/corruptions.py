r"""Clips broken in time on purpose: one clip in, one clip of equal length out.

A corruption is a function ``(frames, level, rng) -> frames`` of one clip: ``t`` images ``(h, w, c)`` uint8 in
the order they were filmed. It draws *where* before it looks at *how much*: from the same random state a
stronger level touches every frame a weaker one touches, and (noise, flicker) moves every pixel at least as
far. So the five severities of one clip are one experiment, not five draws.

Two families suffice for corruptions in time. A *rearrangement* says which source frame is shown at each place
(drop, freeze; later jumble, frame-rate cut, looped tail); a *pixel* corruption paints on some of the frames
(black, noise, flicker). Frames a corruption leaves alone come back as the very same objects, all others as
new arrays that share memory with nothing: inputs may alias one another (looped indices) and are never written
to, and a later transform that writes in place cannot paint one frame through another.

Only numpy is needed. The draws use ``numpy.random.RandomState``, whose stream numpy keeps frozen between
releases, seeded with a BLAKE2 hash: the same on every machine, in every worker, in any order.
"""
from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

Frames = list[np.ndarray]

MAX_SEVERITY = 5


class Corruption(NamedTuple):
    """A way to break a clip, and how far it goes at severity 1, 2, ... 5."""

    corrupt: Callable[[Sequence[np.ndarray], Any, Any], Frames]
    levels: tuple[Any, ...]
    unit: str


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


def drop_sources(t: int, ratio: float, rng: Any) -> np.ndarray:
    """Frames lost on the way, each replaced by the last one that arrived.

    The first frame is never lost: nothing came before it.

    Returns:
        ``(t,)`` int, the frame shown at each place.
    """
    lost = 1 + rng.permutation(t - 1)[:affected_count(t, ratio)]
    sources = np.arange(t)
    sources[lost] = 0
    return np.maximum.accumulate(sources)


def freeze_sources(t: int, ratio: float, rng: Any) -> np.ndarray:
    """A camera that hangs: one contiguous run of frames shows the frame before it.

    Returns:
        ``(t,)`` int, the frame shown at each place.
    """
    n = affected_count(t, ratio)
    start = 1 + int(rng.uniform() * (t - n))  # grows downward with n by at most one: runs are nested
    sources = np.arange(t)
    sources[start:start + n] = start - 1
    return sources


def isolated_places(t: int, n: int, rng: Any) -> list[int]:
    """``n`` of ``t`` places, no two of them neighbours; fewer where the clip has no room for so many."""
    taken: list[int] = []
    for place in rng.permutation(t):
        if all(abs(place - other) > 1 for other in taken):
            taken.append(int(place))
    return taken[:n]


def rearrange(frames: Sequence[np.ndarray], sources: np.ndarray) -> Frames:
    """Shows frame ``sources[i]`` at place ``i``; a frame shown away from its own place is a copy."""
    return [frame if source == i else frames[source].copy()
            for i, (frame, source) in enumerate(zip(frames, sources))]


def to_pixels(values: np.ndarray) -> np.ndarray:
    """Real intensities to uint8: rounded, and clipped at black and white."""
    return np.rint(np.clip(values, 0, 255)).astype(np.uint8)


def frame_drop(frames: Sequence[np.ndarray], ratio: float, rng: Any) -> Frames:
    """A share ``ratio`` of the frames is lost at random places; the last frame that arrived is held."""
    return rearrange(frames, drop_sources(len(frames), ratio, rng))


def frame_freeze(frames: Sequence[np.ndarray], ratio: float, rng: Any) -> Frames:
    """A contiguous share ``ratio`` of the clip shows the frame before it."""
    return rearrange(frames, freeze_sources(len(frames), ratio, rng))


def black_frames(frames: Sequence[np.ndarray], ratio: float, rng: Any) -> Frames:
    """A share ``ratio`` of the frames, at random places, is black."""
    out = list(frames)
    for place in rng.permutation(len(frames))[:affected_count(len(frames), ratio)]:
        out[place] = np.zeros_like(frames[place])
    return out


def noise_burst(frames: Sequence[np.ndarray], level: tuple[float, float], rng: Any) -> Frames:
    """Isolated frames drown in noise: ``level`` is (share of the frames, standard deviation in grey values).

    Gaussian, independent per pixel and channel; no two neighbouring frames are hit.
    """
    ratio, sigma = level
    out = list(frames)
    for place in isolated_places(len(frames), affected_count(len(frames), ratio), rng):
        noise = rng.standard_normal(frames[place].shape)
        out[place] = to_pixels(frames[place] + sigma * noise)
    return out


def flicker(frames: Sequence[np.ndarray], amplitude: float, rng: Any) -> Frames:
    """The light of each frame is multiplied by its own gain in ``[1 - amplitude, 1 + amplitude]``.

    The gains average to one over the clip (it flickers, it does not get darker), and one frame gets the full
    amplitude.
    """
    swing = rng.uniform(-1, 1, len(frames))
    swing = swing - swing.mean()
    swing = swing / np.abs(swing).max()
    return [to_pixels(frame * (1 + amplitude * s)) for frame, s in zip(frames, swing)]


# Shares are multiples of 1/16, so that every severity of the first two adds a frame from 8 frames on.
TEMPORAL_CORRUPTIONS: dict[str, Corruption] = {
    'frame_drop': Corruption(frame_drop, (2 / 16, 4 / 16, 6 / 16, 8 / 16, 10 / 16), 'share of the frames'),
    'frame_freeze': Corruption(
        frame_freeze, (2 / 16, 4 / 16, 6 / 16, 8 / 16, 10 / 16), 'share of the frames'),
    'black_frames': Corruption(black_frames, (1 / 16, 2 / 16, 3 / 16, 4 / 16, 6 / 16), 'share of the frames'),
    'noise_burst': Corruption(
        noise_burst, ((1 / 16, 40.), (2 / 16, 60.), (3 / 16, 80.), (4 / 16, 100.), (5 / 16, 120.)),
        'share of the frames, standard deviation in grey values'),
    'flicker': Corruption(flicker, (0.1, 0.2, 0.3, 0.45, 0.6), 'largest relative change of a frame\'s light'),
}


def check_kind(kind: Any) -> str:
    """Returns ``kind`` when it names a corruption, else raises ValueError with the names there are."""
    if kind not in TEMPORAL_CORRUPTIONS:
        raise ValueError(f'kind={kind!r} is not a temporal corruption; known: '
                         f'{", ".join(TEMPORAL_CORRUPTIONS)}.')
    return kind


def check_severity(severity: Any) -> int:
    """Returns ``severity`` when it is an integer from 0 (the clip as it is) to 5, else raises ValueError."""
    if isinstance(severity, bool) or not isinstance(severity, (int, np.integer)) or \
            not 0 <= severity <= MAX_SEVERITY:
        raise ValueError(f'severity={severity!r} must be an integer from 0 (the clip as it is) to '
                         f'{MAX_SEVERITY} (strongest).')
    return int(severity)


def corrupt_clip(frames: Sequence[np.ndarray], kind: str, severity: int, rng: Any) -> Frames:
    """One clip, corrupted.

    Args:
        frames: ``t`` images ``(h, w, c)`` uint8 of one clip, in filmed order; not written to.
        kind: A key of :data:`TEMPORAL_CORRUPTIONS`.
        severity: 1 (weak) to 5 (strong); 0 returns the frames as they are.
        rng: A ``numpy.random.RandomState`` (see :func:`sample_rng`), or the module ``numpy.random``.

    Returns:
        ``t`` images; the untouched ones are the very objects that came. A clip of a single frame has no time
        to be broken in and comes back as it is.
    """
    corruption = TEMPORAL_CORRUPTIONS[check_kind(kind)]
    if check_severity(severity) == 0 or len(frames) < 2:
        return list(frames)
    return corruption.corrupt(frames, corruption.levels[severity - 1], rng)
