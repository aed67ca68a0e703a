"""Fault: MMAction2 does not declare what it imports (MMEngine and MMCV are left to ``mim``,
``importlib_metadata`` to luck) and fails deep inside with *No module named 'mmcv'*, or with an assertion
for mmcv >= 2.2.

Mend: say it first, in one sentence with the ``pip`` line. ``mmcv`` and ``mmcv-lite`` share one import name
and both serve: the recognizers we support need no compiled operator.

Delete when: mmaction2 declares its requirements and accepts the newest mmcv.
"""
import importlib
import importlib.util
import re

MMENGINE = ('0.10.3', '1.0')
MMCV = ('2.0.0', '2.2')  # mmaction2 1.2.0 asserts < 2.2.0


def reason() -> str:
    return ''  # a check of the installed versions, no repair: what it finds is raised


def apply() -> None:
    if importlib.util.find_spec('mmaction') is None:
        raise ImportError('MMAction2 is not installed. Install it: pip install "mmaction2>=1.2" "mmengine>=0.10.3" '
                          '"mmcv-lite>=2.1,<2.2"')
    _require('mmengine', *MMENGINE, 'pip install "mmengine>=0.10.3,<1.0"')
    _require('mmcv', *MMCV, 'pip install "mmcv-lite>=2.1,<2.2"   (or mmcv 2.1 built for your CUDA; '
             'never both, they share one import name)')
    if importlib.util.find_spec('importlib_metadata') is None:
        raise ImportError('MMAction2 imports importlib_metadata without declaring it, and it is not '
                          'installed. Install it: pip install importlib_metadata')


def _require(package: str, at_least: str, below: str, cure: str) -> None:
    if importlib.util.find_spec(package) is None:
        name = 'mmcv (or mmcv-lite)' if package == 'mmcv' else package
        raise ImportError(f'MMAction2 is installed, but {name} is not, and MMAction2 cannot run without it. '
                          f'Install it: {cure}')
    found = importlib.import_module(package).__version__
    if not _release(at_least) <= _release(found) < _release(below):
        raise ImportError(f'MMAction2 needs {package} of at least {at_least} and below {below}, but {found} '
                          f'is installed. Install a version that fits: {cure}')


def _release(version: str) -> tuple:
    """The numbers of a version in front of any suffix: ``'2.1.0rc1+cu118'`` gives ``(2, 1, 0)``."""
    numbers = re.match(r'\d+(?:\.\d+)*', version)
    return tuple(int(part) for part in numbers.group().split('.')) if numbers else ()
