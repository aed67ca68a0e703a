"""Intervals hold the truth as often as they say, and are those of an independent implementation."""
import numpy as np
import pytest
from scipy.stats import bootstrap

from lsef_plugins.evaluation.functional import (
    ccc,
    ccc_per_video,
    confusion_matrix,
    interval,
    pcc,
    rating_intervals,
    recall_intervals,
    rmse,
    sagr_product,
    sagr_sign,
    uar,
)


def labels(n=300, k=4, seed=0):
    rng = np.random.default_rng(seed)
    truth = rng.choice(k, n, p=[.5, .3, .15, .05])
    return truth, np.where(rng.random(n) < .7, truth, rng.integers(0, k, n))


def test_intervals_of_recall_are_those_of_resampled_clips():
    truth, predicted = labels()
    ours = recall_intervals(confusion_matrix(truth, predicted, 4), repetitions=4000)
    stated = dict(war=lambda t, p: np.mean(t == p),
                  uar=lambda t, p: np.mean([np.mean(p[t == c] == c) for c in np.unique(t)]))
    for name, statistic in stated.items():
        theirs = bootstrap((truth, predicted), statistic, paired=True, vectorized=False, n_resamples=4000,
                           method='percentile', rng=np.random.default_rng(1)).confidence_interval
        assert ours[name] == pytest.approx((theirs.low, theirs.high), abs=.012), name
        assert ours[name][1] - ours[name][0] > .05


def test_the_interval_of_accuracy_holds_the_truth_as_often_as_it_says():
    """Accuracy 0.7 on 150 clips: of 400 sets about 95 % (binomial: 91.7 to 97.6 % in all but 1 of 500 runs)."""
    rng, held = np.random.default_rng(0), 0
    for seed in range(400):
        hits = rng.random(150) < .7
        matrix = confusion_matrix(np.zeros(150, int), np.where(hits, 0, 1), 2)
        low, high = recall_intervals(matrix, repetitions=400, seed=seed)['war']
        held += low <= .7 <= high
    assert .91 <= held / 400 <= .98


def test_a_class_that_a_repetition_lacks_does_not_vote_there():
    matrix = np.array([[40, 0], [0, 1]])       # right everywhere: UAR is 1 in every repetition, with or without class 1
    assert recall_intervals(matrix)['uar'] == (1., 1.)


def test_seeded_and_inside_of_zero_and_one():
    matrix = confusion_matrix(*labels(), 4)
    first = recall_intervals(matrix, seed=3)
    assert first == recall_intervals(matrix, seed=3) != recall_intervals(matrix, seed=4)
    assert 0 <= first['uar'][0] < uar(matrix) < first['uar'][1] <= 1


def ratings(videos=8, seed=0):
    rng = np.random.default_rng(seed)
    units = np.concatenate([np.full(n, v) for v, n in enumerate(rng.integers(3, 30, videos))])
    x = rng.uniform(-1, 1, videos)[units] + rng.normal(0, .2, len(units))
    y = .7 * x + rng.normal(0, .2, len(units)) + .1
    return x, y, units


def plain_repetitions(x, y, units, repetitions, rng):
    """Whole videos drawn and pooled, frame by frame."""
    names = np.unique(units)
    found = {name: [] for name in ('ccc_global', 'ccc_per_video', 'pcc_global', 'rmse_global', 'sagr_product',
                                   'sagr_sign')}
    for _ in range(repetitions):
        drawn = rng.choice(names, len(names))
        rows = np.concatenate([np.flatnonzero(units == v) for v in drawn])
        copies = np.concatenate([np.full((units == v).sum(), copy) for copy, v in enumerate(drawn)])
        a, b = x[rows], y[rows]
        for name, value in (('ccc_global', ccc(a, b)), ('ccc_per_video', ccc_per_video(a, b, copies.tolist())),
                            ('pcc_global', pcc(a, b)), ('rmse_global', rmse(a, b)),
                            ('sagr_product', sagr_product(a, b)), ('sagr_sign', sagr_sign(a, b))):
            found[name].append(value)
    return found


@pytest.mark.parametrize('offset', [0., 1e6])
def test_intervals_of_ratings_are_those_of_resampled_videos(offset):
    x, y, units = ratings()
    ours = rating_intervals(x + offset, y + offset, units.tolist(), repetitions=3000)
    theirs = plain_repetitions(x + offset, y + offset, units, 1200, np.random.default_rng(7))
    for name, values in theirs.items():
        width = np.ptp(np.quantile(values, [.025, .975]))
        assert ours[name] == pytest.approx(interval(values), abs=.12 * width + 1e-9), name
        assert offset or ours[name][1] > ours[name][0]


@pytest.mark.parametrize('frames', range(3, 12))
def test_a_repetition_of_constants_alone_has_no_correlation(frames):
    """Half of the draws of two still videos and a lively one hold a still one alone, up to rounding."""
    rng = np.random.default_rng(frames)
    x = np.concatenate([np.full(frames, .1), np.full(frames, .1), rng.uniform(-1, 1, 5)])
    y = .9 * x + .1 * rng.normal(size=len(x))
    units = [0] * frames + [1] * frames + [2] * 5
    low, high = rating_intervals(x, y, units)['pcc_global']
    assert .5 < low <= high <= 1


def test_frames_of_one_video_are_no_evidence_of_their_own():
    x, y, units = ratings()
    by_video = rating_intervals(x, y, units.tolist())['ccc_global']
    by_frame = rating_intervals(x, y, list(range(len(x))))['ccc_global']
    assert by_video[1] - by_video[0] > 1.3 * (by_frame[1] - by_frame[0])


def test_nothing_can_be_told_from_one_video_and_constants_have_no_correlation():
    assert np.isnan(list(rating_intervals([.1, .2, .3], [.1, .2, .4], ['a'] * 3).values())).all()
    still = rating_intervals([.1] * 6, [.2, .3, .4] * 2, [0, 0, 0, 1, 1, 1])
    assert still['ccc_global'] == (0, 0) and np.isnan(still['pcc_global']).all()
    both = rating_intervals([.1] * 6, [.1] * 6, [0, 0, 0, 1, 1, 1])
    assert np.isnan(both['ccc_global']).all() and both['rmse_global'] == (0, 0)


def test_bad_input_is_told():
    for repetitions in (99, 1e3, True):
        with pytest.raises(ValueError, match='at least 100 repetitions'):
            recall_intervals(np.eye(2, dtype=int), repetitions=repetitions)
    with pytest.raises(ValueError, match=r'between 0 and 1, such as 0\.95, got 95'):
        interval([1., 2.], 95)
    assert interval([1., np.nan, 3.], .5) == (1.5, 2.5)
