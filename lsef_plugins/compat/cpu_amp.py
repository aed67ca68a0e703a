"""Fault: ``--amp`` on a CPU stops at an assertion of ``AmpOptimWrapper``, although CPU autocast works.

Mend: the assertion's question ("is there an accelerator?") is answered yes in that one module; without
CUDA torch's loss scaler switches itself off, as bfloat16 wants it, and MMEngine's own autocast chooses
bfloat16 on a CPU. float16, which CPU autocast refuses in the first iteration, is refused at construction
with a clear word.

Delete when: mmengine's AmpOptimWrapper can be built on a CPU.
"""
import functools


def reason() -> str:
    from mmengine.device import get_device
    return 'this machine has no accelerator, which AmpOptimWrapper demands' if get_device() == 'cpu' else ''


def apply() -> None:
    from mmengine.optim.optimizer import amp_optimizer_wrapper as module
    stock = module.AmpOptimWrapper.__init__
    if getattr(stock, 'of_lsef_plugins', False):
        return
    module.AmpOptimWrapper.__init__ = _on_any_device(stock, module)


def _on_any_device(stock, module):

    @functools.wraps(stock)
    def wrapper(self, loss_scale='dynamic', dtype=None, *args, **kwargs):
        import torch
        from mmengine.device import get_device
        if get_device() != 'cpu':
            return stock(self, loss_scale, dtype, *args, **kwargs)
        if dtype not in (None, 'bfloat16', torch.bfloat16):
            raise ValueError(f'Mixed precision on a CPU is bfloat16, but dtype={dtype} came. Set '
                             "optim_wrapper.dtype='bfloat16', or leave it out.")
        question = module.is_cuda_available
        module.is_cuda_available = lambda: True
        try:
            import warnings
            with warnings.catch_warnings():  # "GradScaler is enabled, but CUDA is not available. Disabling."
                warnings.simplefilter('ignore')
                stock(self, loss_scale, torch.bfloat16, *args, **kwargs)
        finally:
            module.is_cuda_available = question

    wrapper.of_lsef_plugins = True  # type: ignore[attr-defined]
    return wrapper
