"""Fault: torch before 2.4 cannot be told that weights come with MMEngine's log history; 2.4 and 2.5 have another list
than 2.6, which these repairs were written against.

Mend: a reader of pickles for ``torch.load(..., pickle_module=MODULE)``, the other half of :mod:`weights_only`, which
uses it before torch 2.6. What a file may do:

- name what torch's own list of weights and :func:`checkpoint_allow_list.allow_list` hold; nothing is imported
- call the functions of these lists (not what such a call returns), with plain arrays of numbers as the only arrays
- fill in tensors, dictionaries, arrays and log histories that it has made; no class and no function

Delete when: torch 2.6 is the oldest supported.
"""
import _compat_pickle
import io
import pickle
import types
from collections import OrderedDict
from typing import Any

import numpy as np

from . import checkpoint_allow_list

REFUSED = (pickle.INST, pickle.OBJ, pickle.NEWOBJ_EX, pickle.EXT1, pickle.EXT2, pickle.EXT4, pickle.NEXT_BUFFER,
           pickle.READONLY_BUFFER)


def known_globals() -> dict:
    """What a checkpoint may name, by the name it has in the file."""
    from torch import _weights_only_unpickler as torchs
    ours = {f'{item.__module__}.{item.__qualname__}': item for item in checkpoint_allow_list.allow_list()}
    return {**torchs._get_allowed_globals(), **ours}


_Base: Any = pickle._Unpickler      # type: ignore[attr-defined]


class Unpickler(_Base):
    """See the module. torch derives from it, and keeps the names of storages to itself."""
    dispatch: dict = dict(_Base.dispatch)

    def __init__(self, file: Any, **options: Any) -> None:
        super().__init__(file, **options)
        self._known = known_globals()
        self.proto = 0

    def find_class(self, module: str, name: str) -> Any:
        if self.proto < 3:      # written with the names of Python 2
            module = _compat_pickle.IMPORT_MAPPING.get(module, module)
        known = self._known.get(f'{module}.{name}')
        if known is None:
            raise pickle.UnpicklingError(f'Unsupported GLOBAL {module}.{name}')
        return known

    def load_reduce(self) -> None:
        arguments = self.stack.pop()
        function = self.stack[-1]
        if not any(function is each for each in self._known.values()):
            raise pickle.UnpicklingError(f'A call of {function!r} is no part of weights')
        self.stack[-1] = _plain(function(*arguments))
    dispatch[pickle.REDUCE[0]] = load_reduce

    def load_newobj(self) -> None:
        arguments = self.stack.pop()
        kind = self.stack.pop()
        if kind not in _made_empty() or arguments:
            raise pickle.UnpicklingError(f'An object of {kind!r} is no part of weights')
        self.append(kind.__new__(kind))
    dispatch[pickle.NEWOBJ[0]] = load_newobj

    def load_build(self) -> None:
        state = self.stack.pop()
        made = self.stack[-1]
        if not isinstance(made, np.dtype) and type(made) not in _filled_in():
            raise pickle.UnpicklingError(f'Filling in an object of class {type(made).__module__}.{type(made).__name__} '
                                         'is no part of weights')
        if isinstance(made, dict) or not hasattr(made, '__setstate__'):
            made.__dict__.update(state)
        else:
            made.__setstate__(state)
        _plain(made)
    dispatch[pickle.BUILD[0]] = load_build

    def load_refused(self) -> None:
        raise pickle.UnpicklingError('Unsupported operation of pickle')
    dispatch.update(dict.fromkeys([code[0] for code in REFUSED], load_refused))


def _made_empty() -> tuple:
    from mmengine.logging.history_buffer import HistoryBuffer
    return (HistoryBuffer, )


def _filled_in() -> tuple:
    """Types whose objects may be given a state, besides types of arrays."""
    import torch
    return (*_made_empty(), OrderedDict, np.ndarray, torch.Tensor, torch.nn.Parameter)


def _plain(made: Any) -> Any:
    """Refuses types of arrays that hold objects or parts: those have pickles of their own inside."""
    kind = made if isinstance(made, np.dtype) else made.dtype if isinstance(made, (np.ndarray, np.generic)) else None
    if kind is not None and kind.kind not in 'biuf':
        raise pickle.UnpicklingError(f'An array of class numpy.{kind} is no part of weights')
    return made


def load(file: Any, **options: Any) -> Any:
    return Unpickler(file, **options).load()


def loads(content: bytes, **options: Any) -> Any:
    return Unpickler(io.BytesIO(content), **options).load()


MODULE = types.SimpleNamespace(__name__=__name__, Unpickler=Unpickler, load=load, loads=loads)
