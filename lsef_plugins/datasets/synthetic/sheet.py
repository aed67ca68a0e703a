"""A contact sheet: one clip of every class as a row of frames, for a human to look at."""
from pathlib import Path
from typing import Union

import cv2
import numpy as np

from .design import CLASSES
from .drawing import draw_frames
from .presets import Preset, preset_of
from .signals import draw_signals, label_tone_event
from .video import temporary

_INK, _PAPER, _MARK = (60, 50, 45), (250, 248, 244), (210, 90, 50)


def contact_sheet(preset: Union[str, Preset], path: Union[str, Path], seed: int = 0, split: str = 'train',
                  columns: int = 10, size: int = 112) -> Path:
    """Writes a picture with one row per class: its name, tone and event, and ``columns`` frames of the clip.

    A bar under a frame is as long as the event is strong there. The clips are drawn afresh at ``size``
    pixels.
    """
    record, target = preset_of(preset), Path(path)
    rows: dict[int, np.ndarray] = {}
    index = 0
    while len(rows) < len(CLASSES):
        label, tone, event = label_tone_event(record, split, index, seed)
        # Conflicts first: they are what the data set is about.
        telling = (tone, event) in (('negative', 'smile'), ('negative', 'jaw_drop'), ('neutral', 'jaw_drop'),
                                    ('positive', 'nose_wrinkle'), ('negative', 'nose_wrinkle'),
                                    ('neutral', 'brow_lower'), ('positive', 'brow_lower')) or index > 500
        if label not in rows and telling:
            rows[label] = _row(draw_signals(record, split, index, seed), record, columns, size)
        index += 1
    picture = np.concatenate([rows[label] for label in sorted(rows)])
    target.parent.mkdir(parents=True, exist_ok=True)
    with temporary(target) as unfinished:
        if not cv2.imwrite(str(unfinished), picture[..., ::-1]):
            raise OSError(f'{target}: OpenCV could not write this picture; give a name that ends in .png.')
    return target


def _row(truth, record: Preset, columns: int, size: int) -> np.ndarray:
    times = np.linspace(0, record.frames - 1, columns).round().astype(int)
    frames = draw_frames(truth, record, size=size)[times]
    label = np.full((size + 14, 132, 3), _PAPER, np.uint8)
    for line, (text, weight) in enumerate(((CLASSES[truth.label], 2), (f'{truth.tone} tone', 1),
                                           (truth.event.replace('_', ' '), 1))):
        scale = .62 if weight == 2 else .48
        cv2.putText(label, text, (8, 36 + 24 * line), cv2.FONT_HERSHEY_SIMPLEX, scale, _INK, weight, cv2.LINE_AA)
    cells = [label]
    strength = np.abs(truth.transient).max(1)
    for time, frame in zip(times, frames):
        cell = np.full((size + 14, size + 4, 3), _PAPER, np.uint8)
        cell[4:-10, 2:-2] = frame
        cell[-7:-3, 2:2 + int(round(size * min(strength[time], 1)))] = _MARK
        cells.append(cell)
    return np.concatenate(cells, axis=1)
