"""Valence and arousal per frame: VEATIC's pairs of csv files, Aff-Wild2's one txt per video.

Which column of a csv holds the rating is found by evidence: it is the one inside [-1, 1] that does not simply count
the frames. Axes: ``(t, 2)`` is (valence, arousal) of each frame, in that order.
"""
import dataclasses
from pathlib import Path
from typing import Optional, Union

import numpy as np

from .text import AnnotationError, delimiter_of, read_lines, split_cells

PathLike = Union[str, Path]


@dataclasses.dataclass(frozen=True)
class Ratings:
    """Ratings of one video.

    Attributes:
        values: ``(t, 2)`` float32, (valence, arousal) in [-1, 1]; NaN where not valid.
        valid: ``(t,)`` bool.
        evidence: sentences that say how the files were understood.
    """
    values: np.ndarray
    valid: np.ndarray
    evidence: tuple[str, ...]


def read_table(path: PathLike) -> tuple[np.ndarray, list[int], Optional[list[str]]]:
    """Numbers ``(rows, columns)`` float64, the line number of each row, and the header where there is one."""
    lines, _ = read_lines(path)
    delimiter = delimiter_of([lines[0][1]])
    rows = [(number, split_cells(text, delimiter) if delimiter else text.split()) for number, text in lines]
    header = None if _all_numbers(rows[0][1]) else rows[0][1]
    rows = rows[1:] if header else rows
    if not rows:
        raise AnnotationError(f'{path} holds a header and no rating.')
    for number, cells in rows:
        if len(cells) != len(rows[0][1]) or not _all_numbers(cells):
            raise AnnotationError(f'{path}:{number}: {",".join(cells)!r} is not {len(rows[0][1])} finite number(s) as '
                                  'the other lines are. Was the file cut off?')
    return np.array([[float(cell) for cell in cells] for _, cells in rows]), [number for number, _ in rows], header


def _all_numbers(cells: list[str]) -> bool:
    try:
        return bool(np.isfinite([float(cell) for cell in cells]).all())
    except ValueError:
        return False


def read_rating(path: PathLike, column: Optional[int] = None) -> tuple[np.ndarray, str]:
    """One rating per frame from a csv file of VEATIC's form (no header, ``frame,rating``).

    Args:
        path: the csv file.
        column: the column of the rating, from 0, where the evidence does not decide.

    Returns:
        ``(t,)`` float32 in [-1, 1], and the sentence that says which column it was and why.

    Raises:
        AnnotationError: no column, or several, can be the rating; the rating leaves [-1, 1]; frames are missing.
    """
    table, numbers, _ = read_table(path)
    spans = ', '.join(f'column {i}: {low:g}..{high:g}' for i, (low, high) in
                      enumerate(zip(table.min(0), table.max(0))))
    inside = np.abs(table).max(0) <= 1
    counts = np.array([_counts_frames(table[:, i]) for i in range(table.shape[1])])
    if column is None:
        fitting = np.flatnonzero(inside & ~counts)
        if len(fitting) > 1:    # a slow rise can look like a time stamp: it is the other one that varies
            fitting = np.array([i for i in fitting if not _monotone(table[:, i])]) if any(
                not _monotone(table[:, i]) for i in fitting) else fitting
        if len(fitting) != 1:
            raise AnnotationError(
                f'{path}: {"no column" if not len(fitting) else f"{len(fitting)} columns"} can be the rating, which '
                f'lies in [-1, 1] and does not count the frames ({spans}). State rating_column if you know it; '
                'ratings on another scale have to be divided first.')
        column = int(fitting[0])
        how = f'rating in column {column} (inside [-1, 1], not the frame count; {spans})'
    else:
        if not -table.shape[1] <= column < table.shape[1] or not inside[column]:
            raise AnnotationError(f'{path}: rating_column={column} is not a column inside [-1, 1] ({spans}).')
        how = f'rating in column {column} (stated)'
    _check_frame_numbers(path, table, numbers, counts, column)
    return table[:, column].astype(np.float32), how


def _counts_frames(values: np.ndarray) -> bool:
    """Whether a column is 0, 1, 2, ... or 1, 2, 3, ..., as a frame number is, a few gaps allowed."""
    steps = np.diff(values)
    return bool(len(values) > 1 and (values == np.round(values)).all() and values[0] in (0, 1)
                and (steps >= 1).all() and np.median(steps) == 1)


def _monotone(values: np.ndarray) -> bool:
    return bool((np.diff(values) >= 0).all() or (np.diff(values) <= 0).all())


def _check_frame_numbers(path: PathLike, table: np.ndarray, numbers: list[int], counts: np.ndarray,
                         column: int) -> None:
    """Rows stand for frames: a row that is missing would shift every later rating."""
    for i in np.flatnonzero(counts):
        if i == column:
            continue
        gaps = np.flatnonzero(np.diff(table[:, i]) != 1)
        if len(gaps):
            row = int(gaps[0])
            raise AnnotationError(f'{path}:{numbers[row + 1]}: frame {table[row, i]:g} is followed by frame '
                                  f'{table[row + 1, i]:g}: ratings of frames are missing. Fetch the file again.')


def read_rating_pair(valence: PathLike, arousal: PathLike, column: Optional[int] = None) -> Ratings:
    """The ratings of one VEATIC video.

    Raises:
        FileNotFoundError, AnnotationError: see :func:`read_rating`; or the two have different lengths.
    """
    (first, how), (second, how_too) = read_rating(valence, column), read_rating(arousal, column)
    if len(first) != len(second):
        raise AnnotationError(f'{valence} rates {len(first)} frames and {arousal} {len(second)}: they must rate the '
                              'same frames of one video. Fetch both files again.')
    return Ratings(np.stack([first, second], axis=1), np.ones(len(first), bool),
                   (f'valence: {how}', f'arousal: {how_too}'))


def read_aff_wild2(path: PathLike) -> Ratings:
    """The ratings of one Aff-Wild2 video (header ``valence,arousal``, a row per frame, -5 where there is none).

    Raises:
        AnnotationError: another header, or a value that is neither in [-1, 1] nor -5.
    """
    table, numbers, header = read_table(path)
    names = [name.lower() for name in header or []]
    if sorted(names) != ['arousal', 'valence']:
        raise AnnotationError(f'{path}: expected the header "valence,arousal", got {header}. Is this a file of the '
                              'valence/arousal challenge?')
    table = table[:, [names.index('valence'), names.index('arousal')]]
    valid = (table != -5).all(axis=1)
    wrong = np.flatnonzero(valid & (np.abs(table).max(axis=1) > 1))
    if len(wrong):
        raise AnnotationError(f'{path}:{numbers[wrong[0]]}: {table[wrong[0]].tolist()} is neither in [-1, 1] nor the '
                              'mark -5 of a frame without rating.')
    values = np.where(valid[:, None], table, np.nan).astype(np.float32)
    return Ratings(values, valid, (f'{int((~valid).sum())} of {len(valid)} frames have no rating (-5)',))
