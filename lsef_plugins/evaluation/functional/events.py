r"""Events that were planted against events that were found: frame by frame, and event by event.

*Frames*: with the planted and the found set of frames, precision :math:`tp/(tp+fp)`, recall :math:`tp/(tp+fn)` and
IoU :math:`tp/(tp+fp+fn)`. *Events* are runs of frames; a found one counts as right when it is matched with a planted
one of an IoU of at least ``min_iou`` in time (0.5 is usual where expressions are spotted). Each is matched once at
most: pairs are taken from the largest IoU down, earlier events first where they are equal.

Counts of clips add up, and ratios are taken of the sums: a long clip weighs more than a short one, a data set is one
data set however it is split among processes, and a clip without events needs no convention for 0/0. Ratios of nothing
are NaN.
Axes: ``t`` frames, ``n`` events as (first, last frame), both inclusive.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np


class Counts(NamedTuple):
    """What was found and planted (``hits``), found only (``false``), planted only (``missed``)."""
    hits: int
    false: int
    missed: int

    @property
    def precision(self) -> float:
        """Share of what was found that had been planted."""
        return _ratio(self.hits, self.hits + self.false)

    @property
    def recall(self) -> float:
        """Share of what had been planted that was found."""
        return _ratio(self.hits, self.hits + self.missed)

    @property
    def iou(self) -> float:
        """Hits over everything that was found or planted."""
        return _ratio(self.hits, sum(self))

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall, 0 without any hit."""
        return _ratio(2 * self.hits, 2 * self.hits + self.false + self.missed)


def runs(mask: Any) -> np.ndarray:
    """Stretches of true frames of ``(t,)``: ``(n, 2)`` first and last frame, in order."""
    mask = _mask(mask, 'mask')
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    return np.stack([edges[::2], edges[1::2] - 1], 1)


def mask_of(events: Any, frames: int) -> np.ndarray:
    """The frames of events ``(n, 2)`` as ``(t,)`` bool."""
    mask = np.zeros(frames, dtype=bool)
    for first, last in check_events(events):
        if last >= frames:
            raise ValueError(f'An event ends at frame {last} of a clip of {frames}.')
        mask[first:last + 1] = True
    return mask


def frame_counts(planted: Any, found: Any) -> Counts:
    """Counts of frames, of two masks ``(t,)``."""
    planted, found = _mask(planted, 'planted'), _mask(found, 'found')
    if planted.shape != found.shape:
        raise ValueError(f'planted and found must tell of the same frames, got {planted.shape} and {found.shape}.')
    return Counts(int((planted & found).sum()), int((~planted & found).sum()), int((planted & ~found).sum()))


def event_ious(planted: Any, found: Any) -> np.ndarray:
    """IoU in time of each planted with each found event: ``(n, 2), (m, 2) -> (n, m)``."""
    a, b = check_events(planted), check_events(found)
    shared = np.minimum(a[:, None, 1], b[None, :, 1]) - np.maximum(a[:, None, 0], b[None, :, 0]) + 1
    length = (a[:, 1] - a[:, 0] + 1)[:, None] + (b[:, 1] - b[:, 0] + 1)[None]
    shared = np.clip(shared, 0, None)
    return shared / (length - shared)


def match_events(planted: Any, found: Any, min_iou: float = 0.5) -> list[tuple[int, int]]:
    """Pairs (planted, found) of events ``(n, 2)`` and ``(m, 2)``; see the module's rule.

    Args:
        min_iou: above 0, at most 1.
    """
    if not 0 < min_iou <= 1:
        raise ValueError(f'min_iou is above 0 and at most 1 (the same frames exactly), got {min_iou}.')
    ious = event_ious(planted, found)
    pairs: list[tuple[int, int]] = []
    for place in np.argsort(-ious, axis=None, kind='stable'):
        i, j = divmod(int(place), max(ious.shape[1], 1))
        if ious[i, j] < min_iou:
            break
        if all(i != other and j != another for other, another in pairs):
            pairs.append((i, j))
    return sorted(pairs)


def event_counts(planted: Any, found: Any, min_iou: float = 0.5) -> Counts:
    """Counts of events ``(n, 2)`` and ``(m, 2)`` by :func:`match_events`."""
    hits = len(match_events(planted, found, min_iou))
    return Counts(hits, len(check_events(found)) - hits, len(check_events(planted)) - hits)


def separation(scores: Any, mask: Any) -> float:
    """Probability that a frame of an event scores higher than another frame of the clip, ties half: ``(t,), (t,)``.

    0.5 for scores that know nothing (the area under the ROC curve; no threshold is involved). NaN where there are no
    frames of events, or no others.
    """
    scores, mask = np.asarray(scores, dtype=np.float64), _mask(mask, 'mask')
    if scores.shape != mask.shape or not np.isfinite(scores).all():
        raise ValueError(f'scores must be one finite number for each frame {mask.shape}, got {scores.shape}.')
    inside, outside = scores[mask], scores[~mask]
    if not inside.size or not outside.size:
        return float('nan')
    difference = inside[:, None] - outside[None]
    return float(((difference > 0) + .5 * (difference == 0)).mean())


def check_events(events: Any) -> np.ndarray:
    """Events as ``(n, 2)`` int.

    Raises:
        ValueError: not pairs of whole numbers (first, last) with 0 <= first <= last.
    """
    values = np.asarray(events if len(events) else np.zeros((0, 2)), dtype=np.float64)
    whole = values.ndim == 2 and values.shape[1] == 2 and np.equal(np.mod(values, 1), 0).all()
    if not whole or (values[:, 0] < 0).any() or (values[:, 0] > values[:, 1]).any():
        shown: Sequence = values[:3].tolist() if values.ndim else []
        raise ValueError(f'Events are pairs (first, last) of frames, both inclusive, counted from 0, got {shown}.')
    return values.astype(int)


def _mask(values: Any, name: str) -> np.ndarray:
    mask = np.asarray(values)
    if mask.ndim != 1 or mask.dtype != bool:
        raise ValueError(f'{name} says of each frame whether it belongs to an event, (t,) bool, got {mask.shape} '
                         f'{mask.dtype}.')
    return mask


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else float('nan')
