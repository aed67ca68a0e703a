"""Fault: torch >= 2.6 refuses MMEngine's own checkpoints on resume, test and inference.

``torch.load`` there defaults to ``weights_only=True``; MMEngine (up to 0.10.7) stores its log history as
``HistoryBuffer`` objects, which hold numpy arrays and their statistics methods (pickled as
``getattr(HistoryBuffer, 'mean')``).

Mend: ``torch.serialization.add_safe_globals`` with exactly what such a checkpoint names, under numpy's old
and new module names. The ``getattr`` on the list admits the public plain functions of ``HistoryBuffer``
and nothing else, and torch does not let a checkpoint call what it returns. ``weights_only`` stays on: a
file that names anything more is refused as before.

Delete when: mmengine stores its log history as plain numbers, or lists these names itself.
"""
import importlib
import types

ARRAY_MODULES = ('numpy._core.multiarray', 'numpy.core.multiarray')  # numpy 2's name, numpy 1's name
DTYPES = ('Bool', 'Int8', 'Int16', 'Int32', 'Int64', 'UInt8', 'UInt16', 'UInt32', 'UInt64',
          'Float16', 'Float32', 'Float64')
_applied = False


def apply() -> None:
    global _applied
    import torch
    add_safe_globals = getattr(torch.serialization, 'add_safe_globals', None)
    if _applied or add_safe_globals is None:  # before torch 2.4 there is neither the list nor the fault
        return
    add_safe_globals(allow_list())
    _applied = True


def allow_list() -> list:
    """Classes and functions a checkpoint of MMEngine names. Each carries the name it has in the file."""
    import numpy as np
    from mmengine.logging.history_buffer import HistoryBuffer
    multiarray = _multiarray()
    restricted_getattr = _named(_public_function_of(HistoryBuffer), 'builtins', 'getattr')
    allowed = [HistoryBuffer, restricted_getattr, np.ndarray, np.dtype]
    for module in ARRAY_MODULES:
        allowed += [_named(multiarray._reconstruct, module, '_reconstruct'),
                    _named(multiarray.scalar, module, 'scalar')]
    dtypes = getattr(np, 'dtypes', None)  # numpy >= 1.25; older ones have only the classes of instances
    for name in DTYPES:
        found = getattr(dtypes, f'{name}DType', None)
        allowed.append(found if found is not None else type(np.dtype(name.lower())))
    return allowed


def _multiarray():
    for module in ARRAY_MODULES:
        try:
            return importlib.import_module(module)
        except ImportError:
            continue
    raise ImportError(f'numpy has none of the modules {ARRAY_MODULES}; checkpoints cannot be read.')


def _named(function, module: str, name: str):
    """The same function under the name the checkpoint uses (torch compares module and qualified name)."""

    def stand_in(*args):
        return function(*args)

    stand_in.__module__, stand_in.__name__, stand_in.__qualname__ = module, name, name
    return stand_in


def _public_function_of(cls: type):

    def restricted_getattr(owner, name):
        member = vars(cls).get(name) if isinstance(name, str) else None
        if owner is not cls or name.startswith('_') or not isinstance(member, types.FunctionType):
            raise ValueError(f'a checkpoint may name public functions of {cls.__name__} only, but this one '
                             f'asks for {name!r} of {owner!r}; do not trust it.')
        return member

    return restricted_getattr
