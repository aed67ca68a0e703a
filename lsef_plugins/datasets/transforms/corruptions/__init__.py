r"""Clips broken on purpose: one clip in, one clip of equal length out.

A corruption is a function ``(frames, level, rng) -> frames`` of one clip: ``t`` images ``(h, w, c)`` uint8 in
the order they were filmed. It draws *where* before it looks at *how much*: from the same random state a stronger level
goes on where a weaker one stopped (a drop loses the frames already lost and more, a patch covers the patch, noise moves
a pixel farther). So the five severities of one clip are one experiment, not five draws. Exceptions: the jumbled orders
of two window lengths and the frames held at two frame rates share their draws but are not nested.

Frames a corruption leaves alone come back as the very same objects, all others as new arrays that share memory with
nothing: inputs may alias one another (looped indices) and are never written to, and a later transform that writes in
place cannot paint one frame through another.

Only numpy and OpenCV are needed. The draws use ``numpy.random.RandomState``, whose stream numpy keeps frozen between
releases, seeded with a BLAKE2 hash: the same on every machine, in every worker, in any order. Blurs, resizing and JPEG
are OpenCV's, whose releases may differ by a grey value.
"""
from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from .draws import Corruption, Frames, affected_count, sample_rng
from .light import flicker, light_drift
from .noise import gaussian_noise, shot_noise
from .occlusion import (
    EYES_SIZES,
    MOUTH_SIZES,
    brief_occlusion,
    eyes_occlusion,
    mouth_occlusion,
    moving_occlusion,
)
from .optics import camera_shake, defocus, jpeg, low_resolution, motion_blur
from .temporal import (
    black_frames,
    drop_sources,
    frame_drop,
    frame_freeze,
    frame_jumble,
    frame_rate,
    freeze_sources,
    jumble_sources,
    loop_sources,
    looped_tail,
    noise_burst,
    rate_sources,
)

__all__ = ['CORRUPTIONS', 'GROUPS', 'MAX_SEVERITY', 'OCCLUSIONS', 'SPATIAL_CORRUPTIONS', 'TEMPORAL_CORRUPTIONS',
           'Corruption', 'Frames', 'affected_count', 'check_kind', 'check_kinds', 'check_severity', 'corrupt_clip',
           'drop_sources', 'freeze_sources', 'jumble_sources', 'loop_sources', 'rate_sources', 'sample_rng']

MAX_SEVERITY = 5
SHARE, SWING, PIXELS = 'share of the frames', "largest relative change of a frame's light", 224

# Shares are multiples of 1/16, so that every severity of drop, freeze and loop adds a frame from 8 frames on.
TEMPORAL_CORRUPTIONS: dict[str, Corruption] = {
    'frame_drop': Corruption(frame_drop, (2 / 16, 4 / 16, 6 / 16, 8 / 16, 10 / 16), SHARE),
    'frame_freeze': Corruption(frame_freeze, (2 / 16, 4 / 16, 6 / 16, 8 / 16, 10 / 16), SHARE),
    'black_frames': Corruption(black_frames, (1 / 16, 2 / 16, 3 / 16, 4 / 16, 6 / 16), SHARE),
    'noise_burst': Corruption(
        noise_burst, ((1 / 16, 40.), (2 / 16, 60.), (3 / 16, 80.), (4 / 16, 100.), (5 / 16, 120.)),
        f'{SHARE}, standard deviation in grey values'),
    'flicker': Corruption(flicker, (0.1, 0.2, 0.3, 0.45, 0.6), SWING),
    'frame_jumble': Corruption(frame_jumble, (2, 3, 4, 6, 8), 'frames of a window'),
    'frame_rate': Corruption(frame_rate, tuple(fps / 25 for fps in (20, 16, 12, 9, 6)), 'share of new frames'),
    'looped_tail': Corruption(looped_tail, (2 / 16, 4 / 16, 6 / 16, 8 / 16, 10 / 16), SHARE),
}
SPATIAL_CORRUPTIONS: dict[str, Corruption] = {
    'gaussian_noise': Corruption(gaussian_noise, tuple(255 * sigma for sigma in (0.08, 0.12, 0.18, 0.26, 0.38)),
                                 'standard deviation in grey values', needs_time=False),
    'shot_noise': Corruption(shot_noise, (60., 25., 12., 5., 3.), 'photons at full white', needs_time=False),
    'motion_blur': Corruption(motion_blur, tuple(2.09 * sigma / PIXELS for sigma in (3, 5, 8, 12, 15)),
                              'length, share of the shorter side', needs_time=False),
    'defocus': Corruption(defocus, tuple(radius / PIXELS for radius in (3, 4, 6, 8, 10)),
                          'radius, share of the shorter side', needs_time=False),
    'low_resolution': Corruption(low_resolution, (0.6, 0.5, 0.4, 0.3, 0.25), 'share of the pixels of a side',
                                 needs_time=False),
    'jpeg': Corruption(jpeg, (25, 18, 15, 10, 7), 'quality', needs_time=False),
    'light_drift': Corruption(light_drift, (0.1, 0.2, 0.3, 0.45, 0.6), SWING),
    'camera_shake': Corruption(camera_shake, ((0.01, 0.5), (0.02, 1.), (0.035, 2.), (0.05, 3.), (0.08, 5.)),
                               'largest shift, share of the shorter side; largest roll, degrees', needs_time=False),
}
OCCLUSIONS: dict[str, Corruption] = {
    'mouth_occlusion': Corruption(mouth_occlusion, MOUTH_SIZES, 'width, height, shares of the frame', needs_time=False),
    'eyes_occlusion': Corruption(eyes_occlusion, EYES_SIZES, 'width, height, shares of the frame', needs_time=False),
    'moving_occlusion': Corruption(moving_occlusion, (0.15, 0.2, 0.26, 0.33, 0.42), 'share of each side',
                                   needs_time=False),
    'brief_occlusion': Corruption(brief_occlusion, (1 / 16, 2 / 16, 3 / 16, 4 / 16, 6 / 16), SHARE),
}
CORRUPTIONS: dict[str, Corruption] = {**TEMPORAL_CORRUPTIONS, **SPATIAL_CORRUPTIONS, **OCCLUSIONS}
GROUPS = {'temporal': tuple(TEMPORAL_CORRUPTIONS), 'spatial': tuple(SPATIAL_CORRUPTIONS),
          'occlusion': tuple(OCCLUSIONS)}


def check_kind(kind: Any, known: Iterable[str] = tuple(CORRUPTIONS), what: str = 'corruption') -> str:
    """Returns ``kind`` when it is one of ``known``, else raises ValueError with the names there are."""
    if not isinstance(kind, str) or kind not in known:
        raise ValueError(f'kind={kind!r} is not a {what}; known: {", ".join(known)}.')
    return kind


def check_kinds(kinds: Any, known: Iterable[str] = tuple(CORRUPTIONS), what: str = 'corruption') -> tuple[str, ...]:
    """Names of kinds and of :data:`GROUPS` as kinds, each once; one name stands for itself, None for all ``known``."""
    known = tuple(known)
    if kinds is None:
        return known
    found: list[str] = []
    for name in [kinds] if isinstance(kinds, str) else kinds:
        group = GROUPS.get(name, ()) if isinstance(name, str) else ()
        found += [check_kind(kind, known, what) for kind in group or [name]]
    return tuple(dict.fromkeys(found))


def check_severity(severity: Any) -> int:
    """Returns ``severity`` when it is an integer from 0 (the clip as it is) to 5, else raises ValueError."""
    if isinstance(severity, bool) or not isinstance(severity, (int, np.integer)) or \
            not 0 <= severity <= MAX_SEVERITY:
        raise ValueError(f'severity={severity!r} must be an integer from 0 (the clip as it is) to '
                         f'{MAX_SEVERITY} (strongest).')
    return int(severity)


def corrupt_clip(frames: Sequence[np.ndarray], kind: str, severity: int, rng: Any) -> Frames:
    """One clip, corrupted.

    Args:
        frames: ``t`` images ``(h, w, c)`` uint8 of one clip and size, in filmed order; not written to.
        kind: A key of :data:`CORRUPTIONS`.
        severity: 1 (weak) to 5 (strong); 0 returns the frames as they are.
        rng: A ``numpy.random.RandomState`` (see :func:`sample_rng`), or the module ``numpy.random``.

    Returns:
        ``t`` images; the untouched ones are the very objects that came. A clip of a single frame has no time
        to be broken in and comes back as it is from a corruption that ``needs_time``.
    """
    corruption = CORRUPTIONS[check_kind(kind)]
    if check_severity(severity) == 0 or len(frames) < (2 if corruption.needs_time else 1):
        return list(frames)
    return corruption.corrupt(frames, corruption.levels[severity - 1], rng)
