"""One run: a small SlowOnly-18 with LSEFNeck, trained through MMEngine's Runner on cached clips.

Recorded are the loss of each step, and every few steps the effective rank of the hidden matrices' movement since the
last time: participation ratio over the smaller side, which can be compared across optimizers.
"""
from __future__ import annotations

import copy
import math
import os
import tempfile
import time
from typing import Any

import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import init_default_scope
from mmengine.runner import Runner

from lsef_plugins.engine.optimizers.roles import treated_matrices
from lsef_plugins.functional.rank import participation_ratio
from lsef_plugins.optim.spectral import gram, norm_of, over
from lsef_plugins.registry import HOOKS

from ..studies import clips, muon, start  # noqa: F401 - muon registers
from .design import STEPS, Run

RANK_EVERY = 40
CHANCE = {'acc/uar': 1 / 7, 'acc/war': 1 / 7}
MODEL: dict[str, Any] = dict(
    type='Recognizer3D',
    backbone=dict(type='ResNet3dSlowOnly', depth=18, pretrained=None, base_channels=8, lateral=False,
                  conv1_kernel=(1, 3, 3), conv1_stride_s=1, conv1_stride_t=1, pool1_stride_t=1, inflate=(0, 0, 1, 1),
                  norm_eval=False),
    neck=dict(type='LSEFNeck', cim=dict(bands_of='stable', kernel=1)),     # the merge the study began with
    cls_head=dict(type='I3DHead', in_channels=64, num_classes=7, spatial_type='avg', dropout_ratio=0.2,
                  average_clips='prob'),
    data_preprocessor=dict(type='ActionDataPreprocessor', mean=[120.0] * 3, std=[60.0] * 3, format_shape='NCTHW'))


def settings(run: Run, folder: str, steps: int, work_dir: str) -> dict[str, Any]:
    """The configuration of a run."""

    def loader(split: str, batch: int, **dataset: Any) -> dict[str, Any]:
        path = str(clips.prepare(folder, run.cell.preset, split))
        sampler = 'InfiniteSampler' if split == 'train' else 'DefaultSampler'
        return dict(batch_size=batch, num_workers=0, sampler=dict(type=sampler, shuffle=split == 'train'),
                    dataset=dict(type='SmallClips', path=path, **dataset))

    warm = max(steps // 20, 1)
    return dict(
        default_scope='mmaction', work_dir=work_dir, log_level='ERROR', experiment_name=os.path.basename(work_dir),
        model=copy.deepcopy(MODEL), load_from=str(start.prepare_start(folder, MODEL['backbone'])),
        optim_wrapper=run.arm.optim_wrapper(run.rate),
        train_cfg=dict(type='IterBasedTrainLoop', max_iters=steps, val_interval=steps + 1),
        val_cfg=dict(type='ValLoop'), test_cfg=dict(type='TestLoop'),
        train_dataloader=loader('train', run.cell.batch, wrong=run.cell.wrong, seed=run.seed, mirror=True),
        val_dataloader=loader('tune', 63), test_dataloader=loader('test', 63),
        val_evaluator=dict(type='AverageRecallMetric'), test_evaluator=dict(type='AverageRecallMetric'),
        param_scheduler=[dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=warm),
                         dict(type='CosineAnnealingLR', by_epoch=False, begin=warm, T_max=steps - warm, eta_min=0)],
        default_hooks=dict(timer=None, logger=None, checkpoint=None, sampler_seed=None),
        custom_hooks=[dict(type='StudyRecorder')], randomness=dict(seed=run.seed))


@HOOKS.register_module()
class StudyRecorder(Hook):
    """Losses and ranks of a training."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.ranks: list[float] = []

    def before_train(self, runner) -> None:
        self.matrices = treated_matrices(runner.model)
        self.last = self._weights()

    def after_train_iter(self, runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        self.losses.append(round(outputs['loss'].item(), 4))
        if (batch_idx + 1) % RANK_EVERY == 0:
            now = self._weights()
            self.ranks.append(round(sum(map(effective_rank, now, self.last)) / len(now), 4))
            self.last = now

    def _weights(self) -> list[torch.Tensor]:
        return [matrix.parameter.detach().reshape(matrix.shape).clone() for matrix in self.matrices.values()]


def effective_rank(now: torch.Tensor, before: torch.Tensor) -> float:
    """Of a movement ``(g, r, c)``, 0 to 1."""
    movement = now - before
    g = gram(over(movement, norm_of(movement)))
    return float((participation_ratio(g) / g.shape[-1]).mean())


def train(run: Run, folder: str, steps: int = 0) -> dict[str, Any]:
    """Trains and measures; ``steps`` 0 takes the design's.

    Returns:
        ``uar_tune`` of a tuning run, ``uar`` and ``war`` of any other (0 to 1, else None), ``losses`` of each step,
        ``ranks`` of every 40 steps, ``diverged``, ``seconds`` of processor time.
    """
    torch.set_num_threads(1)
    init_default_scope('mmaction')
    MMLogger.get_current_instance().setLevel('ERROR')
    MessageHub.get_current_instance()
    began = time.process_time()
    with tempfile.TemporaryDirectory() as work_dir:
        runner = Runner.from_cfg(Config(settings(run, folder, steps or STEPS[run.cell.batch], work_dir)))
        # Half the time for convolutions of 8 channels.
        runner.model.backbone.to(memory_format=torch.channels_last_3d)
        recorder = next(hook for hook in runner.hooks if isinstance(hook, StudyRecorder))
        scores = scores_of(runner, recorder, run.tuning)
    return dict(name=run.name, cell=run.cell.name, arm=run.arm.name, rate=run.rate, seed=run.seed,
                uar_tune=scores['acc/uar'] if run.tuning else None, uar=None if run.tuning else scores['acc/uar'],
                war=None if run.tuning else scores['acc/war'], losses=recorder.losses, ranks=recorder.ranks,
                diverged=scores is CHANCE, seconds=round(time.process_time() - began, 1))


def scores_of(runner: Any, recorder: StudyRecorder, tuning: bool) -> dict[str, float]:
    """Trains, then measures on the tuning or the test clips; a training that diverges has the scores of chance."""
    try:
        runner.train()
        scores = runner.val() if tuning else runner.test()
    except ValueError as error:
        if 'NaN or Inf' not in str(error):      # LSEF's word for features that are not finite
            raise
        return CHANCE
    return scores if all(map(math.isfinite, recorder.losses)) else CHANCE
