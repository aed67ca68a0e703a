"""A figure filled from the top down, every length in pixels: text, panels over one time axis, shaded events.

Everything below the title shares its horizontal axis, so an event is one vertical glance.
Colours are Okabe and Ito's, which people with any colour vision can tell apart.
"""
import contextlib
from typing import Any, Iterator, List, Sequence, Tuple

import numpy as np

from .energy import Event

INK, QUIET, FAINT = '#1f2328', '#646c76', '#d9dde2'
STABLE, TRANSIENT, GATE, EVENT_SHADE = '#0072b2', '#d55e00', '#9b4f88', '#fbe9dc'
FONT = 'DejaVu Sans'
#: A frame is outlined as bad from this gate on: more than half of it is replaced in the base.
BAD_FRAME = 0.5
# Layout in pixels of a picture 1600 wide.
LEFT, RIGHT, TOP = 212, 64, 112
DPI = 100


@contextlib.contextmanager
def plain_matplotlib() -> Iterator[None]:
    """matplotlib's own defaults, whatever the user has set; the user's settings come back.

    Text is text: a file or class named ``a$b$`` holds no formula.
    """
    import matplotlib
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams['text.parse_math'] = False
        yield


class Page:
    """The figure while it is drawn, from the top down.

    Args:
        width, height: of the figure in pixels.
        edges: ``(t + 1,)`` where each frame begins and ends in seconds; the time axis of all panels.
        found: the events that panels shade, positions on the time axis.
    """

    def __init__(self, width: int, height: float, edges: np.ndarray, found: Sequence[Event] = ()) -> None:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        self.width, self.height, self.inner = width, height, width - LEFT - RIGHT
        self.edges, self.found = edges, list(found)
        self.figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI, facecolor='white')
        FigureCanvasAgg(self.figure)
        self.y = 0.0                # how far the page is filled, from the top

    def text(self, x: float, y: float, words: str, size: float = 10.5, colour: str = INK, **style: Any) -> Any:
        return self.figure.text(x / self.width, 1 - y / self.height, words, fontsize=size, color=colour,
                                family=FONT, **{'va': 'top', **style})

    def line(self, y: float, words: str, size: float, colour: str = INK, **style: Any) -> None:
        """A line over the whole width, cut in its middle until it fits."""
        drawn = self.text(28, y, words, size, colour, **style)
        kept = len(words)
        while kept > 8 and drawn.get_window_extent().width > self.width - 56:
            kept -= 4
            drawn.set_text(f'{words[:kept // 2]} … {words[len(words) - kept // 2:]}')

    def axes(self, y: float, height: float) -> Any:
        axes = self.figure.add_axes(
            (LEFT / self.width, 1 - (y + height) / self.height, self.inner / self.width, height / self.height))
        axes.set_xlim(self.edges[0], self.edges[-1])
        axes.set_facecolor('none')
        for side in ('top', 'right', 'left'):
            axes.spines[side].set_visible(False)
        axes.spines['bottom'].set_color(FAINT)
        axes.tick_params(axis='both', length=0, labelsize=9, labelcolor=QUIET, labelfontfamily=FONT)
        axes.set_xticks([])
        return axes

    def label(self, y: float, name: str, lines: Sequence[Tuple[str, str]], colour: str) -> None:
        self.text(28, y - 3, name, 12, colour, weight='bold')
        for k, (line, line_colour) in enumerate(lines):
            self.text(28, y + 18 + 14.5 * k, line, 8.8, line_colour)

    def shade_events(self, axes: Any) -> None:
        for event in self.found:
            axes.axvspan(self.edges[event.onset], self.edges[event.offset + 1], color=EVENT_SHADE, lw=0, zorder=0)

    def two_ticks(self, axes: Any, low: float, high: float) -> None:
        """Percent at the two ends, and 0."""
        digits = max(0, 1 - int(np.floor(np.log10(high))))
        ticks = [low, 0, high] if low < 0 else [0, high]
        axes.set_yticks(ticks, [f'{tick:.{digits}f} %' if tick else '0' for tick in ticks])


def frame_edges(seconds: np.ndarray) -> np.ndarray:
    """Where frames at ``(t,)`` seconds begin and end, ``(t + 1,)``: half-way between them."""
    step = np.diff(seconds)
    return np.concatenate([[seconds[0] - step[0] / 2], seconds[:-1] + step / 2, [seconds[-1] + step[-1] / 2]])


def percent(share: float) -> str:
    percent = 100 * float(share)
    return f'{percent:.1f} %' if abs(percent) >= 10 else f'{percent:.2g} %' if abs(percent) >= 1e-4 else '0 %'


def spread(values: Sequence[float], distance: float) -> List[float]:
    """Values moved apart to at least ``distance`` with their order kept, around where they were."""
    order = np.argsort(values, kind='stable')
    placed = np.asarray(values, dtype=float)[order]
    for _ in range(50):
        for k in range(len(placed) - 1):
            lacking = distance - (placed[k + 1] - placed[k])
            if lacking > 0:
                placed[k] -= lacking / 2
                placed[k + 1] += lacking / 2
    result = np.empty(len(placed))
    result[order] = placed
    return result.tolist()


def round_ticks(low: float, high: float) -> List[float]:
    """Round times with 6 to 12 of them in the range."""
    rough = (high - low) / 10
    unit = 10.0 ** np.floor(np.log10(rough))
    step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= rough * .999)
    return [round(float(k * step), 10) for k in range(int(np.ceil(low / step)), int(np.floor(high / step)) + 1)]
