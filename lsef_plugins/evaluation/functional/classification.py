r"""Recall, weighted and unweighted, from a confusion matrix.

.. math::
    \mathrm{WAR} = \frac{\operatorname{tr} M}{\sum M}, \qquad
    \mathrm{UAR} = \frac{1}{|C|} \sum_{c \in C} \frac{M_{cc}}{\sum_j M_{cj}}, \qquad
    C = \{c : \textstyle\sum_j M_{cj} > 0\}

:math:`M` is ``(k, k)``: rows are the true class, columns the predicted one. WAR is the accuracy. UAR asks
every class that occurs in the truth with equal voice; a class that is only ever *predicted* has no recall and
does not vote. (MMAction2's ``mean_class_accuracy`` lets such a class vote with 0, so it is a different,
smaller number.) All results are fractions in [0, 1]. Only numpy is needed.
"""
from __future__ import annotations

from typing import Any

import numpy as np


def check_labels(labels: Any, num_classes: int, name: str) -> np.ndarray:
    """``labels`` as ``(n,)`` int64 in ``[0, num_classes)``.

    Raises:
        ValueError: another shape, not integers, or out of range (the message counts and shows them).
    """
    labels = np.asarray(labels)
    if labels.ndim != 1:
        raise ValueError(f'{name} {labels.shape} must be one class index per sample, shape (n,). Scores '
                         '(n, k) become indices with predicted_classes(scores).')
    if labels.size and not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f'{name} is {labels.dtype} and must hold integer class indices.')
    wrong = np.flatnonzero((labels < 0) | (labels >= num_classes))
    if wrong.size:
        shown = ', '.join(f'{labels[i]} (sample {i})' for i in wrong[:5])
        raise ValueError(
            f'{wrong.size} of {labels.size} labels in {name} are outside 0..{num_classes - 1}: {shown}. '
            f'Check the label base of the annotation list (is it 1-based?) and num_classes={num_classes}; '
            'a list without labels (-1) cannot be evaluated.')
    return labels.astype(np.int64)


def predicted_classes(scores: Any) -> np.ndarray:
    """The class of the highest score, the first of them on a tie.

    Args:
        scores: ``(n, k)`` real, logits or probabilities.

    Returns:
        ``(n,)`` int64.

    Raises:
        ValueError: a score is NaN (an argmax would quietly answer class 0 or the NaN's own place).
    """
    scores = np.asarray(scores)
    if scores.ndim != 2 or scores.shape[1] == 0:
        raise ValueError(f'scores {scores.shape} must be one score per sample and class, shape (n, k).')
    lost = np.flatnonzero(np.isnan(scores).any(axis=1))
    if lost.size:
        raise ValueError(
            f'{lost.size} of {len(scores)} samples have NaN scores (the first is sample {lost[0]}), so '
            'there is no prediction to count. The model has diverged or met non-finite input: look at the '
            'training loss, the learning rate and mixed precision.')
    return scores.argmax(axis=1).astype(np.int64)


def confusion_matrix(y_true: Any, y_pred: Any, num_classes: int) -> np.ndarray:
    """Counts of (true class, predicted class).

    Args:
        y_true: ``(n,)`` integer class indices.
        y_pred: ``(n,)`` integer class indices.
        num_classes: k.

    Returns:
        ``(k, k)`` int64, rows the true class.

    Raises:
        ValueError: lengths differ, or a label is not an integer in ``[0, k)``.
    """
    y_true = check_labels(y_true, num_classes, 'y_true')
    y_pred = check_labels(y_pred, num_classes, 'y_pred')
    if len(y_true) != len(y_pred):
        raise ValueError(f'y_true has {len(y_true)} labels and y_pred {len(y_pred)}: they must describe '
                         'the same samples in the same order.')
    cells = np.bincount(y_true * num_classes + y_pred, minlength=num_classes ** 2)
    return cells.reshape(num_classes, num_classes)


def check_confusion(matrix: Any) -> np.ndarray:
    """``matrix`` as an array ``(k, k)`` that counts at least one sample, else ValueError."""
    matrix = np.asarray(matrix)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ValueError(f'A confusion matrix is square (k, k), rows the true class; got {matrix.shape}. '
                         'Make it with confusion_matrix(y_true, y_pred, num_classes).')
    if matrix.sum() <= 0 or (matrix < 0).any():
        raise ValueError(f'The confusion matrix {matrix.shape} counts {matrix.sum()} samples: recall needs '
                         'at least one, and no negative count.')
    return matrix


def per_class_recall(matrix: Any) -> np.ndarray:
    """Recall of each class, ``(k,)`` float64 in [0, 1]; NaN for a class without a true sample.

    Args:
        matrix: ``(k, k)`` counts, rows the true class.
    """
    matrix = check_confusion(matrix)
    support = matrix.sum(axis=1)
    return np.divide(np.diag(matrix), support, out=np.full(len(matrix), np.nan), where=support > 0)


def war(matrix: Any) -> float:
    """WAR: weighted average recall, which is the accuracy, a fraction in [0, 1].

    Args:
        matrix: ``(k, k)`` counts, rows the true class.
    """
    matrix = check_confusion(matrix)
    return float(np.trace(matrix) / matrix.sum())


def uar(matrix: Any) -> float:
    """UAR: unweighted average recall over the classes that occur in the truth, a fraction in [0, 1].

    Args:
        matrix: ``(k, k)`` counts, rows the true class.
    """
    return float(np.nanmean(per_class_recall(matrix)))
