"""A clip from its file to its curves: which stretch, which frames, perhaps only the face, window by window."""
import dataclasses
from pathlib import Path
from typing import Any, List, NamedTuple, Optional, Tuple

import numpy as np

from .clip import shrink
from .energy import Event
from .face_box import Detector, FaceTrack, track_face
from .sliding import FrameWindows, plan_windows
from .source import FrameSource
from .timeline import Progress, Timeline, read_timeline

#: Frames whose pixels are decomposed are held at this shorter side.
PIXELS_SHOWN = 256


@dataclasses.dataclass(frozen=True)
class Settings:
    """What a report is made of: the stretch from ``start`` on, ``duration`` long (seconds; None: to the end);
    ``stride`` sampled frames from window to window (None: half a window); ``fps`` of folders of frames; ``face``, what
    finds faces (None: no crop); ``overlay``, whether a video is written; ``width`` of pictures in pixels."""
    start: float = 0.0
    duration: Optional[float] = None
    stride: Optional[int] = None
    fps: Optional[float] = None
    face: Optional[Detector] = None
    overlay: bool = False
    width: int = 1600


class ReadClip(NamedTuple):
    """A clip that has been read."""
    path: Path
    source: FrameSource
    frames: FrameWindows
    face: Optional[FaceTrack]
    timeline: Timeline
    events: List[Event]


def read_clip(path: Path, source: FrameSource, reader: Any, settings: Settings,
              progress: Optional[Progress] = None) -> ReadClip:
    """Reads the windows of an open clip.

    Raises:
        ValueError: it is shorter than a window, or breaks off.
    """
    first, last = stretch(source, settings)
    length, interval = reader.sampling(last - first, source.fps)
    indices = np.arange(first, last, interval)
    try:
        windows = plan_windows(len(indices), length, settings.stride)
    except ValueError as error:
        raise ValueError(f'{path}: {error} Choose --window, --stride and --interval for a video of {last - first} '
                         'frames.') from error
    face = None if settings.face is None else track_face(source, settings.face, first, last)

    def prepare(frame: np.ndarray, index: int) -> np.ndarray:
        frame = frame if face is None else face.crop(frame, index)
        return shrink(frame, PIXELS_SHOWN) if reader.pixels else frame
    frames = FrameWindows(source, indices, windows, prepare)
    timeline = read_timeline(frames, reader, source.fps, reader.classes, progress)
    return ReadClip(path, source, frames, face, timeline, timeline.events())


def stretch(source: FrameSource, settings: Settings) -> Tuple[int, int]:
    """First frame and the end of the stretch that is asked for.

    Raises:
        ValueError: the clip has no frames there.
    """
    start, duration = settings.start, settings.duration
    if start < 0 or (duration is not None and duration <= 0):
        raise ValueError(f'start is not negative and duration is positive, in seconds; got {start} and {duration}.')
    first = int(np.ceil(start * source.fps - 1e-6))
    last = source.length if duration is None else \
        min(source.length, int(np.ceil((start + duration) * source.fps - 1e-6)))
    if last - first < 2:
        raise ValueError(f'{source.path} has {source.length} frames ({source.length / source.fps:.2f} s at '
                         f'{source.fps:g} fps), {max(0, last - first)} of them between {start:g} s and the end of the '
                         'stretch. Choose another --start and --duration, or a longer video.')
    return first, last


def face_words(clip: ReadClip, settings: Settings) -> str:
    """Whether a face was looked for and found; nothing where it was not."""
    if settings.face is None:
        return ''
    return clip.face.words() if clip.face else 'no face was found: the whole frame is used'
