r"""Agreement of predicted with true ratings: CCC, PCC, RMSE, SAGR, each over the values it is handed.

.. math::
    \mathrm{CCC} = \frac{2 \operatorname{cov}(x, y)}{\operatorname{var} x + \operatorname{var} y + (\bar x - \bar y)^2},
    \quad
    \mathrm{PCC} = \frac{\operatorname{cov}(x, y)}{\sqrt{\operatorname{var} x \operatorname{var} y}}, \quad
    \mathrm{RMSE} = \sqrt{\overline{(x - y)^2}}

with population moments (divisor n). SAGR, the agreement in sign, has two definitions in use: :math:`\overline{xy > 0}`
(VEATIC) and :math:`\overline{\operatorname{sign} x = \operatorname{sign} y}` (AffectNet); they differ where both are 0.

**CCC depends on what is pooled**, so whatever pools says so in its name (:func:`ccc_per_video`, :func:`ccc_batch20`).

What the formulas leave open is NaN, and a mean over videos leaves it out:

============================================ ==== ==== =======================
case                                         CCC  PCC  RMSE, SAGR
============================================ ==== ==== =======================
no value                                     NaN  NaN  NaN
one value                                    NaN  NaN  their formulas
truth or prediction constant, not both equal 0    NaN  their formulas
both constant and equal (0/0)                NaN  NaN  0; the sign decides
============================================ ==== ==== =======================

Values are moved by their first element before anything is summed: a constant is a constant exactly, and a common
offset of 1e8 costs no digits of what varies. Only numpy is needed. Axes: ``n`` frames or clips.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

#: VEATIC's own evaluation: batches of 20 in random order, sample moments, and this in the denominator.
BATCH, VEATIC_EPS = 20, 1e-5


def check_pairs(y_true: Any, y_pred: Any) -> tuple[np.ndarray, np.ndarray]:
    """Truth and prediction as float64 ``(n,)``.

    Raises:
        ValueError: not one number for each in both, or a number that is not finite.
    """
    pair = []
    for name, values in (('y_true', y_true), ('y_pred', y_pred)):
        values = np.asarray(values, dtype=np.float64)
        if values.ndim != 1:
            raise ValueError(f'{name} {values.shape} must be one rating per frame, shape (n,): valence and arousal are '
                             'evaluated one after the other.')
        lost = np.flatnonzero(~np.isfinite(values))
        if lost.size:
            raise ValueError(f'{lost.size} of {values.size} values in {name} are not finite (the first is number '
                             f'{lost[0]}). Leave frames without a rating out of both; a prediction that is not finite '
                             'means that the model has diverged.')
        pair.append(values)
    if pair[0].shape != pair[1].shape:
        raise ValueError(f'y_true has {pair[0].size} ratings and y_pred {pair[1].size}: they must describe the same '
                         'frames in the same order.')
    return pair[0], pair[1]


class Moments(NamedTuple):
    """Population moments of a pair, over ``scale`` (squares over its square), so that no square leaves the floats."""
    var_true: float
    var_pred: float
    cov: float
    mean_difference: float
    scale: float


def moments(y_true: np.ndarray, y_pred: np.ndarray) -> Moments:
    """Moments of ``(n,)`` each, n at least 1."""
    x, y = y_true - y_true[0], y_pred - y_pred[0]
    difference = (y_true[0] - y_pred[0]) + (x.mean() - y.mean())
    x, y = x - x.mean(), y - y.mean()
    scale = max(np.abs(x).max(), np.abs(y).max(), abs(difference)) or 1.0
    x, y = x / scale, y / scale
    return Moments(float((x * x).mean()), float((y * y).mean()), float((x * y).mean()), float(difference / scale),
                   float(scale))


def ccc(y_true: Any, y_pred: Any) -> float:
    """Lin's concordance correlation coefficient of two lists of ratings, in [-1, 1].

    Args:
        y_true, y_pred: ``(n,)`` real.
    """
    y_true, y_pred = check_pairs(y_true, y_pred)
    if y_true.size < 2:
        return float('nan')
    found = moments(y_true, y_pred)
    below = found.var_true + found.var_pred + found.mean_difference ** 2
    return 2 * found.cov / below if below > 0 else float('nan')


def pcc(y_true: Any, y_pred: Any) -> float:
    """Pearson's correlation coefficient, in [-1, 1]; NaN when truth or prediction is constant.

    Args:
        y_true, y_pred: ``(n,)`` real.
    """
    y_true, y_pred = check_pairs(y_true, y_pred)
    if y_true.size < 2:
        return float('nan')
    units = [_unit(values) for values in (y_true, y_pred)]
    if any(unit is None for unit in units):
        return float('nan')
    return float(np.clip(units[0] @ units[1], -1, 1))   # type: ignore[operator]


def _unit(values: np.ndarray) -> Any:
    """Deviations from the mean as a vector of length one; None for a constant."""
    deviation = values - values[0]
    deviation = deviation - deviation.mean()
    largest = np.abs(deviation).max()
    if not largest > 0:
        return None
    deviation = deviation / largest
    return deviation / np.sqrt(deviation @ deviation)


def rmse(y_true: Any, y_pred: Any) -> float:
    """Root mean square error, in the ratings' own unit.

    Args:
        y_true, y_pred: ``(n,)`` real.
    """
    y_true, y_pred = check_pairs(y_true, y_pred)
    if not y_true.size:
        return float('nan')
    error = y_true - y_pred
    scale = np.abs(error).max() or 1.0
    return float(scale * np.sqrt(((error / scale) ** 2).mean()))


def sagr_product(y_true: Any, y_pred: Any) -> float:
    """VEATIC's agreement in sign, the share of :math:`xy > 0`: a 0 agrees with nothing, not with a 0 either.

    Args:
        y_true, y_pred: ``(n,)`` real.
    """
    y_true, y_pred = check_pairs(y_true, y_pred)
    # Signs, not values: 1e-200 times 1e-200 is 0.
    return float((np.sign(y_true) * np.sign(y_pred) > 0).mean()) if y_true.size else float('nan')


def sagr_sign(y_true: Any, y_pred: Any) -> float:
    """AffectNet's agreement in sign, the share of ``sign x == sign y``: 0 agrees with 0.

    Args:
        y_true, y_pred: ``(n,)`` real.
    """
    y_true, y_pred = check_pairs(y_true, y_pred)
    return float((np.sign(y_true) == np.sign(y_pred)).mean()) if y_true.size else float('nan')


def ccc_of_each_video(y_true: Any, y_pred: Any, videos: Sequence[Any]) -> dict[Any, float]:
    """CCC of each video by its name, in the order of their first frames; NaN where it is not defined.

    Args:
        y_true, y_pred: ``(n,)`` real.
        videos: n names (or numbers): the video of each rating.
    """
    y_true, y_pred = check_pairs(y_true, y_pred)
    if len(videos) != y_true.size:
        raise ValueError(f'{len(videos)} names of videos came for {y_true.size} ratings: one for each.')
    rows: dict[Any, list[int]] = {}
    for row, video in enumerate(videos):
        rows.setdefault(video, []).append(row)
    return {video: ccc(y_true[chosen], y_pred[chosen]) for video, chosen in rows.items()}


def ccc_per_video(y_true: Any, y_pred: Any, videos: Sequence[Any]) -> float:
    """Mean of the videos' CCC, each video with equal voice; videos without a defined CCC do not vote.

    Args:
        y_true, y_pred, videos: as of :func:`ccc_of_each_video`.
    """
    values = np.array(list(ccc_of_each_video(y_true, y_pred, videos).values()))
    return float(values[~np.isnan(values)].mean()) if (~np.isnan(values)).any() else float('nan')


def ccc_batch20(y_true: Any, y_pred: Any, seed: int = 0) -> float:
    """CCC as VEATIC's own code reports it: the mean over batches of 20 ratings in random order.

    In each batch with sample moments (divisor n - 1) and 1e-5 in the denominator, so a batch of equal constants is 0.
    The last batch may be smaller; a single rating that is left over is dropped (the original gets NaN there).

    Args:
        y_true, y_pred: ``(n,)`` real, n at least 2, else NaN.
        seed: of the order; another one gives another number, by about 0.01 on a few thousand frames.
    """
    y_true, y_pred = check_pairs(y_true, y_pred)
    order = np.random.default_rng(seed).permutation(y_true.size)
    values = []
    for start in range(0, y_true.size, BATCH):
        chosen = order[start:start + BATCH]
        if chosen.size < 2:
            continue
        found = moments(y_true[chosen], y_pred[chosen])
        bessel, square = chosen.size / (chosen.size - 1), found.scale ** 2
        below = square * (bessel * (found.var_true + found.var_pred) + found.mean_difference ** 2) + VEATIC_EPS
        values.append(2 * square * bessel * found.cov / below)
    return float(np.mean(values)) if values else float('nan')
