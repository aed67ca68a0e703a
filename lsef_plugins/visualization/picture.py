"""One picture of a decomposed clip: film strip, stable strip, transient strip and curves over one time axis.

Each column of the strips stands for an equal slot of time and shows that slot's most eventful frame; a triangle under
it marks the moment.
"""
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
from numpy.typing import ArrayLike

from .clip import still_stretch
from .energy import Event, base_directions, energy_table, event_threshold, find_events, transient_amplitude
from .page import (
    BAD_FRAME,
    FAINT,
    FONT,
    GATE,
    INK,
    LEFT,
    QUIET,
    RIGHT,
    STABLE,
    TOP,
    TRANSIENT,
    Page,
    frame_edges,
    percent,
    plain_matplotlib,
    round_ticks,
    spread,
)
from .pixels import check_frames
from .strips import enlarge, operator_of, stable_pictures, transient_pictures

COLUMNS = 10

TruthEvent = Tuple[int, int, int, str]


class _Slot(NamedTuple):
    """One column of the strips: its borders and the time of its frame in seconds, and that frame's position."""
    left: float
    right: float
    time: float
    frame: int


def draw_decomposition(
    frames: np.ndarray,
    parts: Any,
    times: ArrayLike,
    title: str = 'What stays and what comes and goes',
    subtitle: str = '',
    caption: str = '',
    events: Optional[Sequence[Event]] = None,
    truth_events: Optional[Sequence[TruthEvent]] = None,
    clip: int = 0,
    pixels: Optional[bool] = None,
    width: int = 1600,
) -> Any:
    """Draws one clip of a decomposition.

    Args:
        frames: ``(t, h, w, 3)`` uint8 RGB, one for each frame of the decomposition, of any size.
        parts: fields ``stable``, ``transient``, ``residual`` ``(b, c, t, h, w)`` and ``frame_gate`` ``(b, t)``.
        times: ``(t,)`` seconds, increasing.
        title, subtitle: two lines on top.
        caption: a line below, after the shares of energy.
        events: what was found, positions in the clip; None calls :func:`find_events`.
        truth_events: what was planted, ``(onset, apex, offset, name)`` as positions in the clip; drawn in a lane of
            its own above what was found.
        clip: which clip of the batch.
        pixels: the features are pixels in [0, 1]; None takes 1 or 3 channels for pixels.
        width: of the picture in pixels, at least 1000.

    Returns:
        A matplotlib Figure with a canvas of its own (:func:`save_picture` writes it); pyplot and the user's
        matplotlib settings are neither used nor changed.

    Raises:
        ValueError: frames, times and decomposition do not belong together.
    """
    frames = check_frames(frames)
    table = energy_table(parts, clip)
    seconds = _check_times(times, len(frames), len(table['base']))
    if width < 1000:
        raise ValueError(f'width is {width}; the picture is readable from 1000 pixels on.')
    if pixels is None:
        pixels = parts.stable.shape[1] in (1, 3)
    found = list(find_events(table['transient'], table['residual']) if events is None else events)
    planted = list(truth_events or ())
    for kind, spans in (('found', [(*event, '') for event in found]), ('planted', planted)):
        for onset, apex, offset, name in spans:
            if not 0 <= onset <= apex <= offset < len(frames):
                raise ValueError(f'{kind} event {name!r} at {(int(onset), int(apex), int(offset))}: onset, apex and '
                                 f'offset follow one another and are positions in this clip, 0 to {len(frames) - 1}.')
    with plain_matplotlib():
        page = ClipPage(frames.shape[1] / frames.shape[2], seconds, table, found, width, truth=planted)
        page.head(title, subtitle)
        page.strips(*_pictures(page, frames, parts, clip, pixels), pixels)
        page.event_lanes()
        page.transient_curve()
        page.base_curves(base_directions(parts, clip=clip))
        page.gate_bars()
        page.foot(_standing(frames, seconds) + caption, 'pixels' if pixels else 'features')
        return page.figure


def _pictures(page: 'ClipPage', frames: np.ndarray, parts: Any, clip: int,
              pixels: bool) -> Tuple[List[np.ndarray], List[np.ndarray], List[np.ndarray]]:
    """Clip, stable part and transient at the frames that the page shows."""
    stable, transient = (part[clip].detach().float().cpu() for part in (parts.stable, parts.transient))
    chosen = [slot.frame for slot in page.slots]
    return ([enlarge(frames[t], page.cell) for t in chosen],
            stable_pictures(frames, chosen, page.cell, stable, operator_of(parts, clip), pixels),
            transient_pictures(transient, frames, chosen, page.cell, pixels))


def _standing(frames: np.ndarray, seconds: np.ndarray) -> str:
    still = still_stretch(frames)
    if not still:
        return ''
    first, last = seconds[list(still)]
    return f'The picture stands still from {first:.2f} to {last:.2f} s.   '


def _check_times(times: ArrayLike, frames: int, described: int) -> np.ndarray:
    seconds = np.asarray(times, dtype=np.float64)
    if frames != described or seconds.shape != (described, ):
        raise ValueError(f'the decomposition has {described} frames, but {frames} pictures and times of shape '
                         f'{seconds.shape} came. Choose the pictures that belong to its frames.')
    if described < 2 or not np.isfinite(seconds).all() or (np.diff(seconds) <= 0).any():
        raise ValueError('times are finite and increasing, in seconds, at least two of them, got '
                         f'{np.round(seconds[:6], 4).tolist()} ...')
    return seconds


class ClipPage(Page):
    """Strips and curves of a clip whose pictures are ``ratio`` times as high as wide."""
    #: Pixels of what follows the event lanes, the foot included.
    below = 146 + 136 + 98 + 52

    def __init__(self, ratio: float, seconds: np.ndarray, table: Dict[str, np.ndarray], found: List[Event],
                 width: int, truth: Sequence[TruthEvent] = ()) -> None:
        self.seconds, self.table, self.truth = seconds, table, list(truth)
        self.amplitude = transient_amplitude(table['transient'])
        self.edges = frame_edges(seconds)
        self.slots = self._slots(min(COLUMNS, len(seconds)))
        cell = (width - LEFT - RIGHT) / len(self.slots) - 6
        self.cell = (int(min(cell, 190 / ratio)), int(min(cell * ratio, 190)))
        lanes = 30 * (2 if truth else 1)
        super().__init__(width, TOP + 3 * (self.cell[1] + 12) + 26 + lanes + self.below, self.edges, found)

    def _slots(self, count: int) -> List[_Slot]:
        borders = np.linspace(self.edges[0], self.edges[-1], count + 1)
        telling = self.amplitude / max(self.amplitude.max(), 1e-12) + (self.table['frame_gate'] > BAD_FRAME)
        slots = []
        for left, right in zip(borders[:-1], borders[1:]):
            inside = np.flatnonzero((self.seconds >= left - 1e-9) & (self.seconds < right - 1e-9))
            if not inside.size:     # uneven times: the nearest frame stands in
                inside = np.array([np.abs(self.seconds - (left + right) / 2).argmin()])
            frame = int(inside[np.argmax(telling[inside])])
            slots.append(_Slot(left, right, float(self.seconds[frame]), frame))
        return slots

    # ---- the page, from the top ----

    def head(self, title: str, subtitle: str) -> None:
        self.line(24, title, 19, weight='bold')
        self.line(62, subtitle, 11, QUIET)
        self.y = TOP

    def strips(self, film: Sequence[np.ndarray], base: Sequence[np.ndarray], moving: Sequence[np.ndarray],
               pixels: bool) -> None:
        """Three rows of pictures of ``cell`` size, one for each slot."""
        brighter, darker = ('brighter than stable', 'darker than stable') if pixels else ('how strong', '')
        rows = (('Clip', INK, [('the most eventful frame', QUIET), ('of each stretch of time', QUIET)], film),
                ('Stable', STABLE, [('what stays, and what', QUIET), ('changes slowly', QUIET)], base),
                ('Transient', TRANSIENT, [('what comes and goes:', QUIET), (brighter, TRANSIENT), (darker, STABLE)],
                 moving))
        for row, (name, colour, lines, pictures) in enumerate(rows):
            self.label(self.y, name, lines, colour)
            axes = self.axes(self.y, self.cell[1])
            axes.axis('off')
            for k, (slot, picture) in enumerate(zip(self.slots, pictures)):
                left = (k + .5) * self.inner / len(self.slots) - self.cell[0] / 2
                axes.imshow(picture, extent=(left, left + self.cell[0], self.cell[1], 0), interpolation='none',
                            aspect='auto')
                if row == 0:
                    self._mark(axes, left, slot.frame)
            axes.set_xlim(0, self.inner)
            axes.set_ylim(self.cell[1], 0)
            self.y += self.cell[1] + 12
        axes = self.axes(self.y - 6, 24)
        axes.set_ylim(1, 0)
        axes.spines['bottom'].set_visible(False)
        axes.set_yticks([])
        for slot in self.slots:
            axes.plot([slot.time], [.12], marker='^', ms=5, color=QUIET, clip_on=False, mew=0)
            axes.text((slot.left + slot.right) / 2, .4, self.when(slot.time), ha='center', va='top', fontsize=9,
                      color=QUIET, family=FONT)
        self.y += 26

    def when(self, seconds: float) -> str:
        """A moment of the video in words."""
        return f'{seconds:.2f} s'

    def _mark(self, axes: Any, left: float, frame: int) -> None:
        """A purple outline for a bad frame, the number of its event in the corner."""
        from matplotlib.patches import Rectangle
        if self.table['frame_gate'][frame] > BAD_FRAME:
            axes.add_patch(Rectangle((left + 1.5, 1.5), self.cell[0] - 3, self.cell[1] - 3, fill=False, lw=3, ec=GATE))
        for number, event in enumerate(self.found, start=1):
            if event.onset <= frame <= event.offset:
                wide = 22 + 8 * max(0, len(str(number)) - 2)
                axes.add_patch(Rectangle((left, 0), wide, 20, color=TRANSIENT, lw=0))
                axes.text(left + wide / 2, 10.5, str(number), ha='center', va='center', fontsize=9.5, color='white',
                          weight='bold', family=FONT)

    def event_lanes(self) -> None:
        lanes = [('found', [(e.onset, e.apex, e.offset, str(n)) for n, e in enumerate(self.found, 1)])]
        if self.truth:
            lanes.insert(0, ('planted', self.truth))
        for name, spans in lanes:
            axes = self.axes(self.y, 22)
            axes.set_ylim(0, 1)
            axes.set_yticks([])
            axes.spines['bottom'].set_visible(False)
            self.text(LEFT - 12, self.y + 4, f'events {name}', 9.5, TRANSIENT if name == 'found' else INK, ha='right')
            self._lane(axes, spans, filled=name == 'found')
            if not spans:
                self.text(LEFT, self.y + 4, 'none', 9.5, QUIET)
            self.y += 30

    def _lane(self, axes: Any, spans: Sequence[TruthEvent], filled: bool) -> None:
        from matplotlib.patches import Rectangle
        pixel = self.inner / (self.edges[-1] - self.edges[0])
        spans = sorted(spans)
        nexts = [self.edges[span[0]] for span in spans[1:]] + [self.edges[-1]]
        taken = self.edges[0]       # the lane is drawn up to here
        for (onset, apex, offset, name), border in zip(spans, nexts):
            left, right = self.edges[onset], self.edges[offset + 1]
            axes.add_patch(Rectangle((left, .08), right - left, .84, lw=1.4, ec=TRANSIENT if filled else INK,
                                     fc=TRANSIENT if filled else 'none', clip_on=False))
            middle = self.seconds[apex]
            if not filled:
                axes.plot([middle, middle], [.08, .92], color=INK, lw=1.4)
            words, room = name.replace('_', ' '), (8.2 * len(name) + 10) / pixel
            if filled and right - left >= room - 6 / pixel:
                axes.text((left + right) / 2, .48, words, ha='center', va='center', fontsize=9, color='white',
                          weight='bold', family=FONT)
            elif not filled and right + room <= border:
                axes.text(right + 6 / pixel, .48, words, va='center', fontsize=9.5, color=INK, family=FONT)
                right += room
            elif not filled and left - room >= taken:
                axes.text(left - 6 / pixel, .48, words, va='center', ha='right', fontsize=9.5, color=INK, family=FONT)
            taken = right

    def transient_curve(self) -> None:
        height = 120
        self.label(self.y, 'Transient', [(line, QUIET) for line in (
            'its strength over time', '(100 % = a whole frame);', 'above the dashed line', 'it counts as an event')],
            TRANSIENT)
        axes = self.axes(self.y, height)
        self.shade_events(axes)
        curve, threshold = 100 * self.amplitude, 100 * event_threshold(self.table['transient'], self.table['residual'])
        axes.fill_between(self.seconds, curve, color=TRANSIENT, alpha=.18, lw=0)
        axes.plot(self.seconds, curve, color=TRANSIENT, lw=2)
        axes.plot(self.edges[[0, -1]], [threshold] * 2, color=QUIET, lw=1, ls=(0, (4, 3)))
        apexes = [event.apex for event in self.found]
        axes.plot(self.seconds[apexes], curve[apexes], 'o', color=TRANSIENT, ms=7, mec='white', mew=1.2, clip_on=False)
        axes.set_ylim(0, 1.12 * max(curve.max(), threshold))
        self.two_ticks(axes, 0, max(curve.max(), threshold))
        self.y += 146

    def base_curves(self, base: Dict[str, np.ndarray]) -> None:
        height = 110
        self.label(self.y, 'Stable', [(line, QUIET) for line in (
            'how it changes: its', 'strongest directions and', 'their share of its change')], STABLE)
        axes = self.axes(self.y, height)
        self.shade_events(axes)
        axes.axhline(0, color=FAINT, lw=1)
        curves = 100 * base['curves']
        styles = ((STABLE, '-', 2.2), ('#56b4e9', '-', 1.8), ('#4a5a68', (0, (2, 1.5)), 1.5))
        reach = max(float(np.abs(curves).max(initial=0)), 0.1)
        for curve, (colour, dash, weight) in zip(curves[::-1], styles[:len(curves)][::-1]):
            axes.plot(self.seconds, curve, color=colour, ls=dash, lw=weight)
        axes.set_ylim(-1.15 * reach, 1.15 * reach)
        ends = spread([curve[-1] for curve in curves], 2.3 * reach * 15 / height)
        for end, share, (colour, _, _) in zip(ends, base['share'], styles):
            axes.annotate(f'{share:.0%}', (1, end), (8, 0), xycoords=('axes fraction', 'data'),
                          textcoords='offset points', va='center', fontsize=9, color=colour, family=FONT,
                          weight='bold')
        if not len(curves):
            axes.text(self.edges[0], .1 * reach, ' it does not change', fontsize=9.5, color=QUIET, family=FONT,
                      va='bottom')
        self.two_ticks(axes, -reach, reach)
        self.y += 136

    def gate_bars(self) -> None:
        self.label(self.y, 'Frame gate', [(line, QUIET) for line in (
            'near 1: a bad frame, which', 'its neighbours cannot', 'explain; not transient')], GATE)
        axes = self.axes(self.y, 54)
        self.shade_events(axes)
        axes.bar(self.edges[:-1], self.table['frame_gate'], np.diff(self.edges), align='edge', color=GATE,
                 ec='white', lw=.6)
        axes.set_ylim(0, 1)
        axes.set_yticks([0, 1])
        axes.axhline(1, color=FAINT, lw=.8, ls=(0, (2, 3)))
        axes.spines['bottom'].set_color(QUIET)
        axes.set_xticks(round_ticks(self.edges[0], self.edges[-1]))
        axes.tick_params(axis='x', length=4, color=QUIET, labelsize=9.5)
        axes.xaxis.set_major_formatter(lambda x, _: f'{x:g} s')
        self.y += 98

    def foot(self, caption: str, features: str) -> None:
        energy, counts = self.summary(features)
        self.line(self.y, f'{energy}   {counts}', 9.5)
        self.line(self.y + 20, caption, 9.5, QUIET)

    def summary(self, features: str) -> Tuple[str, str]:
        """Shares of energy; events and bad frames."""
        shares = {name: percent(self.table[name].mean()) for name in ('base', 'transient', 'residual', 'cross')}
        bad = int((self.table['frame_gate'] > BAD_FRAME).sum())
        return (f"Energy of the {features}: stable {shares['base']}, transient {shares['transient']}, residual "
                f"{shares['residual']}, overlap of the three {shares['cross']}.",
                f'Events found: {len(self.found)}.   Frames gated by more than half (purple outline): {bad} '
                f'of {len(self.seconds)}.')
