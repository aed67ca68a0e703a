"""WAR and UAR of a recognizer, gathered over processes: with intervals, by class, by scene, and the matrix itself.

The samplers of distributed evaluation repeat samples until every process has equally many;
``BaseMetric.evaluate(size)`` drops the repetitions, and the matrix is counted once from what is left.
(Averaging the WARs or UARs of batches or processes gives other numbers.) That needs one entry per sample, in order.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Optional

import numpy as np
import torch
from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger

from lsef_plugins.evaluation.functional import (
    confusion_csv,
    confusion_matrix,
    confusion_table,
    per_class_recall,
    predicted_classes,
    recall_intervals,
    uar,
    war,
)
from lsef_plugins.registry import METRICS
from lsef_plugins.visualization.writing import write_whole


@METRICS.register_module(name=['AverageRecallMetric', 'WARUARMetric'])
class AverageRecallMetric(BaseMetric):
    """WAR/UAR: recall weighted by class frequency (accuracy) and the mean recall of the classes that occur.

    Results are fractions, as MMAction2's accuracies are: ``acc/war``, ``acc/uar`` and, on request,
    ``acc/recall_<class>`` for each class with a true sample, ``acc/war_low`` and ``acc/war_high`` (the same for
    ``uar``), ``acc/war_scene_<scene>`` and ``acc/uar_scene_<scene>``. The prefix ``acc`` lets
    ``CheckpointHook(save_best='acc/uar')`` know that greater is better. A model with several heads
    (``pred_score`` is a dict) gets ``acc/<head>_war`` and so on.
    After :meth:`evaluate` the main process finds the counts in ``confusion``: ``{head or '': (k, k) int64}``.

    Args:
        per_class: Also report each class's recall.
        classes: Names of the classes in the order of their labels. None takes the data set's metainfo
            ``classes``, and else numbers.
        per_scene: Also report WAR and UAR of each ``scene`` of the data samples' meta information.
        bootstrap: Repetitions of the 95 % interval over clips, 0 for none; 2000 are usual.
        seed: Of the repetitions.
        print_confusion: Print the confusion matrix with the names of the classes to the log.
        confusion_file: Where to write it as .csv after each evaluation; ``{head}`` in it is the head's name.
        collect_device: 'cpu' or 'gpu', where results of processes are gathered.
        prefix: In front of the names of results.
        collect_dir: Folder that all processes see, for gathering on the CPU.
    """

    default_prefix = 'acc'

    def __init__(self, per_class: bool = False, classes: Optional[Sequence[str]] = None, per_scene: bool = False,
                 bootstrap: int = 0, seed: int = 0, print_confusion: bool = False,
                 confusion_file: Optional[str] = None, collect_device: str = 'cpu', prefix: Optional[str] = None,
                 collect_dir: Optional[str] = None) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix, collect_dir=collect_dir)
        if confusion_file is not None and not confusion_file.endswith('.csv'):
            raise ValueError(f'confusion_file is a name that ends in .csv, got {confusion_file!r}.')
        if bootstrap:
            recall_intervals(np.eye(2, dtype=int), bootstrap)   # a wrong number is told now, not after the test
        self.per_class, self.per_scene, self.print_confusion = per_class, per_scene, print_confusion
        self.classes = None if classes is None else list(classes)
        self.bootstrap, self.seed, self.confusion_file = bootstrap, seed, confusion_file
        self.confusion: dict[str, np.ndarray] = {}

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Keeps label, scores and scene of each sample.

        Args:
            data_batch: Not used.
            data_samples: Each with ``gt_label``, a tensor of one class index, and ``pred_score``, a tensor
                ``(k,)``
                or a dict of them by head.
        """
        for sample in data_samples:
            scores, label = sample.get('pred_score'), sample.get('gt_label')
            if scores is None or label is None:
                raise ValueError('AverageRecallMetric needs pred_score and gt_label of each sample and '
                                 f'got {sorted(sample)}: the model has to predict class scores, and the '
                                 'pipeline to end with PackActionInputs of a labelled list.')
            if label.numel() != 1:
                raise ValueError(f'gt_label {tuple(label.shape)} must be one class index per clip; for '
                                 'several labels per clip use AccMetric with '
                                 'metric_list=\'mean_average_precision\'.')
            if self.per_scene and sample.get('scene') is None:
                raise ValueError(f'per_scene=True needs the scene of each sample and got {sorted(sample)}: the data '
                                 "set has to give results['scene'], and the pipeline to pack it, with PackAffectInputs "
                                 "or PackActionInputs(meta_keys=('scene', ...)).")
            heads = scores if isinstance(scores, dict) else {'': scores}
            rows = {head: self.as_row(score) for head, score in heads.items()}
            self.results.append((int(label), rows, str(sample['scene']) if self.per_scene else None))

    @staticmethod
    def as_row(score: torch.Tensor) -> np.ndarray:
        """Scores of one sample as ``(k,)`` float32; numpy knows no bfloat16."""
        if score.ndim != 1:
            raise ValueError(f'pred_score {tuple(score.shape)} must be one score per class, shape (k,): '
                             'clips and crops are averaged in the head (average_clips=\'prob\' or '
                             '\'score\').')
        return score.detach().float().cpu().numpy()

    def compute_metrics(self, results: list) -> dict[str, float]:
        """WAR and UAR of the whole data set.

        Args:
            results: (label, {head: ``(k,)`` scores}, scene) of each sample.
        """
        if not results:
            raise ValueError('AverageRecallMetric was given no samples: is the data set of the evaluation '
                             'empty?')
        labels, scenes = [label for label, _, _ in results], [scene for _, _, scene in results]
        self.confusion = {}
        metrics: dict[str, float] = {}
        for head in results[0][1]:
            scores = np.stack([rows[head] for _, rows, _ in results])
            predicted = predicted_classes(scores)
            matrix = confusion_matrix(labels, predicted, scores.shape[1])
            self.confusion[head] = matrix
            values = self.values_of(matrix)
            if self.per_scene:
                values.update(self.values_of_scenes(np.array(labels), predicted, np.array(scenes), len(matrix)))
            self.show(head, matrix)
            metrics.update({f'{head}_{key}' if head else key: value for key, value in values.items()})
        return metrics

    def values_of(self, matrix: np.ndarray) -> dict[str, float]:
        """WAR, UAR, their intervals and the classes' recalls of one matrix."""
        values = {'war': war(matrix), 'uar': uar(matrix)}
        if self.bootstrap:
            for name, bounds in recall_intervals(matrix, self.bootstrap, self.seed).items():
                values[f'{name}_low'], values[f'{name}_high'] = bounds
        if self.per_class:
            recalls = zip(self.class_names(len(matrix)), per_class_recall(matrix))
            values.update({f'recall_{name}': float(r) for name, r in recalls if not np.isnan(r)})
        return values

    @staticmethod
    def values_of_scenes(labels: np.ndarray, predicted: np.ndarray, scenes: np.ndarray,
                         num_classes: int) -> dict[str, float]:
        """WAR and UAR of the clips of each scene, scenes in alphabetical order."""
        values = {}
        for scene in sorted(set(scenes.tolist())):
            matrix = confusion_matrix(labels[scenes == scene], predicted[scenes == scene], num_classes)
            values[f'war_scene_{scene}'], values[f'uar_scene_{scene}'] = war(matrix), uar(matrix)
        return values

    def show(self, head: str, matrix: np.ndarray) -> None:
        """Prints and writes the matrix, where asked to."""
        if self.print_confusion:
            title = f' of {head}' if head else ''
            table = confusion_table(matrix, self.class_names(len(matrix)))
            MMLogger.get_current_instance().info(f'Confusion matrix{title}:\n{table}')
        if self.confusion_file:
            path = self.confusion_file.replace('{head}', head)
            if head and path == self.confusion_file:
                path = f'{path[:-len(".csv")]}_{head}.csv'      # no head writes over another
            write_whole(path, confusion_csv(matrix, self.class_names(len(matrix))))

    def class_names(self, num_classes: int) -> list[str]:
        """Names of the classes: the argument's, the data set's, or numbers."""
        names = self.classes or (self.dataset_meta or {}).get('classes') or list(range(num_classes))
        if len(names) != num_classes:
            raise ValueError(f'There are {len(names)} class names ({", ".join(map(str, names))}) and the '
                             f'model scores {num_classes} classes. Make num_classes of the head and the '
                             'classes of the data set or the metric agree.')
        return [str(name) for name in names]
