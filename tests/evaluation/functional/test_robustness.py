"""Laws of the numbers of robustness: small cases by hand, and what each number must not be moved by."""
import math

import numpy as np
import pytest

from lsef_plugins.evaluation.functional import (
    corruption_errors,
    corruption_means,
    flip_rate,
    mean_corrupted,
    mean_of,
    relative_errors,
    relative_performance,
)


def curves(seed=0, kinds=4, severities=5, low=0.1, high=0.7):
    rng = np.random.default_rng(seed)
    return {f'kind{k}': {s: float(rng.uniform(low, high)) for s in range(1, severities + 1)} for k in range(kinds)}


def test_mpc_is_the_mean_of_the_corruptions_means():
    found = {'a': {1: 0.8, 3: 0.4}, 'b': {2: 0.2}}
    assert corruption_means(found) == pytest.approx({'a': 0.6, 'b': 0.2})
    assert mean_corrupted(found) == pytest.approx(0.4), 'a corruption with more severities has no more weight'
    assert relative_performance(found, 0.8) == pytest.approx(0.5)


def test_a_model_that_guesses_has_the_best_rpc_and_the_worst_mpc():
    guess = {kind: dict.fromkeys(curve, 1 / 7) for kind, curve in curves().items()}
    good = curves(low=0.4, high=0.8)
    assert relative_performance(guess, 1 / 7) == pytest.approx(1)
    assert relative_performance(good, 0.9) < 0.9
    assert mean_corrupted(guess) < mean_corrupted(good)


@pytest.mark.parametrize('clean', (0., -0.2, math.nan))
def test_rpc_of_nothing_is_not_defined(clean):
    assert math.isnan(relative_performance(curves(), clean))


def test_the_mce_of_a_model_against_itself_is_one():
    own = curves()
    assert corruption_errors(own, own) == pytest.approx(dict.fromkeys(own, 1.))
    assert mean_of(corruption_errors(own, own)) == pytest.approx(1)
    assert mean_of(relative_errors(own, 0.9, own, 0.9)) == pytest.approx(1)


def test_mce_by_hand():
    model, reference = {'a': {1: 0.9, 2: 0.7}, 'b': {1: 0.5, 2: 0.5}}, {'a': {1: 0.5, 2: 0.3}, 'b': {1: 0.8, 2: 0.7}}
    assert corruption_errors(model, reference) == pytest.approx({'a': 0.4 / 1.2, 'b': 1.0 / 0.5})
    assert mean_of(corruption_errors(model, reference)) == pytest.approx((1 / 3 + 2) / 2)
    relative = relative_errors(model, 0.95, reference, 0.9)
    assert relative == pytest.approx({'a': (0.05 + 0.25) / (0.4 + 0.6), 'b': 0.9 / (0.1 + 0.2)})


def test_mce_sums_over_severities_before_it_divides():
    """A mean of ratios would let one severity at which the reference is nearly perfect decide."""
    model, reference = {'a': {1: 0.5, 2: 0.5}}, {'a': {1: 0.999, 2: 0.5}}
    assert corruption_errors(model, reference)['a'] == pytest.approx(1 / 0.501)


def test_half_the_errors_everywhere_is_an_mce_of_one_half_and_the_relative_one_ignores_the_clean_error():
    reference = curves()
    half = {kind: {s: 1 - (1 - value) / 2 for s, value in curve.items()} for kind, curve in reference.items()}
    assert mean_of(corruption_errors(half, reference)) == pytest.approx(0.5)
    shifted = {kind: {s: value + 0.2 for s, value in curve.items()} for kind, curve in reference.items()}
    assert mean_of(relative_errors(shifted, 0.95, reference, 0.75)) == pytest.approx(1)
    assert mean_of(corruption_errors(shifted, reference)) < 1


def test_what_the_reference_does_not_lose_cannot_be_related_to():
    own = {'a': {1: 0.5}, 'b': {1: 0.5}}
    better = relative_errors(own, 0.6, {'a': {1: 0.7}, 'b': {1: 0.4}}, 0.7)
    assert math.isnan(better['a']) and better['b'] == pytest.approx(1 / 3) and math.isnan(mean_of(better))
    gains = relative_errors(own, 0.6, {'a': {1: 0.8}, 'b': {1: 0.4}}, 0.7)
    assert math.isnan(gains['a']), 'a reference that gains by corruption is no measure of loss'


def test_other_conditions_are_no_reference():
    with pytest.raises(ValueError, match=r'kind3 has severities \[1, 2, 3, 4, 5\] and the reference \[\].*Measure the'):
        corruption_errors(curves(), curves(kinds=3))
    with pytest.raises(ValueError, match=r'kind0 has severities \[1, 2, 3\] and the reference \[1, 2, 3, 4, 5\]'):
        relative_errors(curves(severities=3), 0.9, curves(), 0.9)
    assert corruption_errors(curves(kinds=3), curves()), 'more in the reference is no fault'


@pytest.mark.parametrize('empty', ({}, {'a': {}}))
def test_a_mean_of_nothing_is_refused(empty):
    with pytest.raises(ValueError, match='at least one corruption'):
        mean_corrupted(empty)


def test_the_flip_rate_counts_neighbours():
    assert flip_rate([[0, 0, 1, 1], [2, 3, 2, 3]]) == pytest.approx((1 + 3) / 6)
    assert flip_rate(np.full((3, 5), 4)) == 0 and flip_rate([[0, 1] * 4]) == 1
    classes = np.random.default_rng(0).integers(0, 7, (400, 9))
    assert flip_rate(classes) == pytest.approx(6 / 7, abs=0.03)
    assert flip_rate(classes) == flip_rate(classes[:, ::-1]) == flip_rate((classes * 3 + 1) % 7)


@pytest.mark.parametrize('classes', ([0, 1, 2], [[0], [1]], np.zeros((0, 3), int)))
def test_one_window_has_no_neighbour(classes):
    with pytest.raises(ValueError, match='at least two windows'):
        flip_rate(classes)
