"""One process of test_ddp.py: trains a plugged recognizer with RAO for five steps on its share of a batch.

``python rao_ddp_worker.py FOLDER`` writes ``FOLDER/<world size>_<rank>.pth`` with the weights and RAO's state, and
what was said when a sharded model was asked for.
"""
import os
import sys

import torch
import torch.distributed as dist
from host_families import Family
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

import lsef_plugins  # noqa: F401

CLIPS, STEPS = 4, 5
CFG = dict(constructor='RAO', optimizer=dict(type='SGD', lr=0.002, momentum=0.9), clip_grad=dict(max_norm=2.0),
           rao=dict(smoothing=0.5, interval=2, warmup=1))


def recognizer(family):
    """Without anything that depends on who else is in the batch or on the process: statistics, dropout."""
    model = family.build(dict(type='LSEFNeck'))
    model.train()
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.eval()
        elif isinstance(module, _DropoutNd):
            module.p = 0.0
    return model


def refusal(world):
    """What the constructor says to a model whose parameters are spread over the processes."""
    if world == 1:
        return ''
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 4))
    fully_shard(model, mesh=init_device_mesh('cpu', (world, )))
    try:
        build_optim_wrapper(model, CFG)
    except ValueError as error:
        return str(error)
    return 'accepted'


def main(folder):
    torch.set_num_threads(1)
    init_default_scope('mmaction')
    world, rank = int(os.environ.get('WORLD_SIZE', 1)), int(os.environ.get('RANK', 0))
    if world > 1:
        dist.init_process_group('gloo')
    train(folder, world, rank)
    os._exit(0)     # not by the end of the interpreter: fully_shard holds the group, see engine/process_group.py


def train(folder, world, rank):
    family = Family('slowonly')
    model = recognizer(family)
    trained = MMDistributedDataParallel(model, find_unused_parameters=False) if world > 1 else model
    wrapper = build_optim_wrapper(trained, CFG)
    start = {key: value.clone() for key, value in model.state_dict().items()}
    for step in range(STEPS):
        data = family.raw_batch(clips=CLIPS, training=True, seed=step)
        mine = range(rank, CLIPS, world)
        trained.train_step({key: [values[i] for i in mine] for key, values in data.items()}, wrapper)
    torch.save(dict(start=start, weights=model.state_dict(), rao=wrapper.rao.state_dict(), refusal=refusal(world)),
               f'{folder}/{world}_{rank}.pth')


if __name__ == '__main__':
    main(*sys.argv[1:])
