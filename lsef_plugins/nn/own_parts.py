r"""A stable or a transient part of the user's own inside :class:`lsef_plugins.nn.LSEF`.

The contract is one tensor in, one tensor out; everything else that CIM, the auxiliary losses, the hooks and the
pictures read is derived here:

.. math::  \ell = \text{stable}(x), \qquad s = \text{transient}(x,\ \ell,\ g), \qquad x = \ell + s + \text{residual}

Axes: ``b`` clips, ``c`` channels, ``t`` frames, ``n`` positions (h w).
"""
import inspect
from typing import Any, Dict, Mapping, Optional, Tuple, Union

import torch
from torch import Tensor, nn

from ..functional.decomposition import apply_over_time, clip_gram
from ..ops import noise_scale
from .dynamics import DynamicDecouplingModule, TransientPart
from .stability import StabilityEncodingModule, StablePart

Switch = Union[bool, Mapping[str, Any]]


class OwnStablePart(nn.Module):
    """A module of the user's in the place of SEM.

    ``module(x)`` returns the stable part ``(b, c, t, n)`` of features ``x`` ``(b, c, t, n)``, or a pair of it and a
    frame gate ``(b, t)`` in [0, 1], 1 = a bad frame, which the transient part then leaves out.

    Attributes:
        rank: the module's own ``rank``, or None: not known.
    """
    rao_role = 'stable'

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        rank = getattr(module, 'rank', None)
        self.rank: Optional[int] = rank if isinstance(rank, int) and not isinstance(rank, bool) else None

    def forward(self, x: Tensor) -> StablePart:
        """The stable part; ``operator`` is the identity and ``gram`` that of the *stable part*, so that
        ``operator gram operator^T`` is the Gram matrix of the stable part, as it is of SEM's."""
        found = self.module(x)
        stable, gate = found if isinstance(found, tuple) and len(found) == 2 else (found, None)
        _check(self.module, 'the stable part', stable, x.shape)
        if gate is None:
            gate = x.new_zeros(len(x), x.shape[2])
        else:
            _check(self.module, 'the frame gate (b, t)', gate, (len(x), x.shape[2]))
        g = clip_gram(stable)
        operator = torch.eye(x.shape[2], dtype=g.dtype, device=g.device).expand_as(g)
        return StablePart(stable.to(x.dtype), operator, g, gate.to(g.dtype))


class OwnTransientPart(nn.Module):
    """A module of the user's in the place of DDM.

    ``module(x, stable, frame_gate)`` returns the transient part ``(b, c, t, n)``; ``frame_gate`` ``(b, t)`` is None
    without a stable part. CIM pools what it returns at each window without another threshold, with its own limit in
    robust standard deviations of ``x - stable``.
    """
    rao_role = 'transient'
    exponent = 2.0
    kappa: Optional[Tensor] = None

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor, stable: Tensor, frame_gate: Optional[Tensor] = None) -> TransientPart:
        found = self.module(x, stable, frame_gate)
        _check(self.module, 'the transient part', found, x.shape)
        transient = found.to(x.dtype)
        scale = noise_scale(x - stable, x)
        return TransientPart(transient, transient, scale, torch.zeros_like(scale))

    def splits(self, x: Tensor) -> bool:
        """False: no compiled operator knows what the module does."""
        return False

    def without(self, x: Tensor, operator: Tensor) -> Tensor:
        """``x`` without the transient beside ``operator x``; no frame is gated."""
        return x - self.forward(x, apply_over_time(operator, x)).transient


def stable_part(sem: Switch, channels: int, rank: int) -> Union[StabilityEncodingModule, OwnStablePart, None]:
    """What LSEF's ``sem`` asks for: SEM, a module of the user's, or nothing."""
    if sem is False:
        return None
    own = own_part('sem', sem, dict(channels=channels, rank=rank))
    if own is None:
        return StabilityEncodingModule(**{'rank': rank, **arguments_of('sem', sem, StabilityEncodingModule)})
    # A child of SEM makes its part by an operator over time, as SEM does: nothing has to be derived.
    return own if isinstance(own, StabilityEncodingModule) else OwnStablePart(own)


def transient_part(ddm: Switch, channels: int) -> Union[DynamicDecouplingModule, OwnTransientPart, None]:
    """What LSEF's ``ddm`` asks for: DDM, a module of the user's, or nothing."""
    if ddm is False:
        return None
    own = own_part('ddm', ddm, dict(channels=channels))
    if own is None:
        return DynamicDecouplingModule(channels, **arguments_of('ddm', ddm, DynamicDecouplingModule))
    return own if isinstance(own, DynamicDecouplingModule) else OwnTransientPart(own)


def arguments_of(name: str, switch: Switch, cls: type) -> Dict[str, Any]:
    """The arguments that ``switch``, True or a dict of them, gives to one of the pack's own modules."""
    if switch is True:
        return {}
    if not isinstance(switch, Mapping):
        raise ValueError(f'{name} is True, False or a dict of arguments, got {switch!r}.')
    # What LSEF itself hands over is not the user's to give.
    known = [key for key in inspect.signature(cls).parameters if key not in ('channels', 'stable', 'transient')]
    unknown = [key for key in switch if key not in known]
    if unknown:
        raise ValueError(f'{name} does not know {", ".join(map(repr, unknown))}; {cls.__name__} takes '
                         f'{", ".join(known)}.')
    return dict(switch)


def own_part(name: str, switch: Any, given: Mapping[str, Any]) -> Optional[nn.Module]:
    """The module that ``switch``, ``dict(type=<class>, ...)``, asks for; None if it names no class of its own.

    Args:
        name: ``sem`` or ``ddm``, for errors.
        given: arguments that LSEF hands over where the class takes them (``channels``, ``rank``); the switch wins.

    Raises:
        ValueError: ``type`` is no ``nn.Module`` class, or the class does not take the arguments.
    """
    if not isinstance(switch, Mapping) or 'type' not in switch:
        return None
    cls, options = _taken_apart(name, switch)
    # A class without an __init__ of its own has nn.Module's, which names anything and takes nothing.
    plain = getattr(cls, '__init__') is nn.Module.__init__  # noqa: B009
    parameters = {} if plain else dict(inspect.signature(cls).parameters)
    anything = any(each.kind is each.VAR_KEYWORD for each in parameters.values())
    unknown = [key for key in options if key not in parameters and not anything]
    if unknown:
        raise ValueError(f'{name}=dict(type={cls.__name__}, ...) was given {", ".join(map(repr, unknown))}, and '
                         f'{cls.__name__} takes {", ".join(parameters) or "no arguments"}.')
    return cls(**{**{key: value for key, value in given.items() if key in parameters}, **options})


def _taken_apart(name: str, switch: Mapping[str, Any]) -> Tuple[type, Dict[str, Any]]:
    options = dict(switch)
    cls = options.pop('type')
    if not (inspect.isclass(cls) and issubclass(cls, nn.Module)):
        raise ValueError(f'{name}=dict(type=...) takes a class of torch.nn.Module here, got {cls!r}. In a config of '
                         'MMEngine it may be the name of one: register it with @MODELS.register_module() of '
                         'lsef_plugins.registry and import its file in custom_imports.')
    return cls, options


def _check(module: nn.Module, what: str, found: Any, shape: Any) -> None:
    if not isinstance(found, Tensor) or found.shape != torch.Size(shape):
        came = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise ValueError(f'{type(module).__name__} must return {what}, a tensor of shape {tuple(shape)}, got {came}. '
                         'The features come as (b, c, t, n), positions on the last axis.')
