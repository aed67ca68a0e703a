r"""Two methods on the same runs: the paired difference and how sure it is.

With the differences :math:`d_i` of n runs, mean :math:`\bar d` and standard deviation :math:`s` (n - 1), the 95 %
interval of the mean is :math:`\bar d \pm t_{0.975, n-1}\, s / \sqrt n` (Student), and the p-value that of
:math:`t = \bar d \sqrt n / s`. Flipping the signs of the differences asks the same without a normal distribution, but
of n runs it cannot say less than :math:`2^{1-n}`. Many comparisons at once are corrected after Holm. Folds share most
of their training clips, so their differences are not independent and the interval is, if anything, too narrow.

Source:
    S. Holm, A simple sequentially rejective multiple test procedure (1979); Student's integral for whole degrees of
    freedom: Abramowitz and Stegun, 26.7.3 and 26.7.4.
"""
import itertools
import math
import statistics
from typing import List, NamedTuple, Sequence

# 97.5 % quantiles of Student's t for 1 to 30 degrees of freedom; the normal one beyond is at most 4 % smaller.
STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
           2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042)


class PairedDifference(NamedTuple):
    """``mean`` and ``deviation`` of the differences, ``half`` the width of the mean's 95 % interval (NaN for one)."""
    mean: float
    deviation: float
    half: float


def paired_difference(first: Sequence[float], second: Sequence[float]) -> PairedDifference:
    """``second - first``, run by run.

    Raises:
        ValueError: there are no runs, or not equally many.
    """
    if len(first) != len(second) or len(first) == 0:
        raise ValueError(f'Paired runs are as many of the one as of the other and at least one, got {len(first)} and '
                         f'{len(second)}.')
    differences = [b - a for a, b in zip(first, second)]
    count = len(differences)
    if count == 1:
        return PairedDifference(differences[0], math.nan, math.nan)
    deviation = statistics.stdev(differences)
    quantile = STUDENT[count - 2] if count - 1 <= len(STUDENT) else 1.96
    return PairedDifference(statistics.fmean(differences), deviation, quantile * deviation / math.sqrt(count))


def paired_t_p(first: Sequence[float], second: Sequence[float]) -> float:
    """Two-sided p-value of Student's paired test; NaN for one pair, 1 for no difference at all.

    Raises:
        ValueError: as of :func:`paired_difference`.
    """
    found, count = paired_difference(first, second), len(first)
    if count == 1:
        return math.nan
    if found.mean == 0:
        return 1.0
    if found.deviation == 0:
        return 0.0
    return student_two_sided(found.mean / found.deviation * math.sqrt(count), count - 1)


def student_two_sided(t: float, degrees: int) -> float:
    """Chance that Student's t of so many degrees of freedom is further from 0 than ``t``."""
    theta = math.atan(t / math.sqrt(degrees))
    cosine, sine = math.cos(theta), math.sin(theta)
    odd = degrees % 2
    term = cosine if odd else 1.0
    total = term if degrees > 1 else 0.0
    for step in range(3 if odd else 2, degrees - 1, 2):
        term *= cosine * cosine * ((step - 1) / step)
        total += term
    inside = 2 / math.pi * (theta + sine * total) if odd else sine * total
    return min(max(1 - abs(inside), 0.0), 1.0)


def sign_flip_p(first: Sequence[float], second: Sequence[float]) -> float:
    """Two-sided p-value of the exact sign-flip test on the sum of the differences, for at most 20 pairs.

    Raises:
        ValueError: more pairs, or as of :func:`paired_difference`.
    """
    paired_difference(first, second)
    if len(first) > 20:
        raise ValueError(f'All signs of {len(first)} differences are too many to try; it is exact for up to 20. Take '
                         'paired_t_p.')
    differences = [b - a for a, b in zip(first, second)]
    observed = abs(sum(differences))
    slack = 1e-9 * sum(map(abs, differences))
    # The first sign stays: flipping all of them changes no absolute sum.
    sums = [abs(differences[0] + sum(sign * d for sign, d in zip(signs, differences[1:])))
            for signs in itertools.product((1, -1), repeat=len(differences) - 1)]
    return sum(value >= observed - slack for value in sums) / len(sums)


def holm(p_values: Sequence[float]) -> List[float]:
    """p-values corrected for being several, in the same order: rejecting those below a level keeps the chance of any
    false rejection below it. NaN stays NaN and is not counted.

    Raises:
        ValueError: a p-value outside of 0 to 1.
    """
    wrong = [p for p in p_values if not (math.isnan(p) or 0 <= p <= 1)]
    if wrong:
        raise ValueError(f'p-values lie between 0 and 1, got {wrong}.')
    order = sorted((index for index, p in enumerate(p_values) if not math.isnan(p)), key=lambda index: p_values[index])
    corrected, largest = [math.nan] * len(p_values), 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * p_values[index]))
        corrected[index] = largest
    return corrected


def p_text(p: float) -> str:
    """A p-value in a table; nothing for NaN."""
    return '' if math.isnan(p) else '< 0.0001' if p < 1e-4 else f'{p:.4f}'
