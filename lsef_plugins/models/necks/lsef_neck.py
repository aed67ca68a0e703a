"""LSEFNeck: LSEF on the feature maps of a recognizer, one for each map."""
from typing import Any, List, Mapping, Optional

from lsef_plugins.registry import MODELS

from .decomposing_neck import Channels, DecomposingNeck, check_channels
from .options import options_of

__all__ = ['LSEFNeck', 'check_channels', 'neck_options']


@MODELS.register_module()
class LSEFNeck(DecomposingNeck):
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
            switch a part off for ablation. ``sem=dict(type='MyStable', ...)`` and ``ddm=dict(type='MyTransient', ...)``
            take registered modules of your own instead (docs/own_decomposition.md).
        aux_loss: weights of the auxiliary losses, by name: ``reconstruction``, ``rank``, ``density``,
            ``consistency``. None weighs anything by default: no benefit has been measured. With a weight the
            loss is ``loss_lsef_<name>``; the plain values are logged in any case as ``lsef/<name>``.

    Shape:
        - a map ``(b, c, t, h, w)`` or a tuple of them; returns the same and a dict ``loss_aux``.

    Source:
        After LSEF (arXiv:2511.11406), of which only the abstract is known; the insertion is ours.
    """
    auxiliary_losses = ('reconstruction', 'rank', 'density', 'consistency')

    def __init__(self, in_channels: Channels = None, num_segments: Optional[int] = None,
                 site: Optional[Mapping[str, Any]] = None, rank: int = 2, iterations: int = 1,
                 sem: Any = True, ddm: Any = True, cim: Any = True, on_nonfinite: str = 'auto',
                 aux_loss: Optional[Mapping[str, float]] = None, init_cfg: Optional[Mapping] = None) -> None:
        super().__init__(in_channels, num_segments, site, aux_loss, init_cfg)
        self.build_streams(rank=rank, iterations=iterations, sem=sem, ddm=ddm, cim=cim, on_nonfinite=on_nonfinite)


def neck_options(cls: Optional[type] = None) -> List[str]:
    """The arguments a config may give to a neck, by default LSEFNeck."""
    return options_of(cls or LSEFNeck)
