"""Valence and arousal of a recognizer, gathered over processes; each number names what was pooled.

As in :mod:`.average_recall` there is one entry per *sample* (a clip with one or many frames), in the order of the
data set: ``BaseMetric.evaluate(size)`` drops the repetitions of distributed samplers by counting entries.
Axes: the last one is (valence, arousal).
"""
from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Optional

import numpy as np
import torch
from mmengine.evaluator import BaseMetric

from lsef_plugins.evaluation.functional import (
    ccc,
    ccc_batch20,
    ccc_per_video,
    pcc,
    rating_intervals,
    rmse,
    sagr_product,
    sagr_sign,
)
from lsef_plugins.registry import METRICS
from lsef_plugins.visualization.ratings import draw_ratings, write_ratings
from lsef_plugins.visualization.writing import save_picture

DIMENSIONS = ('valence', 'arousal')
POOLED = dict(ccc_global=ccc, pcc_global=pcc, rmse_global=rmse, sagr_product=sagr_product, sagr_sign=sagr_sign)


class Ratings(NamedTuple):
    """Frames one after the other: ``truth`` and ``predicted`` ``(n, 2)`` (NaN: no rating), the ``videos`` and the
    ``frames`` in these, n each; None where the samples do not say."""
    truth: np.ndarray
    predicted: np.ndarray
    videos: Optional[list]
    frames: Optional[np.ndarray]


@METRICS.register_module()
class ValenceArousalMetric(BaseMetric):
    """CCC, PCC, RMSE and SAGR of valence, of arousal, and the mean of the two.

    For each of ``ccc_global``, ``ccc_per_video`` (where samples have a ``video_id``), ``ccc_batch20``,
    ``pcc_global``, ``rmse_global``, ``sagr_product`` and ``sagr_sign`` (all frames): ``va/<name>_valence``,
    ``va/<name>_arousal`` and ``va/<name>``, the mean of the two. What is not defined is NaN
    (:mod:`lsef_plugins.evaluation.functional.regression`), and so is the mean then. ``va/frames`` counts the frames
    with a rating, ``va/videos`` the videos.
    MMEngine does not know the direction of these names: ``CheckpointHook(save_best='va/ccc_global', rule='greater')``.
    After :meth:`evaluate` the main process finds the frames in ``ratings``.

    Frames whose true rating is NaN are invalid and are left out, for valence and arousal on their own. A frame that
    several clips predict (same ``video_id`` and ``frame_index``) counts once, with the mean of its predictions.

    Args:
        bootstrap: Repetitions of 95 % intervals over videos (over samples, where no ``video_id`` is known):
            ``va/<name>_valence_low`` and so on. 0 for none; 2000 are usual.
        seed: Of the repetitions and of the order in ``ccc_batch20``.
        overlaps: 'mean', or 'keep' to count such a frame as often as it is predicted.
        curves_dir: Folder for a picture and a table of each video's curves (.png, .csv), for samples with a
            ``video_id``.
        collect_device: 'cpu' or 'gpu', where results of processes are gathered.
        prefix: In front of the names of results.
        collect_dir: Folder that all processes see, for gathering on the CPU.
    """

    default_prefix = 'va'

    def __init__(self, bootstrap: int = 0, seed: int = 0, overlaps: str = 'mean', curves_dir: Optional[str] = None,
                 collect_device: str = 'cpu', prefix: Optional[str] = None,
                 collect_dir: Optional[str] = None) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix, collect_dir=collect_dir)
        if overlaps not in ('mean', 'keep'):
            raise ValueError(f"overlaps is 'mean' (a frame counts once) or 'keep', got {overlaps!r}.")
        if bootstrap:
            rating_intervals([0., 1.], [0., 1.], [0, 1], bootstrap)     # a wrong number is told now
        self.bootstrap, self.seed, self.overlaps, self.curves_dir = bootstrap, seed, overlaps, curves_dir
        self.ratings: Optional[Ratings] = None

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Keeps the ratings of each sample.

        Args:
            data_batch: Not used.
            data_samples: Each with ``gt_valence_arousal`` and ``pred_valence_arousal``, ``(2,)`` or ``(n, 2)``, and
                perhaps ``video_id`` and ``frame_index`` (one, or n).
        """
        for sample in data_samples:
            truth, predicted = sample.get('gt_valence_arousal'), sample.get('pred_valence_arousal')
            if truth is None or predicted is None:
                raise ValueError('ValenceArousalMetric needs gt_valence_arousal and pred_valence_arousal of each '
                                 f'sample and got {sorted(sample)}: the pipeline has to end with PackAffectInputs of a '
                                 'rated list, and the head to be a ValenceArousalHead.')
            truth, predicted = as_rows(truth, 'gt_valence_arousal'), as_rows(predicted, 'pred_valence_arousal')
            if truth.shape != predicted.shape:
                raise ValueError(f'gt_valence_arousal {truth.shape} and pred_valence_arousal {predicted.shape} are not '
                                 'of the same frames (n, 2). Make num_frames of the head the frames of the target.')
            frames = sample.get('frame_index')
            frames = None if frames is None else np.asarray(frames).reshape(-1)
            if frames is not None and len(frames) != len(truth):
                raise ValueError(f'frame_index names {len(frames)} frames and the sample has {len(truth)} ratings: '
                                 'it has to name the rated frames, one for each.')
            self.results.append((truth, predicted, sample.get('video_id'), frames))

    def compute_metrics(self, results: list) -> dict[str, float]:
        """All measures of the whole data set.

        Args:
            results: (truth ``(n, 2)``, prediction ``(n, 2)``, video or None, frames ``(n,)`` or None) of each sample.
        """
        if not results:
            raise ValueError('ValenceArousalMetric was given no samples: is the data set of the evaluation empty?')
        ratings = self.ratings = self.gather(results)
        lost = np.flatnonzero(~np.isfinite(ratings.predicted).all(1))
        if lost.size:
            raise ValueError(f'{lost.size} of {len(ratings.truth)} predictions are not finite (the first is frame '
                             f'{lost[0]}). The model has diverged or met non-finite input: look at the training loss, '
                             'the learning rate and mixed precision.')
        rated = ~np.isnan(ratings.truth)
        if not rated.any(0).all():
            raise ValueError(f'All {len(ratings.truth)} frames are without a valid rating (NaN) of '
                             f'{" and ".join(name for name, some in zip(DIMENSIONS, rated.any(0)) if not some)}: is '
                             'this the list of a test set without labels?')
        metrics: dict[str, float] = {}
        for column, dimension in enumerate(DIMENSIONS):
            rows = rated[:, column]
            videos = [v for v, used in zip(ratings.videos, rows) if used] if ratings.videos else None
            values = self.values_of(ratings.truth[rows, column], ratings.predicted[rows, column], videos,
                                    self.units(results, ratings, rows))
            metrics.update({name.format(dimension): value for name, value in values.items()})
        for name in [name for name in metrics if name.endswith('_valence')]:
            plain = name[:-len('_valence')]
            metrics[plain] = (metrics[name] + metrics[f'{plain}_arousal']) / 2
        metrics['frames'] = int(rated.any(1).sum())
        if ratings.videos:
            metrics['videos'] = len(set(ratings.videos))
        self.write_curves(ratings)
        return metrics

    def gather(self, results: list) -> Ratings:
        """The samples' frames one after the other; what several clips predict, once."""
        truth, predicted = (np.concatenate([entry[i] for entry in results]) for i in (0, 1))
        named = [entry[2] is not None for entry in results]
        if any(named) != all(named):
            raise ValueError(f'{named.count(False)} of {len(named)} samples have no video_id and the others have: '
                             'pack it for all of them, or for none.')
        if not all(named):
            warnings.warn('The samples have no video_id, so ccc_per_video is not reported. Let the data set give '
                          "results['video_id'] and pack it with PackAffectInputs.", stacklevel=2)
            return Ratings(truth, predicted, None, None)
        videos = [str(entry[2]) for entry in results for _ in range(len(entry[0]))]
        if any(entry[3] is None for entry in results):
            return Ratings(truth, predicted, videos, None)
        frames = np.concatenate([entry[3] for entry in results])
        if self.overlaps == 'keep':
            return Ratings(truth, predicted, videos, frames)
        return merge_overlaps(Ratings(truth, predicted, videos, frames))

    @staticmethod
    def units(results: list, ratings: Ratings, rows: np.ndarray) -> list:
        """What is drawn as a whole by the bootstrap: the video of each rated frame, else its sample."""
        names = ratings.videos or [number for number, entry in enumerate(results) for _ in range(len(entry[0]))]
        return [name for name, used in zip(names, rows) if used]

    def values_of(self, truth: np.ndarray, predicted: np.ndarray, videos: Optional[list],
                  units: list) -> dict[str, float]:
        """The measures of one dimension, with ``{}`` in the place of its name."""
        values = {f'{name}_{{}}': measure(truth, predicted) for name, measure in POOLED.items()}
        values['ccc_batch20_{}'] = ccc_batch20(truth, predicted, self.seed)
        if videos is not None:
            values['ccc_per_video_{}'] = ccc_per_video(truth, predicted, videos)
        if self.bootstrap:
            for name, bounds in rating_intervals(truth, predicted, units, self.bootstrap, self.seed).items():
                if f'{name}_{{}}' in values:
                    values[f'{name}_{{}}_low'], values[f'{name}_{{}}_high'] = bounds
        return values

    def write_curves(self, ratings: Ratings) -> None:
        """A picture and a table of each video, where asked to; frames in their order."""
        if self.curves_dir is None or ratings.videos is None:
            return
        names = np.array(ratings.videos)
        frames = np.arange(len(names)) if ratings.frames is None else ratings.frames
        for video in dict.fromkeys(ratings.videos):
            rows = np.flatnonzero(names == video)
            rows = rows[np.argsort(frames[rows], kind='stable')]
            numbers = np.arange(len(rows)) if ratings.frames is None else frames[rows]
            path = Path(self.curves_dir) / video.replace('/', '_').replace('\\', '_')
            curves = (ratings.predicted[rows], ratings.truth[rows])
            write_ratings(f'{path}.csv', numbers, *curves)
            save_picture(draw_ratings(numbers, *curves, title=f'Valence and arousal of {video}'), f'{path}.png')


def as_rows(ratings: Any, name: str) -> np.ndarray:
    """Ratings of one sample as ``(n, 2)`` float64; numpy knows no bfloat16.

    Raises:
        ValueError: not (valence, arousal), or integers, which have lost everything behind the point.
    """
    if not isinstance(ratings, torch.Tensor) or not ratings.is_floating_point():
        raise ValueError(f'{name} must be a tensor of floats, got {getattr(ratings, "dtype", type(ratings).__name__)}: '
                         "whatever made it has cut off the fractions. Put ratings into results['valence_arousal'] and "
                         'end the pipeline with PackAffectInputs.')
    if ratings.ndim not in (1, 2) or ratings.shape[-1] != 2:
        raise ValueError(f'{name} {tuple(ratings.shape)} must be (valence, arousal) of one frame, shape (2,), or of n '
                         'frames, shape (n, 2).')
    return ratings.detach().double().cpu().numpy().reshape(-1, 2)


def merge_overlaps(ratings: Ratings) -> Ratings:
    """Each (video, frame) once, where it first came, with the mean of its predictions.

    Raises:
        ValueError: a frame came with two different true ratings.
    """
    assert ratings.videos is not None and ratings.frames is not None
    keys = list(zip(ratings.videos, ratings.frames.tolist()))
    places: dict = {}
    index = np.array([places.setdefault(key, len(places)) for key in keys], dtype=int)
    if len(places) == len(keys):
        return ratings
    first = np.full(len(places), -1)
    first[index[::-1]] = np.arange(len(keys))[::-1]
    truth = ratings.truth[first]
    differs = ~np.isclose(truth[index], ratings.truth, rtol=0, atol=1e-6, equal_nan=True).all(1)
    if differs.any():
        video, frame = keys[int(np.flatnonzero(differs)[0])]
        raise ValueError(f'Frame {frame} of video {video!r} came with two different true ratings: frame_index has to '
                         "count within a video. Correct it in the data set, or set overlaps='keep'.")
    counts = np.bincount(index)[:, None]
    # Numbers of bincount and not a dict: a test set of VEATIC has 75,000 frames.
    predicted = np.stack([np.bincount(index, weights=ratings.predicted[:, column]) for column in (0, 1)], 1) / counts
    return Ratings(truth, predicted, [key[0] for key in places], np.array([key[1] for key in places]))
