"""A canvas that paints with distances: a movement of a thousandth of a pixel changes the picture a little.

Every shape is a signed distance ``d`` (negative inside) evaluated at the pixel centres; its coverage of a
pixel of width ``p`` is ``clip(1/2 - d/p, 0, 1)``, a continuous function of every coordinate. Integer line
widths and rasterised polygons would jump, and a jump between two frames is a false transient.

Axes: ``t h w`` frames, rows, columns; coordinates of the face: x to the right, y down, one unit is half an
image at pose zero. Scalars of a shape may be numbers or curves ``(t, 1, 1)``.
"""
from typing import Union

import numpy as np

Scalar = Union[float, np.ndarray]
Colour = tuple[float, float, float]


class Canvas:
    """Colour planes ``(3, t, h, w)`` in [0, 1] with the face's coordinates at every pixel.

    Args:
        size: pixels per side.
        roll, shift_x, shift_y, scale: (t,) pose of the face in the image.
        background: colour to begin with.
    """

    def __init__(self, size: int, roll: np.ndarray, shift_x: np.ndarray, shift_y: np.ndarray,
                 scale: np.ndarray, background: Colour) -> None:
        centres = ((np.arange(size, dtype=np.float32) + .5) / size * 2 - 1)
        self.roll, self.shift_x, self.shift_y, self.scale = (
            np.asarray(curve, dtype=np.float32)[:, None, None] for curve in (roll, shift_x, shift_y, scale))
        x = (centres[None, None, :] - self.shift_x) / self.scale
        y = (centres[None, :, None] - self.shift_y) / self.scale
        cos, sin = np.cos(self.roll), np.sin(self.roll)
        self.x, self.y = cos * x + sin * y, cos * y - sin * x
        self.pixel = (2 / size / self.scale).astype(np.float32)
        self.size = size
        self.rgb = np.stack([np.full(self.x.shape, value, dtype=np.float32) for value in background])

    def window(self, left: Scalar, right: Scalar, top: Scalar, bottom: Scalar) -> 'Window':
        """The part of the canvas that holds a box of the face in every frame."""
        rows, columns = [], []
        cos, sin = np.cos(self.roll), np.sin(self.roll)
        for x in (left, right):
            for y in (top, bottom):
                columns.append(self.scale * (cos * x - sin * y) + self.shift_x)
                rows.append(self.scale * (sin * x + cos * y) + self.shift_y)
        return Window(self, self._span(rows), self._span(columns))

    def _span(self, places: list) -> slice:
        first = (min(float(place.min()) for place in places) + 1) / 2 * self.size - 2
        last = (max(float(place.max()) for place in places) + 1) / 2 * self.size + 2
        return slice(int(np.clip(np.floor(first), 0, self.size)), int(np.clip(np.ceil(last), 0, self.size)))


class Window:
    """A rectangle of pixels of the canvas, the same in all frames, to paint in.

    ``x`` and ``y`` ``(t, h, w)`` are the face's coordinates there, ``pixel`` ``(t, 1, 1)`` the width of a
    pixel.
    """

    def __init__(self, canvas: Canvas, rows: slice, columns: slice) -> None:
        self.x, self.y = canvas.x[:, rows, columns], canvas.y[:, rows, columns]
        self.pixel, self.rgb = canvas.pixel, canvas.rgb[:, :, rows, columns]

    def fill(self, distance: np.ndarray) -> np.ndarray:
        """Coverage of a region from its signed distance."""
        return np.clip(.5 - distance / self.pixel, 0, 1)

    def stroke(self, distance: np.ndarray, half: Scalar) -> np.ndarray:
        """Coverage of a line of half width ``half`` from the distance to its middle; hair lines are paler."""
        return np.clip(.5 - (np.abs(distance) - half) / self.pixel, 0, np.clip(2 * half / self.pixel, 0, 1))

    def ellipse(self, x: Scalar, y: Scalar, rx: Scalar, ry: Scalar) -> np.ndarray:
        """Signed distance of an ellipse, first order at its edge."""
        u, v = (self.x - x) / rx, (self.y - y) / ry
        norm = np.sqrt(u * u + v * v)
        slope = np.sqrt((u / rx) ** 2 + (v / ry) ** 2) + 1e-6
        return norm * (norm - 1) / slope

    def paint(self, coverage: np.ndarray, colour: Colour, opacity: Scalar = 1.0) -> None:
        """Lays a colour over the picture where ``coverage (t, h, w)`` says, in place."""
        weight = (coverage * opacity).astype(np.float32, copy=False)
        for plane, value in zip(self.rgb, colour):
            plane += weight * (np.float32(value) - plane)
