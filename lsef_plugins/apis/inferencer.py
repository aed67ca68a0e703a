"""LSEFInferencer: a video in; labels, scores, curves and decomposition out.

A clip is looked at in one of two ways:

    window=None     as one thing: the frames are those that the config's own test pipeline samples, all its clips and
                    crops, so the scores are those of ``tools/test.py``
    window=2.0      as a film: in windows of two seconds, one every ``stride`` seconds (half a window), each of as many
                    frames as the recognizer is tested with; scores are means over the windows. ``'auto'`` takes the
                    stretch of the test pipeline's sampler (2 s where it spreads its frames over the clip).

Cameras and generators do not say how long they are, and a data set that makes its windows itself (VEATIC) has no
sampler: with ``window=None`` these are looked at as with ``'auto'``.
"""
import warnings
from typing import Any, Iterator, List, NamedTuple, Optional, Sequence, Tuple, Union

import cv2
import numpy as np
import torch
from mmengine.config import Config

from lsef_plugins.engine.window_reader import RecognizerReader, Sampled, Seen
from lsef_plugins.visualization.clip import plain_name
from lsef_plugins.visualization.curves import class_names
from lsef_plugins.visualization.frame_stream import FrameStream
from lsef_plugins.visualization.progress import progress_of
from lsef_plugins.visualization.sliding import Window, plan_windows, windows_of_stream
from lsef_plugins.visualization.timeline import Numbers, Progress, Reading, Timeline, merge_numbers, numbers_of
from lsef_plugins.visualization.whole_clip import whole_clip

from .inputs import Bounds, Source, check_bounds, clips_of, is_one
from .results import Inference, Inferences
from .spans import Grid, Look, Span, batches, check_spans, ended_early, every_frame, grid_of

#: What one broken clip can raise; OpenCV has an error of its own.
FAILURES = (OSError, ValueError, RuntimeError, cv2.error)


class Packed(NamedTuple):
    """A whole clip that waits for the recognizer."""
    name: str
    fps: float
    sampled: Sampled
    item: Any


class LSEFInferencer:
    """Looks at videos with a recognizer, with or without an LSEFNeck.

    Args:
        config: a path, the name of a package's config (``mmaction::...``, ``lsef_plugins::...``), or a Config.
        checkpoint: its weights, read as weights and plain values only; None leaves it untrained, with a warning.
        device: such as 'cpu' or 'cuda:0'; None for the first GPU where there is one.
        classes: names of the classes; None for those of the checkpoint, else of the config, else 'class 0' and so on.
        stream: which map of a recognizer with several is decomposed.

    Raises:
        OSError, ValueError: config or checkpoint cannot be used, such as a checkpoint without all of the weights.
    """

    def __init__(self, config: Union[str, Config], checkpoint: Optional[str] = None, device: Optional[str] = None,
                 classes: Optional[Sequence[str]] = None, stream: int = 0) -> None:
        config = config if isinstance(config, Config) else str(config)
        device = device or ('cuda:0' if torch.cuda.is_available() else 'cpu')
        self.reader = RecognizerReader(config, None if checkpoint is None else str(checkpoint), str(device), stream,
                                       decompose=None, as_tested=True)
        if checkpoint is None:
            warnings.warn(f'{self.reader.config} was given without a checkpoint: its recognizer is untrained, and what '
                          'it says means nothing.', stacklevel=2)
        self.classes: Tuple[str, ...] = self.reader.classes if classes is None else tuple(map(str, classes))
        count = getattr(getattr(self.reader.recognizer, 'cls_head', None), 'num_classes', None)
        if classes is not None and (len(set(self.classes)) < len(self.classes) or len(self.classes) != count):
            raise ValueError(f'classes names each of the {count} classes of {self.reader.config} once, got '
                             f'{len(self.classes)} names: {", ".join(self.classes[:10])}.')

    def __call__(self, inputs: Any, window: Span = None, stride: Optional[float] = None, batch_size: int = 1,
                 progress: Union[bool, Progress] = True, decomposition: bool = True, fps: Optional[float] = None,
                 seconds: Optional[float] = None, frames: Optional[int] = None,
                 recursive: bool = False) -> Union[Inference, Inferences]:
        """Looks at one clip, or at several.

        Args:
            inputs: the path of a video or of a folder of frames; an array or tensor ``(t, h, w, 3)``, uint8 RGB; a
                generator of frames ``(h, w, 3)``; the number of a camera; a folder of videos and of folders of frames;
                or a list of all these.
            window, stride: seconds, or 'auto'; see the module.
            batch_size: clips, or windows of a clip, that the recognizer is given at a time.
            progress: whether standard error counts; or what is called with the number done and of all.
            decomposition: False leaves the neck's decomposition out (its effect on the scores stays).
            fps: of arrays, generators and folders of frames (25); of a camera instead of what it reports.
            seconds, frames: of a camera (one of them is needed) and of a generator at most. Like ``fps`` they are
                refused where no input would heed them.
            recursive: whether subfolders of a folder are searched for clips, however deep.

        Returns:
            An :class:`Inference` of one clip; :class:`Inferences` of a folder of clips or a list, in natural order.

        Raises:
            OSError, ValueError: the clip cannot be read. One of several that cannot is left out, warned of, and named
                in ``errors``.
        """
        look = self._look(window, stride, batch_size, decomposition)
        bounds = Bounds(fps, seconds, frames, recursive, self.reader.file_reader)
        one, clips = is_one(inputs), clips_of(inputs, bounds)
        check_bounds(inputs, bounds)
        tell = progress if callable(progress) else progress_of(clips[0].name if one else 'clips') if progress else None
        results = Inferences()
        for done, (name, found) in enumerate(self._outcomes(clips, look, tell if one else None), start=1):
            if isinstance(found, Inference):
                results.append(found)
            elif one:
                raise found
            else:
                results.errors[name] = ' '.join(str(found).split()) or type(found).__name__
            if tell is not None and not one:
                tell(done, len(clips))
        if results.errors:
            warnings.warn(f'{len(results.errors)} of {len(clips)} inputs failed, see .errors. The first: '
                          f'{plain_name(next(iter(results.errors.values())))}', stacklevel=2)
        return results[0] if one else results

    def stream(self, inputs: Any, window: Span = 'auto', stride: Optional[float] = None, decomposition: bool = True,
               fps: Optional[float] = None, seconds: Optional[float] = None,
               frames: Optional[int] = None) -> Iterator[Inference]:
        """What each window of one camera, generator, array or video says, as soon as its last frame is there.

        Arguments are those of a call; a camera goes on until nobody asks for the next moment. Energies and events of a
        moment are measured against its own window.
        """
        look = self._look('auto' if window is None else window, stride, 1, decomposition)
        bounds = Bounds(fps, seconds, frames, False, self.reader.file_reader, endless=True)
        clips = clips_of(inputs, bounds)
        check_bounds(inputs, bounds)
        if len(clips) != 1:
            raise ValueError(f'a stream is one camera, generator, array or video; got {len(clips)} clips.')
        return self._moments(clips[0], look)

    def _look(self, window: Span, stride: Optional[float], batch_size: int, decomposition: bool) -> Look:
        if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
            raise ValueError(f'batch_size counts what the recognizer is given at a time, from 1; got {batch_size}.')
        check_spans(window, stride)
        # A recognizer that looks at max_testing_views views at a time takes one video at a time.
        views = (getattr(self.reader.recognizer, 'test_cfg', None) or {}).get('max_testing_views')
        return Look(window, stride, 1 if views else batch_size, decomposition)

    # ---- whole clips, and films between them ----

    def _outcomes(self, clips: Sequence[Any], look: Look,
                  tell: Optional[Progress]) -> Iterator[Tuple[str, Union[Inference, Exception]]]:
        """The name of each clip and what was found, or what is wrong with it, in order."""
        waiting: List[Packed] = []
        for clip in clips:
            found: Any = None
            try:
                source = clip.open()
                try:
                    found = self._film(clip.name, source, look, tell) if self._is_film(source, look) else \
                        self._packed(clip.name, source)
                finally:
                    source.close()
            except FAILURES as error:
                found = error
            if not isinstance(found, Packed):
                yield from self._seen(waiting, look)
                waiting = []
                yield clip.name, found
                continue
            if waiting and waiting[0].item['inputs'].shape != found.item['inputs'].shape:
                yield from self._seen(waiting, look)    # the host would pad the smaller one
                waiting = []
            waiting.append(found)
            if len(waiting) == look.batch_size:
                yield from self._seen(waiting, look)
                waiting = []
        yield from self._seen(waiting, look)

    def _is_film(self, source: Source, look: Look) -> bool:
        return look.window is not None or isinstance(source, FrameStream) or not self.reader.samples

    def _packed(self, name: str, source: Any) -> Packed:
        sampled = self.reader.sampled(source.length, source.fps)
        places, back = np.unique(sampled.indices, return_inverse=True)
        frames = source.read(places.tolist())
        return Packed(name, source.fps, sampled, self.reader.pack([frames[place] for place in back], sampled))

    def _seen(self, waiting: Sequence[Packed], look: Look) -> Iterator[Tuple[str, Union[Inference, Exception]]]:
        if not waiting:
            return
        try:
            seen = self.reader.see([each.item for each in waiting], [each.sampled for each in waiting],
                                   look.decomposition)
            found: List[Any] = [self._whole(each, one) for each, one in zip(waiting, seen)]
        except FAILURES as error:
            if len(waiting) > 1:            # only one of them may be at fault
                for each in waiting:
                    yield from self._seen([each], look)
                return
            found = [error]
        yield from zip((each.name for each in waiting), found)

    def _whole(self, packed: Packed, seen: Seen) -> Inference:
        _, ratings = self.reader.predictions(seen.sample)
        scores = self.reader.scores_of(seen.sample)
        sampled, three_d = packed.sampled, seen.inputs.dim() == 5
        indices = sampled.indices
        if three_d:                         # twice_sample: the second round is that of the last crop
            indices = indices[len(indices) - sampled.clips * sampled.clip_len:]
        timeline = whole_clip(
            indices, packed.fps, sampled.clips if three_d else 1, seen.parts,
            None if scores is None else self.reader.probabilities(scores), ratings, self.classes)
        return self._inference(packed.name, packed.fps, timeline, scores)

    # ---- windows ----

    def _windows(self, source: Source, grid: Grid, look: Look) -> Iterator[Tuple[int, Numbers, Optional[np.ndarray]]]:
        """First grid position, numbers and scores of each window."""
        pairs = windows_of_stream(every_frame(source, grid.interval), grid.length, grid.stride)
        for batch in batches(pairs, look.batch_size):
            clips = [self.reader.window_of(np.arange(start, start + grid.length) * grid.interval) for start, _ in batch]
            items = [self.reader.pack(frames, clip) for (_, frames), clip in zip(batch, clips)]
            for (start, frames), seen in zip(batch, self.reader.see(items, clips, look.decomposition)):
                reading = Reading(seen.parts, frames[-1], *self.reader.predictions(seen.sample))
                yield (start, numbers_of(reading, grid.length, start * grid.interval / source.fps),
                       self.reader.scores_of(seen.sample))

    def _film(self, name: str, source: Source, look: Look, tell: Optional[Progress]) -> Inference:
        grid = grid_of(source, self.reader, look.window, look.stride)
        total = None if isinstance(source, FrameStream) else \
            len(plan_windows(-(-source.length // grid.interval), grid.length, grid.stride))
        numbers, scores, end = [], [], 0
        for start, one, score in self._windows(source, grid, look):
            end = start + grid.length
            numbers.append(one)
            scores += [] if score is None else [score]
            if tell is not None and total is not None:
                tell(len(numbers), total)
        if not numbers:
            raise ended_early(name, grid)
        timeline = merge_numbers(np.arange(end) * grid.interval, plan_windows(end, grid.length, grid.stride), numbers,
                                 source.fps, self.classes)
        return self._inference(name, source.fps, timeline, np.mean(scores, 0) if scores else None)

    def _moments(self, clip: Any, look: Look) -> Iterator[Inference]:
        source, said = clip.open(), False
        try:
            grid = grid_of(source, self.reader, look.window, look.stride)
            for start, numbers, scores in self._windows(source, grid, look):
                indices = np.arange(start, start + grid.length) * grid.interval
                timeline = merge_numbers(indices, [Window(0, grid.length, 0, grid.length)], [numbers], source.fps,
                                         self.classes)
                said = True
                yield self._inference(clip.name, source.fps, timeline, scores)
            if not said:
                raise ended_early(clip.name, grid)
        finally:
            source.close()

    # ---- what is said ----

    def _inference(self, name: str, fps: float, timeline: Timeline, scores: Optional[np.ndarray]) -> Inference:
        valence = arousal = None
        if timeline.ratings is not None:
            valence, arousal = map(float, timeline.ratings.mean(0))
        if scores is None or timeline.probabilities is None:
            return Inference(name, fps, (), {}, {}, valence, arousal, timeline)
        names, probabilities = class_names(timeline), timeline.probabilities.mean(0)
        order = np.argsort(-scores, kind='stable')
        chosen = [k for k in order if probabilities[k] > .5] if self.reader.multi_class else order[:1]
        return Inference(name, fps, tuple(names[k] for k in chosen), dict(zip(names, scores.tolist())),
                         dict(zip(names, probabilities.tolist())), valence, arousal, timeline)
