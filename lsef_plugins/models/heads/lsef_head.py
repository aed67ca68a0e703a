"""LSEFHead: one linear layer over what stays, and over how far the clip moves away from it at which time scale."""
import inspect
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

import torch
from mmaction.models.heads.base import BaseHead
from mmengine.model.weight_init import normal_init
from torch import Tensor, nn

from lsef_plugins.nn.pooling import REACH, READ, DecompositionPooling
from lsef_plugins.registry import MODELS

from .sited_head import Channels, SitedHead


@MODELS.register_module()
class LSEFHead(SitedHead):
    r"""Classifies a clip by its mean and by its excursions from the stable part at several time scales.

    .. math::
        \text{scores} = W \operatorname{dropout}\bigl[\text{pool},\ e_{w_1}^+,\ e_{w_1}^-, \dots,\ e\bigr] + b

    with the readings of :class:`lsef_plugins.nn.DecompositionPooling`. ``cls_head=dict(_delete_=True,
    type='LSEFHead', num_classes=7, in_channels=2048)`` replaces the head of any recognizer, with or without a neck of
    the pack. Where the backbone has given up its time axis before the head, the maps are read inside the backbone, and
    what enters the head joins them, over its own root mean square.

    Args:
        num_classes, in_channels, loss_cls: as of any head of the host, and so are ``multi_class``,
            ``label_smooth_eps``, ``topk``, ``average_clips`` and ``init_cfg``. A score is that of one clip; several
            views of a video are averaged by ``average_clips``.
        read: any of ``pool``, ``stable``, ``excursion``, ``transient``. The vector that enters the head of a backbone
            without a time axis counts as ``pool``, and so does MViT's class token. Without ``pool`` the last layers of
            such a backbone get no gradient: DDP then needs ``find_unused_parameters=True``.
        windows, rank, sem, ddm, influence_clip, limit_spikes, on_nonfinite, reach: see
            :class:`lsef_plugins.nn.DecompositionPooling`.
        num_segments, site: segments of *one* clip for Recognizer2D (else what a neck of the pack was told), and a
            place of your own, as of :class:`LSEFNeck` (not in Recognizer2D and RecognizerGCN).
        dropout_ratio, init_std: of the linear layer.

    Source:
        Ours; arXiv:2511.11406 (abstract) says nothing of a head.
    """

    def __init__(self, num_classes: int, in_channels: Channels,
                 loss_cls: Mapping[str, Any] = dict(type='CrossEntropyLoss'),
                 read: Sequence[str] = READ, windows: Sequence[int] = (1, 3), rank: int = 2,
                 sem: Optional[Mapping[str, Any]] = None, ddm: Optional[Mapping[str, Any]] = None,
                 influence_clip: Optional[float] = 4.0, limit_spikes: bool = True, on_nonfinite: str = 'auto',
                 num_segments: Optional[int] = None, site: Optional[Mapping[str, Any]] = None,
                 dropout_ratio: float = 0.5, init_std: float = 0.01, reach: float = REACH, **kwargs: Any) -> None:
        _check_kwargs(kwargs)
        super().__init__(num_classes, in_channels, num_segments, site, loss_cls=loss_cls, **kwargs)
        self.options: Dict[str, Any] = dict(
            read=read, windows=windows, rank=rank, sem=sem, ddm=ddm, influence_clip=influence_clip,
            limit_spikes=limit_spikes, on_nonfinite=on_nonfinite, reach=reach)
        self.dropout_ratio, self.init_std = dropout_ratio, init_std
        self.dropout: Any = nn.Dropout(p=dropout_ratio) if dropout_ratio else None
        self.rebuild((in_channels, ) if isinstance(in_channels, int) else tuple(in_channels))

    def build(self, channels: Tuple[int, ...], plain: int) -> None:
        poolings = [DecompositionPooling(c, **self.options) for c in channels]
        self.poolings: Any = nn.ModuleList(poolings)
        self.plain = plain if 'pool' in self.options['read'] else 0
        # Last: TSMOptimWrapperConstructor takes the last linear layer for the classifier.
        size = self.plain + sum(pooling.out_channels for pooling in poolings)
        self.fc_cls = nn.Linear(size, self.num_classes)

    def init_weights(self) -> None:
        """The host's initialisation of a linear classifier; thresholds at their start."""
        super().init_weights()
        if self.init_cfg is None:
            normal_init(self.fc_cls, std=self.init_std)
            for pooling in self.poolings:
                pooling.reset_identity()

    def score(self, maps: List[Tensor], plain: Optional[Tensor]) -> Tensor:
        vectors = [pooling(x) for pooling, x in zip(self.poolings, maps)]
        if self.plain and plain is not None:
            vectors.insert(0, over_its_rms(plain).to(vectors[0].dtype))
        vector = torch.cat(vectors, 1)
        if self.dropout is not None:
            vector = self.dropout(vector)
        return self.fc_cls(vector)


def over_its_rms(x: Tensor) -> Tensor:
    """A vector ``(b, c)`` over its root mean square, zero where it is zero; at least float32."""
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    size = torch.linalg.vector_norm(x, dim=1, keepdim=True) / max(x.shape[1], 1) ** 0.5
    return x / torch.where(size > 0, size, torch.ones_like(size))


def _check_kwargs(kwargs: Mapping[str, Any]) -> None:
    known = [name for name in inspect.signature(BaseHead.__init__).parameters if name != 'self']
    unknown = sorted(set(kwargs) - set(known))
    if unknown:
        own = [name for name in inspect.signature(LSEFHead.__init__).parameters if name not in ('self', 'kwargs')]
        raise ValueError(
            f'LSEFHead does not know {", ".join(unknown)}. It takes {", ".join(dict.fromkeys([*own, *known]))}. '
            "Options that come from the head of a base config are dropped by cls_head=dict(_delete_=True, "
            "type='LSEFHead', num_classes=..., in_channels=...).")
