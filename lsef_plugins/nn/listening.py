"""What the LSEF modules of a model find, heard while it runs: for logging and scoring, never for training.

SEM and DDM are called as modules wherever an :class:`LSEF` is, in a neck, in a head or in a backbone of one's own;
hooks on them hear every decomposition and change none. They are there only between :meth:`Listener.open` and
:meth:`Listener.close`: a model that nobody listens to is the model itself.

Axes: ``b`` clips, ``c`` channels, ``t`` frames, ``n`` positions (h w).
"""
import re
from typing import Any, Callable, Dict, List, NamedTuple, Optional

import torch
from torch import Tensor, nn

from .dynamics import TransientPart
from .lsef import LSEF
from .stability import StablePart

# DDP, EMA and torch.compile put names of their own in front.
WRAPPERS = re.compile(r'^((module|_orig_mod)(\.|$))+')
# Necks keep their modules in streams.<map>, heads in poolings.<map>.separation.
CONTAINER = re.compile(r'(?:^|\.)(?:streams|poolings)\.(\d+)(?:\.separation)?$')


class Heard(NamedTuple):
    """One decomposition: the features ``x`` ``(b, c, t, n)`` as SEM and DDM saw them (up to a power of two per clip),
    and what each of the two made of them; None where that part is switched off. ``kappa``: DDM's, ``(1, c, 1, 1)``;
    ``rank``: the largest the stable part may have, 0 without SEM; all frames for a stable part that does not tell."""
    x: Tensor
    stable: Optional[StablePart]
    transient: Optional[TransientPart]
    kappa: Optional[Tensor]
    rank: int = 0


class Listener:
    """Hears each decomposition of a model as it is made.

    Args:
        model: any module.
        on_heard: called with the name of the place and a :class:`Heard`, in the middle of the forward pass, without
            gradients and (LSEF sees to that) without autocast: it must not write into what it is handed.
    """

    def __init__(self, model: nn.Module, on_heard: Callable[[str, Heard], None]) -> None:
        self.places = decompositions_of(model)
        self.on_heard = on_heard
        self._handles: List[Any] = []

    def open(self) -> None:
        """Begins to listen; a second call changes nothing."""
        if self._handles:
            return
        for name, lsef in self.places.items():
            hooks = _Hooks(name, lsef, self.on_heard)
            if lsef.sem is not None:
                self._handles.append(lsef.sem.register_forward_hook(hooks.on_sem))
            if lsef.ddm is not None:
                self._handles.append(lsef.ddm.register_forward_hook(hooks.on_ddm))

    def close(self) -> None:
        """Leaves the model as it was."""
        while self._handles:
            self._handles.pop().remove()


class _Hooks:
    """What is heard at one place. SEM comes first, and its part waits for DDM's where there is one."""

    def __init__(self, name: str, lsef: LSEF, on_heard: Callable[[str, Heard], None]) -> None:
        self.name, self.ddm, self.on_heard = name, lsef.ddm, on_heard
        self.rank: Optional[int] = 0 if lsef.sem is None else lsef.sem.rank
        self.waiting: Optional[StablePart] = None

    def on_sem(self, module: nn.Module, args: Any, output: StablePart) -> None:
        if self.ddm is None:
            self._tell(args[0], output, None)
        else:
            self.waiting = output

    def on_ddm(self, module: nn.Module, args: Any, output: TransientPart) -> None:
        stable, self.waiting = self.waiting, None
        self._tell(args[0], stable, output)

    @torch.no_grad()
    def _tell(self, x: Tensor, stable: Optional[StablePart], transient: Optional[TransientPart]) -> None:
        kappa = None if self.ddm is None else self.ddm.kappa
        self.on_heard(self.name, Heard(x.detach(), _detached(stable), _detached(transient),
                                       None if kappa is None else kappa.detach(),
                                       x.shape[2] if self.rank is None else self.rank))


def _detached(part: Any) -> Any:
    if part is None:
        return None
    return part._replace(**{key: value.detach() for key, value in part._asdict().items() if value is not None})


def decompositions_of(model: nn.Module) -> Dict[str, LSEF]:
    """The LSEF modules of a model that separate anything, by the names of their places.

    A place is the dotted path in the model without wrappers and containers: ``neck``, ``cls_head``; where there are
    several maps ``neck.0`` and ``neck.1``. CIM alone separates nothing and has no place.
    """
    found = {WRAPPERS.sub('', name): module for name, module in model.named_modules()
             if isinstance(module, LSEF) and (module.sem is not None or module.ddm is not None)}
    owners = [CONTAINER.split(name)[0] for name in found]
    named = {}
    for name, owner, module in zip(found, owners, found.values()):
        number = CONTAINER.search(name)
        alone = number is None or owners.count(owner) == 1
        place = owner if alone else f'{owner}.{number.group(1)}'     # type: ignore[union-attr]
        named[place.lstrip('.') or 'lsef'] = module
    return named
