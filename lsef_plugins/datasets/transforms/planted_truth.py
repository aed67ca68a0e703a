"""LoadPlantedTruth: what was planted in a synthetic clip, at the very frames that were sampled.

The truth travels with the sample, as meta information ``planted``: whoever scores a decomposition needs no file, and
every other source of planted curves (a simulation of one's own) can fill the same key.
"""
from __future__ import annotations

from typing import Any, Optional

import numpy as np
from mmcv.transforms import BaseTransform

from lsef_plugins.datasets.synthetic.actions import BLINK, SYLLABLE
from lsef_plugins.datasets.synthetic.signals import NUISANCE
from lsef_plugins.datasets.synthetic.truth import Truth, load_truth, truth_file_of
from lsef_plugins.registry import TRANSFORMS

from .clip_corruption import frames_per_clip

POSE = ('yaw', 'pitch', 'roll', 'shift_x', 'shift_y', 'scale')
LIGHT = ('light', 'light_x', 'light_y')


@TRANSFORMS.register_module()
class LoadPlantedTruth(BaseTransform):
    """Adds ``results['planted']``: name -> ``(clips, t, k)``, k planted curves at the t sampled frames of each clip.

    ``stable``, ``transient``, ``blink``, ``speech``: facial actions, 1 is a full movement of that muscle; ``pose`` and
    ``light``: slow curves that carry no label (radians, half image widths, factors). Where the sampler takes single
    frames, they are one clip, as in :mod:`.clip_corruption`.

    To be put right behind the sampler. Required keys: ``frame_inds``, ``clip_len``, ``num_clips`` and ``filename`` or
    ``frame_dir``. ``PackAffectInputs`` packs ``planted`` into the meta information; ``PackActionInputs`` with
    ``meta_keys=('planted', )``.

    Args:
        truth_file: the file of every sample, for a single clip; None finds each sample's own in the ``truth`` folder of
            its data set (:func:`lsef_plugins.datasets.synthetic.truth.truth_file_of`).
    """

    def __init__(self, truth_file: Optional[str] = None) -> None:
        self.truth_file = truth_file

    def transform(self, results: dict) -> dict:
        """Reads the truth at the sampled frames.

        Raises:
            ValueError: no frames were sampled yet, or the truth is of another clip.
            FileNotFoundError: the clip has no truth file.
        """
        missing = [key for key in ('frame_inds', 'clip_len', 'num_clips') if key not in results]
        if missing:
            raise ValueError(f'LoadPlantedTruth needs {", ".join(missing)} and got {", ".join(sorted(results))}. Put '
                             'it behind the step that samples frames (SampleFrames, UniformSample).')
        clip = results.get('filename') or results.get('frame_dir')
        if self.truth_file is None and not clip:
            raise ValueError("LoadPlantedTruth needs results['filename'] (or 'frame_dir') to find the truth of a clip, "
                             f'and got {", ".join(sorted(results))}. Name the file with truth_file=.')
        truth = load_truth(self.truth_file or truth_file_of(str(clip)))
        frames = np.asarray(results['frame_inds']).reshape(-1) - results.get('start_index', 0)
        if frames.size and not 0 <= frames.min() <= frames.max() < len(truth.base):
            raise ValueError(f'{clip} was sampled at frames {frames.min()} to {frames.max()} and its truth has '
                             f'{len(truth.base)}: it is the truth of another clip, or of one with another frame rate.')
        t, clips = frames_per_clip(results, len(frames))
        results['planted'] = {name: np.ascontiguousarray(curve[frames].reshape(clips, t, -1))
                              for name, curve in planted_curves(truth).items()}
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(truth_file={self.truth_file!r})'


def planted_curves(truth: Truth) -> dict[str, Any]:
    """All curves of a clip by name, ``(frames, k)`` each."""

    def of(*names: str) -> np.ndarray:
        return truth.nuisance[:, [NUISANCE.index(name) for name in names]]

    return dict(stable=truth.base, transient=truth.transient, blink=of('blink') * BLINK, speech=of('speech') * SYLLABLE,
                pose=of(*POSE), light=of(*LIGHT))
