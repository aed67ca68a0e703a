"""Frames of a clip on request, one at a time: a video file by decord or OpenCV, or the pictures in a folder.

A source keeps no frames. It tells ``length`` in frames and ``fps``, and reads frames ``(h, w, 3)`` uint8 RGB by number;
numbers that grow are cheap, going back may mean to decode anew.
"""
import re
from pathlib import Path
from typing import Any, List, Optional, Sequence, Union

import cv2
import numpy as np

from .clip import by_reader, check_claims, check_name, check_reader, unreadable

VIDEO_SUFFIXES = ('.mp4', '.avi', '.mkv', '.webm', '.mov', '.m4v', '.mpg', '.mpeg', '.wmv', '.flv')
IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.webp')
#: Frames in a folder do not say how fast they are.
FOLDER_FPS = 25.0


class FrameSource:
    """What all sources share; a subclass has ``_read(index)``, which raises or returns None where there is none."""
    length: int
    fps: float

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self, indices: Sequence[int]) -> List[np.ndarray]:
        """The frames of these numbers.

        Raises:
            ValueError: one of them cannot be decoded; the message says which and what can still be read.
        """
        frames = []
        for index in indices:
            frame, reason = None, None
            try:
                frame = self._read(int(index))
            except Exception as error:      # decord raises its own DECORDError, which no module exports
                reason = error
            if frame is None:
                raise self._broken(int(index)) from reason
            frames.append(frame)
        return frames

    def close(self) -> None:
        """Gives the decoder back."""

    def _read(self, index: int) -> Optional[np.ndarray]:
        raise NotImplementedError

    def _broken(self, index: int) -> ValueError:
        seconds = index / self.fps
        return ValueError(f'{self.path} breaks off: of its {self.length} frames, number {index} ({seconds:.2f} s) '
                          'cannot be decoded. Copy the file again, or stay in the part that can be read with '
                          f'--duration {max(0.1, seconds - 0.1):.1f} or less.')


class DecordVideo(FrameSource):
    """A video file by decord."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        import decord
        try:
            self._video: Any = decord.VideoReader(str(path), num_threads=1)
            self.length, self.fps = len(self._video), float(self._video.get_avg_fps())
        except Exception as error:          # as above
            raise unreadable(path) from error
        check_claims(path, self.length, self.fps)

    def _read(self, index: int) -> np.ndarray:
        return self._video[index].asnumpy()

    def close(self) -> None:
        self._video = None


class OpenCVVideo(FrameSource):
    """A video file by OpenCV, read forward: seeking is not exact in every container."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._start()
        self.length = int(self._video.get(cv2.CAP_PROP_FRAME_COUNT))
        self.fps = float(self._video.get(cv2.CAP_PROP_FPS))
        try:
            check_claims(path, self.length, self.fps, self._video.get(cv2.CAP_PROP_FRAME_WIDTH),
                         self._video.get(cv2.CAP_PROP_FRAME_HEIGHT))
        except ValueError:
            self.close()
            raise

    def _start(self) -> None:
        self._video, self._next = cv2.VideoCapture(str(self.path)), 0
        self._last: Any = None

    def _read(self, index: int) -> Optional[np.ndarray]:
        if index == self._next - 1:
            return self._last
        if index < self._next:
            self.close()
            self._start()
        while self._next < index:
            if not self._video.grab():
                return None
            self._next += 1
        good, picture = self._video.read()
        if not good:
            return None
        self._next += 1
        self._last = cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)
        return self._last

    def close(self) -> None:
        self._video.release()


class FrameFolder(FrameSource):
    """The pictures of a folder in natural order ('2.jpg' before '10.jpg'), all of one size."""

    def __init__(self, path: Path, fps: float = FOLDER_FPS) -> None:
        super().__init__(path)
        self.names, self.fps = frame_names(path), fps
        for name in self.names:
            check_name(path / name)
        self.length = len(self.names)
        self._shape: Any = None
        if not self.length:
            raise ValueError(f'{path} holds no pictures ({", ".join(IMAGE_SUFFIXES)}) and no videos. Give a video, a '
                             'folder of videos or a folder of frames.')

    def _read(self, index: int) -> Optional[np.ndarray]:
        picture = cv2.imread(str(self.path / self.names[index]), cv2.IMREAD_COLOR)
        if picture is None or picture.shape != (self._shape or picture.shape):
            return None
        self._shape = picture.shape
        return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)

    def _broken(self, index: int) -> ValueError:
        return ValueError(f'{self.path / self.names[index]} cannot be read as a picture of the size of those before it '
                          f'({self._shape or "there is none"}). Extract the frames again, or take this one out.')


def open_source(path: Union[str, Path], fps: Optional[float] = None, reader: Optional[str] = None) -> FrameSource:
    """Opens a video file or a folder of frames.

    Args:
        path: file or folder.
        fps: frames per second of a folder; None for 25. A video knows its own.
        reader: 'decord' or 'opencv'; None takes decord where it is installed and can open the file.

    Raises:
        FileNotFoundError: there is nothing of that name.
        ValueError: it is no readable video and no folder of pictures.
    """
    path = Path(path)
    check_name(path)
    check_reader(reader)
    if fps is not None and not fps > 0:
        raise ValueError(f'fps counts frames per second and is positive, got {fps}.')
    if not path.exists():
        raise FileNotFoundError(f'{path} does not exist. Check the spelling; relative paths start at {Path.cwd()}.')
    if path.is_dir():
        return FrameFolder(path, fps or FOLDER_FPS)
    return by_reader(path, reader, DecordVideo, OpenCVVideo)


def frame_names(folder: Path) -> List[str]:
    """Names of the pictures in a folder, in natural order."""
    return sorted((entry.name for entry in folder.iterdir() if _is(entry, IMAGE_SUFFIXES)), key=_natural)


def clips_in(folder: Union[str, Path], recursive: bool = False) -> List[Path]:
    """The clips of a folder: its videos and its subfolders of frames, in natural order; or itself, if it holds frames.

    Args:
        folder: where they lie.
        recursive: whether subfolders that hold no frames are searched, too (links to folders are not followed).

    Raises:
        ValueError: it holds neither.
    """
    folder = Path(folder)
    if frame_names(folder):
        return [folder]
    found = _clips(folder, recursive)
    if not found:
        raise ValueError(f'{folder} holds no videos ({", ".join(VIDEO_SUFFIXES)}), no pictures and no folders of '
                         'pictures. Give a video, a folder of videos or a folder of frames.')
    return sorted(found, key=lambda entry: _natural(entry.relative_to(folder).as_posix()))


def _clips(folder: Path, recursive: bool) -> List[Path]:
    found: List[Path] = []
    for entry in folder.iterdir():
        if _is(entry, VIDEO_SUFFIXES):
            found.append(entry)
        elif entry.is_dir() and not entry.name.startswith('.'):
            if frame_names(entry):
                found.append(entry)
            elif recursive and not entry.is_symlink():
                found += _clips(entry, recursive)
    return found


def _is(entry: Path, suffixes: Sequence[str]) -> bool:
    return entry.suffix.lower() in suffixes and not entry.name.startswith('.') and entry.is_file()


def _natural(name: str) -> tuple:
    parts: List[Any] = re.split('([0-9]+)', name)
    parts[1::2] = map(int, parts[1::2])
    return tuple(parts), name
