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


@METRICS.register_module()
class PeakMetric(BaseMetric):
    """The third validation is the best one."""
    scores = ()

    def process(self, data_batch, data_samples):
        self.results.append(0)

    def compute_metrics(self, results):
        first, *PeakMetric.scores = PeakMetric.scores
        return dict(score=first)


STATELESS = dict(optim_wrapper=dict(optimizer=dict(momentum=0.)), param_scheduler=None)
STATEFUL = dict(param_scheduler=[dict(type='CosineAnnealingLR', T_max=4, eta_min=0, by_epoch=False)])


@pytest.mark.parametrize('settings, name, whole', [
    (STATELESS, 'best_score_iter_3.pth', True),
    (STATEFUL, 'iter_3.pth', True),             # the host writes it anew, with the best one
    (STATEFUL, 'best_score_iter_3.pth', False),
], ids=['best, nothing to lose', 'regular', 'best'])
def test_a_training_resumed_from_its_best_iteration_is_the_same_or_says_that_it_is_not(settings, name, whole,
                                                                                      tiny_config, tmp_path):
    from lsef_plugins.register_all import register_all
    register_all()

    def last(folder, done=0, **changes):
        PeakMetric.scores = [1, 2, 5, 4][done:]
        cfg = tiny_config(
            tmp_path / folder, custom_hooks=[dict(type='RandomStateHook')],
            train_cfg=dict(_delete_=True, type='IterBasedTrainLoop', max_iters=4, val_interval=1),
            train_dataloader=dict(sampler=dict(type='InfiniteSampler')),
            val_evaluator=dict(_delete_=True, type='PeakMetric'), **settings, **changes,
            default_hooks=dict(checkpoint=dict(by_epoch=False, interval=2, save_best='score', rule='greater')))
        cfg.train_dataloader.dataset.pipeline = cfg.test_pipeline      # only dropout draws
        Runner.from_cfg(cfg).train()
        log, = (tmp_path / folder).rglob('*.log')
        return torch.load(tmp_path / folder / 'iter_4.pth')['state_dict'], log.read_text(encoding='utf-8')

    straight, _ = last('straight')
    resumed, log = last('resumed', 3, load_from=str(tmp_path / 'straight' / name), resume=True)
    assert all(torch.equal(straight[key], resumed[key]) for key in straight) == whole
    assert ('holds no state of the optimizer' in log) == name.startswith('best')
