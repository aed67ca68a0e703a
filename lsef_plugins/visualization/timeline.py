"""What a whole video gives, frame by frame, merged from the readings of its windows; the frames themselves are gone.

A *reader* looks at the frames of one window and says what it sees (:class:`Reading`): the decomposition, perhaps class
probabilities, perhaps ratings. Each frame's values come from the window it is most central in (:mod:`.sliding`).
Energies are shares of the *video's* mean frame energy, so a video of one window has the table of :mod:`.energy`.
Axes: ``n`` sampled frames of the video, ``m`` windows, ``k`` classes, ``t`` frames of a window.
"""
import dataclasses
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence

import numpy as np

from .energy import Event, find_events, frame_squares, shares_of
from .sliding import FrameWindows, Window, held

Progress = Callable[[int, int], None]
NAMES = ('base', 'transient', 'residual', 'frame')


class Reading(NamedTuple):
    """Of one window: ``parts`` as of :class:`lsef_plugins.nn.Decomposition` for one clip (None: not decomposed),
    ``probabilities`` ``(k,)``, ``ratings`` (valence, arousal) ``(2,)`` or ``(f, 2)``; ``frames`` as the reader saw them
    ``(t, h, w, 3)`` uint8."""
    parts: Any
    frames: np.ndarray
    probabilities: Optional[np.ndarray] = None
    ratings: Optional[np.ndarray] = None


class Numbers(NamedTuple):
    """What is kept of a window of ``n`` frames: ``squares`` (see :func:`frame_squares`) and ``frame_gate``, ``(n,)``
    each (None: not decomposed), ``probabilities`` ``(k,)``, ``ratings`` ``(n, 2)``."""
    squares: Optional[Dict[str, np.ndarray]] = None
    frame_gate: Optional[np.ndarray] = None
    probabilities: Optional[np.ndarray] = None
    ratings: Optional[np.ndarray] = None


@dataclasses.dataclass(frozen=True)
class Timeline:
    """Curves of a video: numbers of its sampled frames ``indices`` ``(n,)``, their ``times`` in seconds, the ``window``
    that decided each, energies ``squares`` (see :func:`frame_squares`), ``frame_gate``, all ``(n,)``, NaN where nothing
    was decomposed; ``probabilities`` ``(m, k)`` with the names ``classes``; ``ratings`` ``(n, 2)``."""
    indices: np.ndarray
    times: np.ndarray
    windows: Sequence[Window]
    window: np.ndarray
    squares: Dict[str, np.ndarray]
    frame_gate: np.ndarray
    probabilities: Optional[np.ndarray] = None
    ratings: Optional[np.ndarray] = None
    classes: Sequence[str] = ()

    @property
    def decomposed(self) -> bool:
        """Whether there are energies."""
        return bool(np.isfinite(self.frame_gate).all())

    def table(self) -> Dict[str, np.ndarray]:
        """As :func:`energy_table` gives it for a clip."""
        return dict(shares_of(self.squares), frame_gate=self.frame_gate)

    def events(self) -> List[Event]:
        """Runs of frames whose transient stands out of the whole video's (:func:`find_events`)."""
        table = self.table()
        return find_events(table['transient'], table['residual'])

    def window_times(self) -> np.ndarray:
        """First and last second of each window, ``(m, 2)``."""
        return np.array([(self.times[w.start], self.times[w.stop - 1]) for w in self.windows])

    def window_borders(self) -> np.ndarray:
        """Seconds at which one window's word ends and the next one's begins, ``(m + 1,)``."""
        half = (self.times[1] - self.times[0]) / 2 if len(self.times) > 1 else .5
        return np.array([self.times[w.first] - half for w in self.windows] + [self.times[-1] + half])


def read_timeline(frames: FrameWindows, reader: Callable[[List[np.ndarray], np.ndarray], Reading], fps: float,
                  classes: Sequence[str] = (), progress: Optional[Progress] = None) -> Timeline:
    """Goes through the windows once; of each only its numbers are kept.

    Args:
        frames: the windows of the video.
        reader: ``(frames of a window, their numbers in the video) -> Reading``.
        fps: of the video.
        classes: names of the ``k`` classes.
        progress: called with the number of windows done and of all.

    Raises:
        ValueError: a reading does not fit its window, or is not finite.
    """
    indices, windows = np.asarray(frames.indices), list(frames.windows)
    merge = _Merge(len(indices), windows)
    for number, (window, pictures) in enumerate(frames):
        reading = reader(pictures, indices[window.start:window.stop])
        merge.add(number, numbers_of(reading, window.stop - window.start, indices[window.start] / fps))
        if progress is not None:
            progress(number + 1, len(windows))
    return merge.timeline(indices, fps, classes)


def merge_numbers(indices: np.ndarray, windows: Sequence[Window], numbers: Sequence[Numbers], fps: float,
                  classes: Sequence[str] = ()) -> Timeline:
    """The timeline of windows that were read before their number was known."""
    merge = _Merge(len(indices), windows)
    for number, each in enumerate(numbers):
        merge.add(number, each)
    return merge.timeline(indices, fps, classes)


def numbers_of(reading: Reading, length: int, seconds: float = 0.0) -> Numbers:
    """The numbers of a window of ``length`` frames that begins at ``seconds``; the rest of the reading can go.

    Raises:
        ValueError: they are not finite.
    """
    squares, gate, ratings = None, None, reading.ratings
    try:
        if reading.parts is not None:
            squares = {name: held(finite(name, values), length)
                       for name, values in frame_squares(reading.parts).items()}
            gate = held(finite('frame gate', reading.parts.frame_gate[0].detach().double().cpu().numpy()), length)
        if ratings is not None:
            ratings = held(finite('ratings', ratings).reshape(-1, 2), length)
        probabilities = None if reading.probabilities is None else finite('probabilities', reading.probabilities)
    except FloatingPointError as error:
        raise ValueError(f'the window from {seconds:.2f} s: {error}') from error
    return Numbers(squares, gate, probabilities, ratings)


class _Merge:
    """The curves while they grow."""

    def __init__(self, count: int, windows: Sequence[Window]) -> None:
        self.windows, self.window = windows, np.full(count, -1)
        self.squares = {name: np.full(count, np.nan) for name in NAMES}
        self.frame_gate = np.full(count, np.nan)
        self.probabilities: Optional[np.ndarray] = None
        self.ratings: Optional[np.ndarray] = None

    def add(self, number: int, numbers: Numbers) -> None:
        window = self.windows[number]
        here, mine = slice(window.first, window.last), slice(window.first - window.start, window.last - window.start)
        self.window[here] = number
        if numbers.squares is not None and numbers.frame_gate is not None:
            for name, values in numbers.squares.items():
                self.squares[name][here] = values[mine]
            self.frame_gate[here] = numbers.frame_gate[mine]
        if numbers.probabilities is not None:
            if self.probabilities is None:
                self.probabilities = np.full((len(self.windows), len(numbers.probabilities)), np.nan)
            self.probabilities[number] = numbers.probabilities
        if numbers.ratings is not None:
            if self.ratings is None:
                self.ratings = np.full((len(self.window), 2), np.nan)
            self.ratings[here] = numbers.ratings[mine]

    def timeline(self, indices: np.ndarray, fps: float, classes: Sequence[str]) -> Timeline:
        return Timeline(indices, indices / fps, self.windows, self.window, self.squares, self.frame_gate,
                        self.probabilities, self.ratings, tuple(classes))


def finite(name: str, values: np.ndarray) -> np.ndarray:
    """The values as float64; FloatingPointError where one is not finite."""
    values = np.asarray(values, dtype=np.float64)
    if not np.isfinite(values).all():
        raise FloatingPointError(f'{name} is not finite there. Look at the weights of the checkpoint and at the '
                                 'normalisation of the data_preprocessor.')
    return values
