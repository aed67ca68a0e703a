r"""SEM, DDM and CIM as necks of their own: what each contributes when the others are not there.

Each is the residual merge of LSEF with a part of its inputs, and the identity bit for bit at the start
(:math:`W_o = 0`):

.. math::
    \text{SEM: } y = x + W_o \operatorname{gelu}(W_\ell \ell) \qquad
    \text{DDM: } y = x + W_o \operatorname{gelu}(W_s s + W_a |s|) \qquad
    \text{CIM: } y = x + W_o \operatorname{gelu}\Bigl(\sum_j \alpha_j B_j W_\ell * x\Bigr)

Source:
    arXiv:2511.11406 names the three modules and their roles; what one of them is without the others is ours.
"""
from typing import Any, Mapping, Optional

from lsef_plugins.nn import DynamicDecouplingModule, StabilityEncodingModule
from lsef_plugins.registry import MODELS

from .decomposing_neck import Channels, DecomposingNeck


@MODELS.register_module(name=['SEM', 'StabilityEncodingNeck'])
class StabilityEncodingNeck(DecomposingNeck):
    r"""SEM alone: the low-rank, stable part of the features is read again, at one time scale.

    ``neck=dict(type='SEM')``. It is LSEF without DDM and CIM: what the network gains is a look at the features that
    single bad frames do not bend. Short events are seen only through ``x`` itself.

    Args:
        in_channels, num_segments, site, on_nonfinite, init_cfg: as of :class:`LSEFNeck`.
        hidden_channels: width of the merge.
        aux_loss: weights of ``reconstruction`` and ``rank``, as of :class:`LSEFNeck`.
        options: those of :class:`lsef_plugins.nn.StabilityEncodingModule`: ``rank``, ``mode`` and so on.

    Shape:
        - a map ``(b, c, t, h, w)`` or a tuple of them; returns the same and a dict ``loss_aux``.
    """
    auxiliary_losses = ('reconstruction', 'rank')
    passes_on = StabilityEncodingModule

    def __init__(self, in_channels: Channels = None, num_segments: Optional[int] = None,
                 site: Optional[Mapping[str, Any]] = None, hidden_channels: Optional[int] = None,
                 on_nonfinite: str = 'auto', aux_loss: Optional[Mapping[str, float]] = None,
                 init_cfg: Optional[Mapping] = None, **options: Any) -> None:
        super().__init__(in_channels, num_segments, site, aux_loss, init_cfg)
        self.build_streams(sem=options, ddm=False, cim=dict(windows=(1, ), kernel=1, hidden_channels=hidden_channels),
                           on_nonfinite=on_nonfinite)


@MODELS.register_module(name=['DDM', 'DynamicDecouplingNeck'])
class DynamicDecouplingNeck(DecomposingNeck):
    r"""DDM alone: the sparse, transient part of the features is read, at one time scale; the stable part is not.

    ``neck=dict(type='DDM')``. A transient is a deviation *from something*. Without any base DDM would threshold the
    features themselves and call their mean an event, so the base is still taken, by SEM's operator, which owns no
    parameter; it is only not merged, and it decides which frames are bad.

    Args:
        in_channels, num_segments, site, on_nonfinite, init_cfg: as of :class:`LSEFNeck`.
        rank, base: of the base: its largest rank, and a dict of further arguments of
            :class:`lsef_plugins.nn.StabilityEncodingModule`.
        iterations: K of the alternation between base and transient.
        influence_clip, limit_spikes, hidden_channels: of the merge, see
            :class:`lsef_plugins.nn.ConsistencyIntegrationModule`.
        aux_loss: weights of ``density``, as of :class:`LSEFNeck`.
        options: those of :class:`lsef_plugins.nn.DynamicDecouplingModule`: ``kappa``, ``exponent`` and so on.

    Shape:
        - a map ``(b, c, t, h, w)`` or a tuple of them; returns the same and a dict ``loss_aux``.
    """
    auxiliary_losses = ('density', )
    passes_on = DynamicDecouplingModule

    def __init__(self, in_channels: Channels = None, num_segments: Optional[int] = None,
                 site: Optional[Mapping[str, Any]] = None, rank: int = 2, base: Optional[Mapping[str, Any]] = None,
                 iterations: int = 1, influence_clip: Optional[float] = 4.0, limit_spikes: bool = False,
                 hidden_channels: Optional[int] = None, on_nonfinite: str = 'auto',
                 aux_loss: Optional[Mapping[str, float]] = None, init_cfg: Optional[Mapping] = None,
                 **options: Any) -> None:
        super().__init__(in_channels, num_segments, site, aux_loss, init_cfg)
        merge = dict(windows=(1, ), influence_clip=influence_clip, limit_spikes=limit_spikes,
                     hidden_channels=hidden_channels)
        self.build_streams(rank=rank, iterations=iterations, sem=dict(base or {}), ddm=options, cim=merge,
                           on_nonfinite=on_nonfinite, merge=('transient', ))


@MODELS.register_module(name=['CIM', 'ConsistencyIntegrationNeck'])
class ConsistencyIntegrationNeck(DecomposingNeck):
    r"""CIM alone: the features' own time scales, taken apart into bands and put together again.

    ``neck=dict(type='CIM')``. Nothing is separated into stable and transient: all of the features counts as stable.
    That is what LSEF becomes when its rank is no smaller than the number of frames, so an ablation from LSEF to CIM
    removes the separation and nothing else. (Bands of a low-rank and a sparse part would not be CIM alone but LSEF.)

    Args:
        in_channels, num_segments, site, on_nonfinite, init_cfg: as of :class:`LSEFNeck`.
        windows, hidden_channels, kernel: see :class:`lsef_plugins.nn.ConsistencyIntegrationModule`.

    There are no auxiliary losses: all of them are of a separation.

    Shape:
        - a map ``(b, c, t, h, w)`` or a tuple of them; returns the same and an empty dict ``loss_aux``.
    """

    def __init__(self, in_channels: Channels = None, num_segments: Optional[int] = None,
                 site: Optional[Mapping[str, Any]] = None, windows: Any = (1, 3, 5),
                 hidden_channels: Optional[int] = None, on_nonfinite: str = 'auto',
                 init_cfg: Optional[Mapping] = None, kernel: int = 3) -> None:
        super().__init__(in_channels, num_segments, site, None, init_cfg)
        merge = dict(windows=windows, hidden_channels=hidden_channels, kernel=kernel)
        self.build_streams(sem=False, ddm=False, cim=merge, on_nonfinite=on_nonfinite)
