r"""A linear map of the channels, the same at every place of a feature map.

.. math::  y_{o,p} = \sum_i W_{o,i}\, x_{i,p} + b_o

A convolution of one place, whose name, parameters and place among a host's convolutions it keeps. On a CPU it is
multiplied: PyTorch's own loops for volumes first copy such maps into columns (measured in docs/ops.md).
Axes: ``b`` clips, ``c`` channels, ``t h w`` places.
"""
import torch
from torch import Tensor, nn

from ..ops.exporting import is_exported, must_be_plain


class PointwiseConv3d(nn.Conv3d):
    """``nn.Conv3d(in_channels, out_channels, 1)`` on ``(b, c, t, h, w)``, equal to rounding.

    In graphs for others (ONNX, ``torch.export``, a count of operations) it is the convolution.
    """

    def __init__(self, in_channels: int, out_channels: int, groups: int = 1, bias: bool = True) -> None:
        super().__init__(in_channels, out_channels, 1, groups=groups, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type != 'cpu' or x.dim() != 5 or must_be_plain() or is_exported():
            return super().forward(x)
        return self._product(x.flatten(2)).unflatten(2, x.shape[2:])

    def _product(self, x: Tensor) -> Tensor:
        weight = self.weight.flatten(1)
        # Before it is repeated for each clip: autocast would convert the repetitions, as it does in torch before 2.4.
        # float64 it leaves alone.
        if (weight.dtype != torch.float64 and hasattr(torch, 'get_autocast_dtype')
                and torch.is_autocast_enabled('cpu')):
            weight = weight.to(torch.get_autocast_dtype('cpu'))
        if self.groups > 1:
            # (g, o, i) @ (b, g, i, p) -> (b, g, o, p)
            y = torch.matmul(weight.unflatten(0, (self.groups, -1)), x.unflatten(1, (self.groups, -1))).flatten(1, 2)
            return y if self.bias is None else y + self.bias[:, None].to(y.dtype)
        # (b, o, i) @ (b, i, p)
        weight = weight.expand(len(x), -1, -1)
        return torch.bmm(weight, x) if self.bias is None else torch.baddbmm(self.bias[:, None], weight, x)
