r"""What else can stand where LSEFNeck stands: published blocks and plain ones, each a residual.

.. math::  y = x + W_o\, f(x), \qquad W_o = 0 \text{ at the start,}

so every neck begins as the identity, as LSEFNeck does (TPN, which replaces the features, is the host's own and does
not). ``width`` is the number of hidden channels; :mod:`.budget` chooses it. These are instruments, not products.
Axes: ``b`` clips, ``c`` channels, ``m`` hidden channels, ``t h w`` places, ``n`` = t h w, ``r`` rank.
"""
from __future__ import annotations

from typing import Any, Mapping, Optional

import torch
import torch.nn.functional as F
from mmcv.cnn import NonLocal3d
from torch import Tensor, nn

from lsef_plugins.models.necks.decomposing_neck import Channels, check_channels
from lsef_plugins.models.necks.sited_neck import SitedNeck
from lsef_plugins.nn.multiplied import PointwiseConv3d
from lsef_plugins.registry import MODELS


class RivalNeck(SitedNeck):
    """One block for each map of the site; a subclass implements ``block(channels, width)``.

    Args:
        width: hidden channels.
        in_channels, site: as of LSEFNeck.
        options: what else the blocks take.
    """

    def __init__(self, width: int, in_channels: Channels = None, site: Optional[Mapping[str, Any]] = None,
                 **options: Any) -> None:
        super().__init__(check_channels(in_channels, type(self).__name__))
        if width < 1:
            raise ValueError(f'width counts hidden channels and is at least 1, got {width}.')
        self.site = None if site is None else dict(site)
        self.blocks: Any = nn.ModuleList(self.block(c, width, **options) for c in self.in_channels)

    def block(self, channels: int, width: int) -> nn.Module:
        raise NotImplementedError(f'{type(self).__name__} must implement block(channels, width).')

    def rewrite(self, maps: list[Tensor]) -> tuple[list[Tensor], dict[str, Tensor]]:
        return [block(x) for block, x in zip(self.blocks, maps)], {}


class Residual(nn.Module):
    """``x + out(act(into(x)))`` with ``out`` zero at the start."""

    def __init__(self, into: nn.Module, width: int, channels: int) -> None:
        super().__init__()
        self.into, self.out = into, PointwiseConv3d(width, channels)
        for parameter in self.out.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.out(F.gelu(self.into(x)))


@MODELS.register_module()
class PointwiseNeck(RivalNeck):
    """A perceptron of one hidden layer on the channels of each place: parameters without any look at time."""

    def block(self, channels: int, width: int) -> nn.Module:
        return Residual(PointwiseConv3d(channels, width), width, channels)


@MODELS.register_module()
class TemporalConvolutionNeck(RivalNeck):
    """The same with a convolution over three frames as its first layer.

    Source:
        The temporal half of a factorised convolution (R(2+1)D, arXiv:1711.11248; S3D, arXiv:1712.04851), in a
        residual bottleneck.
    """

    def block(self, channels: int, width: int, kernel: int = 3) -> nn.Module:
        into = nn.Conv3d(channels, width, (kernel, 1, 1), padding=(kernel // 2, 0, 0))
        return Residual(into, width, channels)


@MODELS.register_module()
class NonLocalNeck(RivalNeck):
    """The host's non-local block, in the embedded Gaussian form and with the norm of the host's own configs.

    Source:
        X. Wang et al., Non-local Neural Networks (arXiv:1711.07971); ``mmcv.cnn.NonLocal3d``, with the settings of
        MMAction2's ``i3d_imagenet-pretrained-r50-nl-embedded-gaussian``, but without pooling the few places.
    """

    def block(self, channels: int, width: int) -> nn.Module:
        block = NonLocal3d(channels, reduction=1, sub_sample=False, use_scale=False, mode='embedded_gaussian',
                           norm_cfg=dict(type='BN3d', requires_grad=True))
        return _narrowed(block, channels, width)


def _narrowed(block: Any, channels: int, width: int) -> nn.Module:
    """mmcv knows only whole divisors of the channels as widths; here it is any number."""
    block.inter_channels = width
    for name in ('g', 'theta', 'phi'):
        getattr(block, name).conv = nn.Conv3d(channels, width, 1)
    block.conv_out.conv = nn.Conv3d(width, channels, 1, bias=False)
    block.init_weights()
    return block


@MODELS.register_module()
class HamburgerNeck(RivalNeck):
    """Two linear maps with a matrix factorisation between them.

    Args:
        rank: of the factorisation; an eighth of the width by default (the paper: 64 of 512).
    """

    def block(self, channels: int, width: int, rank: Optional[int] = None) -> nn.Module:
        return Hamburger(channels, width, rank or max(1, min(64, width // 8)))


class Hamburger(nn.Module):
    r"""Hamburger with non-negative matrix factorisation.

    .. math::  y = x + W_u\, D C, \qquad D C \approx Z = \operatorname{relu}(W_l x), \quad D, C \ge 0

    of all places of a clip, :math:`D` ``(m, r)``, :math:`C` ``(r, n)``: multiplicative updates without gradient,
    then one more of :math:`C` with it (the paper's one-step gradient). The first bases are drawn anew for each clip
    while training, and are always the same ones in evaluation. As in our other necks there is no norm and no
    activation behind :math:`W_u`.

    Source:
        Z. Geng et al., Is Attention Better Than Matrix Decomposition? (arXiv:2109.04553), and the authors' code
        ``Gsunshine/Enjoy-Hamburger`` for the steps (6 in training, 7 in evaluation) and the start of C.
    """
    STEPS = {True: 6, False: 7}
    EPS = 1e-6

    def __init__(self, channels: int, width: int, rank: int) -> None:
        super().__init__()
        self.rank = rank
        self.lower, self.upper = PointwiseConv3d(channels, width), PointwiseConv3d(width, channels, bias=False)
        nn.init.zeros_(self.upper.weight)

    def forward(self, x: Tensor) -> Tensor:
        z = F.relu(self.lower(x)).flatten(2)                # (b, m, n)
        bases, coefficients = self.factors(z)
        return x + self.upper((bases @ coefficients).unflatten(2, x.shape[2:]))

    def factors(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """``(b, m, n)``, non-negative -> bases ``(b, m, r)`` without gradient and coefficients ``(b, r, n)``."""
        with torch.no_grad():
            bases = self._first_bases(z)
            coefficients = (z.mT @ bases).softmax(-1).mT
            for _ in range(self.STEPS[self.training]):
                coefficients = self._updated(z, bases, coefficients)
                # The same update of D: Z' ~ C' D'
                bases = self._updated(z.mT, coefficients.mT, bases.mT).mT
        return bases, self._updated(z, bases, coefficients)

    def _updated(self, z: Tensor, bases: Tensor, coefficients: Tensor) -> Tensor:
        """C * (D' Z) / (D' D C)"""
        return coefficients * (bases.mT @ z) / (bases.mT @ bases @ coefficients + self.EPS)

    def _first_bases(self, z: Tensor) -> Tensor:
        clips, width = z.shape[:2]
        if self.training:
            bases = torch.rand(clips, width, self.rank, device=z.device, dtype=z.dtype)
        else:
            generator = torch.Generator().manual_seed(0)
            bases = torch.rand(width, self.rank, generator=generator).to(z).expand(clips, -1, -1)
        return F.normalize(bases, dim=1)
