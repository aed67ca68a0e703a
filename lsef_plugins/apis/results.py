"""What an inferencer says of its inputs, as Python values, JSON and CSV.

Tables have the columns of the reports of ``tools/visualize_decomposition.py``
(:func:`lsef_plugins.visualization.curves.curve_columns`).
Axes: ``n`` sampled frames of a clip, ``k`` classes.
"""
import dataclasses
import json
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple, Union

import numpy as np

from lsef_plugins.visualization.clip import plain_name
from lsef_plugins.visualization.curves import (
    class_names,
    curve_columns,
    event_rows,
    window_rows,
    write_columns,
)
from lsef_plugins.visualization.timeline import Timeline
from lsef_plugins.visualization.writing import write_whole

PathLike = Union[str, Path]


@dataclasses.dataclass(frozen=True)
class Inference:
    """Of one input.

    Attributes:
        name: the path, or what the input is called.
        fps: frames per second by which times are counted.
        labels: the most probable class; of a recognizer of several labels those more probable than not; none of
            ratings.
        scores: class -> score of the whole clip, as ``tools/test.py`` would have it: a probability where the config's
            head has ``average_clips='prob'``. Of windows their mean.
        probabilities: class -> probability; equal to ``scores`` with ``average_clips='prob'``.
        valence, arousal: means over the frames, of a recognizer that rates.
        timeline: everything over time, in full precision.
    """
    name: str
    fps: float
    labels: Tuple[str, ...]
    scores: Dict[str, float]
    probabilities: Dict[str, float]
    valence: Optional[float]
    arousal: Optional[float]
    timeline: Timeline

    @property
    def label(self) -> Optional[str]:
        """The first label, if any."""
        return self.labels[0] if self.labels else None

    @property
    def times(self) -> np.ndarray:
        """Seconds of the sampled frames, ``(n,)``."""
        return self.timeline.times

    @property
    def curves(self) -> Dict[str, np.ndarray]:
        """``valence`` and ``arousal``, or the probability of each class, at each of :attr:`times`, ``(n,)``."""
        timeline = self.timeline
        if timeline.ratings is not None:
            return dict(valence=timeline.ratings[:, 0], arousal=timeline.ratings[:, 1])
        if timeline.probabilities is None:
            return {}
        return dict(zip(class_names(timeline), timeline.probabilities[timeline.window].T))

    @property
    def decomposition(self) -> Optional[Dict[str, np.ndarray]]:
        """Energies ``stable``, ``transient``, ``residual`` as shares of the mean frame's, ``frame_gate`` in [0, 1) and
        ``event`` (number of the event a frame belongs to, 0 for none) at each of :attr:`times`; None without a neck."""
        if not self.timeline.decomposed:
            return None
        table = self.timeline.table()
        marks = np.zeros(len(self.times), dtype=int)
        for number, event in enumerate(self.timeline.events(), start=1):
            marks[event.onset:event.offset + 1] = number
        return dict(stable=table['base'], transient=table['transient'], residual=table['residual'],
                    frame_gate=table['frame_gate'], event=marks)

    @property
    def events(self) -> List[Dict[str, Any]]:
        """Of each event its first, strongest and last second and its strength."""
        return event_rows(self.timeline, self.timeline.events()) if self.timeline.decomposed else []

    def to_dict(self) -> Dict[str, Any]:
        """Plain values, those over time rounded as in reports."""
        ratings = {} if self.valence is None else dict(valence=self.valence, arousal=self.arousal)
        classes = dict(labels=list(self.labels), scores=self.scores, probabilities=self.probabilities)
        return dict(input=plain_name(self.name), fps=self.fps, **(ratings or classes), events=self.events,
                    windows=window_rows(self.timeline), frames=self.columns())

    def columns(self) -> Dict[str, List[Any]]:
        """Name -> a value for each sampled frame."""
        return curve_columns(self.timeline, self.timeline.events() if self.timeline.decomposed else ())

    def to_json(self, path: PathLike) -> Path:
        """Everything of :meth:`to_dict` as a file, whole or not at all."""
        return _write_json(path, self.to_dict())

    def to_csv(self, path: PathLike) -> Path:
        """One row for each sampled frame, whole or not at all."""
        write_columns(path, self.columns())
        return Path(path)


class Inferences(List[Inference]):
    """Of several inputs, in their order; ``errors`` maps the names of those that failed to what was wrong."""

    def __init__(self) -> None:
        super().__init__()
        self.errors: Dict[str, str] = {}

    def to_dict(self) -> Dict[str, Any]:
        """``results`` and ``errors``."""
        return dict(results=[each.to_dict() for each in self],
                    errors={plain_name(name): error for name, error in self.errors.items()})

    def to_json(self, path: PathLike) -> Path:
        """Everything as a file, whole or not at all."""
        return _write_json(path, self.to_dict())

    def to_csv(self, path: PathLike) -> Path:
        """One row for each input, failed ones with their error, whole or not at all."""
        classes = list(dict.fromkeys(name for each in self for name in each.scores))
        rows: List[Dict[str, Any]] = [dict(input=plain_name(each.name), label=each.label, valence=each.valence,
                                           arousal=each.arousal, events=len(each.events),
                                           **{f'score_{name}': value for name, value in each.scores.items()})
                                      for each in self]
        rows += [dict(input=plain_name(name), error=error) for name, error in self.errors.items()]
        names = ['input', 'label', *(f'score_{name}' for name in classes), 'valence', 'arousal', 'events', 'error']
        write_columns(path, {name: [row.get(name) for row in rows] for name in names})
        return Path(path)


def _write_json(path: PathLike, content: Dict[str, Any]) -> Path:
    write_whole(path, json.dumps(content, allow_nan=False, ensure_ascii=False) + '\n')
    return Path(path)
