"""Planted against found events: a perfect answer scores one, every error is counted once and in its own place."""
import numpy as np
import pytest

from lsef_plugins.evaluation.functional.events import (
    Counts,
    event_counts,
    event_ious,
    frame_counts,
    mask_of,
    match_events,
    runs,
    separation,
)

T = 20


def test_runs_and_masks_are_two_ways_to_write_the_same():
    rng = np.random.default_rng(0)
    for share in (0, .2, .8, 1):
        mask = rng.random(T) < share
        assert (mask_of(runs(mask), T) == mask).all()
    assert runs(np.array([True, True, False, True])).tolist() == [[0, 1], [3, 3]]
    assert runs(np.zeros(5, bool)).shape == (0, 2)


def test_what_was_planted_scores_perfect_and_its_shift_by_one_does_not():
    planted = mask_of([(3, 6), (12, 15)], T)
    perfect = frame_counts(planted, planted)
    assert perfect == Counts(8, 0, 0) and perfect.precision == perfect.recall == perfect.iou == perfect.f1 == 1
    shifted = frame_counts(planted, np.roll(planted, 1))
    assert shifted == Counts(6, 2, 2) and shifted.iou == pytest.approx(.6) and shifted.precision == .75


def test_false_and_missed_are_not_each_other():
    planted, found = mask_of([(0, 3)], T), mask_of([(0, 1)], T)
    less, more = frame_counts(planted, found), frame_counts(found, planted)
    assert (less.precision, less.recall) == (1, .5) and (more.precision, more.recall) == (.5, 1)
    assert less.iou == more.iou == .5 and less.f1 == pytest.approx(2 / 3)


def test_ratios_of_nothing_are_not_defined():
    nothing = frame_counts(np.zeros(T, bool), np.zeros(T, bool))
    assert all(np.isnan(each) for each in (nothing.precision, nothing.recall, nothing.iou, nothing.f1))
    assert Counts(0, 1, 1).f1 == 0


def test_iou_in_time_counts_both_ends():
    ious = event_ious([(2, 5), (10, 10)], [(2, 5), (4, 7), (6, 9), (10, 10), (3, 4)])
    assert ious[0].tolist() == pytest.approx([1, 2 / 6, 0, 0, .5]) and ious[1].tolist() == [0, 0, 0, 1, 0]


def test_each_event_is_matched_once_and_the_best_pair_goes_first():
    # One long found event covers two planted ones: it may answer for one.
    assert match_events([(0, 3), (5, 8)], [(0, 8)], .3) == [(0, 0)]
    # Two found ones in one planted one: the better one, though it comes later.
    assert match_events([(0, 9)], [(0, 3), (2, 9)], .3) == [(0, 1)]
    assert match_events([(0, 4), (6, 9)], [(6, 9), (0, 4)]) == [(0, 1), (1, 0)]
    assert match_events([], [(0, 1)]) == match_events([(0, 1)], []) == match_events([], []) == []


def test_an_event_counts_from_the_least_iou_on():
    assert event_counts([(0, 3)], [(0, 1)], .5) == Counts(1, 0, 0)
    assert event_counts([(0, 3)], [(0, 1)], .51) == Counts(0, 1, 1)
    assert event_counts([(0, 3), (8, 9)], [(0, 3), (15, 15), (17, 18)]) == Counts(1, 2, 1)


def test_the_order_of_events_does_not_matter():
    rng = np.random.default_rng(1)
    planted, found = runs(rng.random(60) < .5), runs(rng.random(60) < .5)
    for _ in range(5):
        shuffled = event_counts(rng.permutation(planted), rng.permutation(found), .3)
        assert shuffled == event_counts(planted, found, .3)


def test_separation_is_a_rank_probability():
    rng = np.random.default_rng(2)
    mask, scores = rng.random(T) < .4, rng.normal(size=T)
    metrics = pytest.importorskip('sklearn.metrics')
    tied = np.round(scores)
    assert separation(tied, mask) == pytest.approx(metrics.roc_auc_score(mask, tied))
    assert separation(np.exp(scores), mask) == separation(scores, mask) == pytest.approx(1 - separation(-scores, mask))
    assert separation(mask.astype(float), mask) == 1 and separation(np.ones(T), mask) == .5
    assert np.isnan(separation(scores, np.ones(T, bool))) and np.isnan(separation(scores, np.zeros(T, bool)))


@pytest.mark.parametrize('call, words', [
    (lambda: match_events([(0, 1)], [(0, 1)], 0), 'min_iou is above 0'),
    (lambda: event_counts([(3, 1)], []), r'pairs \(first, last\).*\[\[3.0, 1.0\]\]'),
    (lambda: event_counts([(0, .5)], []), 'pairs'), (lambda: event_counts([(-1, 1)], []), 'counted from 0'),
    (lambda: mask_of([(0, 5)], 5), 'ends at frame 5 of a clip of 5'),
    (lambda: frame_counts([True], [True, False]), 'same frames'),
    (lambda: runs([0, 1]), r'\(t,\) bool, got \(2,\) int'),
    (lambda: separation([1.], [True, False]), 'one finite number')])
def test_wrong_input_is_told(call, words):
    with pytest.raises(ValueError, match=words):
        call()
