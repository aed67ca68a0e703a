"""Predicted and true valence and arousal of one video over time, as a picture and as a table.

One panel each, over one time axis; both end at -1 and 1, with a line at neutral. A frame without a true rating (NaN)
is a gap in the true curve. Colours are those of :mod:`.page`, and the predicted curve is dashed where colours fail.
Axes: ``n`` frames, the last axis is (valence, arousal).
"""
import csv
import io
from pathlib import Path
from typing import Any, List, Optional, Tuple, Union

import numpy as np
from numpy.typing import ArrayLike

from .page import DPI, FAINT, FONT, INK, QUIET, STABLE, TRANSIENT, plain_matplotlib
from .writing import write_whole

RATINGS_COLUMNS = ('frame', 'valence_true', 'valence_predicted', 'arousal_true', 'arousal_predicted')
PANELS = ('Valence', 'Arousal')
#: More frames than this apart (in medians of the distances) are no curve any more.
GAP = 3.0


def draw_ratings(frames: ArrayLike, predicted: ArrayLike, truth: Optional[ArrayLike] = None,
                 title: str = 'Valence and arousal', fps: Optional[float] = None, width: int = 1200) -> Any:
    """Draws the curves of one video.

    Args:
        frames: ``(n,)`` numbers of the frames in their video, increasing.
        predicted: ``(n, 2)`` in [-1, 1].
        truth: ``(n, 2)`` in [-1, 1], NaN where a frame has no rating; None without any truth.
        title: the line on top.
        fps: frames per second of the video, for a time axis in seconds; None counts frames.
        width: of the picture in pixels, at least 600.

    Returns:
        A matplotlib Figure with a canvas of its own (:func:`save_picture` writes it).

    Raises:
        ValueError: the arguments do not describe the same frames.
    """
    numbers, predicted, truth = _check(frames, predicted, truth)
    if width < 600 or (fps is not None and not fps > 0):
        raise ValueError(f'width is at least 600 pixels and fps positive (or None), got {width} and {fps}.')
    with plain_matplotlib():
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        figure = Figure(figsize=(width / DPI, 5.2), dpi=DPI, facecolor='white')
        FigureCanvasAgg(figure)
        figure.text(.06, .95, title, fontsize=13, color=INK, family=FONT, va='center')
        times = numbers / fps if fps else numbers.astype(float)
        panels = figure.subplots(2, 1, sharex=True, gridspec_kw=dict(left=.06, right=.98, top=.89, bottom=.1,
                                                                    hspace=.14))
        for column, (axes, name) in enumerate(zip(panels, PANELS)):
            _panel(axes, name, times, predicted[:, column], None if truth is None else truth[:, column])
        panels[0].legend(loc='lower right', bbox_to_anchor=(1, 1), ncols=2, frameon=False, fontsize=9)
        panels[1].set_xlabel('seconds' if fps else 'frame', color=QUIET, fontsize=9.5, family=FONT)
        return figure


def write_ratings(path: Union[str, Path], frames: ArrayLike, predicted: ArrayLike,
                  truth: Optional[ArrayLike] = None) -> Path:
    """Writes one row for each frame (columns ``RATINGS_COLUMNS``), whole or not at all.

    A missing true rating is an empty cell. Arguments as of :func:`draw_ratings`.
    """
    numbers, predicted, truth = _check(frames, predicted, truth)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator='\n')
    writer.writerow(RATINGS_COLUMNS)
    for n, number in enumerate(numbers):
        row: List[Any] = [int(number)]
        for column in (0, 1):
            true = np.nan if truth is None else truth[n, column]
            row += ['' if np.isnan(true) else f'{true:.6f}', f'{predicted[n, column]:.6f}']
        writer.writerow(row)
    write_whole(path, text.getvalue())
    return Path(path)


def _check(frames: ArrayLike, predicted: ArrayLike,
           truth: Optional[ArrayLike]) -> Tuple[np.ndarray, np.ndarray, Optional[np.ndarray]]:
    numbers, predicted = np.asarray(frames), np.asarray(predicted, dtype=np.float64)
    truth = None if truth is None else np.asarray(truth, dtype=np.float64)
    shapes = [predicted.shape] + ([] if truth is None else [truth.shape])
    if numbers.ndim != 1 or not numbers.size or any(shape != (numbers.size, 2) for shape in shapes):
        raise ValueError(f'frames {numbers.shape} are the numbers (n,) of at least one frame and ratings (n, 2) of '
                         f'(valence, arousal) of the same frames, got {", ".join(map(str, shapes))}.')
    if (np.diff(numbers) < 0).any():
        raise ValueError('frames must be in the order of time; sort them together with their ratings.')
    return numbers, predicted, truth


def _panel(axes: Any, name: str, times: np.ndarray, predicted: np.ndarray, truth: Optional[np.ndarray]) -> None:
    axes.axhline(0, color=FAINT, lw=1)
    marker = '.' if len(times) < 60 else None
    if truth is not None:
        axes.plot(*_with_gaps(times, truth), color=STABLE, lw=1.6, marker=marker, label='true')
    axes.plot(*_with_gaps(times, predicted), color=TRANSIENT, lw=1.4, ls=(0, (4, 1.5)), marker=marker,
              label='predicted')
    axes.set_ylim(-1.05, 1.05)
    axes.set_yticks([-1, 0, 1])
    axes.set_ylabel(name, color=INK, fontsize=10.5, family=FONT)
    axes.tick_params(labelsize=9, colors=QUIET)
    for side in ('top', 'right'):
        axes.spines[side].set_visible(False)


def _with_gaps(times: np.ndarray, values: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """A NaN where frames are missing, so that no line is drawn over what nobody predicted."""
    if len(times) < 3:
        return times, values
    steps = np.diff(times)
    holes = np.flatnonzero(steps > GAP * np.median(steps)) + 1
    return np.insert(times, holes, np.nan), np.insert(values, holes, np.nan)
