"""CCC, PCC, RMSE and SAGR against exact fractions, scipy and scikit-learn, on random and adversarial ratings."""
import math
from fractions import Fraction

import numpy as np
import pytest
from scipy.stats import pearsonr
from sklearn.metrics import mean_squared_error

from lsef_plugins.evaluation.functional import (
    ccc,
    ccc_batch20,
    ccc_of_each_video,
    ccc_per_video,
    pcc,
    rmse,
    sagr_product,
    sagr_sign,
)


def exact_moments(x, y):
    """Population moments without any rounding: every float is a fraction."""
    x, y = [Fraction(float(v)) for v in x], [Fraction(float(v)) for v in y]
    n = len(x)
    mx, my = sum(x) / n, sum(y) / n
    return (sum((a - mx) ** 2 for a in x) / n, sum((b - my) ** 2 for b in y) / n,
            sum((a - mx) * (b - my) for a, b in zip(x, y)) / n, mx - my)


def exact_ccc(x, y):
    vx, vy, cov, difference = exact_moments(x, y)
    return float(2 * cov / (vx + vy + difference ** 2))


def exact_pcc(x, y):
    vx, vy, cov, _ = exact_moments(x, y)
    return math.sqrt(cov ** 2 / (vx * vy)) * (1 if cov > 0 else -1)      # the ratio is of the order of one


def exact_rmse(x, y):
    errors = [Fraction(float(a)) - Fraction(float(b)) for a, b in zip(x, y)]
    largest = max(map(abs, errors))                                 # else a square leaves the floats
    return float(largest) * math.sqrt(sum((error / largest) ** 2 for error in errors) / len(x))


def pair(seed):
    """Ratings of unequal spread, partly in agreement, with zeros among them."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 60))
    x = rng.uniform(-1, 1, n) * rng.choice([1, .3, .01])
    y = rng.uniform(-1, 1) * x + rng.normal(0, rng.choice([1e-3, .2, 1]), n) + rng.choice([0, .5])
    x[rng.random(n) < .2] = 0
    y[rng.random(n) < .2] = 0
    x[0] += .01 * (np.ptp(x) == 0)
    y[0] += .01 * (np.ptp(y) == 0)
    return x, y


@pytest.mark.parametrize('seed', range(40))
def test_they_are_their_definitions_in_fractions_and_other_peoples_numbers(seed):
    x, y = pair(seed)
    assert ccc(x, y) == pytest.approx(exact_ccc(x, y), rel=1e-9, abs=1e-13)
    assert pcc(x, y) == pytest.approx(exact_pcc(x, y), rel=1e-9, abs=1e-13)
    assert rmse(x, y) == pytest.approx(exact_rmse(x, y), rel=1e-12)
    assert pcc(x, y) == pytest.approx(pearsonr(x, y).statistic, rel=1e-9, abs=1e-12)
    assert rmse(x, y) == pytest.approx(math.sqrt(mean_squared_error(x, y)), rel=1e-12)
    # Lin: CCC is PCC times how close the regression is to the diagonal.
    sx, sy, shift = np.std(x), np.std(y), np.mean(x) - np.mean(y)
    assert ccc(x, y) == pytest.approx(pearsonr(x, y).statistic * 2 * sx * sy / (sx ** 2 + sy ** 2 + shift ** 2))
    assert sagr_product(x, y) == sum(a * b > 0 for a, b in zip(x.tolist(), y.tolist())) / len(x)
    same = [(a > 0) - (a < 0) == (b > 0) - (b < 0) for a, b in zip(x.tolist(), y.tolist())]
    assert sagr_sign(x, y) == sum(same) / len(x)


def test_the_two_definitions_of_sagr_differ_where_both_are_zero():
    assert (sagr_product([0, 0, .5], [0, .1, .2]), sagr_sign([0, 0, .5], [0, .1, .2])) == \
        (pytest.approx(1 / 3), pytest.approx(2 / 3))
    assert sagr_product([1e-200, -1e-200], [1e-200, -1e-200]) == 1.0, 'the product of the values would be 0'


@pytest.mark.parametrize('offset, spread', [(1e8, 1e-3), (-1e12, 1.0), (1e4, 1e-9), (0, 1e-170), (0, 1e170),
                                            (1e8, 0.3)])
def test_a_huge_offset_and_extreme_scales_cost_no_digits(offset, spread):
    rng = np.random.default_rng(3)
    x = offset + spread * rng.normal(size=200)
    y = x + spread * rng.normal(size=200)       # both as they are stored: the reference sees the same floats
    assert ccc(x, y) == pytest.approx(exact_ccc(x, y), rel=1e-7)
    assert pcc(x, y) == pytest.approx(exact_pcc(x, y), rel=1e-7)
    assert rmse(x, y) == pytest.approx(exact_rmse(x, y), rel=1e-7)


def test_one_outlier_in_front_costs_no_digits():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=50), rng.normal(size=50)
    x[0], y[0] = 1e9, -3e8
    assert ccc(x, y) == pytest.approx(exact_ccc(x, y), rel=1e-9)
    assert pcc(x, y) == pytest.approx(exact_pcc(x, y), rel=1e-9)


def test_laws_of_concordance():
    x, y = pair(5)
    assert ccc(x, y) == pytest.approx(ccc(y, x), rel=1e-12) and ccc(x, x) == pytest.approx(1, abs=1e-12)
    assert ccc(7 * x - 2, 7 * y - 2) == pytest.approx(ccc(x, y), rel=1e-9)
    assert ccc(x - x.mean(), x.mean() - x) == pytest.approx(-1, abs=1e-12)
    assert abs(ccc(x, y)) <= abs(pcc(x, y)) and ccc(x, x + 1) < 1 == pytest.approx(pcc(x, x + 1))
    assert pcc(x, 3 * x + 2) == pytest.approx(1) and ccc(x, 3 * x + 2) < .7


@pytest.mark.parametrize('value', [0.1, 0.0, -1 / 3, 1e8 + .1])
def test_constants_are_seen_exactly_whatever_their_binary_digits(value):
    """0.1 has no binary digits that end: the mean of many is not 0.1, and a variance of 1e-34 is no variance."""
    constant, other = np.full(37, value), np.linspace(-1, 1, 37)
    for a, b in ((constant, other), (other, constant), (constant, constant + .25)):
        assert ccc(a, b) == 0 and math.isnan(pcc(a, b))
    assert math.isnan(ccc(constant, constant)) and math.isnan(pcc(constant, constant))
    assert rmse(constant, constant) == 0 and rmse(constant, constant + .25) == pytest.approx(.25)
    assert sagr_sign(constant, constant) == 1 and sagr_product(constant, constant) == float(value != 0)


def test_one_frame_and_none():
    assert math.isnan(ccc([.3], [.3])) and math.isnan(ccc([.3], [.5])) and math.isnan(pcc([.3], [.5]))
    assert (rmse([.3], [.5]), sagr_product([.3], [.5]), sagr_sign([-.3], [.5])) == (pytest.approx(.2), 1, 0)
    assert all(math.isnan(f([], [])) for f in (ccc, pcc, rmse, sagr_product, sagr_sign, ccc_batch20))
    assert math.isnan(ccc_per_video([], [], [])) and math.isnan(ccc_batch20([.1], [.2]))


def test_what_is_pooled_decides():
    """Each video's prediction is its mean alone: right between videos, without any agreement inside of one."""
    rng = np.random.default_rng(0)
    levels, inside = rng.uniform(-1, 1, 12), rng.normal(0, .1, (12, 40))
    truth = levels[:, None] + inside
    predicted = np.repeat(levels[:, None], 40, 1) + 0 * inside
    videos = np.repeat(np.arange(12), 40)
    x, y = truth.ravel(), predicted.ravel()
    assert ccc(x, y) > .95 and ccc_per_video(x, y, videos.tolist()) == 0 and .9 < ccc_batch20(x, y) < ccc(x, y)


def test_videos_without_a_defined_ccc_do_not_vote():
    x = [.1, .2, .4, .3, .5, .5, .7]
    y = [.1, .3, .3, .9, .5, .5, .2]
    videos = ['a', 'a', 'a', 'one frame', 'still', 'still', 'a']
    each = ccc_of_each_video(x, y, videos)
    assert list(each) == ['a', 'one frame', 'still'] and math.isnan(each['one frame']) and math.isnan(each['still'])
    assert ccc_per_video(x, y, videos) == each['a'] == pytest.approx(exact_ccc([.1, .2, .4, .7], [.1, .3, .3, .2]))
    assert math.isnan(ccc_per_video(x[3:6], y[3:6], videos[3:6]))
    order = np.random.default_rng(1).permutation(7)
    assert ccc_per_video(np.array(x)[order], np.array(y)[order], [videos[i] for i in order]) == pytest.approx(each['a'])
    # Equal voice, however many frames.
    longer = ccc_per_video([*x[:3], *[0, 1] * 50], [*y[:3], *[1, 0] * 50], ['a'] * 3 + ['b'] * 100)
    assert longer == pytest.approx((exact_ccc(x[:3], y[:3]) - 1) / 2)


def veatic(x, y, seed):
    """VEATIC's loop written out, with its sample moments, 1e-5 and running mean."""
    order = np.random.default_rng(seed).permutation(len(x))
    running, step = 0., 0
    for start in range(0, len(x), 20):
        a, b = x[order[start:start + 20]], y[order[start:start + 20]]
        if len(a) < 2:
            continue
        value = 2 * np.cov(a, b)[0, 1] / (np.std(a, ddof=1) ** 2 + np.std(b, ddof=1) ** 2
                                          + (np.mean(a) - np.mean(b)) ** 2 + 1e-5)
        running, step = (running * step + value) / (step + 1), step + 1
    return running


@pytest.mark.parametrize('n', [2, 19, 20, 21, 22, 41, 137])
def test_batches_of_twenty_are_veatics(n):
    rng = np.random.default_rng(n)
    x = rng.uniform(-1, 1, n)
    y = .6 * x + rng.normal(0, .2, n)
    assert ccc_batch20(x, y, seed=4) == pytest.approx(veatic(x, y, 4), rel=1e-9)
    assert ccc_batch20(x, y, seed=4) == ccc_batch20(x, y, seed=4)
    assert n < 22 or ccc_batch20(x, y, seed=5) != ccc_batch20(x, y, seed=4)


def test_batches_of_equal_constants_are_zero_as_in_veatic():
    assert ccc_batch20(np.full(45, .1), np.full(45, .1)) == 0


def test_bad_input_is_told():
    with pytest.raises(ValueError, match=r'1 of 3 values in y_true are not finite \(the first is number 1\)'):
        ccc([.1, np.nan, .2], [.1, .1, .1])
    with pytest.raises(ValueError, match='in y_pred are not finite.*diverged'):
        rmse([.1, .1], [np.inf, .2])
    with pytest.raises(ValueError, match='y_true has 2 ratings and y_pred 3'):
        pcc([.1, .2], [.1, .2, .3])
    with pytest.raises(ValueError, match=r'y_pred \(2, 2\).*one after the other'):
        sagr_sign([.1, .2], [[.1, .2], [.3, .4]])
    with pytest.raises(ValueError, match='1 names of videos came for 2 ratings'):
        ccc_per_video([.1, .2], [.1, .2], ['a'])
