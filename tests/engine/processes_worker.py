"""Trains one recognizer as one, two and four processes with the same global batch; run by test_processes.py.

``python processes_worker.py CONFIG FOLDER`` writes ``FOLDER/<world size>_<rank>.pth``. The processes are forks of this
one, so that MMAction2 is imported once.
"""
import os
import socket
import sys

import torch
import torch.multiprocessing as mp
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.hooks import EMAHook, Hook
from mmengine.runner import Runner
from torch.nn.modules.batchnorm import _BatchNorm

import lsef_plugins  # noqa: F401

GLOBAL_BATCH = 4


def train(rank, world, port, config, folder):
    torch.set_num_threads(1)
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(world), MASTER_ADDR='127.0.0.1',
                      MASTER_PORT=str(port))
    cfg = Config.fromfile(config)
    cfg.work_dir, cfg.launcher = f'{folder}/work_{world}', 'pytorch' if world > 1 else 'none'
    cfg.train_dataloader.batch_size = GLOBAL_BATCH // world
    runner = Runner.from_cfg(cfg)
    waking = Waking()
    runner.register_hook(waking, 'VERY_HIGH')
    runner.train()
    ema = next(hook for hook in runner.hooks if isinstance(hook, EMAHook))
    hub = runner.message_hub.log_scalars
    torch.save(dict(
        start=waking.start,
        weights={key.replace('module.', '', 1): value for key, value in runner.model.state_dict().items()},
        ema={key.replace('module.', '', 1): value for key, value in ema.ema_model.state_dict().items()},
        rao=runner.optim_wrapper.rao.steps, iterations=runner.iter,
        logged={key: [float(each) for each in buffer.data[0]] for key, buffer in hub.items()
                if 'loss' in key or 'decomposition' in key or 'rao/' in key}), f'{folder}/{world}_{rank}.pth')


class Waking(Hook):
    """What is zero at the start (the neck's last layer, the last norm of each block, without which one corner of a
    picture is all the head sees) set, and the statistics of the norms those of all clips."""

    def before_train(self, runner):
        model = getattr(runner.model, 'module', runner.model)
        dataset = runner.train_dataloader.dataset
        norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
        with torch.no_grad():
            out = model.neck.streams[0].cim.out.weight
            out.copy_(0.1 * torch.randn(out.shape, generator=torch.Generator().manual_seed(4)))
            for norm in norms:
                norm.weight.fill_(1.0)
                norm.momentum = None
                norm.train()
            batch = model.data_preprocessor(pseudo_collate([dataset[i] for i in range(len(dataset))]), False)
            model(batch['inputs'], batch['data_samples'], mode='tensor')
            for norm in norms:
                norm.eval()
        self.start = {key: value.clone() for key, value in model.state_dict().items()}


def main(config, folder):
    for world in (1, 2, 4):
        with socket.socket() as probe:
            probe.bind(('127.0.0.1', 0))
            port = probe.getsockname()[1]
        mp.start_processes(train, (world, port, config, folder), nprocs=world, start_method='fork')


if __name__ == '__main__':
    main(*sys.argv[1:])
