"""The base of all steps that corrupt a decoded clip: they come after the step that decodes and before FormatShape.

One decoded sample may hold several clips (``num_clips``) and several crops: ``results['imgs']`` lists them
crop by crop, clip by clip, frame by frame. Each clip is corrupted on its own; the crops of one clip in the
same way, since they are the same moments. Samplers for 2D recognizers take ``num_clips`` single frames: those
frames are the time axis, and are corrupted as one clip.

``seed=<int>`` derives every draw from the seed and the file's name (its last two path components, so that a data set
may move; of windows in one video also ``frame_index``): the same sample is broken in the same way in each run, epoch,
worker and order, the stronger severities going on where the weaker ones stopped. ``seed=None`` draws anew from numpy's
global state, which the data loader seeds per worker: augmentation.
"""
from __future__ import annotations

import re
from abc import abstractmethod
from typing import Any, Optional

import numpy as np
from mmcv.transforms import BaseTransform

from .corruptions import corrupt_clip, sample_rng

IDENTITY_KEYS = ('filename', 'frame_dir', 'video_id', 'sample_idx')


def clip_identity(results: dict) -> str:
    """What names a sample on every machine: the last two components of its path.

    Windows of one video (VEATICDataset) are samples of their own: ``frame_index`` of their last frame tells them apart.

    Raises:
        ValueError: the sample has no name.
    """
    for key in IDENTITY_KEYS:
        if results.get(key) is not None:
            name = '/'.join([part for part in re.split(r'[\\/]+', str(results[key])) if part][-2:])
            window = results.get('frame_index')
            return name if window is None else f'{name}@{np.asarray(window).reshape(-1)[-1]}'
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

    def identity(self, results: dict) -> tuple:
        """What the draws of this sample depend on: seed and name, or without a seed four of numpy's numbers."""
        if self.seed is None:
            return tuple(np.random.randint(0, 2 ** 31 - 1, 4).tolist())
        return self.seed, clip_identity(results)

    def transform(self, results: dict) -> dict:
        """Corrupts ``results['imgs']``.

        Raises:
            ValueError: there are no decoded frames, or they are not uint8 images any more.
        """
        self.check_frames(results)
        imgs = results['imgs']
        identity = self.identity(results)
        kind, severity = self.choose(sample_rng(*identity, 'choice'))
        t, num_clips = frames_per_clip(results, len(imgs))
        out = []
        touched = np.zeros(len(imgs), dtype=bool)
        for i, start in enumerate(range(0, len(imgs), t)):
            frames = [imgs[j] for j in range(start, start + t)]
            clip = corrupt_clip(frames, kind, severity, sample_rng(*identity, kind, i % num_clips))
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
