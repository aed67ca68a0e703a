r"""Numbers of robustness, from the performance :math:`P_{c,s}` under corruption c at severity s.

.. math::
    \mathrm{mPC} = \frac1{|C|} \sum_c \frac1{|S|} \sum_s P_{c,s}, \qquad
    \mathrm{rPC} = \frac{\mathrm{mPC}}{P_\text{clean}}, \qquad
    \mathrm{CE}_c = \frac{\sum_s (1 - P_{c,s})}{\sum_s (1 - P^\text{ref}_{c,s})}, \qquad
    \mathrm{mCE} = \frac1{|C|} \sum_c \mathrm{CE}_c

The relative mCE has :math:`\sum_s (P_\text{clean} - P_{c,s})` above and below: what corruption costs each model, its
clean error aside. P is a recall or a CCC, 1 at best. rPC is highest for a model that has nothing to lose (guessing: 1),
so it is read beside clean and mPC. Undefined is NaN: rPC with a clean performance of 0 or less, a relative CE whose
reference loses nothing. Curves are ``{corruption: {severity: P}}``. Only numpy is needed.

Source: mPC and rPC as Michaelis et al. (arXiv:1907.07484), mCE and relative mCE as ImageNet-C, the flip rate as
ImageNet-P (Hendrycks and Dietterich, arXiv:1903.12261), there between frames of a perturbed picture and normed by a
reference, here between windows of a video and as it is.
"""
from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

Curves = Mapping[str, Mapping[int, float]]


def mean_corrupted(curves: Curves) -> float:
    """mPC: the mean over severities, then over corruptions.

    Raises:
        ValueError: there is no corruption, or one without a severity.
    """
    return mean_of(corruption_means(curves))


def corruption_means(curves: Curves) -> dict[str, float]:
    """The mean over the severities of each corruption."""
    if not curves or not all(curves.values()):
        raise ValueError(f'A mean over corruptions needs at least one corruption with at least one severity, got '
                         f'{ {kind: sorted(curve) for kind, curve in curves.items()} }.')
    return {kind: float(np.mean(list(curve.values()))) for kind, curve in curves.items()}


def relative_performance(curves: Curves, clean: float) -> float:
    """rPC: mPC as a fraction of the clean performance; NaN where that is not above zero."""
    mean = mean_corrupted(curves)
    return mean / clean if clean > 0 else math.nan


def corruption_errors(curves: Curves, reference: Curves) -> dict[str, float]:
    """CE of each corruption as a fraction: 1 is as many errors as the reference makes.

    Raises:
        ValueError: the reference is not of the same corruptions and severities.
    """
    check_same(curves, reference)
    return {kind: ratio(sum(1 - value for value in curve.values()),
                        sum(1 - value for value in reference[kind].values())) for kind, curve in curves.items()}


def relative_errors(curves: Curves, clean: float, reference: Curves, reference_clean: float) -> dict[str, float]:
    """Relative CE of each corruption as a fraction: 1 is as much loss against clean as the reference has."""
    check_same(curves, reference)
    return {kind: ratio(sum(clean - value for value in curve.values()),
                        sum(reference_clean - value for value in reference[kind].values()))
            for kind, curve in curves.items()}


def mean_of(values: Mapping[str, float]) -> float:
    """The mean over corruptions, such as mCE of the CEs; NaN where one of them is not defined."""
    return float(np.mean(list(values.values())))


def ratio(above: float, below: float) -> float:
    """``above / below``; NaN where what is below is not above zero."""
    return above / below if below > 0 else math.nan


def check_same(curves: Curves, reference: Curves) -> None:
    """ValueError where the reference lacks a corruption or has other severities."""
    for kind, curve in curves.items():
        other = reference.get(kind, {})
        if sorted(curve) != sorted(other):
            raise ValueError(f'{kind} has severities {sorted(curve)} and the reference {sorted(other)}: error ratios '
                             'are taken over the same corruptions and severities. Measure the reference with these.')


def flip_rate(classes: Any) -> float:
    """Share of neighbouring windows whose predicted class differs, over all videos.

    Args:
        classes: ``(n, w)`` integer, the class of each of w windows in their order in time, for n videos.

    Returns:
        A fraction in [0, 1]: 0 for a constant prediction in each video.

    Raises:
        ValueError: fewer than two windows, or no video.
    """
    classes = np.asarray(classes)
    if classes.ndim != 2 or classes.shape[0] < 1 or classes.shape[1] < 2:
        raise ValueError(f'classes {classes.shape} must be the classes of at least two windows of at least one video, '
                         'shape (n, w).')
    return float((classes[:, 1:] != classes[:, :-1]).mean())
