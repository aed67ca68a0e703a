"""Pictures and tables as files, whole or not at all."""
import contextlib
import csv
import io
import math
import os
from pathlib import Path
from typing import Any, Dict, Iterator, Mapping, Optional, Sequence, Union

import numpy as np
from numpy.typing import ArrayLike

from .energy import Event

COLUMNS = ('frame', 'time_s', 'base_energy_ratio', 'transient_energy_ratio', 'residual_energy_ratio', 'frame_gate',
           'event')
PathLike = Union[str, Path]


class OutputError(OSError):
    """A picture or a table could not be written; nothing of it is left."""


@contextlib.contextmanager
def whole_file(path: PathLike) -> Iterator[Path]:
    """A name beside ``path`` to write to; becomes ``path`` when the block ends well and vanishes when it does not.

    Parent folders are made.
    """
    target = Path(path)
    unfinished = target.with_name(f'.{target.stem}.{os.getpid()}.tmp{target.suffix}')
    try:
        if target.is_dir():
            raise IsADirectoryError(f'{target} is a folder')
        target.parent.mkdir(parents=True, exist_ok=True)
        yield unfinished
        os.replace(unfinished, target)
    except OSError as error:
        raise OutputError(f'{target} could not be written ({error.strerror or error}); no half file is left. '
                          'Choose a file name in a folder you may write to, on a disk with room.') from error
    finally:
        with contextlib.suppress(OSError):
            unfinished.unlink()


def for_json(value: Any) -> Any:
    """A number, or a nest of them, as JSON can hold it: NaN and infinity are null, tensors and matrices lists."""
    if isinstance(value, Mapping):
        return {str(key): for_json(each) for key, each in value.items()}
    if getattr(value, 'ndim', 0) or isinstance(value, (list, tuple)):
        return [for_json(each) for each in value]
    if not hasattr(value, '__float__') or isinstance(value, (bool, int)):
        return value
    return float(value) if math.isfinite(value) else None


def write_whole(path: PathLike, text: str) -> None:
    """A text file, whole or not at all."""
    with whole_file(path) as unfinished:
        unfinished.write_text(text, encoding='utf-8')


def save_picture(figure: Any, path: PathLike) -> Path:
    """Writes a figure of :func:`draw_decomposition` as .png, in its own size; the same figure gives the same bytes.

    Raises:
        ValueError: the name does not end in .png.
        OutputError: the file cannot be written.
    """
    target = Path(path)
    if target.suffix.lower() != '.png':
        raise ValueError(f'the picture is written as .png, got {target.name!r}. Give a name that ends in .png.')
    with whole_file(target) as unfinished, open(unfinished, 'wb') as file:
        figure.canvas.print_png(file, metadata={'Software': None})
    return target


def write_csv(path: PathLike, table: Dict[str, np.ndarray], indices: ArrayLike, times: ArrayLike,
              events: Optional[Sequence[Event]] = None) -> Path:
    """Writes one row for each sampled frame (columns ``COLUMNS``); the same numbers give the same bytes.

    Args:
        table: what :func:`energy_table` returns, ``(t,)`` each.
        indices: number of each frame in its video, from 0.
        times: its time in seconds.
        events: what :func:`find_events` returns; the column ``event`` counts them from 1 and is empty elsewhere.
    """
    count = len(table['base'])
    frame_numbers, seconds = np.asarray(indices), np.asarray(times, dtype=np.float64)
    if frame_numbers.shape != (count, ) or seconds.shape != (count, ):
        raise ValueError(f'the table has {count} frames, but indices of shape {frame_numbers.shape} and times of shape '
                         f'{seconds.shape} came. Hand over those of the same sampled clip.')
    numbers = event_numbers(events or (), count)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator='\n')
    writer.writerow(COLUMNS)
    for t in range(count):
        ratios = [f'{table[name][t]:.6g}' for name in ('base', 'transient', 'residual')]
        writer.writerow([int(frame_numbers[t]), f'{seconds[t]:.4f}', *ratios, f'{table["frame_gate"][t]:.4f}',
                         numbers[t] or ''])
    with whole_file(path) as unfinished, open(unfinished, 'w', encoding='utf-8', newline='') as file:
        file.write(text.getvalue())
    return Path(path)


def event_numbers(events: Sequence[Event], count: int) -> np.ndarray:
    """``(t,)`` number of the event a frame belongs to, from 1; 0 for none."""
    numbers = np.zeros(count, dtype=int)
    for number, event in enumerate(events, start=1):
        numbers[event.onset:event.offset + 1] = number
    return numbers
