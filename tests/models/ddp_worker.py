"""One process of tests/models/test_ddp.py: trains plugged recognizers for three steps on its share of a batch.

``python ddp_worker.py FOLDER FAMILY...`` writes ``FOLDER/<family>_<world size>_<rank>.pth``, the
weights after the first step and after the last. A family is named
``tsn`` or ``tsn+head``: the second with LSEFHead as well.
"""
import os
import sys

import torch
import torch.distributed as dist
from host_families import Family
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import OptimWrapper
from mmengine.registry import init_default_scope
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

import lsef_plugins  # noqa: F401
from lsef_plugins.engine.process_group import leave_job

CLIPS, STEPS = 4, 3


def family_of(name):
    name, _, head = name.partition('+')
    return Family(name).with_head(type='LSEFHead') if head else Family(name)


def recognizer(family):
    """Awake, and without anything that depends on who else is in the batch or on the process: statistics, dropout."""
    model = family.build(dict(type='LSEFNeck', aux_loss=dict(rank=0.1)))
    model.train()
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.eval()
        elif isinstance(module, _DropoutNd):
            module.p = 0.0
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        out = model.neck.streams[0].cim.out.weight
        out.copy_(0.1 * torch.randn(out.shape, generator=generator))
    return model


def train(name, folder, world, rank):
    family = family_of(name)
    model = recognizer(family)
    trained = MMDistributedDataParallel(model, find_unused_parameters=False) if world > 1 else model
    wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.01))
    batches = 10 if '+head' in name else 0      # where no ReLU or maximum sits on the edge: see the test
    for step in range(STEPS):
        data = family.raw_batch(clips=CLIPS, training=True, seed=batches + step)
        mine = range(rank, CLIPS, world)
        trained.train_step({key: [values[i] for i in mine] for key, values in data.items()}, wrapper)
        if step == 0:
            first = {key: value.clone() for key, value in model.state_dict().items()}
    torch.save([first, model.state_dict()], f'{folder}/{name}_{world}_{rank}.pth')


def main(folder, *names):
    torch.set_num_threads(1)
    init_default_scope('mmaction')
    world, rank = int(os.environ.get('WORLD_SIZE', 1)), int(os.environ.get('RANK', 0))
    if world > 1:
        dist.init_process_group('gloo')
    for name in names:
        train(name, folder, world, rank)
    leave_job()


if __name__ == '__main__':
    main(*sys.argv[1:])
