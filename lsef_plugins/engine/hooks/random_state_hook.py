"""A resumed training continues with the random numbers the uninterrupted one would have drawn.

MMEngine restores weights, optimizer, schedulers, seed and the sampler's epoch, but no random state: after
a resume dropout starts again at the seed, and so does every augmentation of a worker that lives longer
than one epoch.

Three streams are put in order:

- the main process (dropout, and augmentation where ``num_workers=0``): its state is saved in each checkpoint, per
  rank, and restored on resume. Validation neither reads nor moves it.
- the workers: re-seeded at the first sample of each epoch from (seed, epoch, rank, worker), so that an epoch's
  augmentations do not depend on how many epochs the process has seen. MMEngine seeds a worker once, at its birth:
  persistent workers go on from there, others repeat the same augmentations in every epoch.
- the sampler: its seed, which a run without a fixed seed draws anew.

In an iteration-based loop MMEngine replays the data loader on resume, which reproduces workers' streams by
itself (given a fixed seed), but moves those of the main process: with ``num_workers=0`` such a resume is
not exact.
"""
from __future__ import annotations

import random
from typing import Optional

import numpy as np
import torch
from mmengine.dist import all_gather_object, get_rank, get_world_size
from mmengine.hooks import CheckpointHook, Hook
from torch.utils.data import get_worker_info

from ...registry import HOOKS

KEY = 'random_state'


@HOOKS.register_module()
class RandomStateHook(Hook):
    """Saves the random state with each checkpoint and restores it on resume.

    On a CPU, with the same number of processes and workers, a resumed training ends with the same weights, bit
    for bit, as an uninterrupted one. It warns where the checkpoint cannot give that, such as one of ``save_best``,
    which MMEngine writes without optimizer and schedules. ``tools/train.py`` adds this hook; elsewhere:
    ``custom_hooks = [dict(type='RandomStateHook')]``.
    """

    priority = 'VERY_HIGH'  # before CheckpointHook in every place

    def __init__(self) -> None:
        self._resumed: Optional[dict] = None
        self._of_all_ranks: list = []
        self._before_val: Optional[dict] = None
        self._reseed: Optional[ReseedWorkers] = None

    # ---- resume ----------------------------------------------------------------------
    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        self._resumed = checkpoint.get(KEY) if runner._resume else None
        if runner._resume and self._resumed is None:
            runner.logger.warning('The checkpoint holds no random state (it was saved without RandomStateHook): the '
                                  'resumed training is sound, but not the same as an uninterrupted one.')
        # Where there are no weights either, a strategy (DeepSpeed) keeps both in files of its own.
        if runner._resume and 'state_dict' in checkpoint and 'optimizer' not in checkpoint:
            runner.logger.warning('The checkpoint holds no state of the optimizer (MMEngine writes those of save_best '
                                  'without it and without schedules, which start anew): the resumed training is not '
                                  'the same as an uninterrupted one. Resume from an epoch_*.pth or iter_*.pth for '
                                  'that.')

    def before_train(self, runner) -> None:
        saved, self._resumed = self._resumed, None
        sampler = _sampler(runner)
        if saved is not None and saved['sampler_seed'] is not None and hasattr(sampler, 'seed'):
            sampler.seed = saved['sampler_seed']
        self._prepare(runner)
        if saved is None:
            return
        states = saved['ranks']
        if len(states) != get_world_size():
            runner.logger.warning(f'The checkpoint was saved by {len(states)} processes and is resumed by '
                                  f'{get_world_size()}: random states start anew from the seed.')
            return
        set_state(states[get_rank()])

    def _prepare(self, runner) -> None:
        """The loaders get generators of their own: starting an iterator then draws nothing from the global one."""
        loader = runner.train_dataloader
        loader.generator = torch.Generator().manual_seed(runner.seed + get_rank())
        if runner.val_loop is not None:
            runner.val_dataloader.generator = torch.Generator().manual_seed(runner.seed + get_rank())
        if self._reseed is None and loader.num_workers > 0:
            self._reseed = ReseedWorkers(runner.seed, get_rank())
            for pipeline in _pipelines(loader.dataset):
                pipeline.transforms.insert(0, self._reseed)

    def before_train_epoch(self, runner) -> None:
        if self._reseed is not None:
            self._reseed.epoch.fill_(runner.epoch)

    # ---- validation is a parenthesis ---------------------------------------------------
    def before_val_epoch(self, runner) -> None:
        self._before_val = get_state()
        self._gather()          # for a checkpoint of the best, which is written at the end of it

    def after_val_epoch(self, runner, metrics=None) -> None:
        if self._before_val is not None:
            set_state(self._before_val)
            self._before_val = None

    # ---- save -------------------------------------------------------------------------
    def after_train_epoch(self, runner) -> None:
        self._gather()

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        if any(isinstance(hook, CheckpointHook) and not hook.by_epoch
               and (hook.every_n_train_iters(runner, hook.interval, hook.save_begin)
                    or self.is_last_train_iter(runner)) for hook in runner.hooks):
            self._gather()

    def _gather(self) -> None:
        """All ranks meet here: the checkpoint itself is written by rank 0 alone."""
        self._of_all_ranks = all_gather_object(get_state())

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        if self._of_all_ranks:
            checkpoint[KEY] = {'ranks': self._of_all_ranks,
                               'sampler_seed': getattr(_sampler(runner), 'seed', None)}


class ReseedWorkers:
    """First step of a pipeline: seeds a worker once per epoch; does nothing in the main process."""

    def __init__(self, seed: int, rank: int) -> None:
        self.seed, self.rank = seed, rank
        self.epoch = torch.zeros((), dtype=torch.int64).share_memory_()  # workers see the main process write
        self.done = -1

    def __call__(self, results: dict) -> dict:
        worker = get_worker_info()
        epoch = int(self.epoch)
        if worker is not None and epoch != self.done:
            self.done = epoch
            words = np.random.SeedSequence([self.seed, epoch, self.rank, worker.id]).generate_state(3)
            random.seed(int(words[0]))
            np.random.seed(words[1])
            torch.manual_seed(int(words[2]))
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(seed={self.seed}, rank={self.rank})'


def get_state() -> dict:
    """State of the generators of ``random``, numpy and torch, in types that load under ``weights_only=True``."""
    version, words, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    state = {
        'python': (version, torch.tensor(words, dtype=torch.int64), gauss),
        'numpy': (str(name), torch.tensor([int(key) for key in keys]), int(position), int(has_gauss), float(cached)),
        'torch': torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        state['cuda'] = torch.cuda.get_rng_state()
    return state


def set_state(state: dict) -> None:
    """Put back what :func:`get_state` returned; tensors may have moved to another device in between."""
    version, words, gauss = state['python']
    random.setstate((version, tuple(words.tolist()), gauss))
    name, keys, *rest = state['numpy']
    np.random.set_state((name, keys.cpu().numpy().astype(np.uint32), *rest))
    torch.set_rng_state(state['torch'].cpu())
    if 'cuda' in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state['cuda'].cpu())


def _sampler(runner):
    loader = runner.train_dataloader
    return getattr(loader.batch_sampler, 'sampler', None) or loader.sampler


def _pipelines(dataset) -> list:
    """The pipelines of a dataset and of those it wraps (ConcatDataset, RepeatDataset, ...)."""
    found = [dataset.pipeline] if hasattr(getattr(dataset, 'pipeline', None), 'transforms') else []
    for inner in [getattr(dataset, 'dataset', None), *getattr(dataset, 'datasets', [])]:
        if inner is not None:
            found += _pipelines(inner)
    return found
