"""Fault: the wheel of mmaction2 1.2.0 lacks the folder ``mmaction/models/localizers/drn``.

The folder has no ``__init__.py`` upstream, so packaging skips it and ``import mmaction.models``
dies with *No module named 'mmaction.models.localizers.drn'*.

Mend: stand-in modules in ``sys.modules``, only where the folder is really missing. Using DRN itself
says why it is absent.

Delete when: the oldest supported mmaction2 ships the folder.
"""
import importlib.machinery
import importlib.util
import os
import sys
import types

PACKAGE = 'mmaction.models.localizers.drn'


def reason() -> str:
    spec = importlib.util.find_spec('mmaction')
    if spec is None or not spec.submodule_search_locations:
        return ''
    if any(os.path.isfile(os.path.join(root, 'models', 'localizers', 'drn', 'drn.py'))
           for root in spec.submodule_search_locations):
        return ''
    return 'the installed mmaction2 lacks the folder models/localizers/drn'


def apply() -> None:
    if PACKAGE in sys.modules or f'{PACKAGE}.drn' in sys.modules or not reason():
        return
    package = types.ModuleType(PACKAGE, 'Stand-in of lsef_plugins for a folder the wheel lacks.')
    package.__path__ = []
    module = types.ModuleType(f'{PACKAGE}.drn', package.__doc__)
    module.DRN = _absent_drn()  # type: ignore[attr-defined]
    package.drn = module  # type: ignore[attr-defined]
    for name, stand_in, is_package in ((PACKAGE, package, True), (f'{PACKAGE}.drn', module, False)):
        stand_in.__spec__ = importlib.machinery.ModuleSpec(name, loader=None, is_package=is_package)
        sys.modules[name] = stand_in


def _absent_drn() -> type:

    class DRN:
        """Stand-in: the installed mmaction2 wheel has no DRN."""

        def __init__(self, *args, **kwargs):
            raise ImportError(
                'DRN was requested, but the installed mmaction2 wheel does not contain the folder '
                'mmaction/models/localizers/drn (a packaging fault of mmaction2 1.2.0). '
                'Install MMAction2 from its source repository to use DRN.')

    return DRN
