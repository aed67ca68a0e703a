"""The class of each window of a video, read off the head while a test runs, for the flip rate.

A *window* is one clip of the config's test sampler: ``num_clips`` of them are spread over the video in the order of
time (``SampleFrames``), or cover all of it at neighbouring phases (``UniformSample``). Crops of a window are averaged
as the head averages (probabilities with ``average_clips='prob'``, else scores), windows are not; the metrics of the
test stay what they are. Where the sampler takes ``num_clips`` single frames (2D recognizers), these are one window.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Optional

import numpy as np
import torch
from mmengine.hooks import Hook

from lsef_plugins.evaluation.functional import flip_rate


def sampler_of(pipeline: Sequence[dict]) -> Optional[dict]:
    """The step that samples clips, or None where the data set has chosen the frames."""
    found = [step for step in pipeline if 'Sample' in str(step['type']) and 'clip_len' in step]
    return found[-1] if found else None


def windows_of(pipeline: Sequence[dict]) -> tuple[int, str]:
    """How many windows of a video a test pipeline makes; where it is one, why that is so."""
    sampler = sampler_of(pipeline)
    if sampler is None:
        return 1, 'the data set gives each sample as one window'
    if sampler['clip_len'] == 1:
        return 1, f'{sampler["type"]} takes single frames (clip_len=1), which are one window together'
    count = int(sampler.get('num_clips', 1))
    return count, '' if count > 1 else f'{sampler["type"]} takes one clip of a video; --windows N takes N'


class ViewClasses(Hook):
    """Collects the classes of all windows of a test; :meth:`rate` is their flip rate.

    Args:
        model: A recognizer; its ``cls_head`` gives scores ``(videos crops windows, k)``.
        windows: Of each video.
    """

    def __init__(self, model: Any, windows: int) -> None:
        self.windows = windows
        self.head = getattr(model, 'cls_head', None)
        self.scores: Optional[torch.Tensor] = None
        self.classes: list[np.ndarray] = []
        if self.head is not None:
            self.head.register_forward_hook(self.keep)

    def keep(self, head: Any, inputs: Any, output: Any) -> None:
        """Keeps the scores of a batch."""
        self.scores = output.detach() if isinstance(output, torch.Tensor) and output.ndim == 2 else None

    def before_test_epoch(self, runner: Any) -> None:
        """Forgets the last test."""
        self.scores, self.classes = None, []

    def after_test_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Adds the classes of a batch, where it has scores of classes and as many of them as windows."""
        scores, self.scores = self.scores, None
        videos = len(outputs or ())
        classes = bool(videos) and 'pred_score' in outputs[0]
        if scores is not None and classes and len(scores) % (videos * self.windows) == 0:
            self.classes.append(self.classes_of(scores, videos))

    def classes_of(self, scores: torch.Tensor, videos: int) -> np.ndarray:
        """``(videos crops windows, k)`` scores -> ``(videos, windows)`` classes."""
        views = scores.float().reshape(videos, -1, self.windows, scores.shape[-1])
        if getattr(self.head, 'average_clips', None) == 'prob':
            views = views.softmax(-1)
        return views.mean(1).argmax(-1).cpu().numpy()

    def rate(self) -> Optional[float]:
        """The flip rate of the last test; None where no classes of several windows were seen."""
        if self.windows < 2 or not self.classes:
            return None
        return flip_rate(np.concatenate(self.classes))
