"""The class labels of a data set of MMAction2, without decoding anything."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Optional

import numpy as np


def class_labels(dataset: Any) -> np.ndarray:
    """The class index of each sample, ``(n,)`` int64, in the order of the data set.

    Args:
        dataset: a data set of MMEngine, or one that wraps others (ConcatDataset, RepeatDataset ...): whatever has
            ``get_data_info(index)``.

    Raises:
        ValueError: a sample has no single class label (the message shows the first).
    """
    labels = []
    for index in range(len(dataset)):
        label = dataset.get_data_info(index).get('label')
        value = np.asarray(-1 if label is None else label)
        if value.size != 1 or not np.issubdtype(value.dtype, np.integer) or value.item() < 0:
            raise ValueError(f'Sample {index} of {type(dataset).__name__} has the label {label!r}: classes can only be '
                             'balanced where each clip has one class index. Ratings, several labels per clip and '
                             'lists without labels have none.')
        labels.append(value.item())
    return np.array(labels, dtype=np.int64)


def class_counts(dataset: Any, num_classes: Optional[int] = None, labels: Optional[Sequence[int]] = None) -> np.ndarray:
    """Number of samples of each class, ``(k,)`` int64.

    Args:
        dataset: as of :func:`class_labels`.
        num_classes: k; None takes the ``classes`` of the data set's metainfo, else the largest label + 1.
        labels: what :func:`class_labels` returned, if it is known.
    """
    found = class_labels(dataset) if labels is None else np.asarray(labels)
    if num_classes is None:
        names = (getattr(dataset, 'metainfo', None) or {}).get('classes')
        num_classes = len(names) if names else int(found.max(initial=-1)) + 1
    if found.size and found.max() >= num_classes:
        raise ValueError(f'{type(dataset).__name__} has the label {found.max()} and {num_classes} classes. Check the '
                         'label base of the list, and num_classes.')
    return np.bincount(found, minlength=num_classes)
