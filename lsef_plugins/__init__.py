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

# argv[0] is '-m' while Python looks for the module of `python -m lsef_plugins...`, which registers what it needs
# itself: the doctor has to start where MMAction2 does not.
if (os.environ.get('LSEF_PLUGINS_REGISTER', '1') != '0' and getattr(sys, 'argv', [''])[:1] != ['-m']
        and importlib.util.find_spec('mmaction')):
    from .register_all import register_all
    register_all()
