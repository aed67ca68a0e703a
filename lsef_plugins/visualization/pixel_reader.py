"""A reader (:mod:`.timeline`) for which the pixels are the features: nothing is trained, no OpenMMLab is needed."""
from typing import List, Optional, Tuple

import numpy as np

from .clip import MIN_FRAMES
from .pixels import decompose_pixels, default_rank
from .timeline import Reading

#: Frames of a window, and what a second is sampled to at most.
WINDOW, RATE = 32, 25.0


class PixelReader:
    """Decomposes the pixels of each window.

    Args:
        window: frames of a window; None for 32, or all of a shorter video.
        interval: take every so-manieth frame; None for as many as give at most 25 in a second.
        rank, kappa: as of :func:`decompose_pixels`.
    """
    pixels, classes = True, ()

    def __init__(self, window: Optional[int] = None, interval: Optional[int] = None, rank: Optional[int] = None,
                 kappa: float = 3.0) -> None:
        for name, value, least in (('window', window, MIN_FRAMES), ('interval', interval, 1), ('rank', rank, 1)):
            if value is not None and value < least:
                raise ValueError(f'{name} is {value}; it is at least {least}, or left out for the usual.')
        self.window, self.interval, self.rank, self.kappa = window, interval, rank, kappa

    def sampling(self, length: int, fps: float) -> Tuple[int, int]:
        """Frames of a window and the interval between them, for a stretch of ``length`` frames."""
        interval = self.interval or max(1, round(fps / RATE))
        available = -(-length // interval)
        window = min(WINDOW, available) if self.window is None else self.window
        if window < MIN_FRAMES:
            raise ValueError(f'{length} frames give {available} at an interval of {interval}; a decomposition over '
                             f'time needs at least {MIN_FRAMES}. Choose a smaller --interval or a longer stretch.')
        return window, interval

    def __call__(self, frames: List[np.ndarray], indices: np.ndarray) -> Reading:
        stacked = np.stack(frames)
        return Reading(decompose_pixels(stacked, self.rank, self.kappa), stacked)

    def words(self, window: int) -> str:
        """What is decomposed, and how."""
        rank = default_rank(window) if self.rank is None else self.rank
        return (f'features: the pixels, RGB   ·   base of rank {rank} at most   ·   transient beyond κ = '
                f'{self.kappa:g} robust standard deviations')

    def notes(self) -> str:
        """What to keep in mind."""
        return ('A moving camera turns everything it sweeps over into transients of the pixels; a fixed one leaves the '
                'events. Nothing here was trained.')
