"""MMAction2: is it there, can the pack register itself, and which repairs act here, and why."""
import importlib.util
import os
from typing import Iterator

from .findings import FAULT, NOTE, Finding


def host() -> Iterator[Finding]:
    if importlib.util.find_spec('mmaction') is None:
        yield Finding('MMAction2', 'not installed: the PyTorch half works alone', NOTE)
        return
    if os.environ.get('LSEF_PLUGINS_REGISTER') == '0':
        yield Finding('MMAction2', 'kept out by LSEF_PLUGINS_REGISTER=0', NOTE)
        return
    from ..components import registered
    from ..register_all import register_all
    try:
        register_all()
    except ImportError as error:
        yield Finding('MMAction2', ' '.join(str(error).split()), FAULT)
        return
    yield Finding('MMAction2', f'{len(registered())} components of the pack are registered')
    from ..compat import reasons
    for name, reason in reasons().items():
        if reason:
            yield Finding(name, f'acts: {reason}')
    idle = [name for name, reason in reasons().items() if not reason]
    yield Finding('not needed here', ', '.join(idle) or 'none')


def is_usable() -> bool:
    """Whether MMAction2 is there and the pack has registered itself."""
    from ..components import registered
    return (importlib.util.find_spec('mmaction') is not None and os.environ.get('LSEF_PLUGINS_REGISTER') != '0'
            and bool(registered()))
