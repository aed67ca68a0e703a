"""The curves of a video as files: one row for each sampled frame as CSV, and everything as JSON, with the same numbers.

Numbers are rounded once, then written to both. A frame's class probabilities are those of the window that decided it.
"""
import csv
import io
import json
from pathlib import Path
from typing import Any, Dict, List, Mapping, Sequence, Tuple, Union

import numpy as np

from .energy import Event
from .timeline import Timeline
from .writing import event_numbers, write_whole

ENERGIES = ('base', 'transient', 'residual')
RATINGS = ('valence', 'arousal')


def curve_columns(timeline: Timeline, events: Sequence[Event]) -> Dict[str, List[Any]]:
    """Name -> one rounded value for each sampled frame.

    ``frame``, ``time_s``, ``window`` (from 1), ``base_energy_ratio``, ``transient_energy_ratio``,
    ``residual_energy_ratio``, ``frame_gate``, ``event`` (from 1; None for none) of a decomposition, and where there are
    any ``valence``, ``arousal`` and ``p_<class>``.
    """
    columns: Dict[str, List[Any]] = {
        'frame': timeline.indices.tolist(), 'time_s': _rounded(timeline.times, 4),
        'window': (timeline.window + 1).tolist()}
    if timeline.decomposed:
        table, numbers = timeline.table(), event_numbers(events, len(timeline.indices))
        columns.update((f'{name}_energy_ratio', [float(f'{value:.6g}') for value in table[name]]) for name in ENERGIES)
        columns['frame_gate'] = _rounded(table['frame_gate'], 4)
        columns['event'] = [int(number) or None for number in numbers]
    if timeline.ratings is not None:
        columns.update((name, _rounded(timeline.ratings[:, axis], 4)) for axis, name in enumerate(RATINGS))
    if timeline.probabilities is not None:
        for k, name in enumerate(class_names(timeline)):
            columns[f'p_{name}'] = _rounded(timeline.probabilities[timeline.window, k], 4)
    return columns


def class_names(timeline: Timeline) -> List[str]:
    """A name for each class: those given where their number fits, else 'class 0' and so on."""
    count = 0 if timeline.probabilities is None else timeline.probabilities.shape[1]
    if len(timeline.classes) == count:
        return [str(name) for name in timeline.classes]
    return [f'class {k}' for k in range(count)]


def event_rows(timeline: Timeline, events: Sequence[Event]) -> List[Dict[str, Any]]:
    """Of each event its number, first, strongest and last second, and the peak's amplitude as a share of a frame's."""
    amplitude = np.sqrt(timeline.table()['transient'])
    return [dict(event=number, onset_s=round(float(timeline.times[event.onset]), 4),
                 apex_s=round(float(timeline.times[event.apex]), 4),
                 offset_s=round(float(timeline.times[event.offset]), 4),
                 amplitude_ratio=float(f'{amplitude[event.apex]:.4g}'))
            for number, event in enumerate(events, start=1)]


def window_rows(timeline: Timeline) -> List[Dict[str, Any]]:
    """Of each window its first and last second, and its class probabilities where there are any."""
    names, rows = class_names(timeline), []
    for number, (first, last) in enumerate(timeline.window_times()):
        row: Dict[str, Any] = dict(window=number + 1, first_s=round(float(first), 4), last_s=round(float(last), 4))
        if timeline.probabilities is not None:
            row['probabilities'] = dict(zip(names, _rounded(timeline.probabilities[number], 4)))
        rows.append(row)
    return rows


def class_rows(timeline: Timeline) -> List[Tuple[str, float, int]]:
    """Class, its mean probability over the windows, the windows it wins; the most probable first."""
    if timeline.probabilities is None:
        return []
    wins = np.bincount(timeline.probabilities.argmax(1), minlength=timeline.probabilities.shape[1])
    means = timeline.probabilities.mean(0)
    names = class_names(timeline)
    return [(names[k], round(float(means[k]), 4), int(wins[k])) for k in np.argsort(-means, kind='stable')]


def rating_rows(timeline: Timeline) -> List[Tuple[str, float, float, float]]:
    """Valence and arousal: mean, lowest, highest."""
    if timeline.ratings is None:
        return []
    return [(name, round(float(curve.mean()), 4), round(float(curve.min()), 4), round(float(curve.max()), 4))
            for name, curve in zip(RATINGS, timeline.ratings.T)]


def write_curves(csv_file: Union[str, Path], json_file: Union[str, Path], timeline: Timeline, events: Sequence[Event],
                 about: Mapping[str, Any]) -> Tuple[Path, Path]:
    """Writes both files, each whole or not at all; ``about`` goes in front of the JSON (video, sampling, model ...)."""
    columns = curve_columns(timeline, events)
    write_columns(csv_file, columns)
    head = dict(about, events=event_rows(timeline, events), windows=window_rows(timeline))
    # Column by column: the encoder holds a small string for each number until it is done.
    frames = ',\n'.join(f'{_json(name)}: {_json(values)}' for name, values in columns.items())
    write_whole(json_file, f'{_json(head)[:-1]},\n"frames": {{{frames}}}}}\n')
    return Path(csv_file), Path(json_file)


def write_columns(path: Union[str, Path], columns: Mapping[str, Sequence[Any]]) -> None:
    """Columns of equal length as CSV, whole or not at all; None is an empty cell."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator='\n')
    writer.writerow(columns)
    writer.writerows(zip(*columns.values()))
    write_whole(path, text.getvalue())


def _json(value: Any) -> str:
    return json.dumps(value, allow_nan=False, ensure_ascii=False)


def _rounded(values: Any, digits: int) -> List[float]:
    return [round(float(value), digits) for value in np.asarray(values)]
