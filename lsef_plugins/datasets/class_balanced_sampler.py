r"""ClassBalancedSampler: epochs in which rare classes are drawn more often.

Class c gets :math:`q_c \propto n_c^{1 - \text{power}}` of an epoch's samples, rounded so that they add up, and
within a class every clip is drawn equally often, up to one. So an epoch's class counts are not random, and no clip of
a rare class is left out by chance.

(MMEngine's ``ClassBalancedDataset`` asks the data set for ``get_cat_ids``, which no data set of MMAction2 has.)
"""
from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Optional

import numpy as np
import torch
from mmengine.dist import get_dist_info, sync_random_seed
from torch.utils.data import Sampler

from lsef_plugins.registry import DATA_SAMPLERS

from .labels import class_labels


@DATA_SAMPLERS.register_module()
class ClassBalancedSampler(Sampler):
    """Draws an epoch with classes in chosen proportions, in random order.

    All processes make the same list from (seed, epoch) and take turns, as MMEngine's DefaultSampler does: no state
    but the epoch, which MMEngine restores on resume.

    Args:
        dataset: with one class label per sample (:func:`.labels.class_labels`).
        power: 0 draws clips equally often (each once), 1 classes equally often, 0.5 in between (square roots).
        num_samples: of an epoch, over all processes; None for the length of the data set.
        seed: None takes one that the processes agree on.
        round_up: repeat samples until each process has equally many.
        shuffle: only True, for DataLoader configs that say so.
    """

    def __init__(self, dataset: Any, power: float = 1.0, num_samples: Optional[int] = None,
                 seed: Optional[int] = None, round_up: bool = True, shuffle: bool = True) -> None:
        if not 0 <= power <= 1:
            raise ValueError(f'power is between 0 (clips equally often) and 1 (classes equally often), got {power}.')
        if num_samples is not None and (isinstance(num_samples, bool) or num_samples < 1):
            raise ValueError(f'num_samples counts the samples of an epoch, from 1, or is None; got {num_samples!r}.')
        if not shuffle:
            raise ValueError('ClassBalancedSampler draws at random; for evaluation, which sees each clip once, use '
                             "dict(type='DefaultSampler', shuffle=False).")
        self.rank, self.world_size = get_dist_info()
        self.dataset, self.power, self.round_up = dataset, power, round_up
        self.seed = sync_random_seed() if seed is None else seed
        self.epoch = 0
        labels = class_labels(dataset)
        if not labels.size:
            raise ValueError(f'{type(dataset).__name__} has no samples to draw from.')
        self.members = [torch.from_numpy(np.flatnonzero(labels == c)) for c in range(int(labels.max()) + 1)]
        self.drawn_counts = quotas([len(each) for each in self.members], power, num_samples or len(labels))
        self.length = int(self.drawn_counts.sum())
        self.total_size = (math.ceil(self.length / self.world_size) * self.world_size) if round_up else self.length

    def epoch_indices(self) -> list[int]:
        """The epoch's samples over all processes, in order."""
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        drawn = []
        for members, quota in zip(self.members, self.drawn_counts.tolist()):
            rounds = math.ceil(quota / max(len(members), 1))
            orders = [members[torch.randperm(len(members), generator=generator)] for _ in range(rounds)]
            drawn += torch.cat(orders)[:quota].tolist() if orders else []
        return [drawn[i] for i in torch.randperm(len(drawn), generator=generator).tolist()]

    def __iter__(self) -> Iterator[int]:
        indices = self.epoch_indices()
        if self.round_up:
            indices = (indices * math.ceil(self.total_size / len(indices)))[:self.total_size]
        return iter(indices[self.rank:self.total_size:self.world_size])

    def __len__(self) -> int:
        """Samples of this process."""
        return len(range(self.rank, self.total_size, self.world_size))

    def set_epoch(self, epoch: int) -> None:
        """Another epoch, another draw."""
        self.epoch = epoch


def quotas(counts: list[int], power: float, total: int) -> np.ndarray:
    """How often each class is drawn: ``(k,)`` int64 that add up to ``total``, by largest remainders.

    Args:
        counts: clips of each class; a class without any is never drawn.
    """
    numbers = np.asarray(counts, dtype=np.float64)
    shares = np.where(numbers > 0, np.maximum(numbers, 1) ** (1 - power), 0.)
    exact = total * shares / shares.sum()
    whole = np.floor(exact)
    missing = int(total - whole.sum())
    whole[np.argsort(whole - exact, kind='stable')[:missing]] += 1
    return whole.astype(np.int64)
