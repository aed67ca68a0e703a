"""The video again, with its curves beside it: strength of the transient around now, frame gate, classes or ratings.

A second pass over the video, one frame in memory. An orange frame marks an event, a purple one a bad frame. Written
as MPEG-4 at the video's own rate, whole or not at all; OpenCV reports no write error, so the frames are counted
afterwards.
"""
from pathlib import Path
from typing import Any, Callable, List, Optional, Sequence, Tuple, Union

import cv2
import numpy as np

from .curves import class_names
from .energy import Event, event_threshold, transient_amplitude
from .page import BAD_FRAME, DPI, FONT, GATE, INK, QUIET, STABLE, TRANSIENT, plain_matplotlib
from .strips import enlarge
from .timeline import Progress, Timeline
from .writing import OutputError, event_numbers, whole_file

#: Seconds before and after now that a curve shows, at most.
AROUND = 5.0
HEIGHT, PANEL, LEFT, RIGHT = 480, 520, 150, 500
CLASSES = 6


class _Curve:
    """A curve in a box of the panel, ``(n,)`` values from ``low`` to ``high``, drawn around now."""

    def __init__(self, name: str, values: np.ndarray, low: float, high: float, top: int, bottom: int, colour: str,
                 line: Optional[float] = None) -> None:
        self.name, self.values, self.low, self.high = name, values, low, max(high, low + 1e-9)
        self.top, self.bottom, self.colour, self.line = top, bottom, colour, line

    def y(self, value: Any) -> Any:
        return self.bottom - (np.clip(value, self.low, self.high) - self.low) / (self.high - self.low) \
            * (self.bottom - self.top)

    def draw(self, canvas: np.ndarray, times: np.ndarray, now: float, around: float) -> None:
        inside = slice(*np.searchsorted(times, (now - around, now + around)))
        if inside.stop > inside.start:
            x = LEFT + (times[inside] - now + around) / (2 * around) * (RIGHT - LEFT)
            points = np.round(16 * np.stack([x, self.y(self.values[inside])], 1)).astype(np.int32)
            cv2.polylines(canvas, [points], False, _rgb(self.colour), 2, cv2.LINE_AA, shift=4)


class OverlayPanel:
    """What stands beside the frames, ``(HEIGHT, PANEL, 3)`` uint8: words drawn once, curves and bars at any time."""

    def __init__(self, timeline: Timeline, events: Sequence[Event], title: str) -> None:
        self.timeline, table = timeline, timeline.table()
        self.numbers = event_numbers(events, len(timeline.times))
        self.gate = table['frame_gate']
        self.around = float(np.clip(np.ptp(timeline.times), .5, AROUND))
        strength = transient_amplitude(table['transient'])
        threshold = event_threshold(table['transient'], table['residual'])
        base, top = table['base'], 1.1 * max(float(strength.max()), threshold)
        self.curves = [
            _Curve('transient', strength, 0, top, 70, 160, TRANSIENT, threshold),
            _Curve('stable energy', base, float(base.min()) - 1e-3, float(base.max()) + 1e-3, 180, 230, STABLE),
            _Curve('frame gate', self.gate, 0, 1, 250, 285, GATE)]
        self.names, self.rows = class_names(timeline), []
        if timeline.probabilities is not None:
            self.rows = sorted(np.argsort(-timeline.probabilities.max(0), kind='stable')[:CLASSES].tolist())
        elif timeline.ratings is not None:
            self.curves += [_Curve(name, timeline.ratings[:, axis], -1, 1, 310 + 80 * axis, 370 + 80 * axis, colour, 0.)
                            for axis, (name, colour) in enumerate((('valence', STABLE), ('arousal', TRANSIENT)))]
        self.background = self._words(title)

    def at(self, position: int, now: float) -> np.ndarray:
        """The panel at a position of the timeline and a time in seconds."""
        canvas = self.background.copy()
        for curve in self.curves:
            curve.draw(canvas, self.timeline.times, now, self.around)
        middle, low = (LEFT + RIGHT) // 2, max(curve.bottom for curve in self.curves)
        cv2.line(canvas, (middle, 62), (middle, low), _rgb(QUIET), 1)
        cv2.putText(canvas, f'{now:.2f} s', (LEFT, 52), cv2.FONT_HERSHEY_SIMPLEX, .55, _rgb(INK), 1, cv2.LINE_AA)
        if self.numbers[position]:
            cv2.putText(canvas, f'event {self.numbers[position]}', (LEFT + 130, 52), cv2.FONT_HERSHEY_SIMPLEX, .55,
                        _rgb(TRANSIENT), 2, cv2.LINE_AA)
        if self.rows:
            self._bars(canvas, position)
        return canvas

    def border(self, position: int) -> Optional[str]:
        """The colour around a frame: event, bad frame, or none."""
        return TRANSIENT if self.numbers[position] else GATE if self.gate[position] > BAD_FRAME else None

    def _bars(self, canvas: np.ndarray, position: int) -> None:
        probabilities = self.timeline.probabilities
        assert probabilities is not None
        here = probabilities[self.timeline.window[position]]
        for row, k in enumerate(self.rows):
            top = self._bar_top(row)
            right = LEFT + round(float(here[k]) * (RIGHT - LEFT))
            colour = STABLE if k == int(here.argmax()) else '#9ab8c9'
            cv2.rectangle(canvas, (LEFT, top), (max(right, LEFT + 1), top + 16), _rgb(colour), -1)

    @staticmethod
    def _bar_top(row: int) -> int:
        return 318 + 26 * row

    def _words(self, title: str) -> np.ndarray:
        with plain_matplotlib():
            from matplotlib.backends.backend_agg import FigureCanvasAgg
            from matplotlib.figure import Figure
            figure = Figure(figsize=(PANEL / DPI, HEIGHT / DPI), dpi=DPI, facecolor='white')
            canvas = FigureCanvasAgg(figure)

            def write(x: float, y: float, words: str, colour: str, **style: Any) -> None:
                figure.text(x / PANEL, 1 - y / HEIGHT, words, color=colour, family=FONT,
                            **{'fontsize': 9, 'va': 'center', 'ha': 'right', **style})
            write(14, 22, title if len(title) <= 46 else f'{title[:22]} … {title[-22:]}', INK, fontsize=11, ha='left')
            write(LEFT - 10, 47, 'now', QUIET)
            low = max(curve.bottom for curve in self.curves)
            for x, side, words in ((LEFT, 'left', f'{self.around:.2g} s before'), (RIGHT, 'right', 'after')):
                write(x, low + 11, words, QUIET, fontsize=8, ha=side)
            for curve in self.curves:
                write(LEFT - 10, (curve.top + curve.bottom) / 2, curve.name, curve.colour, weight='bold')
            for row, k in enumerate(self.rows):
                write(LEFT - 10, self._bar_top(row) + 8, self.names[k][:18], INK)
            canvas.draw()
            picture = np.asarray(canvas.buffer_rgba())[..., :3].copy()
        for curve in self.curves:
            cv2.rectangle(picture, (LEFT, curve.top), (RIGHT, curve.bottom), (236, 239, 242), 1)
            if curve.line is not None:
                y = round(float(curve.y(curve.line)))
                for x in range(LEFT, RIGHT, 12):
                    cv2.line(picture, (x, y), (x + 6, y), _rgb(QUIET), 1)
        return picture


def write_overlay(path: Union[str, Path], source: Any, timeline: Timeline, events: Sequence[Event], title: str,
                  prepare: Optional[Callable[[np.ndarray, int], np.ndarray]] = None,
                  progress: Optional[Progress] = None) -> Path:
    """Writes the video, every frame from the first to the last sampled one, beside its curves.

    Args:
        path: a name that ends in .mp4.
        source: reads frames, see :mod:`.source`.
        timeline, events: what was found.
        title: over the curves.
        prepare: ``(frame, index) -> frame``, the same crop as that of the windows.
        progress: called with the number of frames written and of all.

    Raises:
        ValueError: the name does not end in .mp4, or a frame cannot be decoded.
        OutputError: the file cannot be written; nothing of it is left.
    """
    target = Path(path)
    if target.suffix.lower() != '.mp4':
        raise ValueError(f'the overlay is written as .mp4, got {target.name!r}. Give a name that ends in .mp4.')
    panel = OverlayPanel(timeline, events, title)
    first, last = int(timeline.indices[0]), int(timeline.indices[-1])
    with whole_file(target) as unfinished:
        _encode(unfinished, source, panel, range(first, last + 1), prepare, progress)
        written = _count(unfinished)
        if written != last + 1 - first:
            raise OutputError(f'{target}: of {last + 1 - first} frames {written} were written; no half file is left. '
                              'The disk is probably full.')
    return target


def _encode(path: Path, source: Any, panel: OverlayPanel, indices: range, prepare: Any, progress: Any) -> None:
    video = None
    try:
        for number, index in enumerate(indices, start=1):
            frame, = source.read([index])
            frame = frame if prepare is None else prepare(frame, index)
            position = int(np.abs(panel.timeline.indices - index).argmin())
            picture = compose(frame, panel, position, index / source.fps)
            if video is None:
                video = _writer(path, source.fps, picture.shape)
            video.write(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
            if progress is not None:
                progress(number, len(indices))
    finally:
        if video is not None:
            video.release()


def compose(frame: np.ndarray, panel: OverlayPanel, position: int, now: float) -> np.ndarray:
    """The frame, ``HEIGHT`` high and at most 16:9 wide, and the panel beside it."""
    height, width = frame.shape[:2]
    scale = min(HEIGHT / height, HEIGHT * 16 / 9 / width)
    size = (2 * round(width * scale / 2), 2 * round(height * scale / 2))
    shown = enlarge(frame, size)
    colour = panel.border(position)
    if colour:
        cv2.rectangle(shown, (3, 3), (size[0] - 4, size[1] - 4), _rgb(colour), 6)
    above = (HEIGHT - size[1]) // 2
    left = np.full((HEIGHT, size[0], 3), 255, np.uint8)
    left[above:above + size[1]] = shown
    return np.hstack([left, panel.at(position, now)])


def _writer(path: Path, fps: float, shape: Tuple[int, ...]) -> Any:
    video = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*'mp4v'), fps, (shape[1], shape[0]))
    if not video.isOpened():
        raise OutputError(f'OpenCV cannot write {path.suffix} files here. The wheels of opencv-python can; look for '
                          '"FFMPEG: YES" in `python -c "import cv2; print(cv2.getBuildInformation())"`.')
    return video


def _count(path: Path) -> int:
    video = cv2.VideoCapture(str(path))
    count = int(video.get(cv2.CAP_PROP_FRAME_COUNT)) if video.isOpened() else 0
    video.release()
    return count


def _rgb(colour: str) -> List[int]:
    return [int(colour[k:k + 2], 16) for k in (1, 3, 5)]
