"""Fault: ``FSDPStrategy`` cannot go on from its own checkpoints on torch 2.1 and later, and cannot start on a CPU.

MMEngine (up to 0.10.7) calls ``FullyShardedDataParallel.optim_state_dict_to_load`` with the order of arguments
that torch had before 2.1: resuming ends in *unhashable type: 'dict'*. Where CUDA is absent, the number of a GPU as
``device_id`` ends in *Cannot access accelerator device when none is available*, and ``offload_to_cpu``, which
``state_dict_cfg='full'`` asks for, in a segmentation fault: torch frees the gathered weights while the copy "on the
CPU" still shares their memory.

Mend: the arguments by name; without CUDA, and only there, ``device_id`` is the CPU and nothing is offloaded to where
it lies already.

Delete when: mmengine names those arguments, and two gloo processes without a GPU train, save and resume with
``FSDPStrategy(state_dict_cfg='full')``.
"""
import functools


def reason() -> str:
    try:
        from mmengine._strategy.fsdp import FSDPStrategy  # noqa: F401
    except ImportError:     # a torch without FSDP
        return ''
    return 'FSDPStrategy cannot resume on torch 2.1 and later, and cannot start without CUDA'


def apply() -> None:
    try:
        from mmengine._strategy.fsdp import FSDPStrategy
        from mmengine.model.wrappers import MMFullyShardedDataParallel
    except ImportError:     # a torch without FSDP
        return
    if getattr(FSDPStrategy.load_optim_state_dict, 'of_lsef_plugins', False):
        return
    FSDPStrategy.load_optim_state_dict = _load_optim_state_dict
    FSDPStrategy._init_state_dict_cfg = _nothing_offloaded(FSDPStrategy._init_state_dict_cfg)
    MMFullyShardedDataParallel.__init__ = _on_the_cpu(MMFullyShardedDataParallel.__init__)


def _load_optim_state_dict(self, state_dict: dict) -> None:
    from torch.distributed.fsdp import FullyShardedDataParallel
    self.optim_wrapper.load_state_dict(FullyShardedDataParallel.optim_state_dict_to_load(
        model=self.model, optim=self.optim_wrapper.optimizer, optim_state_dict=state_dict))


_load_optim_state_dict.of_lsef_plugins = True  # type: ignore[attr-defined]


def _nothing_offloaded(stock):

    @functools.wraps(stock)
    def wrapper(self, state_dict_cfg):
        import torch
        stock(self, state_dict_cfg)
        if not torch.cuda.is_available():
            for config in (self.state_dict_config, self.optim_state_dict_config):
                config.offload_to_cpu = False

    return wrapper


def _on_the_cpu(stock):

    @functools.wraps(stock)
    def wrapper(self, module, *args, **kwargs):
        import torch
        if not torch.cuda.is_available():
            kwargs['device_id'] = torch.device('cpu')
        stock(self, module, *args, **kwargs)

    return wrapper
