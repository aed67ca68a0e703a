"""What may be looked at, and what is looked at: one clip after the other, each opened when its turn comes."""
import os
from pathlib import Path
from typing import Any, Callable, Iterator, List, NamedTuple, Optional, Union

from lsef_plugins.datasets.integrity import video_fault
from lsef_plugins.visualization.frame_stream import FrameArray, FrameStream, open_camera
from lsef_plugins.visualization.source import FrameSource, clips_in, frame_names, open_source

Source = Union[FrameSource, FrameStream]


class Bounds(NamedTuple):
    """``fps`` of inputs that do not know theirs; ``seconds`` and ``frames`` of a camera or a generator at most;
    ``recursive``: folders of folders are searched; ``reader`` of videos; ``endless``: a camera needs no end."""
    fps: Optional[float] = None
    seconds: Optional[float] = None
    frames: Optional[int] = None
    recursive: bool = False
    reader: Optional[str] = None
    endless: bool = False


class Input(NamedTuple):
    """A clip by its name, and what opens it."""
    name: str
    open: Callable[[], Source]


def is_one(inputs: Any) -> bool:
    """Whether an input is one clip, not a list or a folder of clips."""
    if isinstance(inputs, (str, os.PathLike)):
        return not Path(inputs).is_dir() or bool(frame_names(Path(inputs)))
    return not isinstance(inputs, (list, tuple))


def clips_of(inputs: Any, bounds: Bounds, number: int = 0) -> List[Input]:
    """The clips of an input, nothing of them opened.

    Raises:
        ValueError: it is nothing that can be looked at, or a folder without clips.
    """
    if isinstance(inputs, (list, tuple)):
        return [clip for place, each in enumerate(inputs) for clip in clips_of(each, bounds, place)]
    if isinstance(inputs, (str, os.PathLike)):
        path = Path(inputs)
        if path.is_dir():
            return [_file(each, bounds) for each in clips_in(path, bounds.recursive)]
        return [_file(path, bounds)]
    if isinstance(inputs, int) and not isinstance(inputs, bool):
        if not bounds.endless and bounds.seconds is None and bounds.frames is None:
            raise ValueError(f'camera {inputs} has no end: give seconds= or frames=, or go through '
                             f'inferencer.stream({inputs}), which needs none.')
        return [Input(f'camera {inputs}', lambda: open_camera(inputs, bounds.fps, bounds.seconds, bounds.frames))]
    if isinstance(inputs, Iterator):
        return [Input(f'frames {number}', lambda: _stream(inputs, f'frames {number}', bounds))]
    if hasattr(inputs, 'shape'):
        return [Input(f'array {number}', lambda: FrameArray(inputs, f'array {number}', bounds.fps))]
    raise ValueError(f'{type(inputs).__name__} cannot be looked at. Give the path of a video or a folder, an array or '
                     'tensor (t, h, w, 3) of uint8, the number of a camera, a generator of frames, or a list of those.')


def check_bounds(inputs: Any, bounds: Bounds) -> None:
    """ValueError where a bound would be ignored: no input is of those that heed it."""
    several = inputs if isinstance(inputs, (list, tuple)) else [inputs]
    if (bounds.seconds is not None or bounds.frames is not None) and not any(map(_flows, several)):
        raise ValueError('seconds= and frames= bound cameras and generators, and there is none among the inputs: '
                         'videos, folders and arrays are looked at whole. Leave them out, or give the frames as a '
                         'generator.')
    if bounds.fps is not None and all(isinstance(each, (str, os.PathLike)) and not Path(each).is_dir()
                                      for each in several):
        raise ValueError(f'fps={bounds.fps:g} is of inputs that do not know theirs (folders of frames, arrays, '
                         'generators, cameras), and there is none: a video file knows its own. Leave fps= out.')


def _flows(clip: Any) -> bool:
    """Whether an input is a camera or a generator (or a list with one), which has no length."""
    if isinstance(clip, (list, tuple)):
        return any(map(_flows, clip))
    return isinstance(clip, Iterator) or (isinstance(clip, int) and not isinstance(clip, bool))


def _file(path: Path, bounds: Bounds) -> Input:
    def opened() -> FrameSource:
        fault = video_fault(str(path)) if path.is_file() else None
        if fault:                       # before a decoder meets it, whose process a cut off file can kill
            raise ValueError(f'{path} cannot be read as a video: it {fault}. Copy or export it again.')
        return open_source(path, bounds.fps, bounds.reader)
    return Input(str(path), opened)


def _stream(frames: Any, name: str, bounds: Bounds) -> FrameStream:
    stream = FrameStream(frames, name, bounds.fps, bounds.frames)
    if bounds.seconds is not None:
        limit = max(1, round(bounds.seconds * stream.fps))
        stream.limit = limit if stream.limit is None else min(limit, stream.limit)
    return stream
