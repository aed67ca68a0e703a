"""Frames that are in memory, and frames that come once: a camera, a generator."""
from typing import Any, Callable, Iterable, Iterator, Optional

import cv2
import numpy as np

from .pixels import check_frames
from .source import FOLDER_FPS, FrameSource


class FrameArray(FrameSource):
    """A clip ``(t, h, w, 3)`` uint8 RGB that is in memory."""

    def __init__(self, frames: Any, name: str = 'array', fps: Optional[float] = None) -> None:
        super().__init__(name)      # type: ignore[arg-type]
        if hasattr(frames, 'detach'):
            frames = frames.detach().cpu().numpy()
        self.frames, self.fps = check_frames(frames), _checked(fps) or FOLDER_FPS
        self.length = len(self.frames)

    def _read(self, index: int) -> np.ndarray:
        return np.ascontiguousarray(self.frames[index])


class FrameStream:
    """Frames ``(h, w, 3)`` uint8 RGB, once, in order, nobody knows how many.

    Args:
        frames: where they come from.
        name: what messages call them.
        fps: frames per second; None for 25. Times are counted by it.
        limit: so many frames at most.
        close: called at the end, however it comes.
    """

    def __init__(self, frames: Iterable[Any], name: str = 'frames', fps: Optional[float] = None,
                 limit: Optional[int] = None, close: Callable[[], Any] = lambda: None) -> None:
        if limit is not None and limit < 1:
            raise ValueError(f'frames counts what is read of {name} and is at least 1, got {limit}.')
        self.frames, self.name, self.fps, self.limit = frames, name, _checked(fps) or FOLDER_FPS, limit
        self.close = close

    def __iter__(self) -> Iterator[np.ndarray]:
        shape: Any = None
        try:
            for number, frame in enumerate(self.frames):
                frame = frame.detach().cpu().numpy() if hasattr(frame, 'detach') else np.asarray(frame)
                if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8 or \
                        frame.shape != (shape or frame.shape):
                    raise ValueError(f'{self.name}: frame {number} is {frame.dtype} {frame.shape}; frames are RGB '
                                     f'pictures (h, w, 3) of uint8{", all of one size" if shape else ""}.')
                shape = frame.shape
                yield frame
                if number + 1 == self.limit:
                    return
        finally:
            self.close()


def open_camera(number: int, fps: Optional[float] = None, seconds: Optional[float] = None,
                frames: Optional[int] = None) -> FrameStream:
    """The camera of this number, through OpenCV; released when its frames end or nobody wants more.

    Args:
        number: 0 for the first one.
        fps: frames per second; None for what the camera reports (25 where it reports none).
        seconds, frames: how much is read at most; by default there is no end.

    Raises:
        ValueError: there is no such camera, or the bounds are not positive.
    """
    if seconds is not None and not seconds > 0:
        raise ValueError(f'seconds of a camera are positive, got {seconds}.')
    device = cv2.VideoCapture(number)
    if not device.isOpened():
        device.release()
        raise ValueError(f'camera {number} cannot be opened: none of that number is connected, another program holds '
                         'it, or this user may not read it (on Linux: ls -l /dev/video*). Numbers count from 0; a '
                         'video file is given by its path.')
    try:
        told = device.get(cv2.CAP_PROP_FPS)
        fps = _checked(fps) or (float(told) if np.isfinite(told) and told > 0 else FOLDER_FPS)
        bounds = [bound for bound in (frames, None if seconds is None else max(1, round(seconds * fps)))
                  if bound is not None]
        return FrameStream(_frames_of(device), f'camera {number}', fps, min(bounds) if bounds else None, device.release)
    except ValueError:
        device.release()
        raise


def _frames_of(device: Any) -> Iterator[np.ndarray]:
    while True:
        good, picture = device.read()
        if not good:
            return
        yield cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)


def _checked(fps: Optional[float]) -> Optional[float]:
    if fps is not None and not fps > 0:
        raise ValueError(f'fps counts frames per second and is positive, got {fps}.')
    return fps
