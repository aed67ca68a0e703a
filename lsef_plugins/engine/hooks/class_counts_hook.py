"""The losses that ask how often the classes occur are told from the training data set."""
from __future__ import annotations

from typing import Any

import numpy as np
from mmengine.hooks import Hook

from lsef_plugins.datasets.labels import class_counts
from lsef_plugins.models.losses import ClassCountLoss
from lsef_plugins.registry import HOOKS


@HOOKS.register_module()
class ClassCountsHook(Hook):
    """Before training, tells each loss without ``class_counts`` of its own the clips of each class.

    ``custom_hooks=[dict(type='ClassCountsHook')]``. Where :class:`ClassBalancedSampler` draws the clips, the counts
    are those it draws: correcting twice would turn the imbalance around.
    """

    def before_train(self, runner: Any) -> None:
        losses = [module for module in runner.model.modules()
                  if isinstance(module, ClassCountLoss) and not module.given]
        if not losses:
            return
        loader = runner.train_dataloader
        sampler = getattr(loader.batch_sampler, 'sampler', None) or loader.sampler
        drawn = getattr(sampler, 'drawn_counts', None)
        head = getattr(getattr(runner.model, 'module', runner.model), 'cls_head', None)
        num_classes = getattr(head, 'num_classes', None)
        if drawn is None:
            counts = class_counts(loader.dataset, num_classes)
        else:
            counts = np.pad(drawn, (0, max(0, (num_classes or 0) - len(drawn))))
        names = (loader.dataset.metainfo.get('classes') if hasattr(loader.dataset, 'metainfo') else None) or \
            range(len(counts))
        for loss in losses:
            loss.set_class_counts(counts.tolist())
        told = ', '.join(f'{name} {count}' for name, count in zip(names, counts.tolist()))
        source = 'the training list' if drawn is None else f'an epoch of {type(sampler).__name__}'
        runner.logger.info(f'{", ".join(type(loss).__name__ for loss in losses)} takes class counts from {source}: '
                           f'{told}.')
