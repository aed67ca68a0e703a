"""A PNG of 256 colours: a third of the bytes, for pictures that travel inside a page.

Most colours are chosen for the picture by median cut, which spends them where the pixels are, on faces; a fixed set
keeps those that little area has and much meaning: words, events, and the scale of probabilities and surfaces.
"""
import io
from pathlib import Path
from typing import List, Tuple, Union

import numpy as np

from .page import EVENT_SHADE, FAINT, GATE, INK, QUIET, STABLE, TRANSIENT

CHOSEN, SCALE = 216, 32


def few_colours(path: Union[str, Path]) -> bytes:
    """The PNG file at ``path`` with a palette, as bytes."""
    from PIL import Image  # comes with matplotlib
    with Image.open(path) as file:
        picture = file.convert('RGB')
    chosen = picture.quantize(CHOSEN, dither=Image.Dither.NONE).getpalette()[:3 * CHOSEN]
    palette = Image.new('P', (1, 1))
    palette.putpalette([*chosen, *(value for colour in fixed_colours() for value in colour)])
    small = picture.quantize(palette=palette, dither=Image.Dither.NONE)
    numbers, pixels = np.array(small), np.asarray(picture)
    for number, colour in enumerate(fixed_colours()):       # Pillow takes a colour nearby
        numbers[(pixels == colour).all(-1)] = CHOSEN + number
    exact = Image.fromarray(numbers)
    exact.putpalette(palette.getpalette() or [])
    data = io.BytesIO()
    exact.save(data, format='PNG', optimize=True)
    return data.getvalue()


def fixed_colours() -> List[Tuple[int, ...]]:
    """RGB of the page's words and shades, and of the cividis scale."""
    import matplotlib
    scale = matplotlib.colormaps['cividis']
    words = ('#ffffff', INK, QUIET, FAINT, STABLE, TRANSIENT, GATE, EVENT_SHADE)
    return [tuple(int(colour[k:k + 2], 16) for k in (1, 3, 5)) for colour in words] + [
        tuple(round(255 * value) for value in scale(k / (SCALE - 1))[:3]) for k in range(SCALE)]
