"""The few frames of a video that a picture shows, decomposed once more: one window in memory at a time.

After the curves are known it is clear which frames tell most; their windows are read again, at most ten of them.
"""
from typing import Any, Callable, List, NamedTuple, Sequence, Tuple

import numpy as np
import torch

from .sliding import FrameWindows, Window, held
from .strips import enlarge, operator_of, stable_pictures, transient_pictures
from .timeline import Reading, Timeline

Read = Callable[[Window], Reading]


class Moments(NamedTuple):
    """Clip, stable part and transient at the chosen frames, ``(height, width, 3)`` uint8 each."""
    film: List[np.ndarray]
    stable: List[np.ndarray]
    transient: List[np.ndarray]


def window_reader(frames: FrameWindows, reader: Callable[[List[np.ndarray], np.ndarray], Reading]) -> Read:
    """Reads one window of a video again."""

    def read(window: Window) -> Reading:
        (_, pictures), = FrameWindows(frames.source, frames.indices, [window], frames.prepare)
        return reader(pictures, np.asarray(frames.indices)[window.start:window.stop])
    return read


def read_moments(timeline: Timeline, read: Read, chosen: Sequence[int], size: Tuple[int, int], pixels: bool) -> Moments:
    """Pictures of ``size`` (width, height) of the chosen positions.

    The transients are drawn on one scale, that of all chosen frames together.
    """
    film, stable, maps, frames = [], [], [], []
    for number in sorted({int(timeline.window[g]) for g in chosen}):
        window = timeline.windows[number]
        reading = read(window)
        for g in (g for g in chosen if timeline.window[g] == number):
            t, shown = _place(reading, window, g)
            film.append((g, enlarge(shown[t], size)))
            stable.append(_stable(reading, shown, t, size, pixels))
            maps.append(reading.parts.transient[0, :, t].detach().float().cpu())
            frames.append(shown[t])
    assert [g for g, _ in film] == sorted(chosen), 'windows are in the order of time, and so are their frames'
    transient = torch.stack(maps, 1)
    return Moments([picture for _, picture in film], stable,
                   transient_pictures(transient, np.stack(frames), range(len(frames)), size, pixels))


def _place(reading: Reading, window: Window, position: int) -> Tuple[int, np.ndarray]:
    """Which frame of the feature map a position is, and the pictures of the map's frames."""
    length, count = window.stop - window.start, reading.parts.stable.shape[2]
    middles = ((np.arange(count) + .5) * len(reading.frames) / count).astype(int)
    return int(held(np.arange(count), length)[position - window.start]), reading.frames[middles]


def _stable(reading: Reading, shown: np.ndarray, t: int, size: Tuple[int, int], pixels: bool) -> np.ndarray:
    part: Any = reading.parts.stable[0].detach().float().cpu()
    return stable_pictures(shown, [t], size, part, operator_of(reading.parts, 0), pixels)[0]
