"""WAR and UAR of a recognizer, gathered over processes.

The samplers of distributed evaluation repeat samples until every process has equally many;
``BaseMetric.evaluate(size)`` drops the repetitions, and the matrix is counted once from what is left.
(Averaging the WARs or UARs of batches or processes gives other numbers.)
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Optional

import numpy as np
import torch
from mmengine.evaluator import BaseMetric

from lsef_plugins.evaluation.functional import (
    confusion_matrix,
    per_class_recall,
    predicted_classes,
    uar,
    war,
)
from lsef_plugins.registry import METRICS


@METRICS.register_module(name=['AverageRecallMetric', 'WARUARMetric'])
class AverageRecallMetric(BaseMetric):
    """WAR/UAR: recall weighted by class frequency (accuracy) and the mean recall of the classes that occur.

    Results are fractions, as MMAction2's accuracies are: ``acc/war``, ``acc/uar`` and, on request,
    ``acc/recall_<class>`` for each class with a true sample. The prefix ``acc`` lets
    ``CheckpointHook(save_best='acc/uar')`` know that greater is better. A model with several heads
    (``pred_score`` is a dict) gets ``acc/<head>_war`` and so on.
    After :meth:`evaluate` the main process finds the counts in ``confusion``: ``{head or '': (k, k) int64}``.

    Args:
        per_class: Also report each class's recall.
        classes: Names of the classes in the order of their labels. None takes the data set's metainfo
            ``classes``, and else numbers.
        collect_device: 'cpu' or 'gpu', where results of processes are gathered.
        prefix: In front of the names of results.
        collect_dir: Folder that all processes see, for gathering on the CPU.
    """

    default_prefix = 'acc'

    def __init__(self, per_class: bool = False, classes: Optional[Sequence[str]] = None,
                 collect_device: str = 'cpu', prefix: Optional[str] = None,
                 collect_dir: Optional[str] = None) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix, collect_dir=collect_dir)
        self.per_class = per_class
        self.classes = None if classes is None else list(classes)
        self.confusion: dict[str, np.ndarray] = {}

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Keeps label and scores of each sample.

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
            heads = scores if isinstance(scores, dict) else {'': scores}
            self.results.append((int(label), {head: self.as_row(score) for head, score in heads.items()}))

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
            results: (label, {head: ``(k,)`` scores}) of each sample.
        """
        if not results:
            raise ValueError('AverageRecallMetric was given no samples: is the data set of the evaluation '
                             'empty?')
        labels = [label for label, _ in results]
        self.confusion = {}
        metrics: dict[str, float] = {}
        for head in results[0][1]:
            scores = np.stack([rows[head] for _, rows in results])
            matrix = confusion_matrix(labels, predicted_classes(scores), scores.shape[1])
            self.confusion[head] = matrix
            values = {'war': war(matrix), 'uar': uar(matrix)}
            if self.per_class:
                recalls = zip(self.class_names(len(matrix)), per_class_recall(matrix))
                values.update({f'recall_{name}': float(r) for name, r in recalls if not np.isnan(r)})
            metrics.update({f'{head}_{key}' if head else key: value for key, value in values.items()})
        return metrics

    def class_names(self, num_classes: int) -> list[str]:
        """Names of the classes: the argument's, the data set's, or numbers."""
        names = self.classes or (self.dataset_meta or {}).get('classes') or list(range(num_classes))
        if len(names) != num_classes:
            raise ValueError(f'There are {len(names)} class names ({", ".join(map(str, names))}) and the '
                             f'model scores {num_classes} classes. Make num_classes of the head and the '
                             'classes of the data set or the metric agree.')
        return [str(name) for name in names]
