"""RAO in a config: one more word in ``optim_wrapper``.

::

    optim_wrapper = dict(constructor='RAO', optimizer=dict(type='SGD', lr=0.01, momentum=0.9))

Everything else stays what it is: the optimizer, its groups (made by ``base_constructor``), clipping, accumulation,
mixed precision, schedulers.
"""
import inspect
import logging
from typing import Any, Dict, Optional, Tuple, Type

from mmengine.logging import print_log
from mmengine.optim import DefaultOptimWrapperConstructor, OptimWrapper
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS as ALL_CONSTRUCTORS
from torch import nn, optim

from lsef_plugins.optim import Damping, RankAwareGradients, Schedule
from lsef_plugins.optim.matrices import LARGEST_SIDE, Matrix
from lsef_plugins.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS

from .roles import ROLES, check_role, roles_of, treated_matrices
from .wrapper import rank_aware

OF_DAMPING = ('target_rank', 'kappa', 'smoothing', 'decay', 'size')
OF_SCHEDULE = ('interval', 'warmup', 'solver', 'average_dtype')
#: They divide each element by its own size, which undoes what RAO does to the spectrum.
ELEMENTWISE = (optim.Adam, optim.AdamW, optim.Adamax, optim.NAdam, optim.RAdam, optim.Adagrad, optim.Adadelta,
               optim.RMSprop)
OWN = ('roles', 'include', 'exclude', 'largest_side', 'log_interval', 'enabled')


@OPTIM_WRAPPER_CONSTRUCTORS.register_module(name=['RAO', 'RankAwareOptimWrapperConstructor'])
class RankAwareOptimWrapperConstructor:
    r"""RAO: damps the spectra of the hidden matrices' gradients before the optimizer of your choice sees them.

    Args:
        optim_wrapper_cfg: that of any optimizer wrapper, and

            - ``base_constructor``: name or config of the constructor that builds the wrapper and sorts parameters into
              groups, by default MMEngine's.
            - ``rao``: a dict of ``target_rank``, ``kappa``, ``smoothing``, ``decay``, ``size``
              (:class:`lsef_plugins.optim.Damping`), ``interval``, ``warmup``, ``solver``, ``average_dtype``
              (:class:`lsef_plugins.optim.Schedule`); ``roles``, changes for single roles
              (``roles=dict(merge=dict(target_rank=0.3), stable=False)``; False: not treated); ``include`` and
              ``exclude``, parts of parameter names; ``largest_side`` of a matrix; ``log_interval`` in steps;
              ``enabled``.
        paramwise_cfg: goes to the base constructor.

    With nothing to treat the wrapper is the stock one.

    Source:
        Ours; arXiv:2511.11406 (abstract) names rank-aware optimisation and its aim, smoothness against sensitivity.
    """

    def __init__(self, optim_wrapper_cfg: dict, paramwise_cfg: Optional[dict] = None) -> None:
        if not isinstance(optim_wrapper_cfg, dict):
            raise ValueError(f'optim_wrapper is a dict with an optimizer in it, got {optim_wrapper_cfg!r}.')
        self.optim_wrapper_cfg = dict(optim_wrapper_cfg)
        self.paramwise_cfg = paramwise_cfg
        self.base = self._base_of(self.optim_wrapper_cfg.pop('base_constructor', None))
        self._read(self.optim_wrapper_cfg.pop('rao', None))
        self.wrapper: Any = self._wrapper_of(self.optim_wrapper_cfg.get('type', OptimWrapper))

    @staticmethod
    def _base_of(base: Any) -> Dict[str, Any]:
        base = dict(base) if isinstance(base, dict) else dict(type=base or DefaultOptimWrapperConstructor)
        if isinstance(base.get('type'), str):
            found = OPTIM_WRAPPER_CONSTRUCTORS.get(base['type'])
            if found is None:
                known = sorted({*OPTIM_WRAPPER_CONSTRUCTORS.module_dict, *ALL_CONSTRUCTORS.module_dict} - {'RAO'})
                raise ValueError(f'base_constructor {base["type"]!r} does not exist. There are {", ".join(known)}; one '
                                 'of your own must be imported (custom_imports).')
            base['type'] = found
        if not inspect.isclass(base.get('type')) or issubclass(base['type'], RankAwareOptimWrapperConstructor):
            raise ValueError(f'base_constructor is the constructor RAO builds on, any but itself, got {base!r}.')
        return base

    def _read(self, options: Any) -> None:
        if options is not None and not isinstance(options, dict):
            raise ValueError(f'rao is a dict of options such as dict(target_rank=0.5), got {options!r}.')
        options = dict(options or {})
        unknown = sorted(set(options) - {*OF_DAMPING, *OF_SCHEDULE, *OWN})
        if unknown:
            raise ValueError(f'rao does not know {", ".join(unknown)}. It takes '
                             f'{", ".join((*OF_DAMPING, *OF_SCHEDULE, *OWN))}.')
        everywhere = Damping().changed({key: options[key] for key in OF_DAMPING if key in options})
        self.damping = dict.fromkeys(ROLES, everywhere)
        for role, changes in (options.get('roles') or {}).items():
            check_role(role, 'The role in rao.roles')
            off = dict(target_rank=None, kappa=None, smoothing=0.0, size=None)
            self.damping[role] = everywhere.changed(off if changes in (False, None) else changes)
        self.schedule = Schedule(**{key: options[key] for key in OF_SCHEDULE if key in options})
        self.selection: Dict[str, Any] = dict(include=_names(options, 'include'), exclude=_names(options, 'exclude'),
                              largest_side=_count(options, 'largest_side', LARGEST_SIDE))
        self.log_interval = _count(options, 'log_interval', 10)
        self.enabled = bool(options.get('enabled', True))

    @staticmethod
    def _wrapper_of(kind: Any) -> Type[OptimWrapper]:
        cls = OPTIM_WRAPPERS.get(kind) if isinstance(kind, str) else kind
        name = kind if isinstance(kind, str) else getattr(kind, '__name__', repr(kind))
        if cls is None:
            raise ValueError(f'optim_wrapper.type {kind!r} does not exist.')
        if 'DeepSpeed' in name or 'ColossalAI' in name or not issubclass(cls, OptimWrapper):
            raise ValueError(f'RAO cannot work in {name}: DeepSpeed and ColossalAI step the optimizer themselves, on '
                             "parts of gradients. Train with DDP (type='OptimWrapper' or 'AmpOptimWrapper'), or leave "
                             "out constructor='RAO'.")
        return cls

    def __call__(self, model: nn.Module) -> OptimWrapper:
        must_be_whole(model, self.optim_wrapper_cfg)
        model = getattr(model, 'module', model)
        matrices, roles = self._treated(model)
        cfg = dict(self.optim_wrapper_cfg, type=rank_aware(self.wrapper) if matrices else self.wrapper)
        wrapper = OPTIM_WRAPPER_CONSTRUCTORS.build(dict(self.base, optim_wrapper_cfg=cfg,
                                                        paramwise_cfg=self.paramwise_cfg))(model)
        if matrices:
            optimized = {id(p) for group in wrapper.optimizer.param_groups for p in group['params']}
            matrices = {name: matrix for name, matrix in matrices.items() if id(matrix.parameter) in optimized}
            rao = RankAwareGradients(matrices, self.damping, roles, self.schedule)
            wrapper.install(rao, self.log_interval)
            self._tell(rao, wrapper.optimizer)
        else:
            print_log('RAO treats no matrix of this model: the optimizer wrapper is the stock one.', 'current')
        return wrapper

    def _treated(self, model: nn.Module) -> Tuple[Dict[str, Matrix], Dict[str, str]]:
        """The matrices whose gradients will be changed, and their roles."""
        if not self.enabled:
            return {}, {}
        matrices = treated_matrices(model, **self.selection)
        roles = roles_of(model, matrices)
        return {name: matrix for name, matrix in matrices.items()
                if not self.damping[roles[name]].does_nothing}, roles

    @staticmethod
    def _tell(rao: RankAwareGradients, optimizer: optim.Optimizer) -> None:
        counts: Dict[str, int] = {}
        for role, stack in zip(rao.roles, rao.stacks):
            counts[role] = counts.get(role, 0) + len(stack.names)
        told = ', '.join(f'{count} {role}' for role, count in counts.items())
        print_log(f'RAO treats {len(rao)} matrices ({told}) in {len(rao.stacks)} stacks.', 'current')
        if isinstance(optimizer, ELEMENTWISE):
            print_log(f'RAO beside {type(optimizer).__name__} has gained nothing in our study: it divides each element '
                      "by its own size, which undoes RAO. Take SGD (with a learning rate for it), or leave out "
                      "constructor='RAO'.", 'current', logging.WARNING)


def must_be_whole(model: nn.Module, cfg: dict) -> None:
    """Refuses shards: a spectrum is that of a whole matrix.

    Raises:
        ValueError: the parameters are spread over processes.
    """
    spread = cfg.get('use_fsdp') or any(
        cls.__name__.endswith('FullyShardedDataParallel') or cls.__name__ == 'FSDPModule'
        for module in model.modules() for cls in type(module).__mro__)
    if spread or any(type(p).__name__ == 'DTensor' for p in model.parameters()):
        raise ValueError('RAO needs whole gradient matrices, but the parameters of this model are spread over '
                         "processes (FSDP). Train it with DDP, or leave out constructor='RAO'.")


def _names(options: dict, key: str) -> tuple:
    value = options.get(key) or ()
    if isinstance(value, str) or not all(isinstance(each, str) and each for each in value):
        raise ValueError(f"rao.{key} is a list of parts of parameter names such as ['backbone.layer4'], got {value!r}.")
    return tuple(value)


def _count(options: dict, key: str, default: int) -> int:
    value = options.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f'rao.{key} is a whole number of at least 1, got {value!r}.')
    return value
