"""CleanTwin: each clip beside its corrupted self, so that what a corruption moves can be measured exactly.

Both go through the same network in one forward pass as two clips of a sample: no file of features is written, nothing
has to be matched afterwards, and every later step of the pipeline treats both alike.
"""
from __future__ import annotations

from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform

from lsef_plugins.registry import TRANSFORMS

from .clip_corruption import frames_per_clip


@TRANSFORMS.register_module()
class CleanTwin(BaseTransform):
    """Doubles the clips of a sample: first the clean ones, then the corrupted ones in the same order.

    For measuring with ``DecompositionRecoveryMetric`` (``stable_drift``), in a test pipeline, right behind the step
    that decodes. Class scores of such a test are means of clean and corrupted clips: take them from a test without.

    Required keys: ``imgs`` and what the corruption needs. Modified keys: ``imgs``, ``num_clips`` (twice as many),
    ``frame_inds`` (twice). Added keys: ``clean_clips``, how many clips of a crop are clean; to be packed as meta
    information (``PackAffectInputs`` does).

    Args:
        corruption: config of the step that corrupts, such as ``dict(type='NoiseBurst', severity=3)``. It must keep the
            number and the size of frames.
    """

    def __init__(self, corruption: dict) -> None:
        if not isinstance(corruption, dict) or 'type' not in corruption:
            raise ValueError("corruption is the config of a step, such as dict(type='NoiseBurst', severity=3), got "
                             f'{corruption!r}.')
        self.corruption: Any = TRANSFORMS.build(corruption)

    def transform(self, results: dict) -> dict:
        """Adds the corrupted clips.

        Raises:
            ValueError: nothing is decoded yet, clips were cropped already, or the corruption changed their shape.
        """
        imgs = results.get('imgs')
        if imgs is None or len(imgs) == 0:
            raise ValueError(f"CleanTwin found no decoded frames (results['imgs']), only {', '.join(sorted(results))}. "
                             'Put it behind the step that decodes.')
        t, clips = frames_per_clip(results, len(imgs))
        if len(imgs) != t * clips:
            raise ValueError(f'CleanTwin found {len(imgs)} frames and {clips} clip(s) of {t}: put it before the steps '
                             'that make several crops (ThreeCrop, TenCrop), right behind the one that decodes.')
        corrupted = self.corruption({**results, 'imgs': [np.array(frame) for frame in imgs]})['imgs']
        if np.shape(corrupted) != np.shape(imgs):
            raise ValueError(f'{type(self.corruption).__name__} made frames {np.shape(corrupted)} of {np.shape(imgs)}; '
                             'twins have the same shape.')
        results['imgs'] = np.concatenate([imgs, corrupted]) if isinstance(imgs, np.ndarray) else [*imgs, *corrupted]
        results['num_clips'] = 2 * int(results.get('num_clips', 1))
        if 'frame_inds' in results:
            results['frame_inds'] = np.tile(np.asarray(results['frame_inds']).reshape(-1), 2)
        results['clean_clips'] = clips
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(corruption={self.corruption!r})'
