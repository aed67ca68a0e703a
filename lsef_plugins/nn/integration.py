r"""CIM: the parts put together again at several time scales."""
from typing import List, Optional, Sequence

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ..functional.multiscale import transient_maps
from ..functional.pooling import limited_features
from ..functional.temporal import base_bands, check_windows
from .dynamics import TransientPart
from .multiplied import PointwiseConv3d, TemporalConv3d

BANDS_OF = ('stable', 'restored')


def default_hidden_channels(channels: int, kernel: int = 3) -> int:
    """With a kernel of one frame an eighth of the channels, between 8 and 29; with a longer one fewer, for equal size.

    With the default kernel that is a twelfth, between 5 and 19: under 1 % of the parameters of an R50-class recognizer.
    """
    return max(1, max(8, min(channels // 8, 29)) * 4 // (3 + kernel))


class ConsistencyIntegrationModule(nn.Module):
    r"""CIM: multi-scale reconstruction, which leaves a pretrained model's output as it was at the start.

    .. math::
        y = x + W_o \operatorname{gelu}\Bigl(\sum_j \alpha_j B_j W_\ell * \tilde x + \sum_w \beta_w W_s S_w
            + \sum_w \gamma_w W_a |S_w|\Bigr), \qquad
        \tilde x = \ell + \operatorname{clip}_{4\hat\sigma}\bigl((1 - g)\,(x - \ell)\bigr)

    with the bands :math:`B_j` (they sum to the identity) of the restored features :math:`\tilde x`, which are the
    stable part :math:`\ell` and at most four standard deviations of the rest: no bad frame, no spike.
    :math:`W_\ell *` is a convolution over ``kernel`` frames, :math:`S_w` the transient at the scale of each window;
    :math:`\alpha, \beta, \gamma` are gains per hidden channel, and :math:`W_o = 0` at initialisation.
    :math:`|S_w|` is there because an event whose sign varies is invisible to a linear map.

    Args:
        channels: number of feature channels.
        windows: odd numbers of frames, ascending from 1.
        hidden_channels: width of the merge; by default :func:`default_hidden_channels`.
        influence_clip: what one element of the transient, or of a deviation from the stable part, may say at most,
            in standard deviations; None: no limit.
        limit_spikes: limit each value of the residual by its neighbours in time before the transient is pooled. It
            keeps isolated spikes out, and with them events that last one frame of the map.
        stable, transient: which parts are merged (ablation).
        bands_of: ``restored`` (above), which needs DDM's part as well, or ``stable``: those of :math:`\ell` itself. By
            default restored where both parts are merged, else stable.
        kernel: frames that :math:`W_\ell` reads, an odd number: 1, each frame by itself; more, a convolution over time
            (zeros beyond the ends of the clip), which knows before from after. It holds ``kernel`` times the weights.
            By default 3 where the stable part is merged.

    Shape:
        - ``x``: ``(b, c, t, h, w)``; ``stable``: ``(b, c, t, n)``; ``parts``: DDM's :class:`TransientPart`
        - returns ``(b, c, t, h, w)`` in x's dtype.

    Source:
        arXiv:2511.11406 names CIM and its role; this network is ours.
    """

    def __init__(self, channels: int, windows: Sequence[int] = (1, 3, 5), hidden_channels: Optional[int] = None,
                 influence_clip: Optional[float] = 4.0, limit_spikes: bool = False, stable: bool = True,
                 transient: bool = True, bands_of: Optional[str] = None, kernel: Optional[int] = None) -> None:
        super().__init__()
        check_windows(windows)
        if not (stable or transient):
            raise ValueError('CIM has nothing to merge: switch on the stable part, the transient part or both.')
        if bands_of is None:
            bands_of = 'restored' if stable and transient else 'stable'
        if kernel is None:
            kernel = 3 if stable else 1
        if bands_of not in BANDS_OF:
            raise ValueError(f'bands_of {bands_of!r} is unknown; choose one of {", ".join(BANDS_OF)}.')
        if bands_of == 'restored' and not stable:
            raise ValueError("bands_of='restored' restores the stable part, which is not merged here: merge it, or "
                             'leave bands_of out.')
        if isinstance(kernel, bool) or not isinstance(kernel, int) or kernel < 1 or kernel % 2 == 0:
            raise ValueError('kernel counts the frames that the map of the bands reads, an odd number such as 3, got '
                             f'{kernel!r}.')
        if kernel > 1 and not stable:
            raise ValueError(f'cim=dict(kernel={kernel}) reads the bands of the stable part, which is not merged here. '
                             'Switch SEM on and merge it, or leave kernel out.')
        if influence_clip is not None and not influence_clip > 0:
            raise ValueError(f'influence_clip is in standard deviations and positive, or None, got {influence_clip}.')
        self.windows = tuple(int(w) for w in windows)
        self.influence_clip, self.limit_spikes = influence_clip, limit_spikes
        self.bands_of, self.kernel = bands_of, kernel
        hidden = default_hidden_channels(channels, kernel) if hidden_channels is None else hidden_channels
        if hidden < 1:
            raise ValueError(f'hidden_channels is the width of the merge and at least 1, got {hidden}.')
        scales = len(self.windows)
        self.from_stable: Optional[nn.Conv3d] = None
        if stable:
            self.from_stable = (PointwiseConv3d(channels, hidden) if kernel == 1 else
                                TemporalConv3d(channels, hidden, kernel))
        self.from_transient = PointwiseConv3d(channels, hidden, bias=not stable) if transient else None
        self.from_magnitude = PointwiseConv3d(channels, hidden, bias=False) if transient else None
        inputs = scales * (int(stable) + 2 * int(transient))
        self.gains = PointwiseConv3d(inputs * hidden, hidden, groups=hidden, bias=False)
        start = [1.0] * (scales * int(stable)) + [1.0 / scales] * (2 * scales * int(transient))
        with torch.no_grad():
            self.gains.weight.copy_(torch.tensor(start).view(1, -1, 1, 1, 1))
        self.out = PointwiseConv3d(hidden, channels, bias=False)
        nn.init.zeros_(self.out.weight)

    def forward(self, x: Tensor, stable: Optional[Tensor], parts: Optional[TransientPart],
                exponent: float = 2.0) -> Tensor:
        if (self.from_stable is None) != (stable is None) or self.needs_transient == (parts is None):
            raise ValueError('CIM must be given just the parts it was built to merge, '
                             f'stable={self.from_stable is not None}, transient={self.needs_transient} '
                             f'(bands_of={self.bands_of!r}); got stable={stable is not None}, '
                             f'transient={parts is not None}.')
        height, width = x.shape[-2:]

        def volume(z: Tensor) -> Tensor:
            return z.unflatten(-1, (height, width)).to(x.dtype)

        hidden: List[Tensor] = []
        if self.from_stable is not None and stable is not None:
            if self.bands_of == 'restored' and parts is not None:
                stable = limited_features(stable, parts.residual, parts.scale, self.influence_clip)
            base = self.from_stable(volume(stable))
            bands = base_bands(x.shape[2], self.windows, base.dtype, base.device)
            # (s, t, t) over (b, m, t, n) -> s maps (b, m, t, h, w)
            flat = base.flatten(3)
            hidden += [torch.matmul(band, flat).view_as(base) for band in bands]
        if self.from_transient is not None and self.from_magnitude is not None and parts is not None:
            with torch.autocast(x.device.type, enabled=False):
                maps = transient_maps(parts.residual, parts.threshold, parts.scale, self.windows, exponent,
                                      self.influence_clip, frame_threshold=parts.frame_threshold,
                                      limit_spikes=self.limit_spikes, magnitude=True)
            for convolution, scales in zip((self.from_transient, self.from_magnitude), maps):
                if isinstance(scales, Tensor):
                    # (s, b, c, t, n): all scales of all clips are one batch
                    hidden += convolution(volume(scales.flatten(0, 1))).unflatten(0, scales.shape[:2]).unbind(0)
                else:
                    hidden += [convolution(volume(z)) for z in scales]
        merged = self.gains(rearrange(hidden, 's b m t h w -> b (m s) t h w'))
        return x + self.out(F.gelu(merged)).to(x.dtype)

    @property
    def needs_transient(self) -> bool:
        """Whether :meth:`forward` takes DDM's part."""
        return self.from_transient is not None or self.bands_of == 'restored'

    def extra_repr(self) -> str:
        return (f'windows={self.windows}, influence_clip={self.influence_clip}, limit_spikes={self.limit_spikes}, '
                f'bands_of={self.bands_of}, kernel={self.kernel}')
