"""Paired differences: what they cover, and what they are not fooled by."""
import math
import random

import numpy as np
import pytest

from lsef_plugins.evaluation.functional.pairs import STUDENT, paired_difference


def test_the_interval_holds_the_true_difference_19_times_of_20():
    rng, inside = random.Random(0), 0
    for _ in range(4000):
        first = [rng.gauss(0, 10) for _ in range(5)]
        second = [a + rng.gauss(3, 2) for a in first]
        found = paired_difference(first, second)
        inside += abs(found.mean - 3) <= found.half
    assert abs(inside / 4000 - 0.95) < 3 * math.sqrt(0.95 * 0.05 / 4000)


def test_what_both_share_cancels():
    for kind in (list, np.array):
        found = paired_difference(kind([1.0, 50.0, 90.0]), kind([2.0, 51.0, 91.0]))
        assert found == (1.0, 0.0, 0.0)
    assert paired_difference([3.0], [1.0]).mean == -2 and math.isnan(paired_difference([3.0], [1.0]).half)


def test_more_runs_than_the_table_has_fall_back_on_the_normal_quantile():
    first, second = [0.0] * 41, [float(i % 2) for i in range(41)]
    found = paired_difference(first, second)
    assert found.half == pytest.approx(1.96 * found.deviation / math.sqrt(41))


def test_the_quantiles_are_students():
    scipy = pytest.importorskip('scipy.stats')
    assert pytest.approx([scipy.t.ppf(0.975, n) for n in range(1, 31)], abs=5e-4) == STUDENT


def test_unpaired_runs_are_refused():
    with pytest.raises(ValueError, match='as many of the one as of the other and at least one, got 2 and 1'):
        paired_difference([1, 2], [1])
    with pytest.raises(ValueError, match='got 0 and 0'):
        paired_difference([], [])
