"""A long video in windows: which frames each window takes, which it decides, and never more than one window held.

Frames are sampled on one grid, every ``interval``-th of the video, so that overlapping windows share them. Windows of
``length`` grid positions start every ``stride`` positions; the last one ends with the video. A position that lies in
several windows takes its value from the one it is most central in (of two equally near, the earlier): what a window
decides is the stretch up to half-way to its neighbours' centres, and each position is decided once.
"""
import collections
from typing import Any, Callable, Deque, Iterable, Iterator, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

Prepare = Callable[[np.ndarray, int], np.ndarray]


class Window(NamedTuple):
    """Grid positions ``start <= g < stop`` that are looked at together, and ``first <= g < last`` it decides."""
    start: int
    stop: int
    first: int
    last: int


def plan_windows(count: int, length: int, stride: Optional[int] = None) -> List[Window]:
    """Windows over ``count`` grid positions.

    Args:
        count: sampled frames of the video.
        length: those of a window.
        stride: from one window's start to the next; None for half of ``length``.

    Raises:
        ValueError: the video is shorter than one window, or frames would fall between windows.
    """
    stride = max(1, length // 2) if stride is None else stride
    if length < 1 or not 1 <= stride <= length:
        raise ValueError(f'a window has at least 1 frame and the next one starts 1 to {length} frames later, got '
                         f'length {length} and stride {stride}. A larger stride would leave frames out.')
    if count < length:
        raise ValueError(f'{count} sampled frames are fewer than the {length} of one window.')
    starts = list(range(0, count - length + 1, stride))
    if starts[-1] != count - length:
        starts.append(count - length)
    # The centre of window i is start + (length - 1) / 2: half-way to the next lies at (s_i + s_{i+1} + length - 1) / 2.
    borders = [0, *((a + b + length - 1) // 2 + 1 for a, b in zip(starts[:-1], starts[1:])), count]
    return [Window(start, start + length, first, last)
            for start, first, last in zip(starts, borders[:-1], borders[1:])]


def held(values: np.ndarray, length: int) -> np.ndarray:
    """Values of ``t`` frames of a feature map ``(t, ...)`` for the ``length`` frames of its window.

    A network that halves the frames has one value for two of them: it is held for both.
    """
    values = np.asarray(values)
    return values[np.arange(length) * len(values) // length]


def windows_of_stream(frames: Iterable[Any], length: int, stride: int) -> Iterator[Tuple[int, List[Any]]]:
    """The windows of :func:`plan_windows` while the end is not known: ``(start, frames)``, the last one at the end.

    At most ``length`` frames are held. Nothing is yielded where fewer come.
    """
    held_frames: Deque[Any] = collections.deque(maxlen=length)
    count, last = 0, -1
    for frame in frames:
        held_frames.append(frame)
        count += 1
        if count >= length and (count - length) % stride == 0:
            last = count - length
            yield last, list(held_frames)
    if count - length > last:
        yield count - length, list(held_frames)


class FrameWindows:
    """The frames of each window in turn; every frame is read once, in order, and dropped when no window needs it.

    Args:
        source: anything with ``read(indices) -> list of frames (h, w, 3)``.
        indices: number in the video of each grid position.
        windows: what :func:`plan_windows` returns.
        prepare: ``(frame, index) -> frame``, applied as each is read: what is held can be small.

    Attributes:
        most_held: the largest number of frames held at once; the length of a window, however long the video is.
    """

    def __init__(self, source: Any, indices: Any, windows: Sequence[Window],
                 prepare: Optional[Prepare] = None) -> None:
        self.source, self.indices, self.windows, self.prepare = source, indices, windows, prepare
        self.most_held = 0

    def __iter__(self) -> Iterator[Tuple[Window, List[np.ndarray]]]:
        frames: List[np.ndarray] = []
        begin = 0                       # grid position of frames[0]
        for window in self.windows:
            del frames[:window.start - begin]
            begin = window.start
            for g in range(begin + len(frames), window.stop):
                frames.append(self._read(int(self.indices[g])))
                self.most_held = max(self.most_held, len(frames))
            yield window, list(frames)

    def _read(self, index: int) -> np.ndarray:
        frame, = self.source.read([index])
        return frame if self.prepare is None else self.prepare(frame, index)
