r"""How near a recovered stable part is to the planted one: angles between subspaces, shares of energy, drift.

A stable part is low rank: a few directions carry it. Directions are compared, not numbers: with orthonormal bases
:math:`Q_A` of what was planted and :math:`Q_B` of what was found, the principal angles :math:`\theta_i` from A to B
have

.. math::  \sin\theta_i = \sigma_i\bigl((I - Q_B Q_B^\top)\, Q_A\bigr), \qquad \cos\theta_i = \sigma_i(Q_B^\top Q_A),

one for each direction of A. A direction that B has no room for stands at 90 degrees, so that finding nothing is not
finding everything; what B has beyond A costs nothing here (:func:`energy_inside` of B in A asks for that). Neither the
scale nor the order, sign or mixture of columns matters.

Two sides of a ``(t, d)`` matrix (frames by features) have subspaces: its *curves* over time (columns), and its
*patterns* of features (rows; hand over the transpose). On features of a network only the curves have a planted truth.
Axes: ``t`` frames (or any common axis), ``k`` planted curves, ``r`` found ones, ``d`` features.
"""
from __future__ import annotations

from typing import Any

import numpy as np

#: A direction with less than this part of the strongest one's energy is rounding.
ENERGY_RATIO = 1e-6


def span_basis(curves: Any, energy_ratio: float = ENERGY_RATIO) -> np.ndarray:
    """An orthonormal basis ``(t, rank)`` of what columns ``(t, k)`` span; ``(t, 0)`` of nothing or zeros.

    Args:
        energy_ratio: directions with less than this part of the strongest one's energy are left out.

    Raises:
        ValueError: not a matrix, or not finite.
    """
    curves = _matrix(curves, 'curves')
    if not 0 <= energy_ratio < 1:
        raise ValueError(f'energy_ratio is a share of the strongest direction, from 0 to below 1, got {energy_ratio}.')
    peak = np.abs(curves).max(initial=0.)
    if not peak:
        return np.zeros((len(curves), 0))
    left, values, _ = np.linalg.svd(curves / peak, full_matrices=False)
    rounding = max(curves.shape) * np.finfo(float).eps
    return left[:, values > max(energy_ratio ** .5, rounding) * values[0]]


def subspace_angles(planted: Any, found: Any, energy_ratio: float = ENERGY_RATIO) -> np.ndarray:
    """Principal angles from each direction of ``planted`` ``(t, k)`` to the span of ``found`` ``(t, r)``.

    Returns:
        ``(rank of planted,)`` in degrees, ascending, in [0, 90]; empty where nothing was planted. With equal ranks the
        order of the arguments does not matter.

    Raises:
        ValueError: the two have not as many rows, are no matrices or not finite.
    """
    a, b = span_basis(planted, energy_ratio), span_basis(found, energy_ratio)
    if len(a) != len(b):
        raise ValueError(f'planted and found curves are of {len(a)} and {len(b)} frames; they must be sampled at the '
                         'same ones, (t, k) and (t, r).')
    if not a.shape[1]:
        return np.zeros(0)
    common = b.T @ a
    sines = np.sort(np.linalg.svd(a - b @ common, compute_uv=False))
    cosines = np.zeros(a.shape[1])
    cosines[:min(common.shape)] = np.linalg.svd(common, compute_uv=False) if min(common.shape) else 0
    # Sine and cosine together are exact at both ends, where either alone is not.
    return np.degrees(np.arctan2(sines, cosines))


def energy_inside(curves: Any, within: Any, energy_ratio: float = ENERGY_RATIO) -> float:
    """Share of the energy of ``curves`` ``(t, k)`` that lies in the span of ``within`` ``(t, r)``, in [0, 1].

    NaN where the curves are zero.
    """
    curves, basis = _matrix(curves, 'curves'), span_basis(within, energy_ratio)
    if len(curves) != len(basis):
        raise ValueError(f'curves are of {len(curves)} frames and what they are to lie in of {len(basis)}; sample both '
                         'at the same frames.')
    peak = np.abs(curves).max(initial=0.)
    if not peak:
        return float('nan')
    curves = curves / peak
    return float(min(((basis.T @ curves) ** 2).sum() / (curves ** 2).sum(), 1.))


def without_mean(curves: Any) -> np.ndarray:
    """Curves ``(t, k)`` around their own mean over time: what of them changes. Rounding of constants is zero."""
    curves = _matrix(curves, 'curves')
    change = curves - curves.mean(0)
    return np.where(np.abs(change).max(0) > 1e-12 * np.abs(curves).max(0), change, 0.)


def base_drift(clean: Any, corrupted: Any) -> float:
    """How far a corruption turns the stable part of a clip: 1 - cosine of the two, any equal shapes.

    Returns:
        0 (the same but for its scale) to 2 (its opposite); 1 where only one of the two is zero, 0 where both are.

    Raises:
        ValueError: the shapes differ, or something is not finite.
    """
    clean, corrupted = np.asarray(clean, dtype=np.float64), np.asarray(corrupted, dtype=np.float64)
    if clean.shape != corrupted.shape:
        raise ValueError(f'The stable parts of a clip and of its corrupted twin have one shape, got {clean.shape} and '
                         f'{corrupted.shape}.')
    if not (np.isfinite(clean).all() and np.isfinite(corrupted).all()):
        raise ValueError('base_drift was given numbers that are not finite.')
    # Each over its peak: no square leaves the range.
    first, second = (each / (np.abs(each).max(initial=0.) or 1.) for each in (clean, corrupted))
    return float(drift_of_products((first * second).sum(), (first ** 2).sum(), (second ** 2).sum()))


def drift_of_products(inner: Any, clean_energy: Any, corrupted_energy: Any) -> np.ndarray:
    """:func:`base_drift` of the inner product of two stable parts and their energies, element by element."""
    inner, first, second = np.broadcast_arrays(*(np.asarray(each, dtype=np.float64) for each in (
        inner, clean_energy, corrupted_energy)))
    both = (first > 0) & (second > 0)
    norms = np.sqrt(np.where(both, first, 1.)) * np.sqrt(np.where(both, second, 1.))
    drift = np.clip(1 - np.where(both, inner, 0.) / norms, 0., 2.)
    return np.where((first > 0) | (second > 0), drift, 0.)


def _matrix(values: Any, name: str) -> np.ndarray:
    matrix = np.asarray(values, dtype=np.float64)
    if matrix.ndim != 2 or not np.isfinite(matrix).all():
        raise ValueError(f'{name} are finite numbers (t, k), one column for each curve over t frames, got shape '
                         f'{matrix.shape}.')
    return matrix
