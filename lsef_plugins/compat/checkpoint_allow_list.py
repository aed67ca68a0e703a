"""Fault: torch >= 2.6 refuses MMEngine's own checkpoints on resume, test and inference.

``torch.load`` there defaults to ``weights_only=True``; MMEngine (up to 0.10.7) stores its log history as
``HistoryBuffer`` objects, which hold numpy arrays and their statistics methods (pickled as
``getattr(HistoryBuffer, 'mean')``), and OneCycle schedulers store their annealing function
(``getattr(OneCycleParamScheduler, '_annealing_cos')``).

Mend: ``torch.serialization.add_safe_globals`` with exactly what such a checkpoint names, under numpy's old
and new module names. The ``getattr`` on the list admits the public plain functions of ``HistoryBuffer`` and the
two annealing functions of the scheduler and nothing else, and torch does not let a checkpoint call what it
returns; of the scheduler's class a checkpoint gets only a mark, not the class. ``weights_only`` stays on: a
file that names anything more is refused as before.

Delete when: mmengine stores its log history as plain numbers, or lists these names itself.
"""
import importlib
import types

ARRAY_MODULES = ('numpy._core.multiarray', 'numpy.core.multiarray')  # numpy 2's name, numpy 1's name
DTYPES = ('Bool', 'Int8', 'Int16', 'Int32', 'Int64', 'UInt8', 'UInt16', 'UInt32', 'UInt64',
          'Float16', 'Float32', 'Float64')
_applied = False


def reason() -> str:
    import torch
    # before torch 2.4 there is neither the list nor the fault
    return ('this torch reads weights only, and MMEngine keeps its log history in checkpoints'
            if hasattr(torch.serialization, 'add_safe_globals') else '')


def apply() -> None:
    global _applied
    if _applied or not reason():
        return
    import torch
    torch.serialization.add_safe_globals(allow_list())
    _applied = True


def allow_list() -> list:
    """Classes and functions a checkpoint of MMEngine names. Each carries the name it has in the file."""
    import numpy as np
    from mmengine.logging.history_buffer import HistoryBuffer
    from mmengine.optim.scheduler.param_scheduler import OneCycleParamScheduler
    multiarray = _multiarray()
    one_cycle = _mark_of(OneCycleParamScheduler)
    restricted_getattr = _named(_known_function_of({
        HistoryBuffer: [name for name in vars(HistoryBuffer) if not name.startswith('_')],
        one_cycle: ['_annealing_cos', '_annealing_linear'],
    }, {one_cycle: OneCycleParamScheduler}), 'builtins', 'getattr')
    allowed = [HistoryBuffer, one_cycle, restricted_getattr, np.ndarray, np.dtype]
    for module in ARRAY_MODULES:
        allowed += [_named(_empty_array(multiarray), module, '_reconstruct'),
                    _named(multiarray.scalar, module, 'scalar')]
    return allowed + dtype_classes()


def dtype_classes() -> list:
    """The classes of numpy's plain types."""
    import numpy as np
    dtypes = getattr(np, 'dtypes', None)  # numpy >= 1.25; older ones have only the classes of instances
    found = ((getattr(dtypes, f'{name}DType', None), name) for name in DTYPES)
    return [cls if cls is not None else type(np.dtype(name.lower())) for cls, name in found]


def _empty_array(multiarray):
    """How numpy begins to read an array: with an empty one, which gets its size together with its bytes."""

    def reconstruct(kind, shape, code):
        if tuple(shape) != (0, ):
            raise ValueError(f'a checkpoint may name arrays with their content, not one of shape {shape}; do not trust '
                             'it.')
        return multiarray._reconstruct(kind, shape, code)

    return reconstruct


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


def _mark_of(cls: type):
    """Stands for a class in a checkpoint without giving it away: it cannot be called."""

    def mark(*args):
        raise ValueError(f'a checkpoint may name functions of {cls.__name__}, not make one; do not trust it.')

    return _named(mark, cls.__module__, cls.__qualname__)


def _known_function_of(known: dict, behind: dict):
    """A ``getattr`` for ``known``, owner to names; ``behind`` gives the classes that marks stand for."""

    def restricted_getattr(owner, name):
        names = next((names for each, names in known.items() if each is owner), ())
        member = vars(behind.get(owner, owner)).get(name) if name in names else None
        member = member.__func__ if isinstance(member, staticmethod) else member
        if not isinstance(member, types.FunctionType):
            raise ValueError('a checkpoint may name public functions of HistoryBuffer and the annealing functions of '
                             f'OneCycleParamScheduler only, but this one asks for {name!r} of {owner!r}; do not '
                             'trust it.')
        return member

    return restricted_getattr
