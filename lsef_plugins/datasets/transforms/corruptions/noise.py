r"""Sensor noise on every pixel of every frame, drawn anew for each.

A pixel's noise is a quantile of its distribution at one uniform number u of 12 or 16 bits, read from a table: a tenth
of the time of numpy's own draws, and the five severities of a clip are the same u. Nothing lies beyond the quantile of
the last bit, 4.3 (gaussian) and 3.7 (shot) standard deviations.

Source: severities of ImageNet-C (Hendrycks and Dietterich, arXiv:1903.12261; hendrycks/robustness), there for pictures
of 224 x 224 pixels. Independent noise averages out where a large frame is made small afterwards.
"""
from __future__ import annotations

import functools
from collections.abc import Sequence
from statistics import NormalDist
from typing import Any

import numpy as np

from .draws import Frames

GAUSSIAN_BITS, SHOT_BITS = 16, 12


@functools.lru_cache(maxsize=1)
def normal_quantiles() -> np.ndarray:
    """``(2^16,)`` float64: the standard normal at the middles of equal shares."""
    inverse, steps = NormalDist().inv_cdf, 1 << GAUSSIAN_BITS
    half = np.array([inverse((i + 0.5) / steps) for i in range(steps // 2)])
    return np.concatenate([half, -half[::-1]])


@functools.lru_cache(maxsize=5)
def shot_table(photons: float) -> np.ndarray:
    """``(256, 2^12)`` uint8: what a pixel of each value becomes at each share, with ``photons`` at full white."""
    mean = np.arange(256)[:, None] * photons / 255                          # (256, 1)
    count = np.arange(int(photons + 9 * photons ** 0.5) + 9)                # (k,), beyond it nothing is likely
    logs = np.concatenate([[0.], np.log(np.arange(1, len(count))).cumsum()])
    with np.errstate(divide='ignore', invalid='ignore'):
        power = np.where(count == 0, 0., count * np.log(mean))
    below = np.exp(power - mean - logs).cumsum(1)                           # (256, k)
    shares = (np.arange(1 << SHOT_BITS) + 0.5) / (1 << SHOT_BITS)
    caught = np.stack([np.searchsorted(row, shares) for row in below])
    return np.rint(np.clip(caught * 255 / photons, 0, 255)).astype(np.uint8)


def gaussian_noise(frames: Sequence[np.ndarray], sigma: float, rng: Any) -> Frames:
    """Gaussian noise of standard deviation ``sigma`` (grey values), independent per pixel, channel and frame."""
    table = np.rint(sigma * normal_quantiles()).astype(np.int16)
    out = []
    for frame in frames:
        noise = np.take(table, rng.randint(0, 1 << GAUSSIAN_BITS, frame.shape, dtype=np.uint16))
        noise += frame
        out.append(np.clip(noise, 0, 255, out=noise).astype(np.uint8))
    return out


def shot_noise(frames: Sequence[np.ndarray], photons: float, rng: Any) -> Frames:
    """Photons are counted, ``photons`` of them at full white: Poisson noise, strong where the picture is bright."""
    table = shot_table(photons).ravel()
    out = []
    for frame in frames:
        index = frame.astype(np.intp) << SHOT_BITS
        index += rng.randint(0, 1 << GAUSSIAN_BITS, frame.shape, dtype=np.uint16) >> (GAUSSIAN_BITS - SHOT_BITS)
        out.append(np.take(table, index))
    return out
