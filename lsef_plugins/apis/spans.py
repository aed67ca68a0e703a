"""Windows in seconds -> frames: which of a clip are sampled, how many a window has, where the next one starts."""
import itertools
import math
from typing import Any, Iterable, Iterator, List, NamedTuple, Optional, Union

import numpy as np

from lsef_plugins.visualization.frame_stream import FrameStream

#: Seconds, 'auto', or None for a clip as one thing.
Span = Union[float, str, None]


class Look(NamedTuple):
    """How a call looks at its clips; see :meth:`LSEFInferencer.__call__`."""
    window: Span
    stride: Optional[float]
    batch_size: int
    decomposition: bool


class Grid(NamedTuple):
    """Every ``interval``-th frame of a clip is sampled; windows have ``length`` of them, one starts every
    ``stride``."""
    interval: int
    length: int
    stride: int


def check_spans(window: Span, stride: Optional[float]) -> None:
    """ValueError where they are no spans of time."""
    if window is not None and window != 'auto' and not (_is_number(window) and window > 0):     # type: ignore
        raise ValueError(f"window is a positive number of seconds, 'auto', or None for the clip as one thing; got "
                         f'{window!r}.')
    if stride is not None and not (_is_number(stride) and stride > 0):
        raise ValueError(f'stride is a positive number of seconds, or None for half a window; got {stride!r}.')
    if stride is not None and window is None:
        raise ValueError("stride is from one window to the next, and without window= there is none. Add window='auto' "
                         'or its length in seconds.')


def grid_of(source: Any, reader: Any, window: Span, stride: Optional[float]) -> Grid:
    """The grid of a clip or a stream for a reader's windows.

    A window of a clip that is shorter than it shrinks to the clip.

    Raises:
        ValueError: the clip has fewer frames than a window needs, or the stride would leave frames out.
    """
    length, usual, _ = reader.sampler
    interval = usual if window in (None, 'auto') else None
    if interval is None:
        seconds = reader.span if window in (None, 'auto') else float(window)    # type: ignore[arg-type]
        interval = max(1, round(seconds * source.fps / length))
    if not isinstance(source, FrameStream):
        if source.length < length:
            raise ValueError(f'{source.path} has {source.length} frames, fewer than the {length} of one window of '
                             f'{reader.config}. Leave window= out (the test pipeline repeats frames of short clips), '
                             'or take a longer video.')
        interval = max(1, min(interval, (source.length - 1) // max(1, length - 1)))
    step = max(1, length // 2) if stride is None else max(1, round(stride * source.fps / interval))
    if step > length:
        raise ValueError(f'stride={stride:g} s is longer than a window ({length * interval / source.fps:g} s): frames '
                         'between two windows would be left out. Choose a shorter stride or a longer window.')
    return Grid(interval, length, step)


def ended_early(name: str, grid: Grid) -> ValueError:
    """What is said of a stream without a single window."""
    return ValueError(f'{name} ended before one window of {grid.length} frames, {grid.interval} apart, was there. '
                      'Choose a shorter window, or let it run longer.')


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def every_frame(source: Any, interval: int) -> Iterator[np.ndarray]:
    """Every ``interval``-th frame of a clip or a stream, once, in order."""
    if isinstance(source, FrameStream):
        yield from itertools.islice(source, 0, None, interval)
        return
    for index in range(0, source.length, interval):
        yield source.read([index])[0]


def batches(items: Iterable[Any], size: int) -> Iterator[List[Any]]:
    """Lists of ``size`` items, the last one perhaps shorter; no item is taken before it is needed."""
    iterator = iter(items)
    batch = list(itertools.islice(iterator, size))
    while batch:
        yield batch
        batch = list(itertools.islice(iterator, size))
