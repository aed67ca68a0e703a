"""One smoothed box around the face over time, from a look every now and then.

At most 240 frames of the video are looked at, one a second or less. Of several faces the largest counts. Where none is
found the box is interpolated between its neighbours; a running median of five looks takes single wrong ones out.
The box is a square, wider than the detection by ``MARGIN``, and every crop of a video has one size: its median box.

Detectors come with a package, nothing is downloaded: OpenCV's Haar cascade, which the wheels of opencv-python 4 hold
(5.0 no longer has it), or scikit-image's cascade of local binary patterns. Both find the one face of a frontal
photograph; of 32 schematic faces of the embedded data set (64 pixels) the first finds 26, the second none.
"""
import dataclasses
import importlib.util
import os
from typing import Any, Callable, List, Optional, Tuple

import cv2
import numpy as np

#: (x, y, width, height) in pixels.
Box = Tuple[float, float, float, float]
Detector = Callable[[np.ndarray], List[Box]]
CASCADE = 'haarcascade_frontalface_alt2.xml'
MARGIN = 1.4
LOOKS, LOOK_SECONDS = 240, 1.0
SMOOTHED = 5
#: Pixels of the shorter side of what a detector is shown, and of the smallest face it looks for there.
SHOWN_SIDE, SMALLEST = 240, 40


@dataclasses.dataclass(frozen=True)
class FaceTrack:
    """Centres and sizes ``(m,)`` of the face's square at the frames ``indices`` ``(m,)`` in which it was found, of
    ``looked`` frames; ``side`` pixels of every crop."""
    indices: np.ndarray
    centres: np.ndarray
    sizes: np.ndarray
    looked: int
    side: int

    def box(self, index: int) -> Box:
        """The square at a frame, interpolated."""
        x, y = (float(np.interp(index, self.indices, self.centres[:, axis])) for axis in (0, 1))
        size = float(np.interp(index, self.indices, self.sizes))
        return x - size / 2, y - size / 2, size, size

    def crop(self, frame: np.ndarray, index: int) -> np.ndarray:
        """The face of a frame ``(h, w, 3)``, ``(side, side, 3)``; beyond the picture its border goes on."""
        x, y, size, _ = self.box(index)
        scale = self.side / size
        # The corner (x, y) of the box goes to the corner of the crop; pixels are areas, their centres at + 0.5.
        move = np.array([[scale, 0, .5 * scale - .5 - scale * x], [0, scale, .5 * scale - .5 - scale * y]])
        return cv2.warpAffine(frame, move, (self.side, self.side), flags=cv2.INTER_LINEAR,
                              borderMode=cv2.BORDER_REPLICATE)

    def words(self) -> str:
        """How often the face was found."""
        return f'cropped to the face, found in {len(self.indices)} of {self.looked} frames looked at'


def track_face(source: Any, detect: Detector, first: int = 0, last: Optional[int] = None) -> Optional[FaceTrack]:
    """Looks for the face in frames ``first <= i < last`` of a source, or returns None where it finds none."""
    last = source.length if last is None else last
    count = int(np.clip((last - first) / (LOOK_SECONDS * source.fps), min(16, last - first), LOOKS))
    looks = np.unique(np.linspace(first, last - 1, count).round().astype(int))
    found = []
    for index in looks:
        frame, = source.read([int(index)])
        boxes = detect(frame)
        if boxes:
            found.append((index, max(boxes, key=lambda box: box[2] * box[3])))
    return smooth_track([index for index, _ in found], [box for _, box in found], len(looks)) if found else None


def smooth_track(indices: List[int], boxes: List[Box], looked: int) -> FaceTrack:
    """Boxes at growing frame numbers as a track: running medians of centre and size."""
    sides = np.array([max(width, height) * MARGIN for _, _, width, height in boxes], dtype=float)
    centres = np.array([(x + width / 2, y + height / 2) for x, y, width, height in boxes], dtype=float)
    smooth = [running_median(values) for values in (*centres.T, sides)]
    side = max(16, 2 * round(float(np.median(smooth[2])) / 2))
    return FaceTrack(np.asarray(indices), np.stack(smooth[:2], axis=1), smooth[2], looked, side)


def running_median(values: np.ndarray, length: int = SMOOTHED) -> np.ndarray:
    """Median of the ``length`` values around each, of fewer, as many on both sides, towards the two ends.

    The ends themselves by Tukey's rule, the median of the value, its neighbour and the line through its neighbours: a
    steady motion is kept from the first value to the last, and a wrong one is not.
    """
    count = len(values)
    reach = np.minimum(length // 2, np.minimum(np.arange(count), np.arange(count)[::-1]))
    smooth = np.array([np.median(values[k - r:k + r + 1]) for k, r in enumerate(reach)])
    if count >= 4:
        smooth[0] = np.median([values[0], smooth[1], 3 * smooth[1] - 2 * smooth[2]])
        smooth[-1] = np.median([values[-1], smooth[-2], 3 * smooth[-2] - 2 * smooth[-3]])
    return smooth


def face_detector() -> Detector:
    """The first detector whose package is installed; it looks at frames of a working size.

    Raises:
        ValueError: there is none; the message gives the ``pip`` lines.
    """
    cascade = os.path.join(str(getattr(getattr(cv2, 'data', None), 'haarcascades', '')), CASCADE)
    if hasattr(cv2, 'CascadeClassifier') and os.path.isfile(cascade):
        return at_working_size(_opencv(cascade))
    if importlib.util.find_spec('skimage'):
        return at_working_size(_skimage())
    raise ValueError(f'this OpenCV ({cv2.getVersionString()}) holds no face detector: the wheels of opencv-python have '
                     f'{CASCADE} up to 4.x only. `pip install scikit-image` (used beside OpenCV 5), or `pip install '
                     '"opencv-python<5"`, or leave --face-crop out and give videos that show the face alone.')


def at_working_size(detect: Detector) -> Detector:
    """Boxes in the frame's own pixels, of a detector that is shown it with a shorter side of ``SHOWN_SIDE`` pixels."""

    def scaled(frame: np.ndarray) -> List[Box]:
        scale = SHOWN_SIDE / min(frame.shape[:2])
        shown = cv2.resize(frame, None, fx=scale, fy=scale,
                           interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
        return [(x / scale, y / scale, width / scale, height / scale) for x, y, width, height in detect(shown)]
    return scaled


def _opencv(path: str) -> Detector:
    cascade = cv2.CascadeClassifier(path)

    def detect(frame: np.ndarray) -> List[Box]:
        grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
        found = cascade.detectMultiScale(grey, 1.1, 4, minSize=(SMALLEST, SMALLEST))
        return [(float(x), float(y), float(width), float(height)) for x, y, width, height in found]
    return detect


def _skimage() -> Detector:
    from skimage import data
    from skimage.feature import Cascade
    cascade = Cascade(data.lbp_frontal_face_cascade_filename())

    def detect(frame: np.ndarray) -> List[Box]:
        short = min(frame.shape[:2])
        found = cascade.detect_multi_scale(img=frame, scale_factor=1.1, step_ratio=1, min_size=(SMALLEST, SMALLEST),
                                           max_size=(short, short))
        return [(float(box['c']), float(box['r']), float(box['width']), float(box['height'])) for box in found]
    return detect
