"""CCCLoss: one minus the concordance of valence and of arousal, and a little of the squared error."""
from typing import Any

import torch
from mmaction.models.losses.base import BaseWeightedLoss
from torch import Tensor

from lsef_plugins.functional.concordance import EPS, concordance, masked_mean_square
from lsef_plugins.registry import MODELS


@MODELS.register_module()
class CCCLoss(BaseWeightedLoss):
    r"""One minus the concordance, and a little of the squared error, for each of valence and arousal, then their mean:

    .. math::  (1 - \mathrm{CCC}) + \lambda \cdot \mathrm{MSE}

    over all valid entries of the batch (of this process: under DDP each has its own). VEATIC trains with
    ``mse_weight=0.1``. The CCC is that of :func:`lsef_plugins.functional.concordance.concordance`: exact, and where
    there is nothing to agree on (a batch of one frame, constants) the first term is about 1 without gradient and the
    second one teaches. Entries whose target is NaN are invalid and teach nothing; a batch without any valid one has
    loss 0 and zero gradients. A *prediction* that is not finite makes the loss not finite.
    Computed in float32 at least, also under autocast.

    Args:
        mse_weight: :math:`\lambda`, of the mean square error, at least 0.
        eps: smallest denominator of the CCC.
        loss_weight: of the whole.

    Shape:
        - ``cls_score`` (predicted) and ``label`` (true): the same, ``(..., 2)``; returns a number.

    Source:
        The loss is VEATIC's (WACV 2024); masks and limits are ours.
    """

    def __init__(self, mse_weight: float = 0.1, eps: float = EPS, loss_weight: float = 1.0) -> None:
        super().__init__(loss_weight=loss_weight)
        if not mse_weight >= 0 or not eps > 0:
            raise ValueError(f'mse_weight is at least 0 and eps positive, got {mse_weight} and {eps}.')
        self.mse_weight, self.eps = mse_weight, eps

    def _forward(self, cls_score: Tensor, label: Tensor, **kwargs: Any) -> Tensor:
        check_ratings(cls_score, label)
        with torch.autocast(cls_score.device.type, enabled=False):
            predicted = cls_score.to(torch.promote_types(cls_score.dtype, torch.float32)).reshape(-1, 2)
            target = label.to(predicted).reshape(-1, 2)
            valid = ~torch.isnan(target)
            each = 1 - concordance(predicted, target, valid, self.eps)
            if self.mse_weight:
                each = each + self.mse_weight * masked_mean_square(predicted, target, valid)
            known = valid.any(0)
            # where, not a product: the 1 - CCC of a dimension without ratings is 1.
            return torch.where(known, each, 0 * each).sum() / known.sum().clamp(min=1)


def check_ratings(predicted: Tensor, target: Tensor) -> None:
    """Refuses shapes that would broadcast, and integer targets, which have lost their fractions."""
    if predicted.shape != target.shape or predicted.shape[-1:] != (2, ):
        raise ValueError(f'CCCLoss compares (valence, arousal) of the same frames, shape (..., 2): predictions '
                         f'{tuple(predicted.shape)} and targets {tuple(target.shape)} came. Make num_frames of the '
                         'head the frames of the target.')
    if not target.is_floating_point():
        raise ValueError(f'targets are {target.dtype}: whatever made them has cut off the fractions. End the pipeline '
                         "with PackAffectInputs, which packs results['valence_arousal'] as floats.")
