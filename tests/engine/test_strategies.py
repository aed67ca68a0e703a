"""MMEngine's strategies with a plugged recognizer: those that work do what the runner does; the others are refused."""
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

import lsef_plugins  # noqa: F401
from lsef_plugins.engine import strategies
from lsef_plugins.engine.launch_error import LaunchError

WORKER = Path(__file__).with_name('strategies_worker.py')


def check(launcher='none', runner='FlexibleRunner', **strategy):
    strategies.check_strategy(Config(dict(runner_type=runner, launcher=launcher, strategy=strategy)))


@pytest.mark.parametrize('settings, told', [
    (dict(type='DDPStrategy', runner=None), "has no effect in the default runner: set runner_type='FlexibleRunner'"),
    (dict(type='DDPStrategy', runner='Runner'), "has no effect in Runner: set runner_type"),
    (dict(sync_bn='torch'), 'strategy is a dict with a type'),
    (dict(type='DDPStrategy'), 'DDPStrategy needs a launcher: bash tools/dist_train.sh CONFIG GPUS'),
    (dict(type='mmengine.FSDPStrategy'), 'FSDPStrategy needs a launcher'),
    (dict(type='SingleDeviceStrategy', launcher='pytorch'), 'trains one model in each process, apart from the others'),
    (dict(type='FSDPStrategy', launcher='pytorch'), "writes ShardedTensor objects.* state_dict_cfg='full'"),
    (dict(type='FSDPStrategy', launcher='slurm', state_dict_cfg=dict(state_dict_type='LOCAL_STATE_DICT')),
     'weights_only=True: nobody could go on'),
    (dict(type='ColossalAIStrategy', launcher='pytorch'), 'ColossalAIStrategy needs the package colossalai'),
    (dict(type='DeepSpeedStrategy', launcher='pytorch'), 'needs the package deepspeed, which is not installed: pip'),
], ids=str)
def test_what_cannot_work_is_told_before_anything_is_built(settings, told, monkeypatch):
    monkeypatch.setattr(strategies.importlib.util, 'find_spec', lambda name: None)
    with pytest.raises(LaunchError, match=told):
        check(**settings)


def test_what_can_work_passes(monkeypatch):
    check(type='SingleDeviceStrategy')
    for kind in ('DDPStrategy', 'mmengine.DDPStrategy'):
        check(type=kind, launcher='slurm')
    check(type='FSDPStrategy', launcher='pytorch', state_dict_cfg='full')
    check(type='FSDPStrategy', launcher='pytorch', state_dict_cfg=dict(state_dict_type='FULL_STATE_DICT'))
    check(type='OneOfYourOwn', launcher='pytorch')
    monkeypatch.setattr(strategies.importlib.util, 'find_spec', lambda name: name)
    check(type='DeepSpeedStrategy', launcher='pytorch')
    strategies.check_strategy(Config(dict(launcher='pytorch')))


@pytest.fixture(scope='module')
def ends(tiny_config, tmp_path_factory):
    """``ends(way)``: the last checkpoint of a way of the worker."""
    folder = tmp_path_factory.mktemp('strategies')
    tiny_config(folder, log_level='ERROR', model=dict(neck=dict(type='LSEFNeck', aux_loss=dict(rank=0.1))),
                val_cfg=None, val_dataloader=None, val_evaluator=None).dump(folder / 'config.py')
    done = subprocess.run([sys.executable, '-W', 'ignore', str(WORKER), 'config.py', str(folder)], text=True,
                          env=dict(os.environ, OMP_NUM_THREADS='1', CUDA_VISIBLE_DEVICES=''), capture_output=True,
                          timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    return lambda way, epoch=2: torch.load(folder / way / f'epoch_{epoch}.pth', map_location='cpu')


def same(a, b):
    """Bit for bit; DDPStrategy writes the names of the wrapped model, and MMEngine's loaders know it."""
    a, b = ({key.replace('module.', '', 1): value for key, value in each.items()} for each in (a, b))
    assert a.keys() == b.keys()
    return all(torch.equal(value, b[key]) for key, value in a.items())


@pytest.mark.slow
@pytest.mark.parametrize('name', ['single', 'ddp'])
def test_the_strategy_ends_where_the_default_runner_does_bit_for_bit(ends, name):
    assert same(ends(name)['state_dict'], ends(f'{name}_strategy')['state_dict'])
    assert not same(ends(name)['state_dict'], ends(name, 1)['state_dict'])


@pytest.mark.slow
def test_ddp_strategy_goes_on_bit_for_bit(ends):
    assert same(ends('ddp')['state_dict'], ends('ddp_strategy_resumed')['state_dict'])


@pytest.mark.slow
def test_fsdp_ends_where_ddp_does(ends):
    """Whole weights in the checkpoint, of whole shapes, though each process trains a half of them."""
    ddp, start, fsdp = ends('ddp')['state_dict'], ends('ddp', 1)['state_dict'], ends('fsdp')['state_dict']
    assert ddp.keys() == fsdp.keys()
    for key, value in ddp.items():
        if value.is_floating_point() and key not in ('cls_head.fc_cls.bias', ):
            # Dropout and norms draw and average in each process as they do under DDP; sums are in another order.
            way = (value - start[key]).norm()
            assert (value - fsdp[key]).norm() <= 2e-2 * way + 1e-5 * value.norm() + 1e-8, key


@pytest.mark.slow
def test_fsdp_goes_on_bit_for_bit_and_its_weights_load_elsewhere(ends):
    assert same(ends('fsdp')['state_dict'], ends('fsdp_resumed')['state_dict'])
    assert not same(ends('fsdp')['state_dict'], ends('fsdp', 1)['state_dict'])
    loaded, saved = ends('single_of_fsdp', 1)['state_dict'], ends('fsdp')['state_dict']
    assert loaded.keys() == saved.keys()
    for key, value in saved.items():     # with a learning rate of zero; norms count batches nevertheless
        assert torch.equal(value, loaded[key]) or '.running_' in key or 'num_batches' in key, key
