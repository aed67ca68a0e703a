"""LSEFNeck: LSEF on the feature maps of a recognizer, one for each map."""
import inspect
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple, Union

import torch
from torch import Tensor, nn

from lsef_plugins.nn import LSEF
from lsef_plugins.registry import MODELS

from .sited_neck import Losses, SitedNeck

AUXILIARY = ('reconstruction', 'rank', 'density', 'consistency')


@MODELS.register_module()
class LSEFNeck(SitedNeck):
    r"""Stable and transient part of the features over time, put together again at several time scales.

    ``neck=dict(type='LSEFNeck')`` is enough in a recognizer config: channels and place come from the recognizer
    (:mod:`lsef_plugins.models.sites`). At initialisation the recognizer's output is what it was, bit for bit.
    It does not matter whether the recognizer would call a neck itself.

    Args:
        in_channels: channels of each feature map; by default those of the site.
        num_segments: segments of *one* clip, for Recognizer2D with a head that does not know them (TSN), when
            several crops of it come at once. Training and test may need different ones: set it where they differ,
            ``--cfg-options model.neck.num_segments=25``.
        site: place of your own: ``dict(module='backbone.layer3', side='out', layout='b c t h w', channels=256)``;
            ``layout`` is an einops pattern of the axes b c t h w, ``sizes`` gives lengths it cannot infer.
        rank, iterations, sem, ddm, cim, on_nonfinite: see :class:`lsef_plugins.nn.LSEF`; ``sem=False`` and so on
            switch a part off for ablation.
        aux_loss: weights of the auxiliary losses, by name: ``reconstruction``, ``rank``, ``density``,
            ``consistency``. None weighs anything by default: no benefit has been measured. With a weight the
            loss is ``loss_lsef_<name>``; the plain values are logged in any case as ``lsef/<name>``.

    Shape:
        - a map ``(b, c, t, h, w)`` or a tuple of them; returns the same and a dict ``loss_aux``.

    Source:
        After LSEF (arXiv:2511.11406), of which only the abstract is known; the insertion is ours.
    """

    def __init__(self, in_channels: Union[int, Sequence[int], None] = None, num_segments: Optional[int] = None,
                 site: Optional[Mapping[str, Any]] = None, rank: int = 2, iterations: int = 1,
                 sem: Any = True, ddm: Any = True, cim: Any = True, on_nonfinite: str = 'auto',
                 aux_loss: Optional[Mapping[str, float]] = None, init_cfg: Optional[Mapping] = None) -> None:
        super().__init__(check_channels(in_channels), init_cfg)
        self.num_segments = num_segments
        self.site = None if site is None else dict(site)
        if num_segments is not None and not (_is_number(num_segments, int) and num_segments >= 1):
            raise ValueError(f'num_segments counts the segments of one clip, an integer >= 1, got {num_segments!r}.')
        if not isinstance(aux_loss or {}, Mapping):
            raise ValueError(f'aux_loss is a dict of weights such as dict(rank=0.01), got {aux_loss!r}.')
        self.weights: Dict[str, float] = dict(aux_loss or {})
        unknown = sorted(set(self.weights) - set(AUXILIARY))
        if unknown:
            raise ValueError(f'aux_loss knows {", ".join(AUXILIARY)}; got {", ".join(unknown)}.')
        if not all(_is_number(weight, (int, float)) for weight in self.weights.values()):
            raise ValueError(f'The weights of aux_loss are numbers, got {self.weights}.')
        options = dict(rank=rank, iterations=iterations, sem=sem, ddm=ddm, cim=cim, on_nonfinite=on_nonfinite)
        self.streams: Any = nn.ModuleList(LSEF(c, **options) for c in self.in_channels)

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
            if self.training:
                collected.append(self._auxiliary(stream, parts))
        return outputs, self._losses_of(collected)

    def _auxiliary(self, stream: LSEF, parts) -> Dict[str, Tensor]:
        with torch.set_grad_enabled(torch.is_grad_enabled() and any(self.weights.values())):
            return stream.auxiliary(parts)

    def _losses_of(self, collected: List[Dict[str, Tensor]]) -> Losses:
        losses: Losses = {}
        for name in AUXILIARY:
            values = [each[name] for each in collected if name in each and each[name].numel()]
            if not values:
                continue
            value = torch.stack([v.mean() for v in values]).mean().float()
            losses[f'lsef/{name}'] = value.detach()
            if self.weights.get(name):
                losses[f'loss_lsef_{name}'] = self.weights[name] * value
        return losses


def _is_number(value: Any, kind: Any) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


def check_channels(in_channels: Union[int, Sequence[int], None]) -> Tuple[int, ...]:
    if in_channels is None:
        raise ValueError(
            'LSEFNeck needs in_channels: it takes them from the recognizer it is built in, and here there is none, or '
            "it has no cls_head yet, or its head does not tell. Set neck=dict(type='LSEFNeck', in_channels=<channels "
            'of the feature map>).')
    channels = (in_channels, ) if isinstance(in_channels, int) else tuple(in_channels)
    if not channels or not all(isinstance(c, int) and c > 0 for c in channels):
        raise ValueError(f'in_channels is a positive integer, or one for each feature map, got {in_channels!r}.')
    return channels


def neck_options() -> List[str]:
    """The arguments a config may give to LSEFNeck."""
    return [name for name in inspect.signature(LSEFNeck.__init__).parameters if name != 'self']
