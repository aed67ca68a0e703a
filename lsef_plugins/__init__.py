"""lsef_plugins: low-rank stable base and sparse transients for MMAction2 recognizers.

``import lsef_plugins`` registers every component when MMAction2 is installed, so that
``custom_imports = dict(imports=['lsef_plugins'])`` is all a config needs. Without MMAction2 the
mathematics (:mod:`lsef_plugins.functional`, :mod:`lsef_plugins.nn`) works alone.
``LSEF_PLUGINS_REGISTER=0`` in the environment keeps MMAction2 out although it is installed.
"""
import importlib.util
import os
import sys

from .version import __version__

__all__ = ['__version__']


def _is_looked_through() -> bool:
    """Whether Python imports this package to find the module of ``python -m lsef_plugins...`` (3.10 and later tell)."""
    words = getattr(sys, 'orig_argv', [])
    return getattr(sys, 'argv', [''])[:1] == ['-m'] and any(
        option[:1] == '-' and option[-1:] == 'm' and module.split('.')[0] == 'lsef_plugins'
        for option, module in zip(words, words[1:]))


# Those commands register what they need themselves: the doctor has to start where MMAction2 does not.
if (os.environ.get('LSEF_PLUGINS_REGISTER', '1') != '0' and not _is_looked_through()
        and importlib.util.find_spec('mmaction')):
    from .register_all import register_all
    register_all()
