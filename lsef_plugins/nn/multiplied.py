r"""Convolutions of a feature map that are multiplied on a CPU: of one place, and of some frames of it.

.. math::
    y_{o,t,p} = \sum_k \sum_i W_{o,i,k}\, x_{i,t+k,p} + b_o

Both keep the name, the parameters and the place among a host's convolutions that :class:`torch.nn.Conv3d` has.
PyTorch's own loops for volumes first copy such maps into columns (measured in docs/ops.md).
Axes: ``b`` clips, ``c`` channels, ``t h w`` places.
"""
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..ops.exporting import is_exported, must_be_plain


class PointwiseConv3d(nn.Conv3d):
    """``nn.Conv3d(in_channels, out_channels, 1)`` on ``(b, c, t, h, w)``, equal to rounding.

    In graphs for others (ONNX, ``torch.export``, a count of operations) it is the convolution.
    """

    def __init__(self, in_channels: int, out_channels: int, groups: int = 1, bias: bool = True) -> None:
        super().__init__(in_channels, out_channels, 1, groups=groups, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        if not _is_multiplied(x):
            return super().forward(x)
        return self._product(x.flatten(2)).unflatten(2, x.shape[2:])

    def _product(self, x: Tensor) -> Tensor:
        weight = _of_autocast(self.weight.flatten(1))
        if self.groups > 1:
            # (g, o, i) @ (b, g, i, p) -> (b, g, o, p)
            y = torch.matmul(weight.unflatten(0, (self.groups, -1)), x.unflatten(1, (self.groups, -1))).flatten(1, 2)
            return y if self.bias is None else y + self.bias[:, None].to(y.dtype)
        # (b, o, i) @ (b, i, p)
        weight = weight.expand(len(x), -1, -1)
        return torch.bmm(weight, x) if self.bias is None else torch.baddbmm(self.bias[:, None], weight, x)


class TemporalConv3d(nn.Conv3d):
    """``nn.Conv3d(in_channels, out_channels, (kernel, 1, 1), padding=(kernel // 2, 0, 0))`` on ``(b, c, t, h, w)``.

    Equal to rounding, of which in short numbers each frame of the kernel has its own. In graphs for others it is the
    convolution.

    Args:
        in_channels, out_channels: of the map.
        kernel: odd number of frames; beyond the ends of the clip are zeros.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int) -> None:
        super().__init__(in_channels, out_channels, (kernel, 1, 1), padding=(kernel // 2, 0, 0))

    def forward(self, x: Tensor) -> Tensor:
        if not _is_multiplied(x):
            return super().forward(x)
        kernel, frames = self.kernel_size[0], x.shape[2]
        # All frames of the kernel at once: (b, k o, i) @ (b, i, t p). Few channels are left to be moved in time.
        weight = _of_autocast(self.weight.flatten(2).permute(2, 0, 1).flatten(0, 1))
        mapped = torch.bmm(weight.expand(len(x), -1, -1), x.flatten(2))
        mapped = mapped.unflatten(1, (kernel, -1)).unflatten(3, x.shape[2:])
        y = mapped[:, kernel // 2]
        for place in range(kernel):
            ahead = place - kernel // 2
            if ahead and abs(ahead) < frames:
                seen = mapped[:, place, :, max(ahead, 0):frames + min(ahead, 0)]
                y = y + F.pad(seen, (0, 0, 0, 0, max(-ahead, 0), max(ahead, 0)))
        return y if self.bias is None else y + self.bias[:, None, None, None].to(y.dtype)


def _is_multiplied(x: Tensor) -> bool:
    return x.device.type == 'cpu' and x.dim() == 5 and not must_be_plain() and not is_exported()


def _of_autocast(weight: Tensor) -> Tensor:
    """In the dtype of autocast, before it is repeated for each clip: it would convert the repetitions, as it does in
    torch before 2.4. float64 it leaves alone."""
    if (weight.dtype != torch.float64 and hasattr(torch, 'get_autocast_dtype')
            and torch.is_autocast_enabled('cpu')):
        weight = weight.to(torch.get_autocast_dtype('cpu'))
    return weight
