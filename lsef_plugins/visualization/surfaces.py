r"""Composite = stable + transient (+ a small residual) as three surfaces over time and place, or time and feature.

.. math::  c(t, p) = \langle w, x_t \rangle_p - \overline{c}(p), \qquad
           \ell(t, p) = \langle w, \ell_t \rangle_p - \overline{c}(p), \qquad s(t, p) = \langle w, s_t \rangle_p

One linear reading of all three parts, less the composite's mean over time, so that point by point
``composite = stable + transient + residual``. Pixels are read by rows of the picture (``p`` from top to bottom),
columns weighted by how much of the transient's energy they hold; features by the channels in which the transient is
strongest, ordered by their value where it peaks.
Axes: ``c`` channels, ``t`` time, ``h w`` space, ``p`` rows or channels.
"""
from typing import Any, NamedTuple, Optional, Tuple

import numpy as np
from numpy.typing import ArrayLike

from .page import DPI, FONT, INK, QUIET, STABLE, TRANSIENT, plain_matplotlib

CHANNELS = 24
#: A transient flatter than this part of the composite's reach gets a vertical axis of its own, and the title says so.
FLAT_RATIO = 0.25


class Surfaces(NamedTuple):
    """``composite``, ``stable``, ``transient`` ``(t, p)``, and what ``p`` counts."""
    composite: np.ndarray
    stable: np.ndarray
    transient: np.ndarray
    place: str
    unit: str


def surfaces_of(parts: Any, pixels: bool, clip: int = 0) -> Surfaces:
    """Reads the three surfaces from a decomposition ``(b, c, t, h, w)``."""
    stable, transient, residual = (getattr(parts, name)[clip].detach().double().cpu().numpy()
                                   for name in ('stable', 'transient', 'residual'))
    read = _rows_of(transient) if pixels else _channels_of(transient)
    composite, base, moving = (read(part) for part in (stable + transient + residual, stable, transient))
    mean = composite.mean(0)
    place, unit, scale = ('row, from the top', 'brightness in %', 100) if pixels else ('channel', 'feature', 1)
    return Surfaces(scale * (composite - mean), scale * (base - mean), scale * moving, place, unit)


def _rows_of(transient: np.ndarray) -> Any:
    columns = np.square(transient).sum((0, 1, 2))                       # (w,)
    weights = columns / columns.sum() if columns.sum() > 0 else np.full(len(columns), 1 / len(columns))
    return lambda part: np.einsum('cthw,w->th', part, weights) / len(part)


def _channels_of(transient: np.ndarray) -> Any:
    means = transient.mean((2, 3))                                      # (c, t)
    strongest = np.argsort(-np.square(means).sum(1), kind='stable')[:CHANNELS]
    peak = int(np.square(means[strongest]).sum(0).argmax())
    order = strongest[np.argsort(means[strongest, peak], kind='stable')]
    return lambda part: part.mean((2, 3))[order].T


def draw_surfaces(surfaces: Surfaces, times: ArrayLike, title: str = '', width: int = 1500) -> Any:
    """Three surfaces side by side.

    Args:
        surfaces: what :func:`surfaces_of` returns.
        times: ``(t,)`` seconds of its frames, increasing.
        title: the line on top.
        width: of the picture in pixels, at least 1200.

    Returns:
        A matplotlib Figure with a canvas of its own (:func:`save_picture` writes it).

    Raises:
        ValueError: times and surfaces do not belong together.
    """
    seconds = np.asarray(times, dtype=np.float64)
    if seconds.shape != (len(surfaces.composite), ) or len(seconds) < 2 or width < 1200:
        raise ValueError(f'the surfaces have {len(surfaces.composite)} frames (two are needed), times have the shape '
                         f'{seconds.shape}; width is {width} (1200 pixels are needed).')
    with plain_matplotlib():
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        figure = Figure(figsize=(width / DPI, .32 * width / DPI), dpi=DPI, facecolor='white')
        FigureCanvasAgg(figure)
        figure.text(.018, .955, title, fontsize=14, color=INK, family=FONT, va='center', weight='bold')
        reach = _reach(surfaces.composite, surfaces.stable)
        for column, name in enumerate(('composite', 'stable', 'transient')):
            _panel(figure, column, surfaces, name, seconds, reach)
        for x, sign in ((.333, '='), (.66, '+')):
            figure.text(x, .838, sign, fontsize=22, color=QUIET, family=FONT, ha='center', va='center')
        return figure


def _reach(*parts: np.ndarray) -> Tuple[float, float]:
    low, high = (float(pick([pick(part) for part in parts])) for pick in (np.min, np.max))
    margin = .04 * max(high - low, 1e-6)
    return low - margin, high + margin


def _panel(figure: Any, column: int, surfaces: Surfaces, name: str, seconds: np.ndarray,
           reach: Tuple[float, float]) -> None:
    part = getattr(surfaces, name)
    own = _own_reach(part, reach) if name == 'transient' else None
    low, high = own or reach
    axes = figure.add_axes((-.012 + .327 * column, -.12, .33, 1.14), projection='3d', computed_zorder=False)
    places = np.arange(part.shape[1])
    x, y = np.meshgrid(seconds, places, indexing='ij')
    axes.plot_surface(x, y, part, cmap='cividis', vmin=low, vmax=high, rcount=64, ccount=64, linewidth=.25,
                      edgecolor=(1, 1, 1, .35), antialiased=True)
    axes.set_zlim(low, high)
    axes.set_xlim(seconds[0], seconds[-1])
    axes.set_ylim(places[-1], places[0])
    axes.view_init(elev=30, azim=-58)
    axes.patch.set_visible(False)
    axes.set_box_aspect((1.35, 1, .72), zoom=.84)
    _words(axes, name, surfaces, bool(own))


def _own_reach(part: np.ndarray, reach: Tuple[float, float]) -> Optional[Tuple[float, float]]:
    strongest = float(np.abs(part).max())
    return (-1.1 * strongest, 1.1 * strongest) if 0 < strongest < FLAT_RATIO * (reach[1] - reach[0]) else None


def _words(axes: Any, name: str, surfaces: Surfaces, own: bool) -> None:
    colour = {'composite': INK, 'stable': STABLE, 'transient': TRANSIENT}[name]
    heading = {'composite': 'Composite', 'stable': 'Stable', 'transient': 'Transient'}[name]
    axes.text2D(.47, .845, heading + (' (its own axis)' if own else ''), transform=axes.transAxes,
                fontsize=12, color=colour, family=FONT, weight='bold', ha='center')
    axes.set_xlabel('time in s', fontsize=9, color=QUIET, family=FONT)
    axes.set_ylabel(surfaces.place, fontsize=9, color=QUIET, family=FONT)
    axes.set_zlabel(surfaces.unit + (', less its mean' if name != 'transient' else ''), fontsize=9, color=QUIET,
                    family=FONT, labelpad=5)
    axes.tick_params(labelsize=8, colors=QUIET, pad=0)
    for axis in (axes.xaxis, axes.yaxis, axes.zaxis):
        axis.pane.set_facecolor((.96, .97, .98))
        axis._axinfo['grid'].update(color='#d9dde2', linewidth=.6)
    axes.tick_params(axis='z', pad=3)
    axes.locator_params(nbins=5)
    axes.yaxis.get_major_locator().set_params(integer=True)
