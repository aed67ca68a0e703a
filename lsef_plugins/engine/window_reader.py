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
predictions the mean of all. A whole clip can be read as well, as its test pipeline samples it (:meth:`sampled`).
"""
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple, Union, cast

import numpy as np
import torch
from mmengine.config import Config

from lsef_plugins.models.heads import ValenceArousalHead
from lsef_plugins.visualization.timeline import Reading

from .config_names import bare_name
from .recognizers import (
    SAMPLERS,
    class_words,
    load_recognizer,
    name_of,
    names_of,
    neck_of,
    notes_of,
    pictures_of,
    split_pipeline,
    tested_dataset,
    words_of,
)

SPAN = 2.0


class Sampled(NamedTuple):
    """Which frames are looked at together: ``indices`` ``(n,)`` in the video, ``clips`` of ``clip_len`` frames each
    (n clips of one frame for a recognizer of segments)."""
    indices: np.ndarray
    clip_len: int
    clips: int


class Seen(NamedTuple):
    """What the recognizer makes of such frames: the data sample; of the middle crop the decomposition of all its maps
    (b = maps; None without); the packed ``inputs``."""
    sample: Any
    parts: Any
    inputs: torch.Tensor


class RecognizerReader:
    """Reads windows with a recognizer that has an LSEFNeck.

    Args:
        config: path of its config, or the config.
        checkpoint: path of its checkpoint; None leaves it untrained (seed 0).
        device: such as 'cpu' or 'cuda:0'.
        stream: which map of a multi-stream recognizer is decomposed.
        interval: take every so-manieth frame; None for what the sampler does.
        span: seconds that the frames of a sampler of equal parts are spread over.
        decompose: whether the neck decomposes; None for where there is one.
        as_tested: crops are averaged as the config's head does it; else as probabilities (scores, for several labels).

    Raises:
        ValueError: the recognizer has no LSEFNeck or cannot be built, the checkpoint is not one of it, or the test
            pipeline has no place to put frames in.
    """
    pixels = False

    def __init__(self, config: Union[str, Config], checkpoint: Optional[str] = None, device: str = 'cpu',
                 stream: int = 0, interval: Optional[int] = None, span: float = SPAN,
                 decompose: Optional[bool] = True, as_tested: bool = False) -> None:
        if (interval is not None and interval < 1) or not span > 0:
            raise ValueError(f'interval is at least 1 frame and span positive, in seconds; got {interval} and {span}.')
        self.config, self.checkpoint, self.stream = name_of(config), checkpoint, stream
        self.interval, self.span = interval, span
        cfg, self.recognizer, content = load_recognizer(config, checkpoint, device)
        self.neck = None if decompose is False else neck_of(self.recognizer, self.config, stream, bool(decompose))
        self.sampler, self.sampling_steps, decoder, self.steps = split_pipeline(cfg, self.config)
        #: Whether the pipeline samples itself (a data set that makes windows does it before), and what opens videos.
        self.samples = any('Sample' in name for name in names_of(self.sampling_steps))
        self.file_reader = 'opencv' if 'OpenCV' in decoder else None
        self.classes = class_words(tested_dataset(cfg), content)
        head: Any = getattr(self.recognizer, 'cls_head', None)
        self.multi_class = bool(getattr(head, 'multi_class', False))
        if hasattr(head, 'average_clips') and not isinstance(head, ValenceArousalHead) and not as_tested:
            head.average_clips = 'score' if self.multi_class else 'prob'
        self.average = getattr(head, 'average_clips', None)
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
        return self.read(frames, self.window_of(indices))

    def read(self, frames: List[np.ndarray], clip: Sampled) -> Reading:
        """What is seen in the frames of one clip."""
        seen, = self.see([self.pack(frames, clip)], [clip])
        return self.reading_of(seen, len(frames))

    def window_of(self, indices: np.ndarray) -> Sampled:
        """Frames of a window as one clip."""
        clip_len = 1 if self.sampler.clip_len == 1 else len(indices)
        return Sampled(np.asarray(indices), clip_len, len(indices) // clip_len)

    def sampled(self, length: int, fps: float, once: bool = False) -> Sampled:
        """The frames that the test pipeline takes of a whole clip of ``length`` frames: all its clips, or ``once`` of
        them only, as it places one.

        Raises:
            ValueError: nothing samples in the pipeline, or a step asks for what frames do not have.
        """
        from mmengine.dataset import Compose
        if not self.samples:
            raise ValueError(f'{self.config}: no step of its test pipeline samples; its data '
                             'set makes windows. Look at windows: --report FOLDER, or window=\'auto\'.')
        steps = [one_clip(step) for step in self.sampling_steps] if once else self.sampling_steps
        results: Dict[str, Any] = dict(filename='', label=-1, start_index=0, modality='RGB', total_frames=length,
                                       avg_fps=fps)
        try:
            results = Compose(steps)(results)
            indices = np.asarray(results['frame_inds']).ravel()
        except KeyError as error:
            raise self._asks(error, steps) from error
        return Sampled(indices, int(results['clip_len']), int(results.get('num_clips', 1)))

    def pack(self, frames: List[np.ndarray], clip: Sampled) -> Dict[str, Any]:
        """What the steps behind the decoding one make of the frames: one item of a batch."""
        from mmengine.dataset import Compose
        if self._compose is None:
            self._compose = Compose(self.steps)
        results: Dict[str, Any] = dict(
            filename='', label=-1, start_index=0, modality='RGB', total_frames=int(clip.indices.max()) + 1,
            imgs=[frame.copy() for frame in frames], frame_inds=clip.indices, clip_len=clip.clip_len,
            num_clips=clip.clips, frame_interval=1,
            original_shape=frames[0].shape[:2], img_shape=frames[0].shape[:2])
        try:
            return self._compose(results)
        except KeyError as error:
            raise self._asks(error, self.steps) from error
        except AssertionError as error:     # the host's transforms assert, mostly without a word
            height, width = frames[0].shape[:2]
            raise ValueError(f'{self.config}: a step of the test pipeline refuses frames of {width} x {height} '
                             f'({str(error) or "it does not say why"}). Steps: {_listed(self.steps)}.') from error

    def see(self, packed: Sequence[Dict[str, Any]], clips: Sequence[Sampled], decompose: bool = True) -> List[Seen]:
        """One forward pass of a batch of packed clips, whose inputs have one shape."""
        from mmengine.dataset import pseudo_collate
        caught: List[Any] = []
        hook = None if self.neck is None or not decompose else self.neck.register_forward_pre_hook(
            lambda module, inputs: caught.append(inputs[0]))
        try:
            with torch.no_grad():
                samples = self.recognizer.test_step(pseudo_collate(list(packed)))
        finally:
            if hook is not None:
                hook.remove()
        if hook is None:
            return [Seen(sample, None, item['inputs']) for sample, item in zip(samples, packed)]
        # A recognizer that looks at its views one after the other calls the neck several times.
        maps = torch.cat([each if isinstance(each, torch.Tensor) else each[self.stream] for each in caught])
        return [Seen(sample, self._decomposed(mine, item['inputs'], clip), item['inputs']) for sample, mine, item, clip
                in zip(samples, maps.chunk(len(packed)), packed, clips)]

    def _decomposed(self, maps: torch.Tensor, inputs: torch.Tensor, clip: Sampled) -> Any:
        """The last crop, of ThreeCrop's left, right, middle and of TenCrop's the one in the middle."""
        crops = max(1, len(inputs) // (clip.clips if inputs.dim() == 5 else len(clip.indices)))
        joined = len(maps) % crops > 0          # TSN takes all crops for one long clip
        kept = maps if joined else maps[len(maps) - len(maps) // crops:]
        with torch.no_grad():
            parts = cast(Any, self.neck).streams[self.stream].decompose(kept)
        if joined and kept.shape[2] % crops == 0:
            parts = last_frames(parts, kept.shape[2] // crops)
        self.shape = (1, *parts.stable.shape[1:])
        return parts

    def reading_of(self, seen: Seen, length: int) -> Reading:
        """Of a window of ``length`` frames."""
        crop = max(1, len(seen.inputs) // (1 if seen.inputs.dim() == 5 else length)) - 1
        return Reading(seen.parts, pictures_of(seen.inputs, length, crop), *self.predictions(seen.sample))

    def _asks(self, error: KeyError, steps: Sequence[Dict[str, Any]]) -> ValueError:
        return ValueError(f'{self.config}: a step of the test pipeline asks for {error}, which frames of a video do '
                          f'not have. Steps: {_listed(steps)}.')

    def predictions(self, sample: Any) -> Tuple[Optional[np.ndarray], Optional[np.ndarray]]:
        """Class probabilities ``(k,)``, and ratings ``(f, 2)``, of those that the head gives."""
        if 'pred_valence_arousal' in sample:
            return None, sample.pred_valence_arousal.detach().float().cpu().numpy().reshape(-1, 2)
        score = self.scores_of(sample)
        return (None if score is None else self.probabilities(score)), None

    @staticmethod
    def scores_of(sample: Any) -> Optional[np.ndarray]:
        """The scores ``(k,)`` of a data sample, a mean over views where the head left them apart; None without."""
        score = sample.get('pred_score')
        if not isinstance(score, torch.Tensor) or score.dim() not in (1, 2):
            return None
        score = score.detach().double().cpu()
        return (score if score.dim() == 1 else score.mean(0)).numpy()

    def probabilities(self, scores: np.ndarray) -> np.ndarray:
        """Scores ``(k,)`` as probabilities: of each label on its own, or of one among all."""
        if self.average == 'prob':
            return scores
        tensor = torch.from_numpy(scores)
        return (tensor.sigmoid() if self.multi_class else tensor.softmax(0)).numpy()

    def words(self, window: int) -> str:
        """What is decomposed, and how; after the first window."""
        if self.neck is None:
            return f'{self.config}: nothing is decomposed'
        return words_of(self.config, self.neck.streams[self.stream], self.shape)

    def notes(self) -> str:
        """What to keep in mind."""
        return notes_of(self.checkpoint)


def _listed(steps: Sequence[Dict[str, Any]]) -> str:
    return ', '.join(names_of(steps))


def one_clip(step: Dict[str, Any]) -> Dict[str, Any]:
    """A step of a pipeline; a sampler of several clips, or of segments twice, takes one clip, or them once."""
    if bare_name(step['type']) not in SAMPLERS:
        return step
    once: Dict[str, Any] = dict(num_clips=1) if step.get('clip_len', 1) > 1 else {}
    if 'twice_sample' in step:
        once['twice_sample'] = False
    if bare_name(step['type']) == 'DenseSampleFrames':
        once['num_sample_positions'] = 1        # ten unless it says so
    return {**step, **once}


def last_frames(parts: Any, count: int) -> Any:
    """The decomposition of the last ``count`` frames of maps. What made their stable part mixes all frames of the map:
    ``operator`` is the identity and ``gram`` that of the stable part, as for a module of the user's."""
    whole = parts.operator @ parts.gram @ parts.operator.mT
    names = ('stable', 'transient', 'residual')
    cut = {name: getattr(parts, name)[:, :, -count:] for name in names}
    return parts._replace(**cut, frame_gate=parts.frame_gate[:, -count:], gram=whole[:, -count:, -count:],
                          operator=torch.eye(count, dtype=whole.dtype, device=whole.device).expand(len(whole), -1, -1))
