"""Paired differences: what they cover, and what they are not fooled by."""
import math
import random

import numpy as np
import pytest

from lsef_plugins.evaluation.functional.pairs import (
    STUDENT,
    holm,
    paired_difference,
    paired_t_p,
    sign_flip_p,
    student_two_sided,
)


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


# ---- p-values -----------------------------------------------------------------------------------------------------
def test_students_integral_is_scipys():
    scipy = pytest.importorskip('scipy.stats')
    for degrees in (*range(1, 12), 30, 63):
        for t in (-4.0, -0.3, 0.0, 1.0, 2.5, 9.0):
            assert student_two_sided(t, degrees) == pytest.approx(2 * scipy.t.sf(abs(t), degrees), abs=1e-12)


def test_the_paired_test_is_scipys_and_knows_the_edges():
    scipy = pytest.importorskip('scipy.stats')
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=7), rng.normal(0.4, size=7)
    assert paired_t_p(first, second) == pytest.approx(scipy.ttest_rel(first, second).pvalue)
    assert paired_t_p(first, second) == pytest.approx(paired_t_p(second, first))
    assert paired_t_p([1, 2], [1, 2]) == 1 and paired_t_p([1, 2], [2, 3]) == 0 and math.isnan(paired_t_p([1], [2]))


def test_flipped_signs_are_all_tried():
    assert sign_flip_p([0] * 5, [1, 2, 3, 4, 5]) == 2 / 32          # only all signs alike are as far out
    assert sign_flip_p([0] * 3, [1, -1, 0]) == 1
    assert sign_flip_p([0] * 4, [3, 3, 3, -1]) == 4 / 16            # sums 8 and 10, of either sign
    assert sign_flip_p([0] * 3, [0.1, 0.2, 0.3]) == 2 / 8        # (0.1 + 0.2) + 0.3 > 0.1 + (0.2 + 0.3): a tie


def test_by_chance_a_test_rejects_as_often_as_it_says():
    rng, small = random.Random(0), [0, 0]
    for _ in range(2000):
        first, second = ([rng.gauss(0, 1) for _ in range(6)] for _ in range(2))
        small[0] += paired_t_p(first, second) < 0.05
        small[1] += sign_flip_p(first, second) <= 0.0625
    assert abs(small[0] / 2000 - 0.05) < 0.015 and abs(small[1] / 2000 - 0.0625) < 0.016


def test_too_many_pairs_for_all_signs_are_told():
    with pytest.raises(ValueError, match='All signs of 21 differences are too many to try.*paired_t_p'):
        sign_flip_p([0] * 21, [1] * 21)


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0] and holm([0.02]) == [0.02] and holm([]) == []


def test_holm_never_lowers_a_p_value_nor_changes_their_order():
    rng = np.random.default_rng(1)
    for count in (2, 5, 30):
        p = rng.uniform(size=count) ** 3
        found = np.array(holm(p))
        assert (found >= p).all() and (found <= np.minimum(1, count * p) + 1e-15).all()     # never beyond Bonferroni
        assert (np.diff(found[np.argsort(p)]) >= 0).all()
        shuffled = rng.permutation(count)
        assert holm(p[shuffled]) == pytest.approx(found[shuffled])


def test_holm_keeps_the_chance_of_any_false_alarm():
    rng, alarms = np.random.default_rng(2), 0
    for _ in range(4000):
        alarms += min(holm(rng.uniform(size=8))) < 0.05
    assert abs(alarms / 4000 - 0.05) < 0.011


def test_a_p_value_that_is_not_known_is_not_counted():
    found = holm([0.02, math.nan, 0.04])
    assert found[0] == pytest.approx(0.04) and math.isnan(found[1]) and found[2] == pytest.approx(0.04)
    with pytest.raises(ValueError, match=r'p-values lie between 0 and 1, got \[1.5\]'):
        holm([0.1, 1.5])
