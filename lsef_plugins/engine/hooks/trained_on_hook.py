"""A checkpoint is not tested, and does not go on, on clips it was trained on.

The five test folds of DFEW are disjoint, so the training list of fold 2 holds the whole test list of fold 1: a model of
one fold, tested on another, scores like on its own training clips, and nothing in its numbers says so. With protocol
'clean' the same is true of the clips that are held out for validation. What a model was trained on stands in its
checkpoint (``meta['dataset_meta']['annotation']``, kept by the data sets) and is compared when it is loaded.
"""
from __future__ import annotations

from typing import Any, Optional

from mmengine.hooks import Hook
from mmengine.runner import BaseLoop

from lsef_plugins.datasets.splits import shared_frames
from lsef_plugins.engine.launch import LaunchError
from lsef_plugins.registry import HOOKS


@HOOKS.register_module()
class TrainedOnHook(Hook):
    """Refuses a checkpoint of another fold, or one whose training saw the clips held out now.

    ``tools/train.py`` (``--resume``, ``load_from``) and ``tools/test.py`` add it. Checkpoints that do not say what they
    were trained on, such as those of a model zoo, and lists of one's own (``ann_file``) pass.
    """

    def after_load_checkpoint(self, runner: Any, checkpoint: dict) -> None:
        """Compares the checkpoint's data set with those of the loops that are built.

        Raises:
            LaunchError: see the class.
        """
        before = _annotation((checkpoint.get('meta') or {}).get('dataset_meta'))
        loops = (runner._train_loop, runner._val_loop, runner._test_loop)
        for loop in loops if before else ():
            now = isinstance(loop, BaseLoop) and _annotation(getattr(loop.dataloader.dataset, 'metainfo', None))
            fault = now and seen_before(before, now)    # type: ignore[arg-type]
            if fault:
                raise LaunchError(f'{runner._load_from} was {fault}')


def _annotation(metainfo: Any) -> Optional[dict]:
    found = metainfo.get('annotation') if isinstance(metainfo, dict) else None
    return found if isinstance(found, dict) else None


def seen_before(before: dict, now: dict) -> Optional[str]:
    """Why clips of ``now`` were in the training ``before``, as the end of a sentence; None where they were not.

    Args:
        before, now: ``metainfo['annotation']`` of the training that wrote the checkpoint, and of a data set now.
    """
    if before.get('data_set') != now.get('data_set'):
        return None
    folds = before.get('fold'), now.get('fold')
    if None not in folds and folds[0] != folds[1]:
        return (f'trained on fold {folds[0]}, whose training list holds the test clips of fold {folds[1]} that the '
                f'config asks for now. Give --fold {folds[0]} (fold={folds[0]} of the data set), or a checkpoint of '
                f'fold {folds[1]}.')
    if None not in (before.get('train_ratio'), now.get('train_ratio')):     # both cut through every video
        shared = None if now['split'] == 'train' else shared_frames(before, now)
        return shared and (f"trained on {shared[0]} of each video's frames, and the config asks now for {shared[1]} "
                           f'(split {now["split"]!r}). Set protocol={before["protocol"]!r}, '
                           f'train_ratio={before["train_ratio"]:g} and val_ratio={before["val_ratio"]:g} as in that '
                           'training, or take a checkpoint that has not seen them.')
    held = [tuple(each.get(key) for key in ('protocol', 'val_ratio', 'val_seed')) for each in (before, now)]
    if now.get('split') != 'test' and now.get('protocol') == 'clean' and held[0] != held[1]:
        return (f'trained with (protocol, val_ratio, val_seed) = {held[0]}, so it has seen clips that {held[1]} holds '
                'out for validation. Start from weights that have not, or go on with the settings it was trained '
                'with.')
    return None
