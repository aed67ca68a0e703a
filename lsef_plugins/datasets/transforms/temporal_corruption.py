"""Temporal corruptions as steps of a pipeline, after the step that decodes and before FormatShape.

One decoded sample may hold several clips (``num_clips``) and several crops: ``results['imgs']`` lists them
crop by crop, clip by clip, frame by frame. Each clip is corrupted on its own; the crops of one clip in the
same way, since they are the same moments. Samplers for 2D recognizers take ``num_clips`` single frames: those
frames are the time axis, and are corrupted as one clip.

``seed=<int>`` derives every draw from the seed and the file's name (its last two path components, so that a
data set may move): the same sample is broken in the same way in each run, epoch, worker and order, the
stronger severities going on where the weaker ones stopped. ``seed=None`` draws anew from numpy's global
state, which the data loader seeds per worker: augmentation.
"""
from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Optional

import numpy as np
from mmcv.transforms import BaseTransform

from lsef_plugins.registry import TRANSFORMS

from .corruptions import TEMPORAL_CORRUPTIONS, check_kind, check_severity, corrupt_clip, sample_rng

IDENTITY_KEYS = ('filename', 'frame_dir', 'video_id', 'sample_idx')


def clip_identity(results: dict) -> str:
    """What names a sample on every machine: the last two components of its path.

    Raises:
        ValueError: the sample has no name.
    """
    for key in IDENTITY_KEYS:
        if results.get(key) is not None:
            return '/'.join([part for part in re.split(r'[\\/]+', str(results[key])) if part][-2:])
    raise ValueError(f'A seeded corruption needs one of the keys {", ".join(IDENTITY_KEYS)} to tell '
                     f'samples apart, and this sample has only {", ".join(sorted(results))}. Set '
                     'results[\'filename\'], or seed=None to draw anew each time.')


def frames_per_clip(results: dict, total: int) -> tuple[int, int]:
    """How ``results['imgs']`` splits into clips.

    Returns:
        (frames of one clip, clips of one crop). Where the sampler took single frames, its ``num_clips``
        frames are one clip. Without a sampler's ``clip_len`` all frames are.
    """
    clip_len, num_clips = results.get('clip_len', total), int(results.get('num_clips', 1))
    clip_len = int(clip_len['RGB'] if isinstance(clip_len, dict) else clip_len)
    if clip_len == 1:
        clip_len, num_clips = num_clips, 1
    if total % clip_len:
        raise ValueError(f'imgs holds {total} frames, which is not a multiple of clip_len={clip_len}: the '
                         'corruption cannot tell where a clip ends. Put it after the step that decodes, '
                         'and let no step between the sampler and it add or remove frames.')
    return clip_len, num_clips


class ClipCorruption(BaseTransform):
    """Base of the steps that break a decoded clip: splits a sample into clips and seeds each of them.

    A subclass says in :meth:`choose` what happens to a sample.

    Required keys: ``imgs`` (list of ``(h, w, c)`` uint8, or one ``(n, h, w, c)`` uint8 array); ``clip_len``
    and ``num_clips`` when there are several clips; with a seed also ``filename`` or ``frame_dir``.
    Modified key: ``imgs`` (same container, length, shapes and dtype). Added key: ``corruption``, a dict with
    ``kind``, ``severity`` and ``touched`` (a bool for each of ``imgs``: its frame is not the one that came);
    name it in ``meta_keys`` of PackActionInputs to see it beside the predictions.

    Args:
        seed: An integer makes the corruption a fixed property of each sample. None draws anew each time.
    """

    def __init__(self, seed: Optional[int] = 0) -> None:
        if seed is not None and (isinstance(seed, bool) or not isinstance(seed, (int, np.integer))):
            raise ValueError(f'seed={seed!r} must be an integer (the same corruption of a sample in each '
                             'run) or None (a new one each time).')
        self.seed = seed

    @abstractmethod
    def choose(self, rng: Any) -> tuple[str, int]:
        """The (kind, severity) for one sample; ``rng`` is this sample's."""

    def rng(self, results: dict, *purpose: Any) -> Any:
        """The random state of this sample for one purpose; numpy's global one without a seed."""
        return np.random if self.seed is None else sample_rng(self.seed, clip_identity(results), *purpose)

    def transform(self, results: dict) -> dict:
        """Corrupts ``results['imgs']``.

        Raises:
            ValueError: there are no decoded frames, or they are not uint8 images any more.
        """
        self.check_frames(results)
        imgs = results['imgs']
        kind, severity = self.choose(self.rng(results, 'choice'))
        t, num_clips = frames_per_clip(results, len(imgs))
        out = []
        touched = np.zeros(len(imgs), dtype=bool)
        for i, start in enumerate(range(0, len(imgs), t)):
            frames = [imgs[j] for j in range(start, start + t)]
            clip = corrupt_clip(frames, kind, severity, self.rng(results, kind, i % num_clips))
            touched[start:start + t] = [new is not old for new, old in zip(clip, frames)]
            out.extend(clip)
        if touched.any():
            results['imgs'] = np.stack(out) if isinstance(imgs, np.ndarray) else out
        results['corruption'] = {'kind': kind, 'severity': severity, 'touched': touched}
        return results

    def check_frames(self, results: dict) -> None:
        name = type(self).__name__
        imgs = results.get('imgs')
        if imgs is None or len(imgs) == 0:
            raise ValueError(f'{name} found no decoded frames (results[\'imgs\']); the sample has '
                             f'{", ".join(sorted(results))}. Put it after the Decode step of the pipeline '
                             '(DecordDecode, RawFrameDecode, ...).')
        first = np.asarray(imgs[0])
        if 'input_shape' in results or first.ndim != 3 or first.dtype != np.uint8:
            raise ValueError(f'{name} works on images (h, w, c) uint8 and got {first.shape} {first.dtype}. '
                             'Put it after the Decode step and before FormatShape or any step that '
                             'changes the type; optical flow is not supported.')


@TRANSFORMS.register_module()
class TemporalCorruption(ClipCorruption):
    """One kind of corruption at one severity, for each sample: the instrument for robustness.

    Args:
        kind: 'frame_drop', 'frame_freeze', 'black_frames', 'noise_burst' or 'flicker'.
        severity: 1 (weak) to 5 (strong); 0 leaves the sample bit-identical.
        seed: See :class:`ClipCorruption`.

    Example:
        ``dict(type='DecordDecode'), dict(type='TemporalCorruption', kind='frame_drop', severity=3)``
    """

    def __init__(self, kind: str, severity: int, seed: Optional[int] = 0) -> None:
        super().__init__(seed=seed)
        self.kind = check_kind(kind)
        self.severity = check_severity(severity)

    def choose(self, rng: Any) -> tuple[str, int]:
        return self.kind, self.severity

    def __repr__(self) -> str:
        return f'{type(self).__name__}(kind={self.kind!r}, severity={self.severity}, seed={self.seed})'


@TRANSFORMS.register_module()
class RandomTemporalCorruption(ClipCorruption):
    """With a probability, one of several corruptions at one of several severities: augmentation.

    Args:
        kinds: Kinds to draw from, evenly. None stands for all.
        severities: Severities to draw from, evenly.
        prob: Share of the samples that are corrupted, in [0, 1].
        seed: See :class:`ClipCorruption`.
    """

    def __init__(self, kinds: Optional[Sequence[str]] = None, severities: Sequence[int] = (1, 2, 3, 4, 5),
                 prob: float = 0.5, seed: Optional[int] = None) -> None:
        super().__init__(seed=seed)
        if kinds is None:
            kinds = tuple(TEMPORAL_CORRUPTIONS)
        kinds = [kinds] if isinstance(kinds, str) else kinds
        severities = [severities] if isinstance(severities, int) else severities
        self.kinds = tuple(check_kind(kind) for kind in kinds)
        self.severities = tuple(check_severity(severity) for severity in severities)
        self.prob = prob
        if not self.kinds or not self.severities:
            raise ValueError(f'kinds={self.kinds} and severities={self.severities} must name at least one '
                             'each; prob=0 switches the step off.')
        if not 0 <= prob <= 1:
            raise ValueError(f'prob={prob} must be a share of the samples, from 0 to 1.')

    def choose(self, rng: Any) -> tuple[str, int]:
        # Always three draws: changing prob does not change what is done to the samples it still covers.
        chance = rng.uniform()
        kind = self.kinds[rng.randint(len(self.kinds))]
        severity = self.severities[rng.randint(len(self.severities))]
        return kind, severity if chance < self.prob else 0

    def __repr__(self) -> str:
        return (f'{type(self).__name__}(kinds={self.kinds}, severities={self.severities}, '
                f'prob={self.prob}, seed={self.seed})')


class _OneKind(TemporalCorruption):
    """A corruption that is known by its own name in configs: ``dict(type='FrameDrop', severity=3)``."""

    KIND = ''

    def __init__(self, severity: int, seed: Optional[int] = 0) -> None:
        super().__init__(kind=self.KIND, severity=severity, seed=seed)

    def __repr__(self) -> str:
        return f'{type(self).__name__}(severity={self.severity}, seed={self.seed})'


@TRANSFORMS.register_module()
class FrameDrop(_OneKind):
    """Frames are lost here and there and the last one is held; arguments of TemporalCorruption."""

    KIND = 'frame_drop'


@TRANSFORMS.register_module()
class FrameFreeze(_OneKind):
    """The picture hangs for one contiguous stretch; arguments of TemporalCorruption."""

    KIND = 'frame_freeze'


@TRANSFORMS.register_module()
class BlackFrames(_OneKind):
    """Some frames are black; arguments of TemporalCorruption."""

    KIND = 'black_frames'


@TRANSFORMS.register_module()
class NoiseBurst(_OneKind):
    """Isolated frames drown in noise; arguments of TemporalCorruption."""

    KIND = 'noise_burst'


@TRANSFORMS.register_module()
class Flicker(_OneKind):
    """The light of each frame has its own gain; arguments of TemporalCorruption."""

    KIND = 'flicker'
