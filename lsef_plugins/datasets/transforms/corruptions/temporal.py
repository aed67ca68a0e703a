r"""Corruptions in time: which frames are seen, and frames that are lost in black or in noise.

Two families suffice. A *rearrangement* says which source frame is shown at each place (drop, freeze, jumble, frame
rate, looped tail); the others paint on some of the frames (black, noise).

Source: the frame rates are those of Mini Kinetics-C (Yi et al., arXiv:2110.06513;
Newbeeyoung/Video-Corruption-Robustness), which encodes the video anew, where here the frames that were sampled are
thinned out; freezing and jumbling are among the perturbations of Kinetics400-P (Schiappa et al., arXiv:2207.01398).
All other severities are ours.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .draws import Frames, affected_count, to_pixels


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


def jumble_sources(t: int, window: int, rng: Any) -> np.ndarray:
    """Frames arrive out of order, never farther than their window of ``window`` frames, counted from the first.

    Each frame draws a number; the frames of a window, in the order of theirs, form a cycle in which each one takes the
    place of the next, so no frame keeps its own. One that would be alone in the last window joins the window before.

    Returns:
        ``(t,)`` int, the frame shown at each place.
    """
    drawn, sources = rng.uniform(size=t), np.arange(t)
    starts = list(range(0, t - 1, window))
    for start, end in zip(starts, [*starts[1:], t]):
        cycle = start + np.argsort(drawn[start:end])
        sources[np.roll(cycle, -1)] = cycle
    return sources


def rate_sources(t: int, ratio: float, rng: Any) -> np.ndarray:
    """A camera that takes fewer frames: a share ``ratio``, evenly spaced, is new; each is shown until the next one.

    The phase is drawn such that at least one frame is held.

    Returns:
        ``(t,)`` int, the frame shown at each place: never a later one.
    """
    held = 1 + int(rng.uniform() * (t - 1))
    phase = rng.uniform() * (1 - ratio) - (held - 1) * ratio
    ticks = np.floor(np.arange(t) * ratio + phase)
    new = np.diff(ticks, prepend=ticks[0] - 1) > 0
    return np.maximum.accumulate(np.where(new, np.arange(t), 0))


def loop_sources(t: int, ratio: float) -> np.ndarray:
    """The recording ends early, and its place is filled by playing it again from the start.

    Returns:
        ``(t,)`` int, the frame shown at each place.
    """
    return np.arange(t) % (t - affected_count(t, ratio))


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


def frame_drop(frames: Sequence[np.ndarray], ratio: float, rng: Any) -> Frames:
    """A share ``ratio`` of the frames is lost at random places; the last frame that arrived is held."""
    return rearrange(frames, drop_sources(len(frames), ratio, rng))


def frame_freeze(frames: Sequence[np.ndarray], ratio: float, rng: Any) -> Frames:
    """A contiguous share ``ratio`` of the clip shows the frame before it."""
    return rearrange(frames, freeze_sources(len(frames), ratio, rng))


def frame_jumble(frames: Sequence[np.ndarray], window: int, rng: Any) -> Frames:
    """Within each window of ``window`` frames the frames come in another order."""
    return rearrange(frames, jumble_sources(len(frames), window, rng))


def frame_rate(frames: Sequence[np.ndarray], ratio: float, rng: Any) -> Frames:
    """Only a share ``ratio`` of the frames is new, evenly spaced; each is held until the next one."""
    return rearrange(frames, rate_sources(len(frames), ratio, rng))


def looped_tail(frames: Sequence[np.ndarray], ratio: float, rng: Any) -> Frames:
    """The last share ``ratio`` of the frames shows the clip from its start again; nothing is drawn."""
    return rearrange(frames, loop_sources(len(frames), ratio))


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
