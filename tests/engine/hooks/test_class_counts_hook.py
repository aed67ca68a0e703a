"""Long tails in a real training: losses learn the counts, rare classes come more often, a resume changes nothing."""
import numpy as np
import pytest
import torch
from mmengine.runner import Runner

import lsef_plugins  # noqa: F401
from lsef_plugins.models.losses import LogitAdjustedLoss


@pytest.fixture
def tailed(tiny_videos, tmp_path):
    """Seven clips of class 0 and one of class 1."""
    path = tmp_path / 'tail.txt'
    path.write_text(''.join(f'clip_{i}.mp4 {int(i == 5)}\n' for i in range(8)))
    return path


def config(tiny_config, tailed, work_dir, sampler=None, loss=None, hook=True, epochs=1):
    cfg = tiny_config(work_dir, train_dataloader=dict(dataset=dict(ann_file=str(tailed))))
    cfg.model.cls_head.loss_cls = loss or dict(type='LogitAdjustedLoss')
    if sampler:
        cfg.train_dataloader.sampler = sampler
    cfg.custom_hooks = [dict(type='RandomStateHook')] + ([dict(type='ClassCountsHook')] if hook else [])
    cfg.train_cfg.max_epochs, cfg.val_cfg, cfg.val_dataloader, cfg.val_evaluator = epochs, None, None, None
    return cfg


def train(cfg):
    runner = Runner.from_cfg(cfg)
    runner.train()
    return runner


def test_the_loss_is_told_how_often_the_classes_occur(tiny_config, tailed, tmp_path):
    runner = train(config(tiny_config, tailed, tmp_path / 'run'))
    loss = runner.model.cls_head.loss_cls
    assert isinstance(loss, LogitAdjustedLoss) and loss.class_counts.tolist() == [7, 1]


@pytest.mark.parametrize('loss, counts', [(dict(type='ClassWeightedLoss', class_counts=[3, 2]), [3, 2]),
                                          (dict(type='ClassWeightedLoss'), [4, 4])])
def test_counts_given_by_hand_stay_and_those_of_a_balancing_sampler_are_what_it_draws(loss, counts, tiny_config, tailed,
                                                                                      tmp_path):
    sampler = dict(type='ClassBalancedSampler')
    runner = train(config(tiny_config, tailed, tmp_path / 'run', sampler, loss))
    assert runner.model.cls_head.loss_cls.class_counts.tolist() == counts
    assert runner.train_dataloader.sampler.drawn_counts.tolist() == [4, 4]
    assert runner.train_dataloader.sampler.seed == 0, 'the seed of the run'


def test_without_the_hook_the_first_step_says_what_is_missing(tiny_config, tailed, tmp_path):
    with pytest.raises(ValueError, match=r"LogitAdjustedLoss does not know how often.*type='ClassCountsHook'"):
        train(config(tiny_config, tailed, tmp_path / 'run', hook=False))


def test_a_class_without_any_clip_is_told(tiny_config, tiny_videos, tmp_path):
    path = tmp_path / 'one.txt'
    path.write_text(''.join(f'clip_{i}.mp4 0\n' for i in range(4)))
    with pytest.raises(ValueError, match=r'class_counts \[4\.0, 0\.0\] must be positive for each class; classes \[1\]'):
        train(config(tiny_config, path, tmp_path / 'run'))
    with pytest.raises(ValueError, match=r'class_counts \[4\.0, 0\.0\]'):
        train(config(tiny_config, path, tmp_path / 'run', dict(type='ClassBalancedSampler')))


@pytest.mark.slow
def test_a_resumed_training_draws_the_clips_the_uninterrupted_one_would_have_drawn(tiny_config, tailed, tmp_path):
    sampler = dict(type='ClassBalancedSampler', power=.5)
    straight = train(config(tiny_config, tailed, tmp_path / 'straight', sampler, epochs=2))
    cfg = config(tiny_config, tailed, tmp_path / 'resumed', sampler, epochs=2)
    cfg.resume, cfg.load_from = True, str(tmp_path / 'straight' / 'epoch_1.pth')
    resumed = train(cfg)
    assert list(straight.train_dataloader.sampler) == list(resumed.train_dataloader.sampler)
    assert straight.train_dataloader.sampler.epoch == 1
    first = torch.load(tmp_path / 'straight' / 'epoch_1.pth', weights_only=True)['state_dict']
    changed = 0
    for key, value in straight.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[key]), key
        changed += not torch.equal(value, first[key])
    assert changed > 10
    assert np.bincount([int(straight.train_dataloader.dataset.get_data_info(i)['label'])
                        for i in straight.train_dataloader.sampler]).tolist() == [6, 2]
