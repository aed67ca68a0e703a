r"""95 % intervals by resampling: what the number would be on another draw of the same kind of clips.

The percentile bootstrap: draw as many units with replacement as there are, compute the number, repeat; the interval
holds the middle 95 % of the repetitions. The unit is what is independent: a clip for classes, a *video* for ratings
(frames of one video resemble each other; an interval over frames would be far too narrow). Folds, training seeds and
subjects are not resampled: the interval says nothing of these.

Resampling n clips is drawing the cells of the confusion matrix from a multinomial distribution, which costs nothing.
Of videos only their sums are kept, and a repetition is a weighted sum of them. Seeded; numpy only.
Axes: ``s`` repetitions, ``v`` videos, ``k`` classes.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .classification import check_confusion
from .regression import ccc_of_each_video, check_pairs

LEVEL = 0.95
#: Repetitions whose draws are held at once.
CHUNK = 64
#: A variance below this part of all frames' is that of a constant: rounding is all that is left of it.
CONSTANT_RATIO = 1e-12


def interval(values: Any, level: float = LEVEL) -> tuple[float, float]:
    """The middle ``level`` of repetitions ``(s,)``, those that are NaN left out; (NaN, NaN) without any."""
    if not 0 < level < 1:
        raise ValueError(f'level is a share of the repetitions between 0 and 1, such as 0.95, got {level}.')
    values = np.asarray(values, dtype=np.float64)
    values = values[~np.isnan(values)]
    if not values.size:
        return float('nan'), float('nan')
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def recall_intervals(matrix: Any, repetitions: int = 2000, seed: int = 0,
                     level: float = LEVEL) -> dict[str, tuple[float, float]]:
    """Intervals of WAR and UAR over clips.

    A repetition without any clip of some class takes UAR over the classes it has.

    Args:
        matrix: ``(k, k)`` counts, rows the true class.
        repetitions: at least 100.

    Returns:
        ``war`` and ``uar``: (low, high), fractions.
    """
    matrix = check_confusion(matrix)
    _check_repetitions(repetitions)
    total = int(matrix.sum())
    draws = np.random.default_rng(seed).multinomial(total, matrix.ravel() / total, size=repetitions)
    draws = draws.reshape(repetitions, *matrix.shape)
    hits, support = np.diagonal(draws, axis1=1, axis2=2), draws.sum(2)
    recall = np.divide(hits, support, out=np.zeros(hits.shape), where=support > 0)
    uar = recall.sum(1) / (support > 0).sum(1)
    return dict(war=interval(hits.sum(1) / total, level), uar=interval(uar, level))


def rating_intervals(y_true: Any, y_pred: Any, units: Sequence[Any], repetitions: int = 2000, seed: int = 0,
                     level: float = LEVEL) -> dict[str, tuple[float, float]]:
    """Intervals of the measures of :mod:`.regression` over videos (or whatever ``units`` names).

    Args:
        y_true, y_pred: ``(n,)`` real.
        units: n names: what is drawn as a whole. Names that occur once each make every rating a unit of its own.
        repetitions: at least 100.

    Returns:
        ``ccc_global``, ``ccc_per_video``, ``pcc_global``, ``rmse_global``, ``sagr_product``, ``sagr_sign``: (low,
        high). NaN with a single unit, of which nothing can be told.
    """
    y_true, y_pred = check_pairs(y_true, y_pred)
    _check_repetitions(repetitions)
    own = np.array(list(ccc_of_each_video(y_true, y_pred, units).values()))
    found: dict[str, list] = {}
    if len(own) > 1:
        sums, floor = _sums(y_true, y_pred, units)
        rng = np.random.default_rng(seed)
        for start in range(0, repetitions, CHUNK):
            size = min(CHUNK, repetitions - start)
            draws = rng.multinomial(len(own), np.full(len(own), 1 / len(own)), size=size)       # (s, v)
            values = _measures(draws @ sums, floor)
            defined = draws @ ~np.isnan(own)
            values['ccc_per_video'] = np.divide(draws @ np.nan_to_num(own), defined, out=np.full(size, np.nan),
                                                where=defined > 0)
            for name, value in values.items():
                found.setdefault(name, []).append(value)
    names = ('ccc_global', 'ccc_per_video', 'pcc_global', 'rmse_global', 'sagr_product', 'sagr_sign')
    return {name: interval(np.concatenate(found[name]) if found else [], level) for name in names}


def _check_repetitions(repetitions: int) -> None:
    if isinstance(repetitions, bool) or not isinstance(repetitions, int) or repetitions < 100:
        raise ValueError(f'a 95 % interval needs at least 100 repetitions (2000 are usual), got {repetitions!r}.')


def _sums(y_true: np.ndarray, y_pred: np.ndarray, units: Sequence[Any]) -> tuple[np.ndarray, dict[str, float]]:
    """Sums of each unit ``(v, 9)``, and what is known of all: the centres' difference, and floors of the variances."""
    numbers: dict[Any, int] = {}
    index = np.array([numbers.setdefault(unit, len(numbers)) for unit in units])
    x, y = y_true - y_true[0], y_pred - y_pred[0]
    difference = (y_true[0] - y_pred[0]) + (x.mean() - y.mean())
    x, y = x - x.mean(), y - y.mean()
    signs = np.sign(y_true), np.sign(y_pred)
    columns = (np.ones_like(x), x, y, x * x, y * y, x * y, (y_true - y_pred) ** 2, signs[0] * signs[1] > 0,
               signs[0] == signs[1])
    sums = np.stack([np.bincount(index, weights=column, minlength=len(numbers)) for column in columns], 1)
    return sums, dict(difference=float(difference), true=CONSTANT_RATIO * float((x * x).mean()),
                      pred=CONSTANT_RATIO * float((y * y).mean()))


def _measures(sums: np.ndarray, known: dict[str, float]) -> dict[str, np.ndarray]:
    """The measures of pooled sums ``(s, 9)``: ``(s,)`` each."""
    count = sums[:, 0]
    x, y, xx, yy, xy, square, product, sign = (sums[:, column] / count for column in range(1, 9))
    var_true, var_pred, cov = xx - x * x, yy - y * y, xy - x * y
    var_true = np.where(var_true > known['true'], var_true, 0.)
    var_pred = np.where(var_pred > known['pred'], var_pred, 0.)
    below = var_true + var_pred + (known['difference'] + x - y) ** 2
    nan = np.full(len(sums), np.nan)
    return dict(
        ccc_global=np.divide(2 * cov, below, out=nan.copy(), where=(below > 0) & (count > 1)),
        pcc_global=np.divide(cov, np.sqrt(var_true * var_pred), out=nan.copy(), where=var_true * var_pred > 0),
        rmse_global=np.sqrt(square), sagr_product=product, sagr_sign=sign)
