"""How much of what was planted in a clip the decomposition finds again, gathered over processes.

On the features of a network nobody knows the true stable *part*; what is known is how the planted one runs over time.
So subspaces of curves are compared: those of the planted facial actions, with the constant that a face at rest is, and
those of the stable part (its temporal singular vectors). Head pose and light are slow as well, and what the network
makes of them counts against the angle unless they are named in ``stable``.

There is one entry per sample, in the order of the data set: ``BaseMetric.evaluate(size)`` drops the repetitions of
distributed samplers by counting entries.
Axes: ``v`` views (clips times crops), ``t`` frames of the map, ``k`` planted curves.
"""
from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any, Optional

import numpy as np
from mmengine.evaluator import BaseMetric

from lsef_plugins.evaluation.functional.events import (
    Counts,
    event_counts,
    frame_counts,
    mask_of,
    runs,
    separation,
)
from lsef_plugins.evaluation.functional.subspaces import energy_inside, subspace_angles, without_mean
from lsef_plugins.registry import METRICS
from lsef_plugins.visualization.energy import EVENT_KAPPA, find_events

VIEWS = ('first', 'all')
DRIFTS = ('stable_drift', 'feature_drift')
EVENT_LEVEL = 0.25


# No named tuple: MMEngine makes plain tuples of those while it gathers.
@dataclasses.dataclass(frozen=True)
class ClipScores:
    """Scores of one view; NaN where they are not defined. ``gates``: sum and number of the frame gates inside and
    outside of events."""
    angle: float
    angle_mean: float
    captured: float
    explained: float
    frames: Counts
    events: Counts
    separation: float
    gates: tuple[float, int, float, int]


@METRICS.register_module()
class DecompositionRecoveryMetric(BaseMetric):
    """Angles of the stable part, events of the transient, false events and drift, where the truth is planted.

    Needs ``DecompositionTapHook`` in ``custom_hooks``, and of the pipeline the meta information ``planted``
    (``LoadPlantedTruth`` behind the sampler, ``PackAffectInputs`` at the end) or, for the drift, ``clean_clips``
    (``CleanTwin`` behind the decoder), or both. Results, with ``<place>/`` in front where a model separates at several:

    - ``stable_angle``, ``stable_angle_mean``: largest and mean principal angle from the planted stable curves and the
      constant to the span of the stable part's curves, in degrees (0 best, 90 a direction that is not there).
    - ``stable_captured``: share of the energy of the planted *change* inside that span; ``stable_explained``: share of
      the stable part's own change that is planted. Both in [0, 1], 1 best.
    - ``frame_precision``, ``frame_recall``, ``frame_iou``: frames of found events against frames of planted ones.
    - ``event_precision``, ``event_recall``, ``event_f1``: events, matched once each from an IoU of ``min_iou`` on.
    - ``event_separation``: chance that the transient is stronger in a frame of an event than in another of the clip.
    - ``false_event_ratio``: share of the clips without any planted event in which one is found; ``false_events``: found
      events per such clip.
    - ``gate_in_events``, ``gate_elsewhere``: mean frame gate there.
    - ``stable_drift``, ``feature_drift``: 1 - cosine between a clip's stable part and that of its corrupted twin, and
      between the features both were taken from; means over clips.
    - ``clips``, ``event_clips``: how many were scored, and how many of them hold an event.

    Angles, shares and separation are means over clips; precision, recall, IoU and gates pool frames or events of all
    clips. What is not defined is NaN.

    Args:
        stable, transient: names of the planted curves that count as such (``LoadPlantedTruth``): adding 'blink' to
            ``transient`` makes a blink an event, adding 'pose' and 'light' to ``stable`` asks for all that is slow.
        event_level: a frame belongs to a planted event from this length of the transient curves' vector on, in units of
            the curves (facial actions: 1 is a full movement).
        event_kappa: a frame belongs to a found event beyond so many robust standard deviations, see
            :func:`lsef_plugins.visualization.find_events`.
        min_iou: from which IoU in time on a found event is a planted one.
        views: 'first' scores the first clip and crop of a sample, 'all' each on its own.
        collect_device: 'cpu' or 'gpu', where results of processes are gathered.
        prefix: In front of the names of results.
        collect_dir: Folder that all processes see, for gathering on the CPU.
    """

    default_prefix = 'recovery'

    def __init__(self, stable: Sequence[str] = ('stable', ), transient: Sequence[str] = ('transient', ),
                 event_level: float = EVENT_LEVEL, event_kappa: float = EVENT_KAPPA, min_iou: float = 0.5,
                 views: str = 'first', collect_device: str = 'cpu', prefix: Optional[str] = None,
                 collect_dir: Optional[str] = None) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix, collect_dir=collect_dir)
        for name, given in (('stable', stable), ('transient', transient)):
            if isinstance(given, str) or not given:
                raise ValueError(f"{name} names planted curves, such as ('{name}', ), got {given!r}.")
        if not event_level > 0 or not event_kappa > 0:
            raise ValueError('event_level and event_kappa are positive, got '
                             f'{event_level} and {event_kappa}.')
        if views not in VIEWS:
            raise ValueError(f"views is 'first' (clip and crop of a sample) or 'all', got {views!r}.")
        event_counts([], [], min_iou)       # a wrong one is told now
        self.stable, self.transient, self.views = tuple(stable), tuple(transient), views
        self.event_level, self.event_kappa, self.min_iou = event_level, event_kappa, min_iou

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Scores each sample.

        Args:
            data_batch: Not used.
            data_samples: Each with ``decomposition`` (see ``DecompositionTapHook``), and ``planted`` (name ->
                ``(clips, t, k)``) or drifts in ``decomposition``.
        """
        for sample in data_samples:
            decomposition, planted = sample.get('decomposition'), sample.get('planted')
            if decomposition is None:
                raise ValueError('DecompositionRecoveryMetric needs decomposition of each sample and got '
                                 f"{sorted(sample)}. Add dict(type='DecompositionTapHook') to custom_hooks.")
            if planted is None and sample.get('clean_clips') is None:
                raise ValueError(
                    "DecompositionRecoveryMetric needs the meta keys 'planted' (the truth at the sampled frames) or "
                    f"'clean_clips' (twins), and got {sorted(sample)}. Put dict(type='LoadPlantedTruth') behind the "
                    "sampler of the pipeline (and dict(type='CleanTwin', corruption=...) behind the decoder for drifts)"
                    ", and end it with PackAffectInputs, or with PackActionInputs(meta_keys=('planted', "
                    "'clean_clips')).")
            self.results.append({
                place: (None if planted is None else self.scores_of(found, planted, sample.get('clean_clips'), place),
                        {name: found[name] for name in DRIFTS if name in found})
                for place, found in decomposition.items()})

    def scores_of(self, found: dict, planted: dict, clean_clips: Optional[int], place: str) -> list[ClipScores]:
        """Scores of the views of one sample at one place."""
        stable, transient = (self.chosen(planted, names) for names in (self.stable, self.transient))
        clips = len(stable)
        per_crop = clips if clean_clips is None else 2 * clips
        views, t = found['transient'].shape
        if views % per_crop or t > stable.shape[1]:
            raise ValueError(
                f'{place} has {views} view(s) of {t} frames of a sample whose planted curves are {clips} clip(s) of '
                f'{stable.shape[1]} frames. LoadPlantedTruth has to stand right behind the sampler, and the neck of a '
                "Recognizer2D to know the segments of one clip: neck=dict(type='LSEFNeck', num_segments=...).")
        clean = [view for view in range(views) if view % per_crop < clips]
        return [self.score_view({name: found[name][view] for name in ('curves', 'transient', 'residual', 'frame_gate')},
                                stable[view % per_crop], transient[view % per_crop])
                for view in (clean if self.views == 'all' else clean[:1])]

    @staticmethod
    def chosen(planted: dict, names: Sequence[str]) -> np.ndarray:
        """The planted curves of these names, ``(clips, t, k)``."""
        unknown = [name for name in names if name not in planted]
        if unknown:
            raise ValueError(f'There are no planted curves named {", ".join(unknown)}; this data set has '
                             f'{", ".join(sorted(planted))}.')
        return np.concatenate([np.asarray(planted[name], dtype=np.float64) for name in names], 2)

    def score_view(self, found: dict, stable: np.ndarray, transient: np.ndarray) -> ClipScores:
        """Scores of one view against planted curves ``(frames, k)``."""
        t = len(found['transient'])
        stable, transient = mean_of_frames(stable, t), mean_of_frames(transient, t)
        angles = subspace_angles(np.concatenate([np.ones((t, 1)), stable], 1), found['curves'])
        change, own = without_mean(stable), without_mean(found['curves'])
        mask = np.linalg.norm(transient, axis=1) >= self.event_level
        events = [(event.onset, event.offset) for event in find_events(found['transient'], found['residual'],
                                                                       self.event_kappa)]
        gate = found['frame_gate']
        return ClipScores(
            angle=float(angles.max()), angle_mean=float(angles.mean()), captured=energy_inside(change, found['curves']),
            explained=energy_inside(own, change), frames=frame_counts(mask, mask_of(events, t)),
            events=event_counts(runs(mask), events, self.min_iou), separation=separation(found['transient'], mask),
            gates=(float(gate[mask].sum()), int(mask.sum()), float(gate[~mask].sum()), int((~mask).sum())))

    def compute_metrics(self, results: list) -> dict[str, float]:
        """All scores of the whole data set.

        Args:
            results: place -> (scores of the views or None, drifts by name) of each sample.
        """
        if not results:
            raise ValueError('DecompositionRecoveryMetric was given no samples: is the data set of the evaluation '
                             'empty?')
        metrics: dict[str, float] = {}
        for place in results[0]:
            values: dict[str, float] = {}
            views = [view for result in results for view in result[place][0] or ()]
            if views:
                values.update(summary(views))
            for name in DRIFTS:
                drifts = [result[place][1][name] for result in results if name in result[place][1]]
                if drifts:
                    values[name] = float(np.concatenate(drifts).mean())
            several = len(results[0]) > 1
            metrics.update({f'{place}/{name}' if several else name: value for name, value in values.items()})
        return metrics


def mean_of_frames(curves: np.ndarray, t: int) -> np.ndarray:
    """Curves ``(frames, k)`` at the t frames of a map, each the mean of the frames it covers (adaptive pooling)."""
    frames = len(curves)
    bounds = [(i * frames // t, -(-(i + 1) * frames // t)) for i in range(t)]
    return np.stack([curves[first:last].mean(0) for first, last in bounds])


def summary(views: Sequence[ClipScores]) -> dict[str, float]:
    """Scores of a data set from those of its clips."""
    frames, events = (Counts(*np.sum([getattr(view, name) for view in views], 0).tolist()) for name in
                      ('frames', 'events'))
    quiet = [view.events.false for view in views if not view.gates[1]]
    inside, event_frames, outside, other_frames = np.sum([view.gates for view in views], 0)
    return dict(
        clips=len(views), event_clips=len(views) - len(quiet),
        stable_angle=_mean(view.angle for view in views), stable_angle_mean=_mean(view.angle_mean for view in views),
        stable_captured=_mean(view.captured for view in views),
        stable_explained=_mean(view.explained for view in views),
        frame_precision=frames.precision, frame_recall=frames.recall, frame_iou=frames.iou,
        event_precision=events.precision, event_recall=events.recall, event_f1=events.f1,
        event_separation=_mean(view.separation for view in views),
        false_event_ratio=_mean(float(count > 0) for count in quiet), false_events=_mean(quiet),
        gate_in_events=_mean([inside / event_frames] if event_frames else []),
        gate_elsewhere=_mean([outside / other_frames] if other_frames else []))


def _mean(values: Iterable[float]) -> float:
    """Mean of what is defined, NaN of nothing."""
    defined = [value for value in values if not np.isnan(value)]
    return float(np.mean(defined)) if defined else float('nan')
