"""The curves of a clip that was sampled as its config's test does: several clips, perhaps overlapping, as one window.

A frame that lies in several clips (or comes several times in a short one) takes its value from where it is most
central, as frames of overlapping windows do (:mod:`.sliding`).
Axes: ``n`` sampled frames of all clips one after the other, ``g`` clips, ``k`` classes.
"""
from typing import Any, Dict, Optional, Sequence

import numpy as np

from .energy import frame_squares
from .sliding import Window, held
from .timeline import NAMES, Timeline, finite


def whole_clip(indices: np.ndarray, fps: float, clips: int, parts: Any = None,
               probabilities: Optional[np.ndarray] = None, ratings: Optional[np.ndarray] = None,
               classes: Sequence[str] = ()) -> Timeline:
    """The timeline of the sampled frames, each once, in the order of time.

    Args:
        indices: ``(n,)`` frames in the video.
        fps: of the video.
        clips: how many clips of equal length they are.
        parts: the decomposition of the clips' maps, ``b`` maps one after the other (None: none).
        probabilities: ``(k,)``.
        ratings: ``(2,)`` of the whole clip, or ``(f, 2)`` of frames of all clips one after the other.
        classes: names of the ``k`` classes.

    Raises:
        ValueError: a number is not finite.
    """
    count = len(indices)
    kept = _most_central(indices, clips)
    squares: Dict[str, np.ndarray] = {name: np.full(len(kept), np.nan) for name in NAMES}
    gate = np.full(len(kept), np.nan)
    try:
        if parts is not None:
            found = [frame_squares(parts, b) for b in range(len(parts.stable))]
            for name in NAMES:
                values = np.concatenate([each[name] for each in found])
                squares[name] = _spread(finite(name, values), count, clips)[kept]
            gates = parts.frame_gate.detach().double().cpu().numpy().ravel()
            gate = _spread(finite('frame gate', gates), count, clips)[kept]
        if ratings is not None:
            ratings = _spread(finite('ratings', ratings).reshape(-1, 2), count, clips)[kept]
        rows = None if probabilities is None else finite('probabilities', probabilities)[None]
    except FloatingPointError as error:
        raise ValueError(str(error)) from error
    return Timeline(indices[kept], indices[kept] / fps, [Window(0, len(kept), 0, len(kept))],
                    np.zeros(len(kept), int), squares, gate, rows, ratings, tuple(classes))


def _most_central(indices: np.ndarray, clips: int) -> np.ndarray:
    """Positions of each frame's most central occurrence, in the order of time."""
    length = max(1, len(indices) // clips)
    distance = np.abs(np.arange(len(indices)) % length - (length - 1) / 2)
    order = np.lexsort((distance, indices))
    return order[np.unique(indices[order], return_index=True)[1]]


def _spread(values: np.ndarray, count: int, clips: int) -> np.ndarray:
    """Values of the frames of maps (fewer, perhaps) for the ``count`` sampled frames, clip by clip."""
    if len(values) % clips or count % clips:
        return held(values, count)
    rows = values.reshape(clips, -1, *values.shape[1:])
    return np.concatenate([held(row, count // clips) for row in rows])
