"""One run: a small SlowOnly-18 with a neck and a head, trained through MMEngine's Runner on cached clips, then tested
on clean and on corrupted ones."""
from __future__ import annotations

import dataclasses
import math
import os
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import init_default_scope
from mmengine.runner import Runner, TestLoop

from lsef_plugins.registry import HOOKS

from ..studies import clips, muon, start  # noqa: F401 - muon registers
from . import conditions, rivals, statistics_head  # noqa: F401 - they register
from .design import COMPARED_ON, CORRUPTED_CLIPS, SIZES, Run

CHANCE = 1 / 7
EVALUATOR = dict(type='AverageRecallMetric')


@dataclasses.dataclass(frozen=True)
class Place:
    """Where the cached clips lie, the size of the recognizer, the steps of a run (0: those of the size), and how many
    pretrained backbones there are."""
    folder: str
    size: str = 'small'
    steps: int = 0
    corrupted_clips: int = CORRUPTED_CLIPS
    starts: int = 1

    def start_of(self, seed: int) -> int:
        """Seed of the backbone that a run begins from: they take turns."""
        return seed % self.starts


def loader(path: Any, batch: int = 63, **dataset: Any) -> dict[str, Any]:
    return dict(batch_size=batch, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False),
                dataset=dict(type='SmallClips', path=str(path), **dataset))


def settings(run: Run, place: Place, work_dir: str) -> dict[str, Any]:
    """The configuration of a run."""
    size, cell = SIZES[place.size], run.cell
    steps = place.steps or size.steps
    warm = max(steps // 20, 1)
    broken: tuple[str, ...] = ()
    if cell.regime == 'augmented':
        broken = tuple(map(str, conditions.prepare_mixtures(place.folder, cell.preset, view=size.view)))
    train = loader(clips.prepare(place.folder, cell.preset, 'train', size.view), size.batch, mirror=True, broken=broken)
    test = loader(clips.prepare(place.folder, cell.tested_on, COMPARED_ON, size.view))
    return dict(
        default_scope='mmaction', work_dir=work_dir, log_level='ERROR', experiment_name=os.path.basename(work_dir),
        model=run.arm.model(size), load_from=str(prepared_starts(place, [place.start_of(run.seed)])[0]),
        optim_wrapper=run.arm.optim_wrapper(run.rate),
        train_cfg=dict(type='IterBasedTrainLoop', max_iters=steps, val_interval=steps + 1),
        val_cfg=dict(type='ValLoop'), test_cfg=dict(type='TestLoop'),
        train_dataloader=dict(train, sampler=dict(type='InfiniteSampler', shuffle=True)),
        val_dataloader=loader(clips.prepare(place.folder, cell.tested_on, 'tune', size.view)), test_dataloader=test,
        val_evaluator=EVALUATOR, test_evaluator=EVALUATOR,
        param_scheduler=[dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=warm),
                         dict(type='CosineAnnealingLR', by_epoch=False, begin=warm, T_max=steps - warm, eta_min=0)],
        default_hooks=dict(timer=None, logger=None, checkpoint=None, sampler_seed=None),
        custom_hooks=[dict(type='LossRecorder')], randomness=dict(seed=run.seed))


def prepared_starts(place: Place, seeds: Iterable[int], device: str = 'cpu') -> list[Path]:
    size = SIZES[place.size]
    return start.prepare_starts(place.folder, size.backbone, seeds, size.view, size.start_rate, device)


@HOOKS.register_module()
class LossRecorder(Hook):
    """The loss of each step."""

    def __init__(self) -> None:
        self.losses: list[float] = []

    def after_train_iter(self, runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        self.losses.append(round(outputs['loss'].item(), 4))


def train(place: Place, run: Run) -> dict[str, Any]:
    """Trains and measures.

    Returns:
        ``uar_tune``, ``uar`` (by condition; 0 to 1), ``loss`` (mean of the last tenth of the steps), ``parameters`` of
        neck and head, ``diverged``, ``seconds`` of processor time of training and ``seconds_test``.
    """
    torch.set_num_threads(1)
    init_default_scope('mmaction')
    MMLogger.get_current_instance().setLevel('ERROR')
    MessageHub.get_current_instance()
    with tempfile.TemporaryDirectory() as work_dir:
        runner = Runner.from_cfg(Config(settings(run, place, work_dir)))
        # Half the time for convolutions of 8 channels.
        runner.model.backbone.to(memory_format=torch.channels_last_3d)
        losses = next(hook for hook in runner.hooks if isinstance(hook, LossRecorder)).losses
        began = time.process_time()
        good, trained_at = True, began
        try:
            runner.train()
            trained_at = time.process_time()
            tuned = runner.val()['acc/uar']
            scores = {condition: tested(runner, run, place, condition) for condition in run.conditions}
        except ValueError as error:
            if 'NaN' not in str(error):     # of features or of scores: it has diverged
                raise
            good = False
        if not (good and all(map(math.isfinite, losses))):
            good, tuned, scores = False, CHANCE, dict.fromkeys(run.conditions, CHANCE)
        held = sum(p.numel() for name in ('neck', 'cls_head') if getattr(runner.model, name, None) is not None
                   for p in getattr(runner.model, name).parameters())
    last = losses[-max(len(losses) // 10, 1):]
    return dict(name=run.name, cell=run.cell.name, arm=run.arm.name, rate=run.rate, seed=run.seed, uar_tune=tuned,
                uar=scores, loss=sum(last) / len(last) if good else math.nan, parameters=held, diverged=not good,
                seconds=round(trained_at - began, 1), seconds_test=round(time.process_time() - trained_at, 1))


def tested(runner: Any, run: Run, place: Place, condition: str) -> float:
    """UAR under a condition."""
    if condition == conditions.CLEAN:
        return runner.test()['acc/uar']
    path, = conditions.prepare(place.folder, run.cell.tested_on, COMPARED_ON, [condition], place.corrupted_clips,
                               SIZES[place.size].view)
    loop = TestLoop(runner, loader(path), EVALUATOR)
    runner._test_loop = loop
    return loop.run()['acc/uar']
