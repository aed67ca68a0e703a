"""Trains one config under several of MMEngine's strategies; run by test_strategies.py.

``python strategies_worker.py CONFIG FOLDER``: each way trains in ``FOLDER/<way>``, forked from this process, so that
MMAction2 is imported once.
"""
import os
import socket
import sys

import torch
import torch.multiprocessing as mp

from lsef_plugins.engine import launch

FSDP = dict(runner_type='FlexibleRunner', strategy=dict(type='FSDPStrategy', state_dict_cfg='full'))
DDP = dict(runner_type='FlexibleRunner', strategy=dict(type='DDPStrategy'))
WAYS = {    # processes, changes of the config, the checkpoint to go on from
    'single': (1, {}, None),
    'single_strategy': (1, dict(runner_type='FlexibleRunner', strategy=dict(type='SingleDeviceStrategy')), None),
    'ddp': (2, {}, None),
    'ddp_strategy': (2, DDP, None),
    'ddp_strategy_resumed': (2, DDP, 'ddp_strategy/epoch_1.pth'),
    'fsdp': (2, FSDP, None),
    'fsdp_resumed': (2, FSDP, 'fsdp/epoch_1.pth'),
    'single_of_fsdp': (1, {'load_from': 'fsdp/epoch_2.pth', 'train_cfg.max_epochs': 1,
                           'optim_wrapper.optimizer.lr': 0.0}, None),
}


def train(rank, way, port, config):
    torch.set_num_threads(1)
    world, changes, resume = WAYS[way]
    if world > 1:
        os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(world), MASTER_ADDR='127.0.0.1',
                          MASTER_PORT=str(port))
    launch.train(config, work_dir=way, resume=resume, options=changes, launcher='pytorch' if world > 1 else 'none')


def main(config, folder):
    os.chdir(folder)
    for way, (world, *_) in WAYS.items():
        with socket.socket() as probe:
            probe.bind(('127.0.0.1', 0))
            port = probe.getsockname()[1]
        mp.start_processes(train, (way, port, config), nprocs=world, start_method='fork')


if __name__ == '__main__':
    main(*sys.argv[1:])
