"""Each checkpoint holds the random state of its own moment. (That a resumed training ends with the same bits is a law
of tests/tools/test_train_and_test.py.)"""
import pytest
import torch

pytest.importorskip('mmaction')

from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.runner import Runner

import lsef_plugins  # noqa: F401
from lsef_plugins.registry import METRICS


@METRICS.register_module()
class FallingMetric(BaseMetric):
    """The first validation is the best one."""
    score = 0

    def process(self, data_batch, data_samples):
        self.results.append(0)

    def compute_metrics(self, results):
        type(self).score -= 1
        return dict(score=self.score)


class Noted(Hook):
    """The state of torch's generator as each validation begins."""
    priority = 'LOWEST'

    def __init__(self):
        self.states = {}

    def before_val_epoch(self, runner):
        self.states[runner.iter] = torch.get_rng_state()


def test_the_best_checkpoint_has_the_state_of_its_own_iteration(tiny_config, tmp_path):
    from lsef_plugins.register_all import register_all
    register_all()
    cfg = tiny_config(
        tmp_path, log_level='ERROR', custom_hooks=[dict(type='RandomStateHook')],
        train_cfg=dict(_delete_=True, type='IterBasedTrainLoop', max_iters=4, val_interval=1),
        train_dataloader=dict(sampler=dict(type='InfiniteSampler')),
        val_evaluator=dict(_delete_=True, type='FallingMetric'),
        default_hooks=dict(checkpoint=dict(by_epoch=False, interval=3, save_best='score', rule='greater')))
    runner, noted = Runner.from_cfg(cfg), Noted()
    runner.register_hook(noted)
    runner.train()
    assert len(noted.states) == 4 and not torch.equal(noted.states[1], noted.states[3])
    best, = tmp_path.rglob('best_score_iter_*.pth')
    for path, step in ((best, int(best.stem.rpartition('_')[2])), (next(tmp_path.rglob('iter_3.pth')), 3)):
        saved = torch.load(path, weights_only=True)['random_state']
        assert torch.equal(saved['ranks'][0]['torch'], noted.states[step]), path.name
    assert best.stem.endswith('_1')
