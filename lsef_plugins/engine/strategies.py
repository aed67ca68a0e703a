"""MMEngine's strategies (``runner_type='FlexibleRunner'``): which can work with what was asked for.

What is refused here fails later and less clearly: in the middle of a training, at its end, or only when somebody
wants to go on from its checkpoint.
"""
from __future__ import annotations

import importlib.util

from mmengine.config import Config

from .config_names import bare_name
from .launch_error import LaunchError

NEEDS = {'DeepSpeedStrategy': 'deepspeed', 'ColossalAIStrategy': 'colossalai'}
SEVERAL = ('DDPStrategy', 'FSDPStrategy', *NEEDS)


def check_strategy(cfg: Config) -> None:
    """Raises LaunchError where the strategy a config asks for cannot work."""
    strategy, runner = cfg.get('strategy'), bare_name(cfg.get('runner_type'))
    if strategy is None:
        return
    if not isinstance(strategy, dict) or bare_name(strategy.get('type')) is None:
        raise LaunchError("strategy is a dict with a type such as dict(type='DDPStrategy'), got " f'{strategy!r}.')
    name = bare_name(strategy['type'])
    if runner != 'FlexibleRunner':
        raise LaunchError(f'strategy=dict(type={name!r}) has no effect in {runner or "the default runner"}: set '
                          "runner_type='FlexibleRunner' as well, or leave strategy out (several processes then "
                          'train with DDP).')
    launcher = cfg.get('launcher', 'none')
    if name in SEVERAL and launcher == 'none':
        raise LaunchError(f'{name} needs a launcher: bash tools/dist_train.sh CONFIG GPUS, which does for one process '
                          'too. Alone, leave strategy out.')
    if name == 'SingleDeviceStrategy' and launcher != 'none':
        raise LaunchError(f'SingleDeviceStrategy with --launcher {launcher} trains one model in each process, apart '
                          'from the others, all writing to one work_dir. Use DDPStrategy, or leave strategy out.')
    package = NEEDS.get(name or '')
    if package and importlib.util.find_spec(package) is None:
        raise LaunchError(f'{name} needs the package {package}, which is not installed: pip install {package}. We '
                          'have never run it; DDP needs no further package.')
    if name == 'FSDPStrategy':
        _check_fsdp(strategy)


def _check_fsdp(strategy: dict) -> None:
    wanted = strategy.get('state_dict_cfg', 'local')
    kind = wanted.get('state_dict_type', 'LOCAL_STATE_DICT') if isinstance(wanted, dict) else wanted
    if str(getattr(kind, 'name', kind)) not in ('full', 'FULL_STATE_DICT'):
        raise LaunchError(f"FSDPStrategy with state_dict_cfg={wanted!r} (the default is 'local') writes ShardedTensor "
                          'objects, which torch does not load with weights_only=True: nobody could go on from its '
                          "checkpoints or test them. Set strategy=dict(type='FSDPStrategy', state_dict_cfg='full').")
