"""Evenly spaced frames of a video file, by decord when it is installed and by OpenCV otherwise."""
import dataclasses
import importlib.util
from pathlib import Path
from typing import Any, Callable, List, Optional, Tuple, Union

import cv2
import numpy as np

from lsef_plugins.files.content import kind_fault
from lsef_plugins.files.mp4 import MOST_PIXELS
from lsef_plugins.files.video import untrue_fault

MIN_FRAMES = 4
#: Length in frames, frames per second, and what reads frames by their indices and shrinks each as it comes.
Opened = Tuple[int, float, Callable[[np.ndarray, Callable], List[np.ndarray]]]


@dataclasses.dataclass(frozen=True)
class SampledClip:
    """Frames of a video: ``frames`` ``(t, h, w, 3)`` uint8 RGB, their ``indices`` ``(t,)`` in the video from 0,
    their ``times`` ``(t,)`` in seconds from its start, its ``fps`` and ``length`` in frames."""
    path: Path
    frames: np.ndarray
    indices: np.ndarray
    times: np.ndarray
    fps: float
    length: int


def sample_video(path: Union[str, Path], frames: int = 48, start: float = 0.0, duration: Optional[float] = None,
                 short_side: int = 256, reader: Optional[str] = None) -> SampledClip:
    """Reads at most ``frames`` evenly spaced frames.

    Args:
        path: the video file.
        frames: number of frames, at least 4; a shorter stretch gives all it has.
        start, duration: the stretch in seconds; None for everything from ``start`` on.
        short_side: frames are shrunk while they are read so that the shorter side has at most so many pixels.
        reader: 'decord' or 'opencv'; None takes decord where it is installed and can open the file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no readable video, breaks off, or the stretch has fewer than 4 frames.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f'{path} does not exist. Check the spelling; relative paths start at {Path.cwd()}.')
    if path.is_dir():
        raise ValueError(f'{path} is a folder; give one video file (.mp4, .avi, .mkv, .webm ...).')
    check_name(path)
    if frames < MIN_FRAMES:
        raise ValueError(f'frames is {frames}; a decomposition over time needs at least {MIN_FRAMES}.')
    if start < 0 or (duration is not None and duration <= 0):
        raise ValueError(f'start is not negative and duration is positive, in seconds; got {start} and {duration}.')
    length, fps, read = _open(path, reader)
    first = int(np.ceil(start * fps - 1e-6))
    last = length if duration is None else min(length, int(np.ceil((start + duration) * fps - 1e-6)))
    available = max(0, last - first)
    if available < MIN_FRAMES:
        raise ValueError(f'{path} has {length} frames ({length / fps:.2f} s at {fps:g} fps), {available} of them '
                         f'between {start:g} s and the end of the stretch; at least {MIN_FRAMES} are needed. '
                         'Choose another --start and --duration, or a longer video.')
    indices = np.round(np.linspace(first, last - 1, min(frames, available))).astype(int)
    pictures = read(indices, lambda picture: shrink(picture, short_side))
    return SampledClip(path, np.stack(pictures), indices, indices / fps, fps, length)


def still_stretch(frames: np.ndarray) -> Optional[Tuple[int, int]]:
    """The longest run of frames ``(t, h, w, 3)`` that hardly differ in a clip that otherwise moves, or None.

    First and last position of at least 4 frames whose mean change stays below 2 % of the clip's median change:
    a frozen or repeated picture, of which any decomposition says 'stable'.
    """
    change = np.array([np.abs(a.astype(np.int16) - b).mean() for a, b in zip(frames[:-1], frames[1:])])
    still = np.concatenate([[0], change < 0.02 * np.median(change), [0]]).astype(int)
    starts, ends = np.flatnonzero(np.diff(still) == 1), np.flatnonzero(np.diff(still) == -1)
    if not starts.size or (ends - starts).max() < 3:
        return None
    longest = int(np.argmax(ends - starts))
    return int(starts[longest]), int(ends[longest])


def shrink(picture: np.ndarray, short_side: int) -> np.ndarray:
    height, width = picture.shape[:2]
    scale = short_side / min(height, width)
    if scale >= 1:
        return picture
    return cv2.resize(picture, (round(width * scale), round(height * scale)), interpolation=cv2.INTER_AREA)


def check_reader(reader: Optional[str]) -> None:
    """ValueError where there is no such reader."""
    if reader not in (None, 'decord', 'opencv'):
        raise ValueError(f"reader is 'decord', 'opencv' or None, got {reader!r}.")


def by_reader(path: Path, reader: Optional[str], by_decord: Callable[[Path], Any],
              by_opencv: Callable[[Path], Any]) -> Any:
    """What the reader asked for opens; without a wish decord's where it is there and can, else OpenCV's."""
    fault = kind_fault(str(path)) or untrue_fault(str(path))
    if fault:
        raise ValueError(f'{path} {fault}. Give a video file.')
    if ':' in str(path):
        path = path.absolute()      # FFmpeg takes 'concat:a', a file in the current folder, for an order
    if reader == 'decord' or (reader is None and importlib.util.find_spec('decord')):
        try:
            return by_decord(path)
        except ValueError:
            if reader == 'decord':
                raise
    return by_opencv(path)          # opens files that break off, and says where


def _open(path: Path, reader: Optional[str]) -> Opened:
    check_reader(reader)
    return by_reader(path, reader, _open_decord, _open_opencv)


def check_name(path: Path) -> None:
    """ValueError for names that are no UTF-8: decoders take text, and OpenCV's process dies of such a name."""
    try:
        str(path).encode('utf-8')
    except UnicodeEncodeError as error:
        raise ValueError(f'{plain_name(str(path))}: a file name that is no UTF-8 (shown as ?) cannot be handed to a '
                         'decoder. Rename it.') from error


def check_claims(path: Path, length: int, fps: float, width: float = 1, height: float = 1) -> None:
    """ValueError where what a decoder says of a file is nothing, or more than its bytes can hold."""
    if length < 1 or not fps > 0:
        raise unreadable(path)
    if length > path.stat().st_size or width * height > MOST_PIXELS:
        raise ValueError(f'{path} ({path.stat().st_size} bytes) claims {length} frames'
                         + (f' of {width:.0f} x {height:.0f} pixels' if height > 1 else '')
                         + ', which it cannot hold or no memory can. Export it again.')


def plain_name(name: str) -> str:
    """A file name that can be printed and written anywhere: bytes that are no UTF-8 become '?'."""
    return name.encode('utf-8', 'replace').decode('utf-8')


def unreadable(path: Path) -> ValueError:
    return ValueError(f'{path} ({path.stat().st_size} bytes) cannot be read as a video: it is empty, cut off, or not '
                      'a video. Download or export it again; `ffprobe` on it tells more.')


def _broken(path: Path, index: int, length: int, fps: float) -> ValueError:
    return ValueError(f'{path} breaks off: of its {length} frames, number {index} ({index / fps:.2f} s) cannot be '
                      'decoded. Copy the file again, or stay in the part that can be read with '
                      f'--duration {max(0.1, index / fps - 0.1):.1f} or less.')


def _open_decord(path: Path) -> Opened:
    import decord
    try:
        video = decord.VideoReader(str(path), num_threads=1)
        length, fps = len(video), float(video.get_avg_fps())
    except Exception as error:      # decord raises RuntimeError and its own DECORDError, which no module exports
        raise unreadable(path) from error
    check_claims(path, length, fps)

    def read(indices, shrink):
        pictures = []
        for index in indices:
            try:
                pictures.append(shrink(video[int(index)].asnumpy()))
            except Exception as error:
                raise _broken(path, int(index), length, fps) from error
        return pictures

    return length, fps, read


def _open_opencv(path: Path) -> Opened:
    video = cv2.VideoCapture(str(path))
    length, fps = int(video.get(cv2.CAP_PROP_FRAME_COUNT)), float(video.get(cv2.CAP_PROP_FPS))
    try:
        check_claims(path, length, fps, video.get(cv2.CAP_PROP_FRAME_WIDTH), video.get(cv2.CAP_PROP_FRAME_HEIGHT))
    except ValueError:
        video.release()
        raise

    def read(indices, shrink):
        pictures, wanted, position = [], {int(index) for index in indices}, 0
        try:
            while position <= max(wanted):      # seeking is not exact in every container: go through
                if not video.grab():
                    raise _broken(path, position, length, fps)
                if position in wanted:
                    good, picture = video.retrieve()
                    if not good:
                        raise _broken(path, position, length, fps)
                    pictures.append(shrink(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)))
                position += 1
        finally:
            video.release()
        return pictures

    return length, fps, read
