"""One process of tests/models/test_ddp.py: trains a plugged recognizer for three steps on its share of a batch."""
import os
import sys

import torch
import torch.distributed as dist
from mmaction.registry import MODELS
from mmaction.structures import ActionDataSample
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import OptimWrapper
from mmengine.registry import init_default_scope

import lsef_plugins  # noqa: F401


def main(out):
    torch.set_num_threads(1)
    init_default_scope('mmaction')
    world, rank = int(os.environ.get('WORLD_SIZE', 1)), int(os.environ.get('RANK', 0))
    torch.manual_seed(0)
    model = MODELS.build(dict(
        type='Recognizer3D',
        backbone=dict(type='ResNet3dSlowOnly', depth=18, pretrained=None, lateral=False, base_channels=8,
                      conv1_kernel=(1, 7, 7), conv1_stride_t=1, pool1_stride_t=1, inflate=(0, 0, 1, 1),
                      norm_eval=True),
        neck=dict(type='LSEFNeck', aux_loss=dict(rank=0.1)),
        cls_head=dict(type='I3DHead', in_channels=64, num_classes=4, dropout_ratio=0.0),
        data_preprocessor=dict(type='ActionDataPreprocessor', mean=[128.] * 3, std=[60.] * 3,
                               format_shape='NCTHW')))
    model.init_weights()
    model.train()  # norm_eval freezes the batch statistics here
    with torch.no_grad():
        model.neck.streams[0].cim.out.weight.normal_(std=0.1)
    if world > 1:
        dist.init_process_group('gloo')
        trained = MMDistributedDataParallel(model, find_unused_parameters=False)
    else:
        trained = model
    wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.05))
    generator = torch.Generator().manual_seed(1)
    videos = torch.randint(0, 256, (3, 4, 1, 3, 8, 32, 32), generator=generator, dtype=torch.uint8)
    for step in videos:
        mine = range(rank, len(step), world)
        trained.train_step(dict(inputs=[step[i] for i in mine],
                                data_samples=[ActionDataSample().set_gt_label(i) for i in mine]), wrapper)
    torch.save(model.state_dict(), f'{out}/{world}_{rank}.pth')
    if world > 1:
        dist.destroy_process_group()


if __name__ == '__main__':
    main(sys.argv[1])
