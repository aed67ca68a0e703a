"""Repairs of somebody else's releases: one file each, stating fault, mend, and when to delete it.

Each module has ``apply()``: idempotent, silent, and without effect on a host that does not have the fault; and
``reason()``: one clause why the repair acts here, before and after it was made, or an empty string where it does not.
The host is asked what it does (a feature test) rather than which version it is, wherever that can be
asked. Nothing healthy is replaced, and no safety of the host is switched off.
"""
import importlib
import traceback
from typing import Dict

REPAIRS = (
    'host_requirements',  # first: says in one sentence what is missing instead of failing somewhere inside
    'missing_drn',  # before anything imports mmaction.models
    'config_inheritance',
    'package_configs',
    'checkpoint_allow_list',
    'weights_only',
    'checkpoint_errors',
    'safe_yaml',
    'whole_checkpoints',
    'cpu_distributed',
    'fsdp_strategy',
    'cpu_amp',
    'bfloat16_scores',
    'color_jitter_hue',
    'numpy_names',
    'video_writer',
    'prediction_drawing',
    'rated_predictions',
)


def apply_repairs() -> None:
    """Apply every repair the installed host needs, once, before anything of ours registers.

    Raises:
        ImportError: MMEngine or MMCV is missing or of a version MMAction2 refuses; the message gives the
            ``pip`` line. Or a package that MMAction2 imports fails, as a torchvision made for another torch does;
            the message names who imported whom.
    """
    for name in REPAIRS:
        try:
            importlib.import_module(f'{__name__}.{name}').apply()
        except ImportError:
            raise
        except Exception as error:
            found = f'{type(error).__name__}: {error} ({_importers(error)})'
            raise ImportError(f'MMAction2 cannot be imported here: {found}. '
                              'MMAction2 takes mmpretrain, timm and torchvision if they are there, so one of them may '
                              'not fit torch: install the version that does, or uninstall it. What else is here says '
                              '`python -m lsef_plugins doctor`; LSEF_PLUGINS_REGISTER=0 in the environment leaves '
                              'MMAction2 out, and lsef_plugins.nn works without it.') from error


def _importers(error: BaseException) -> str:
    """The packages an error came through, from the outermost: ``mmaction, mmpretrain, torchvision, torch``."""
    packages = [frame.f_globals.get('__name__', '?').partition('.')[0]
                for frame, _ in traceback.walk_tb(error.__traceback__)]
    return ', '.join(name for name in dict.fromkeys(packages) if name not in ('importlib', 'lsef_plugins'))


def reasons() -> Dict[str, str]:
    """Why each repair acts on the installed host; an empty string where the host is healthy."""
    return {name: importlib.import_module(f'{__name__}.{name}').reason() for name in REPAIRS}
