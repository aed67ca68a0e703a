"""Fault: ``_base_ = ['mmaction::...']`` dies with *No module named 'pkg_resources'*.

MMEngine up to 0.10.7 finds installed packages through ``pkg_resources``, which setuptools 82 removed. A
stub in ``sys.modules`` is not enough, MMEngine reloads the module.

Mend: the two functions (is a package installed, where does it lie) asked of ``importlib`` instead, put
wherever MMEngine holds a reference. Only when ``pkg_resources`` is really absent.

Bases resolve before ``custom_imports``, so a program that reads such a config has to ``import
lsef_plugins`` first; our ``tools/train.py`` and ``tools/test.py`` do.

Delete when: the oldest supported mmengine no longer imports ``pkg_resources``.
"""
import importlib.metadata
import importlib.util
import os.path as osp
import sys

HOLDERS = ('mmengine.utils.package_utils', 'mmengine.utils', 'mmengine.config.config', 'mmengine.hub.hub')


def apply() -> None:
    if importlib.util.find_spec('pkg_resources') is not None:
        return
    package_utils = importlib.import_module('mmengine.utils.package_utils')
    if 'pkg_resources' not in package_utils.is_installed.__code__.co_names:
        return
    importlib.import_module('mmengine.config.config')
    for mended in (is_installed, get_installed_path):
        stock = getattr(package_utils, mended.__name__)
        for name in HOLDERS:
            holder = sys.modules.get(name)
            if holder is not None and getattr(holder, mended.__name__, None) is stock:
                setattr(holder, mended.__name__, mended)


def is_installed(package: str) -> bool:
    """Whether ``package`` is the name of an installed distribution or of an importable module with a file."""
    try:
        importlib.metadata.distribution(package)
        return True
    except importlib.metadata.PackageNotFoundError:
        spec = _find_spec(package)
        return spec is not None and spec.origin is not None


def get_installed_path(package: str) -> str:
    """The folder of an installed package, given by its module's or its distribution's name.

    Raises:
        ModuleNotFoundError: nothing of that name is installed.
        RuntimeError: it is a namespace package, which has no folder of its own.
    """
    names = [package]
    try:
        top_level = importlib.metadata.distribution(package).read_text('top_level.txt') or ''
        names += top_level.split()
    except importlib.metadata.PackageNotFoundError:
        pass
    specs = [spec for spec in map(_find_spec, names) if spec is not None]
    for spec in specs:
        if spec.origin is not None:
            return osp.dirname(spec.origin)
    if specs:
        raise RuntimeError(f'{package} is a namespace package: it has no single folder configs could lie in.')
    raise ModuleNotFoundError(f'{package} is not installed, so nothing can be inherited from "{package}::". '
                              f'Install it, or give the path of the base config.')


def _find_spec(name: str):
    try:
        return importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return None
