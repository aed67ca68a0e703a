"""One picture of a whole video: strips of its most eventful frames, and every curve over one time axis.

As the picture of a clip (:mod:`.picture`), with the energy of the stable part, and where there are any the class
probabilities of the windows (a row for each class, the most probable outlined) and valence and arousal. A curve of more
points than the picture has pixels is drawn as its envelope: lowest and highest value of each pixel column.
"""
from typing import Any, Callable, List, Sequence, Tuple

import numpy as np

from .curves import class_names
from .energy import Event, event_threshold
from .moments import Moments
from .page import FAINT, GATE, INK, QUIET, STABLE, TRANSIENT, plain_matplotlib, round_ticks
from .picture import ClipPage
from .timeline import Timeline

#: Classes drawn at most: those most probable anywhere in the video.
CLASSES = 8
CLASS_ROW = 20
#: More shaded stretches than this would be a grey curtain.
SHADED = 400


def draw_timeline(timeline: Timeline, events: Sequence[Event], ratio: float,
                  moments: Callable[[Sequence[int], Tuple[int, int]], Moments], title: str,
                  subtitle: Sequence[str] = (), caption: str = '', pixels: bool = True, width: int = 1600) -> Any:
    """Draws a video.

    Args:
        timeline: its curves, of at least two frames.
        events: what was found, positions on its grid.
        ratio: height of a frame over its width.
        moments: ``(positions, (width, height)) -> Moments``, asked once for the frames of the strips.
        title, subtitle: a line and at most two on top.
        caption: a line below, after the shares of energy.
        pixels: the features are pixels.
        width: of the picture in pixels, at least 1000.

    Returns:
        A matplotlib Figure with a canvas of its own (:func:`save_picture` writes it).

    Raises:
        ValueError: the picture would be too narrow to read, or there is only one frame.
    """
    if width < 1000 or len(timeline.times) < 2:
        raise ValueError(f'width is {width} (the picture is readable from 1000 pixels on) and the video has '
                         f'{len(timeline.times)} sampled frame(s) (two are needed).')
    with plain_matplotlib():
        page = TimelinePage(timeline, events, ratio, width)
        page.head(title, subtitle)
        page.strips(*moments([slot.frame for slot in page.slots], page.cell), pixels)
        page.event_lanes()
        page.transient_curve()
        page.energy_curve()
        page.gate_bars()
        if timeline.probabilities is not None:
            page.class_rows()
        if timeline.ratings is not None:
            page.rating_curves()
        page.time_axis()
        page.foot(caption, 'pixels' if pixels else 'features')
        return page.figure


class TimelinePage(ClipPage):
    """Strips and curves of a whole video."""

    def __init__(self, timeline: Timeline, events: Sequence[Event], ratio: float, width: int) -> None:
        self.timeline = timeline
        self.rows = _shown_classes(timeline)
        self.below = 146 + 116 + 92 + (CLASS_ROW * len(self.rows) + 44 if self.rows else 0) \
            + (128 if timeline.ratings is not None else 0) + 26 + 70
        super().__init__(ratio, timeline.times, timeline.table(), list(events), width)

    def head(self, title: str, subtitle: Any) -> None:
        super().head(title, '')
        for number, line in enumerate(subtitle):
            self.line(58 + 19 * number, line, 10.5, QUIET)

    def shade_events(self, axes: Any) -> None:
        if len(self.found) <= SHADED:
            super().shade_events(axes)

    def when(self, seconds: float) -> str:
        return super().when(seconds) if self.edges[-1] < 120 else clock(seconds, self.edges[-1])

    def curve(self, axes: Any, values: np.ndarray, colour: str, **style: Any) -> None:
        """A line, or the band between lowest and highest value of each pixel column."""
        x, low, high = envelope(self.seconds, values, int(self.inner))
        if low is high:
            axes.plot(x, high, color=colour, **{'lw': 1.8, **style})
        else:
            axes.fill_between(x, low, high, color=colour, lw=.7)

    def transient_curve(self) -> None:
        self.label(self.y, 'Transient', [(line, QUIET) for line in (
            'its strength over time', '(100 % = a whole frame);', 'above the dashed line', 'it counts as an event')],
            TRANSIENT)
        axes = self.axes(self.y, 120)
        self.shade_events(axes)
        strength = 100 * self.amplitude
        threshold = 100 * event_threshold(self.table['transient'], self.table['residual'])
        self.curve(axes, strength, TRANSIENT)
        axes.plot(self.edges[[0, -1]], [threshold] * 2, color=INK, lw=1, ls=(0, (4, 3)))
        top = max(float(strength.max()), threshold)
        axes.set_ylim(0, 1.12 * top)
        self.two_ticks(axes, 0, top)
        self.y += 146

    def energy_curve(self) -> None:
        self.label(self.y, 'Stable', [(line, QUIET) for line in (
            'its energy over time', '(100 % = the mean frame of', 'the video, all parts)')], STABLE)
        axes = self.axes(self.y, 90)
        self.shade_events(axes)
        energy = 100 * self.table['base']
        self.curve(axes, energy, STABLE)
        middle, reach = (energy.max() + energy.min()) / 2, max(float(np.ptp(energy)), .02 * float(energy.max()), 1e-9)
        axes.set_ylim(middle - .58 * reach, middle + .58 * reach)
        ticks = [middle - reach / 2, middle + reach / 2]
        digits = max(0, 1 - int(np.floor(np.log10(reach))))
        axes.set_yticks(ticks, [f'{tick:.{digits}f} %' for tick in ticks])
        self.y += 116

    def gate_bars(self) -> None:
        self.label(self.y, 'Frame gate', [(line, QUIET) for line in (
            'near 1: a bad frame, which', 'its neighbours cannot', 'explain; not transient')], GATE)
        axes = self.axes(self.y, 54)
        self.shade_events(axes)
        x, _, high = envelope(self.seconds, self.table['frame_gate'], int(self.inner) // 2)
        axes.fill_between(x, high, color=GATE, lw=0, step='mid')
        axes.set_ylim(0, 1)
        axes.set_yticks([0, 1])
        axes.axhline(1, color=FAINT, lw=.8, ls=(0, (2, 3)))
        self.y += 92

    def class_rows(self) -> None:
        probabilities = self.timeline.probabilities
        assert probabilities is not None
        names, height = class_names(self.timeline), CLASS_ROW * len(self.rows)
        shown = probabilities[:, self.rows]
        self.label(self.y, 'Classes', [], INK)
        axes = self.axes(self.y, height)
        borders = self.timeline.window_borders()
        axes.pcolormesh(borders, np.arange(len(self.rows) + 1), shown.T, cmap='cividis', vmin=0, vmax=1,
                        rasterized=True)
        self._outline_best(axes, borders, shown)
        axes.set_ylim(len(self.rows), 0)
        axes.set_yticks(np.arange(len(self.rows)) + .5, [_short(names[k]) for k in self.rows])
        axes.tick_params(axis='y', labelsize=9, labelcolor=INK, pad=4)
        self._colour_scale(self.y, height)
        self.text(self.width - 64 - self.inner, self.y + height + 5,
                  'probability in each window, outlined where it is the highest', 8.8, QUIET)
        self.y += height + 44

    def _outline_best(self, axes: Any, borders: np.ndarray, shown: np.ndarray) -> None:
        """A frame around each run of windows with one winner; none where runs are too short to see."""
        from matplotlib.patches import Rectangle
        best = shown.argmax(1)
        runs = np.split(np.arange(len(best)), np.flatnonzero(np.diff(best)) + 1)
        if len(runs) > 120:
            return
        for run in runs:
            left, right = borders[run[0]], borders[run[-1] + 1]
            axes.add_patch(Rectangle((left, best[run[0]] + .06), right - left, .88, fill=False, ec=TRANSIENT, lw=1.6,
                                     clip_on=False))

    def _colour_scale(self, y: float, height: float) -> None:
        left = self.width - 52
        axes = self.figure.add_axes((left / self.width, 1 - (y + height) / self.height, 12 / self.width,
                                     height / self.height))
        axes.imshow(np.linspace(1, 0, 64)[:, None], aspect='auto', cmap='cividis', extent=(0, 1, 0, 1))
        axes.set_xticks([])
        axes.yaxis.tick_right()
        axes.set_yticks([0, 1])
        axes.tick_params(length=0, labelsize=8.5, labelcolor=QUIET, pad=2)
        for side in axes.spines.values():
            side.set_visible(False)

    def rating_curves(self) -> None:
        ratings = self.timeline.ratings
        assert ratings is not None
        self.label(self.y, 'Ratings', [('valence, solid line', STABLE), ('arousal, dashed line', TRANSIENT),
                                       ('from -1 to 1', QUIET)], INK)
        axes = self.axes(self.y, 100)
        axes.axhline(0, color=FAINT, lw=1)
        for axis, (colour, dash) in enumerate(((STABLE, '-'), (TRANSIENT, (0, (4, 1.5))))):
            self.curve(axes, ratings[:, axis], colour, ls=dash)
        axes.set_ylim(-1.05, 1.05)
        axes.set_yticks([-1, 0, 1])
        self.y += 128

    def time_axis(self) -> None:
        axes = self.axes(self.y - 26, 4)
        axes.set_yticks([])
        axes.spines['bottom'].set_color(QUIET)
        unit = 1 if self.edges[-1] < 120 else 60
        axes.set_xticks([unit * tick for tick in round_ticks(self.edges[0] / unit, self.edges[-1] / unit)])
        axes.tick_params(axis='x', length=4, color=QUIET, labelsize=9.5)
        axes.xaxis.set_major_formatter(lambda x, _: clock(x, self.edges[-1]))
        self.y += 26

    def foot(self, caption: str, features: str) -> None:
        for number, words in enumerate((*self.summary(features), caption)):
            self.line(self.y + 19 * number, words, 9.5, QUIET if number == 2 else INK)


def envelope(x: np.ndarray, values: np.ndarray, columns: int) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
    """``x``, lowest and highest value of at most ``columns`` groups of neighbours; the same array twice if they fit."""
    if len(values) <= columns:
        return x, values, values
    starts = np.unique(np.linspace(0, len(values), columns, endpoint=False).astype(int))
    return x[starts], np.minimum.reduceat(values, starts), np.maximum.reduceat(values, starts)


def clock(seconds: float, longest: float) -> str:
    """'2.5 s' in short videos, '3:05' in those of two minutes or more."""
    if longest < 120:
        return f'{seconds:g} s'
    whole = round(seconds)
    return f'{whole // 60}:{whole % 60:02d}' if longest < 7200 else f'{whole // 3600}:{whole // 60 % 60:02d} h'


def _shown_classes(timeline: Timeline) -> List[int]:
    if timeline.probabilities is None:
        return []
    strongest = np.argsort(-timeline.probabilities.max(0), kind='stable')[:CLASSES]
    return sorted(strongest.tolist())


def _short(name: str) -> str:
    return name if len(name) <= 20 else f'{name[:19]}…'
