"""Names in configs, and where the config of a name lies: a path, or ``package::name`` of an installed package.

``mmaction::recognition/tsn/tsn_...py`` is a config of the installed MMAction2, ``lsef_plugins::dfew/lsef_...py`` one of
ours; ``.py`` may be left out.
"""
from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any, Optional

#: Relative to a package: in an installed one, in a checkout, in MMAction2's checkout.
FOLDERS = ('.mim/configs', '.mim/mmaction_configs', '../mmaction_configs', '../configs')


def bare_name(kind: Any) -> Optional[str]:
    """The bare name of a ``type`` in a config: a string with or without a scope, or a class; None of anything else."""
    return kind.rsplit('.', 1)[-1] if isinstance(kind, str) else getattr(kind, '__name__', None)


def config_file(name: str) -> str:
    """The path of a config; a plain path is returned as it came.

    Raises:
        ValueError: the package is not installed, or brings no such config.
    """
    package, marked, rest = str(name).partition('::')
    if not marked:
        return str(name)
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    if spec is None or spec.origin is None:
        raise ValueError(f'{name}: no package {package!r} is installed here. Install it, or give the path of '
                         'the config.')
    folders = [folder for folder in (Path(spec.origin).parent / each for each in FOLDERS) if folder.is_dir()]
    for folder in folders:
        for path in (folder / rest, folder / f'{rest}.py'):
            if path.is_file() and folder.resolve() in path.resolve().parents:
                return str(path.resolve())
    places = ', '.join(str(folder.resolve()) for folder in folders) or f'{package} came without its configs'
    raise ValueError(f'{name}: there is no {rest} ({places}). The name is a path below that folder, such as '
                     'recognition/tsn/tsn_....py.')
