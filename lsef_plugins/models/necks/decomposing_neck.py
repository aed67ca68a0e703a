"""What all necks of the pack share: one module of :mod:`lsef_plugins.nn` for each map, and its auxiliary losses."""
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple, Union

import torch
from torch import Tensor, nn

from lsef_plugins.nn import LSEF
from lsef_plugins.nn.own_parts import OwnStablePart
from lsef_plugins.registry import MODELS

from .sited_neck import Losses, SitedNeck

Channels = Union[int, Sequence[int], None]


class DecomposingNeck(SitedNeck):
    """Base of necks that run an :class:`lsef_plugins.nn.LSEF`, or a part of it, on each map of their site.

    A subclass names the ``auxiliary_losses`` it can compute and calls ``build_streams`` at construction.

    Args:
        in_channels: channels of each feature map; by default those of the site.
        num_segments: segments of *one* clip, for Recognizer2D.
        site: a place of the user's own.
        aux_loss: weights of auxiliary losses by name.
    """
    auxiliary_losses: Tuple[str, ...] = ()

    def __init__(self, in_channels: Channels = None, num_segments: Optional[int] = None,
                 site: Optional[Mapping[str, Any]] = None, aux_loss: Optional[Mapping[str, float]] = None,
                 init_cfg: Optional[Mapping] = None) -> None:
        super().__init__(check_channels(in_channels, type(self).__name__), init_cfg)
        self.num_segments = num_segments
        self.site = None if site is None else dict(site)
        if num_segments is not None and not (_is_number(num_segments, int) and num_segments >= 1):
            raise ValueError(f'num_segments counts the segments of one clip, an integer >= 1, got {num_segments!r}.')
        self.weights = self._checked_weights(aux_loss)

    def _checked_weights(self, aux_loss: Optional[Mapping[str, float]]) -> Dict[str, float]:
        if not isinstance(aux_loss or {}, Mapping):
            raise ValueError(f'aux_loss is a dict of weights such as dict(rank=0.01), got {aux_loss!r}.')
        weights: Dict[str, float] = dict(aux_loss or {})
        unknown = sorted(set(weights) - set(self.auxiliary_losses))
        if unknown:
            raise ValueError(f'aux_loss knows {", ".join(self.auxiliary_losses)}; got {", ".join(unknown)}.')
        if not all(_is_number(weight, (int, float)) for weight in weights.values()):
            raise ValueError(f'The weights of aux_loss are numbers, got {weights}.')
        return weights

    def build_streams(self, sem: Any = True, ddm: Any = True, **options: Any) -> None:
        """One LSEF for each map, each with the same options.

        ``sem`` and ``ddm`` may name a registered module of the user's: ``sem=dict(type='MyStable', ...)``.
        """
        sem, ddm = _class_named('sem', sem), _class_named('ddm', ddm)
        self.streams: Any = nn.ModuleList(LSEF(c, sem=sem, ddm=ddm, **options) for c in self.in_channels)
        stable: Any = self.streams[0].sem
        if isinstance(stable, OwnStablePart):
            lost = [name for name in ('rank', 'consistency') if self.weights.get(name)
                    and (name == 'consistency' or stable.rank is None)]
            if lost:
                raise ValueError(
                    f'aux_loss {", ".join(lost)} cannot be computed of {type(stable.module).__name__}: consistency '
                    "needs SEM or a child of it, rank a stable part with an integer attribute 'rank'. Drop the weight.")

    def init_weights(self) -> None:
        """The host's initialisation, after which the neck is the identity again unless ``init_cfg`` is given."""
        super().init_weights()
        if self.init_cfg is None:
            for stream in self.streams:
                stream.reset_identity()

    def rewrite(self, maps: List[Tensor]) -> Tuple[List[Tensor], Losses]:
        outputs, collected = [], []
        for stream, x in zip(self.streams, maps):
            y, parts = stream.run(x)
            outputs.append(y)
            if self.training and self.auxiliary_losses:
                collected.append(self._auxiliary(stream, parts))
        return outputs, self._losses_of(collected)

    def _auxiliary(self, stream: LSEF, parts) -> Dict[str, Tensor]:
        with torch.set_grad_enabled(torch.is_grad_enabled() and any(self.weights.values())):
            return stream.auxiliary(parts)

    def _losses_of(self, collected: List[Dict[str, Tensor]]) -> Losses:
        losses: Losses = {}
        for name in self.auxiliary_losses:
            values = [each[name] for each in collected if name in each and each[name].numel()]
            if not values:
                continue
            value = torch.stack([v.mean() for v in values]).mean().float()
            losses[f'lsef/{name}'] = value.detach()
            if self.weights.get(name):
                losses[f'loss_lsef_{name}'] = self.weights[name] * value
        return losses


def _class_named(name: str, switch: Any) -> Any:
    """``switch`` with the class in the place of its registered name."""
    if not (isinstance(switch, Mapping) and isinstance(switch.get('type'), str)):
        return switch
    cls = MODELS.get(switch['type'])
    if cls is None:
        raise ValueError(f"{name}=dict(type={switch['type']!r}) names no registered module. Decorate its class with "
                         '@MODELS.register_module() of lsef_plugins.registry and import its file in the config: '
                         "custom_imports=dict(imports=['lsef_plugins', '<your module>']).")
    return {**switch, 'type': cls}


def _is_number(value: Any, kind: Any) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


def check_channels(in_channels: Channels, name: str = 'LSEFNeck') -> Tuple[int, ...]:
    if in_channels is None:
        raise ValueError(
            f'{name} needs in_channels: it takes them from the recognizer it is built in, and here there is none, or '
            f"it has no cls_head yet, or its head does not tell. Set neck=dict(type='{name}', in_channels=<channels "
            'of the feature map>); with a site of your own, site=dict(..., channels=<channels>).')
    channels = (in_channels, ) if isinstance(in_channels, int) else tuple(in_channels)
    if not channels or not all(isinstance(c, int) and c > 0 for c in channels):
        raise ValueError(f'in_channels is a positive integer, or one for each feature map, got {in_channels!r}.')
    return channels
