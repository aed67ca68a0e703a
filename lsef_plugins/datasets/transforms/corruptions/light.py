r"""Corruptions of the light: each frame of a clip is multiplied by a gain of its own.

.. math::  x_t \mapsto x_t (1 + a s_t), \qquad \textstyle\sum_t s_t = 0, \quad \max_t |s_t| = 1

The amplitude :math:`a` is the level. Flicker draws the swing :math:`s` of each frame alone; a drift is half a period
to a whole one of a sinusoid over the clip, so neighbouring frames have nearly the same light.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .draws import Frames, to_pixels


def swung(frames: Sequence[np.ndarray], amplitude: float, swing: np.ndarray) -> Frames:
    """Each frame times ``1 + amplitude * swing``, once ``swing`` ``(t,)`` is centred and scaled to at most 1."""
    swing = swing - swing.mean()
    swing = swing / np.abs(swing).max()
    tables = [to_pixels(np.arange(256) * (1 + amplitude * s)) for s in swing]
    return [np.take(table, frame) for table, frame in zip(tables, frames)]


def flicker(frames: Sequence[np.ndarray], amplitude: float, rng: Any) -> Frames:
    """The light of each frame is multiplied by its own gain in ``[1 - amplitude, 1 + amplitude]``.

    The gains average to one over the clip (it flickers, it does not get darker), and one frame gets the full
    amplitude.
    """
    return swung(frames, amplitude, rng.uniform(-1, 1, len(frames)))


def light_drift(frames: Sequence[np.ndarray], amplitude: float, rng: Any) -> Frames:
    """The light drifts slowly, between ``1 - amplitude`` and ``1 + amplitude`` times its mean.

    A sinusoid with a period of one to two clips and any phase.
    """
    periods, phase = rng.uniform(0.5, 1), rng.uniform()
    place = np.arange(len(frames)) / (len(frames) - 1)
    return swung(frames, amplitude, np.cos(2 * np.pi * (periods * place + phase)))
