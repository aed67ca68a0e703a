"""A recognizer as a reader of windows (:mod:`lsef_plugins.visualization.timeline`).

The frames of a window go through what the config's test pipeline does *behind* its decoding step, and through the
recognizer's own preprocessing; the neck's input is caught and decomposed by the neck itself. How many frames a window
has and how far they are apart are those of the pipeline's sampler:

    SampleFrames of clips             clip_len frames, every frame_interval-th
    one frame from each of n equal    n frames, evenly over ``span`` seconds: such a sampler spreads them over the
    parts (UniformSample, or          clip, and a long video is no clip
    SampleFrames(clip_len=1))
    none (VEATIC's windows)           clip_len and frame_interval of the data set

Several clips of the test pipeline become one, the window; of several crops energies are those of the middle one,
predictions the mean of all.
"""
from typing import Any, Dict, List, Optional, Tuple

import numpy as np
import torch

from lsef_plugins.models.heads import ValenceArousalHead
from lsef_plugins.visualization.timeline import Reading

from .recognizers import (
    class_words,
    load_recognizer,
    neck_of,
    notes_of,
    pictures_of,
    split_pipeline,
    tested_dataset,
    words_of,
)

SPAN = 2.0


class RecognizerReader:
    """Reads windows with a recognizer that has an LSEFNeck.

    Args:
        config: path of its config.
        checkpoint: path of its checkpoint; None leaves it untrained (seed 0).
        device: such as 'cpu' or 'cuda:0'.
        stream: which map of a multi-stream recognizer is decomposed.
        interval: take every so-manieth frame; None for what the sampler does.
        span: seconds that the frames of a sampler of equal parts are spread over.

    Raises:
        ValueError: the recognizer has no LSEFNeck or cannot be built, the checkpoint is not one of it, or the test
            pipeline has no place to put frames in.
    """
    pixels = False

    def __init__(self, config: str, checkpoint: Optional[str] = None, device: str = 'cpu', stream: int = 0,
                 interval: Optional[int] = None, span: float = SPAN) -> None:
        if (interval is not None and interval < 1) or not span > 0:
            raise ValueError(f'interval is at least 1 frame and span positive, in seconds; got {interval} and {span}.')
        self.config, self.checkpoint, self.stream = config, checkpoint, stream
        self.interval, self.span = interval, span
        cfg, self.recognizer, content = load_recognizer(config, checkpoint, device)
        self.neck = neck_of(self.recognizer, config, stream)
        self.sampler, self.steps = split_pipeline(cfg, config)
        self.classes = class_words(tested_dataset(cfg), content)
        head: Any = getattr(self.recognizer, 'cls_head', None)
        self.multi_class = bool(getattr(head, 'multi_class', False))
        if hasattr(head, 'average_clips') and not isinstance(head, ValenceArousalHead):
            head.average_clips = 'score' if self.multi_class else 'prob'
        self.shape: Tuple[int, ...] = ()
        self._compose: Any = None

    def sampling(self, length: int, fps: float) -> Tuple[int, int]:
        """Frames of a window and the interval between them, for a stretch of ``length`` frames.

        Raises:
            ValueError: the stretch is shorter than a window.
        """
        window, interval, _ = self.sampler
        if self.interval is not None:
            interval = self.interval
        elif interval is None:
            interval = max(1, min(round(self.span * fps / window), length // window))
        if -(-length // interval) < window:
            fits = (length - 1) // max(window - 1, 1)
            raise ValueError(f'{length} frames ({length / fps:.2f} s) are shorter than one window of {window} frames, '
                             f'{interval} apart. ' + (f'Take them closer together (--interval {fits}), or a longer '
                                                      'video.' if fits else 'Take a longer video, or leave --config '
                                                      'out to decompose the pixels.'))
        return window, interval

    def __call__(self, frames: List[np.ndarray], indices: np.ndarray) -> Reading:
        packed = self._pack(frames, indices)
        caught: List[Any] = []
        hook = self.neck.register_forward_pre_hook(lambda module, inputs: caught.append(inputs[0]))
        try:
            with torch.no_grad():
                sample, = self.recognizer.test_step(packed)
        finally:
            hook.remove()
        maps = caught[0] if isinstance(caught[0], torch.Tensor) else caught[0][self.stream]
        crop = len(maps) - 1            # of ThreeCrop's left, right, middle and of TenCrop's the one in the middle
        with torch.no_grad():
            parts = self.neck.streams[self.stream].decompose(maps[crop:crop + 1])
        self.shape = tuple(parts.stable.shape)
        return Reading(parts, pictures_of(packed['inputs'][0], len(frames), crop), *self._predictions(sample))

    def _pack(self, frames: List[np.ndarray], indices: np.ndarray) -> Any:
        from mmengine.dataset import Compose, pseudo_collate
        if self._compose is None:
            self._compose = Compose(self.steps)
        clip_len = 1 if self.sampler.clip_len == 1 else len(frames)
        results: Dict[str, Any] = dict(
            filename='', label=-1, start_index=0, modality='RGB', total_frames=int(indices[-1]) + 1,
            imgs=[frame.copy() for frame in frames], frame_inds=np.asarray(indices), clip_len=clip_len,
            num_clips=len(frames) // clip_len, frame_interval=1,
            original_shape=frames[0].shape[:2], img_shape=frames[0].shape[:2])
        try:
            return pseudo_collate([self._compose(results)])
        except KeyError as error:
            raise ValueError(f'{self.config}: a step of the test pipeline asks for {error}, which frames of a video do '
                             f'not have. Steps: {", ".join(str(step["type"]) for step in self.steps)}.') from error

    def _predictions(self, sample: Any) -> Tuple[Optional[np.ndarray], Optional[np.ndarray]]:
        """Class probabilities ``(k,)``, and ratings ``(f, 2)``, of those that the head gives."""
        if 'pred_valence_arousal' in sample:
            return None, sample.pred_valence_arousal.detach().float().cpu().numpy().reshape(-1, 2)
        score = sample.get('pred_score')
        if not isinstance(score, torch.Tensor) or score.dim() != 1:
            return None, None
        score = score.detach().double().cpu()
        return (score.sigmoid() if self.multi_class else score).numpy(), None

    def words(self, window: int) -> str:
        """What is decomposed, and how; after the first window."""
        return words_of(self.config, self.neck.streams[self.stream], self.shape)

    def notes(self) -> str:
        """What to keep in mind."""
        return notes_of(self.checkpoint)
