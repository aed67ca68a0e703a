"""Angles between subspaces: known on planted bases, blind to what does not matter, not kind to an empty answer."""
import numpy as np
import pytest

from lsef_plugins.evaluation.functional import base_drift, energy_inside, span_basis, subspace_angles
from lsef_plugins.evaluation.functional.subspaces import drift_of_products, without_mean

T = 12


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def orthonormal(rng, t, k):
    return np.linalg.qr(rng.normal(size=(t, k)))[0]


@pytest.mark.parametrize('angle', [0., 1e-9, 1e-5, .3, 30., 45., 89., 90 - 1e-9, 90.])
def test_a_planted_angle_is_found_at_both_ends_of_the_range(rng, angle):
    a = orthonormal(rng, T, 4)
    turned = np.cos(np.radians(angle)) * a[:, 0] + np.sin(np.radians(angle)) * a[:, 3]
    found = subspace_angles(a[:, :2], np.stack([a[:, 1], turned], 1))
    np.testing.assert_allclose(found, [0, angle], rtol=0, atol=1e-12)


@pytest.mark.parametrize('k, r', [(1, 1), (2, 2), (2, 3), (3, 5)])
def test_they_are_those_of_an_independent_implementation(rng, k, r):
    scipy = pytest.importorskip('scipy.linalg')
    a, b = rng.normal(size=(T, k)), rng.normal(size=(T, r))
    np.testing.assert_allclose(subspace_angles(a, b), np.degrees(scipy.subspace_angles(a, b))[::-1], atol=1e-9)


def test_scale_order_sign_and_mixture_of_columns_do_not_matter(rng):
    a, b = rng.normal(size=(T, 2)), rng.normal(size=(T, 3))
    expected = subspace_angles(a, b)
    assert expected.max() > 10
    for changed in (1e-200 * a, 1e200 * a, -a[:, ::-1], a @ rng.normal(size=(2, 2)), np.c_[a, a[:, 0]]):
        np.testing.assert_allclose(subspace_angles(changed, b), expected, atol=1e-7)
    for changed in (1e-200 * b, b[:, ::-1], b @ rng.normal(size=(3, 3))):
        np.testing.assert_allclose(subspace_angles(a, changed), expected, atol=1e-7)
    rotation = orthonormal(rng, T, T)
    np.testing.assert_allclose(subspace_angles(rotation @ a, rotation @ b), expected, atol=1e-7)
    np.testing.assert_allclose(subspace_angles(a[::-1], b[::-1]), expected, atol=1e-7)


@pytest.mark.parametrize('r', [1, 3, 7])
def test_a_random_subspace_holds_r_of_t_parts_of_a_direction(rng, r):
    """The mean of cos^2 is r / t: what an answer that knows nothing scores."""
    line = rng.normal(size=(T, 1))
    cosines = [np.cos(np.radians(subspace_angles(line, rng.normal(size=(T, r)))[0])) ** 2 for _ in range(2000)]
    # The standard error of the mean is below .28 / 2000 ** .5 = .0063
    assert np.mean(cosines) == pytest.approx(r / T, abs=.025)
    inside = [energy_inside(line, rng.normal(size=(T, r))) for _ in range(2000)]
    assert np.mean(inside) == pytest.approx(r / T, abs=.025)


def test_a_direction_without_room_stands_at_ninety_degrees_and_one_too_many_costs_nothing(rng):
    a = orthonormal(rng, T, 3)
    np.testing.assert_allclose(subspace_angles(a, a[:, :1]), [0, 90, 90], atol=1e-9)
    np.testing.assert_allclose(subspace_angles(a, np.zeros((T, 2))), [90, 90, 90])
    np.testing.assert_allclose(subspace_angles(a, np.zeros((T, 0))), [90, 90, 90])
    np.testing.assert_allclose(subspace_angles(a[:, :1], a), [0], atol=1e-9)
    assert subspace_angles(np.zeros((T, 2)), a).shape == (0, )


def test_rounding_is_no_direction_and_the_caller_may_say_where_it_begins(rng):
    a = orthonormal(rng, T, 2)
    faint = np.stack([a[:, 0], 1e-4 * a[:, 1]], 1)
    assert span_basis(faint).shape == (T, 1) and span_basis(faint, 1e-9).shape == (T, 2)
    assert span_basis(np.stack([a[:, 0], 1e-2 * a[:, 1]], 1)).shape == (T, 2)


def test_both_sides_of_a_planted_matrix_have_angles(rng):
    curves, patterns = orthonormal(rng, T, 2), orthonormal(rng, 40, 2)
    planted = curves @ np.diag([3., 1.]) @ patterns.T
    for side in (planted, planted.T):
        np.testing.assert_allclose(subspace_angles(side, side), [0, 0], atol=1e-9)
    other = curves @ np.diag([2., 5.]) @ orthonormal(rng, 40, 2).T
    assert subspace_angles(planted, other).max() < 1e-9 and subspace_angles(planted.T, other.T).min() > 30


def test_energy_inside_is_the_share_of_a_known_mixture(rng):
    a = orthonormal(rng, T, 3)
    curve = (3 * a[:, 0] + 4 * a[:, 1])[:, None]
    assert energy_inside(curve, a[:, :1]) == pytest.approx(9 / 25)
    assert energy_inside(1e-180 * curve, 1e180 * a[:, :2]) == pytest.approx(1)
    assert energy_inside(curve, a[:, 2:]) == pytest.approx(0, abs=1e-12)
    assert energy_inside(curve, np.zeros((T, 0))) == 0 and np.isnan(energy_inside(0 * curve, a))


def test_a_constant_does_not_change():
    curves = np.stack([np.full(T, .1), np.arange(T)], 1)
    change = without_mean(curves)
    assert not change[:, 0].any() and change[:, 1] == pytest.approx(np.arange(T) - 5.5)


def test_drift_is_one_minus_cosine(rng):
    a, b = rng.normal(size=(2, 3, 4, 5))
    assert base_drift(a, a) == pytest.approx(0, abs=1e-12) and base_drift(a, 1e200 * a) == pytest.approx(0, abs=1e-12)
    assert base_drift(a, -a) == pytest.approx(2)
    b -= a * (a * b).sum() / (a * a).sum()
    assert base_drift(a, b) == pytest.approx(1)
    b *= np.linalg.norm(a) / np.linalg.norm(b)
    assert base_drift(a, np.cos(.3) * a + np.sin(.3) * b) == pytest.approx(1 - np.cos(.3))
    assert base_drift(a, 0 * a) == base_drift(0 * a, a) == 1 and base_drift(0 * a, 0 * a) == 0
    np.testing.assert_allclose(drift_of_products([2., 0., 0.], [1., 0., 0.], [4., 0., 3.]), [0, 0, 1])


@pytest.mark.parametrize('call, words', [
    (lambda: subspace_angles(np.ones((3, 1)), np.ones((4, 1))), 'of 3 and 4 frames'),
    (lambda: subspace_angles(np.ones(3), np.ones((3, 1))), r'got shape \(3,\)'),
    (lambda: span_basis([[np.nan]]), 'finite numbers'),
    (lambda: span_basis(np.ones((3, 1)), 1.), 'energy_ratio is a share'),
    (lambda: energy_inside(np.ones((3, 1)), np.ones((4, 1))), 'of 3 frames.*of 4'),
    (lambda: base_drift(np.ones(3), np.ones(4)), r'one shape, got \(3,\) and \(4,\)'),
    (lambda: base_drift([np.inf], [1.]), 'not finite')])
def test_wrong_input_is_told(call, words):
    with pytest.raises(ValueError, match=words):
        call()
