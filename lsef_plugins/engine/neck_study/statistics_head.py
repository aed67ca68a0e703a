r"""Plain heads that read time: mean, maximum and deviation of what a linear classifier reads, or excursions.

.. math::
    \text{scores} = W \operatorname{dropout}\bigl[\operatorname{mean}_t z,\ \max_t z,\ \operatorname{std}_t z\bigr] + b,
    \qquad z_t = \operatorname{mean}_{h,w} x_t

The second reads what LSEFHead reads, about the plain mean instead of SEM's base: what of LSEFHead is not the
decomposition.

Source:
    Statistics pooling (D. Snyder et al., X-vectors, ICASSP 2018: mean and deviation) with a maximum; the excursions
    are ours.
"""
from typing import Any, Sequence

import torch
from mmaction.models.heads.base import BaseHead
from mmengine.model.weight_init import normal_init
from torch import Tensor, nn

from lsef_plugins.models.heads.lsef_head import over_its_rms
from lsef_plugins.nn.pooling import excursions_about_the_mean
from lsef_plugins.registry import MODELS

VARIANCE_FLOOR = 1e-6   # of the deviation, whose gradient has no limit at 0


@MODELS.register_module()
class MeanMaxDeviationHead(BaseHead):
    """Reads maps ``(b, c, t, h, w)``, three numbers of each channel.

    Args:
        over_size: over their root mean square, so that the scale of the features is no part of what is read, as it is
            not of what LSEFHead reads.
    """

    def __init__(self, num_classes: int, in_channels: int, dropout_ratio: float = 0.5, init_std: float = 0.01,
                 over_size: bool = False, **kwargs: Any) -> None:
        super().__init__(num_classes, in_channels, **kwargs)
        self.over_size = over_size
        self.dropout, self.init_std = nn.Dropout(dropout_ratio), init_std
        self.fc_cls = nn.Linear(3 * in_channels, num_classes)

    def init_weights(self) -> None:
        normal_init(self.fc_cls, std=self.init_std)

    def forward(self, x: Tensor, **kwargs: Any) -> Tensor:
        vector = statistics(x)
        if self.over_size:
            vector = over_its_rms(vector)
        return self.fc_cls(self.dropout(vector))


@MODELS.register_module()
class MeanExcursionHead(BaseHead):
    """LSEFHead without SEM, frame gates and limits: ``2 + 2 windows`` numbers of each channel.

    The base is the mean over time, and its root mean square the unit. Reads maps ``(b, c, t, h, w)``.
    """

    def __init__(self, num_classes: int, in_channels: int, windows: Sequence[int] = (1, 3),
                 dropout_ratio: float = 0.5, init_std: float = 0.01, **kwargs: Any) -> None:
        super().__init__(num_classes, in_channels, **kwargs)
        self.windows = tuple(windows)
        self.dropout, self.init_std = nn.Dropout(dropout_ratio), init_std
        self.fc_cls = nn.Linear((2 + 2 * len(self.windows)) * in_channels, num_classes)

    def init_weights(self) -> None:
        normal_init(self.fc_cls, std=self.init_std)

    def forward(self, x: Tensor, **kwargs: Any) -> Tensor:
        return self.fc_cls(self.dropout(excursions_about_the_mean(x, self.windows)))


def statistics(x: Tensor) -> Tensor:
    """``(b, c, t, h, w) -> (b, 3 c)``: mean, maximum and deviation over t of the mean over h, w."""
    z = x.mean((3, 4))
    deviation = z.var(2, unbiased=False).clamp_min(VARIANCE_FLOOR).sqrt()
    return torch.cat([z.mean(2), z.amax(2), deviation], 1)
