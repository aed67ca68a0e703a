r"""Cross entropy for long-tailed classes: weights of the classes, or logits adjusted by how often they occur.

From the numbers of training clips :math:`n_c` and their shares :math:`\pi_c`, for scores :math:`f` and class y:

.. math::
    \text{weighted:}\quad  w_y \, \mathrm{CE}(f, y), \quad w_c \propto n_c^{-\text{power}} \ \text{or}\
    \frac{1 - \beta}{1 - \beta^{n_c}}; \qquad
    \text{adjusted:}\quad  \mathrm{CE}(f + \tau \log \pi, y)

The adjusted loss is consistent for the balanced error (UAR): its best scores are
:math:`\log p(x \mid y)` for :math:`\tau = 1`, so their largest, *without* the adjustment, is what UAR asks for.
The weighted one is that too for an unlimited model, and moves a separable problem's boundary hardly at all.

The counts are given, or :class:`lsef_plugins.engine.hooks.ClassCountsHook` takes them from the training data set.

Source:
    Menon et al. (2021) for the adjustment, Cui et al. (2019) for the effective number; arXiv:2511.11406 (abstract)
    says nothing of it.
"""
from typing import Any, Optional, Sequence

import torch
import torch.nn.functional as F
from mmaction.models.losses.base import BaseWeightedLoss
from torch import Tensor

from lsef_plugins.registry import MODELS


class ClassCountLoss(BaseWeightedLoss):
    """Base of losses that know the number of training clips of each class.

    Args:
        class_counts: positive, one for each class in the order of labels; None: somebody calls
            :meth:`set_class_counts` before the first step.
    """

    def __init__(self, class_counts: Optional[Sequence[float]] = None, loss_weight: float = 1.0) -> None:
        super().__init__(loss_weight=loss_weight)
        self.given = class_counts is not None
        # No buffer: a stock checkpoint loads into a model with this loss, and model.half() leaves counts whole.
        self.class_counts = torch.zeros(0, dtype=torch.float64)
        if class_counts is not None:
            self.set_class_counts(class_counts)

    def set_class_counts(self, class_counts: Sequence[float]) -> None:
        """Takes the number of clips of each class.

        Raises:
            ValueError: a number is not positive: what never occurs has no weight, and its logit no limit.
        """
        counts = torch.as_tensor(class_counts, dtype=torch.float64).flatten()
        wrong = [i for i, count in enumerate(counts.tolist()) if not 0 < count < float('inf')]
        if wrong or not len(counts):
            raise ValueError(f'class_counts {counts.tolist()} must be positive for each class; classes {wrong} are '
                             'not. Check the list and num_classes; for a class that is absent on purpose give '
                             'class_counts by hand, with 1 for it.')
        self.class_counts = counts

    def counts_for(self, scores: Tensor) -> Tensor:
        """The counts ``(k,)`` for scores ``(b, k)``."""
        if not len(self.class_counts):
            raise ValueError(f'{type(self).__name__} does not know how often the classes occur. Give class_counts='
                             "[...], or add custom_hooks=[dict(type='ClassCountsHook')] to the config.")
        if scores.dim() != 2 or scores.shape[1] != len(self.class_counts):
            raise ValueError(f'{type(self).__name__} knows {len(self.class_counts)} classes and got scores '
                             f'{tuple(scores.shape)} (clips, classes). Make num_classes of the head and the counts '
                             'agree.')
        return self.class_counts.to(scores.device, torch.promote_types(scores.dtype, torch.float32))


def weighted_cross_entropy(scores: Tensor, labels: Tensor, weights: Optional[Tensor] = None) -> Tensor:
    """Mean cross entropy over the clips' weights: scores ``(b, k)``, labels ``(b,)`` or soft ``(b, k)``; float32."""
    with torch.autocast(scores.device.type, enabled=False):
        logs = F.log_softmax(scores.to(torch.promote_types(scores.dtype, torch.float32)), 1)
        soft = labels.to(logs) if labels.shape == scores.shape else F.one_hot(labels, scores.shape[1]).to(logs)
        if weights is not None:
            soft = soft * weights.to(logs)
        return -(soft * logs).sum() / soft.sum()


@MODELS.register_module()
class LogitAdjustedLoss(ClassCountLoss):
    """Cross entropy of scores plus ``tau`` times the log of the classes' shares; scores stay as they are in testing.

    Args:
        class_counts: as of :class:`ClassCountLoss`.
        tau: 0 is plain cross entropy; 1 is the adjustment for the balanced error.
        loss_weight: of the whole.

    Shape:
        - ``cls_score`` ``(b, k)``, ``label`` ``(b,)`` int64 or soft ``(b, k)``; returns a number.
    """

    def __init__(self, class_counts: Optional[Sequence[float]] = None, tau: float = 1.0,
                 loss_weight: float = 1.0) -> None:
        super().__init__(class_counts, loss_weight)
        if not tau >= 0:
            raise ValueError(f'tau is at least 0 (0: plain cross entropy, 1: for the balanced error), got {tau}.')
        self.tau = tau

    def _forward(self, cls_score: Tensor, label: Tensor, **kwargs: Any) -> Tensor:
        counts = self.counts_for(cls_score)
        scores = cls_score.to(torch.promote_types(cls_score.dtype, torch.float32))
        return weighted_cross_entropy(scores + (self.tau * (counts / counts.sum()).log()).to(scores), label)


@MODELS.register_module()
class ClassWeightedLoss(ClassCountLoss):
    """Cross entropy with a weight for each class, of mean 1 over the training clips.

    Args:
        class_counts: as of :class:`ClassCountLoss`.
        power: weights are the counts to the minus ``power``: 0 plain, 1 every class weighs the same, 0.5 between.
        beta: weights are one over the effective number of clips instead (0.999 is usual); ``power`` is not used then.
        loss_weight: of the whole.

    Shape:
        - ``cls_score`` ``(b, k)``, ``label`` ``(b,)`` int64 or soft ``(b, k)``; returns a number, the mean over the
          weights of the batch as in PyTorch.
    """

    def __init__(self, class_counts: Optional[Sequence[float]] = None, power: float = 1.0,
                 beta: Optional[float] = None, loss_weight: float = 1.0) -> None:
        super().__init__(class_counts, loss_weight)
        if not power >= 0 or (beta is not None and not 0 <= beta < 1):
            raise ValueError(f'power is at least 0, and beta in [0, 1) or None, got {power} and {beta}.')
        self.power, self.beta = power, beta

    def weights(self, counts: Tensor) -> Tensor:
        """``(k,)`` counts -> ``(k,)`` weights, of mean 1 over the clips."""
        weights = counts ** -self.power if self.beta is None else (1 - self.beta) / (1 - self.beta ** counts)
        return weights * counts.sum() / (weights * counts).sum()

    def _forward(self, cls_score: Tensor, label: Tensor, **kwargs: Any) -> Tensor:
        return weighted_cross_entropy(cls_score, label, self.weights(self.counts_for(cls_score)))
