"""Fault: ``_base_ = ['mmaction::...']`` dies with *No module named 'pkg_resources'*.

MMEngine up to 0.10.7 finds installed packages through ``pkg_resources``, which setuptools 82 removed (and whose copies
from before setuptools 66 do not run on Python 3.12). A stub in ``sys.modules`` is not enough, MMEngine reloads the
module. Where it runs, it looks for an editable install of ours in site-packages, where there is only a pointer.

Mend: the two functions (is a package installed, where does it lie) asked of ``importlib`` instead, put
wherever MMEngine holds a reference. Only when ``pkg_resources`` is really of no use.

Bases resolve before ``custom_imports``, so a program that reads such a config has to ``import
lsef_plugins`` first; our ``tools/train.py`` and ``tools/test.py`` do.

Delete when: the oldest supported mmengine no longer imports ``pkg_resources``.
"""
import importlib.metadata
import importlib.util
import os.path as osp
import sys

HOLDERS = ('mmengine.utils.package_utils', 'mmengine.utils', 'mmengine.config.config', 'mmengine.hub.hub')


def reason() -> str:
    package_utils = importlib.import_module('mmengine.utils.package_utils')
    stock = package_utils.is_installed
    if stock is not is_installed and 'pkg_resources' not in stock.__code__.co_names:
        return ''
    if importlib.util.find_spec('pkg_resources') is None:
        return 'MMEngine looks packages up with pkg_resources, which this setuptools does not have'
    if sys.version_info >= (3, 12) and not _runs_today():
        return "MMEngine looks packages up with pkg_resources, whose installed copy is too old for this Python"
    if not _lies_where_it_is_looked_for('lsef_plugins'):
        return 'MMEngine looks for lsef_plugins in site-packages, but it is installed from a checkout'
    return ''


def _runs_today() -> bool:
    """Whether the setuptools that has pkg_resources is one for Python 3.12 (66.1 is the first)."""
    try:
        return int(importlib.metadata.version('setuptools').split('.')[0]) >= 67
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return False


def _lies_where_it_is_looked_for(package: str) -> bool:
    try:
        place = importlib.metadata.distribution(package).locate_file(package)
    except importlib.metadata.PackageNotFoundError:
        return True  # pkg_resources finds none either, and MMEngine then asks importlib itself
    return osp.isdir(str(place))


def apply() -> None:
    if not reason():
        return
    package_utils = importlib.import_module('mmengine.utils.package_utils')
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
