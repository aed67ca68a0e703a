"""Fault: a distributed job without CUDA cannot start.

MMEngine (up to 0.10.7) calls ``torch.cuda.set_device`` in every launcher, asks for the nccl backend that
MMAction2's default runtime names, and hands ``device_ids`` to DistributedDataParallel, which a model on
the CPU refuses.

Mend: where CUDA is absent, and only there, do not choose a CUDA device, use gloo instead of nccl, and give
DDP no ``device_ids``.

Delete when: mmengine starts two gloo processes on a machine without a GPU.
"""
import contextlib
import functools
import os

LAUNCHERS = ('_init_dist_pytorch', '_init_dist_mpi', '_init_dist_slurm')


def reason() -> str:
    import torch
    return '' if torch.cuda.is_available() else 'there is no CUDA, which every launcher of MMEngine takes for granted'


def apply() -> None:
    import mmengine.dist.utils as dist_utils
    from mmengine.model.wrappers import MMDistributedDataParallel
    for name in LAUNCHERS:
        stock = getattr(dist_utils, name, None)
        if stock is not None and not getattr(stock, 'of_lsef_plugins', False):
            setattr(dist_utils, name, _without_cuda(stock))
    if not getattr(MMDistributedDataParallel.__init__, 'of_lsef_plugins', False):
        MMDistributedDataParallel.__init__ = _without_device_ids(MMDistributedDataParallel.__init__)


def _without_cuda(stock):

    @functools.wraps(stock)
    def wrapper(backend='nccl', **kwargs):
        import torch
        if torch.cuda.is_available() or backend not in ('nccl', 'gloo'):
            return stock(backend, **kwargs)
        if stock.__name__ == '_init_dist_slurm':  # else it divides by the number of GPUs
            os.environ.setdefault('SLURM_LOCALID', '0')
        with _no_device_to_choose(torch.cuda):
            return stock('gloo', **kwargs)

    wrapper.of_lsef_plugins = True  # type: ignore[attr-defined]
    return wrapper


@contextlib.contextmanager
def _no_device_to_choose(cuda):
    stock = cuda.set_device
    cuda.set_device = lambda device: None
    try:
        yield
    finally:
        cuda.set_device = stock


def _without_device_ids(stock):

    @functools.wraps(stock)
    def wrapper(self, module, *args, **kwargs):
        devices = {parameter.device.type for parameter in module.parameters()}
        if devices == {'cpu'}:
            kwargs.update(device_ids=None, output_device=None)
        stock(self, module, *args, **kwargs)

    wrapper.of_lsef_plugins = True  # type: ignore[attr-defined]
    return wrapper
