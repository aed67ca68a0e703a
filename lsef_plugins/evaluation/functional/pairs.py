r"""Two methods on the same runs: the paired difference and how sure it is.

With the differences :math:`d_i` of n runs, mean :math:`\bar d` and standard deviation :math:`s` (n - 1), the 95 %
interval of the mean is :math:`\bar d \pm t_{0.975, n-1}\, s / \sqrt n` (Student). Folds share most of their training
clips, so their differences are not independent and the interval is, if anything, too narrow.
"""
import math
import statistics
from typing import NamedTuple, Sequence

# 97.5 % quantiles of Student's t for 1 to 30 degrees of freedom; the normal one beyond is at most 2 % smaller.
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
