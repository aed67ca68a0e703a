r"""Concordance of predicted with true ratings as something to climb: safe where there is nothing to agree on.

.. math::
    \mathrm{CCC} = \frac{2 \operatorname{cov}(x, y)}{\max(D, \epsilon)}, \qquad
    D = \operatorname{var} x + \operatorname{var} y + (\bar x - \bar y)^2

with population moments over the valid entries of each column. From :math:`D = \epsilon` on this is the CCC exactly.
Below (a batch of one, or equal constants) it tends to 0 instead of 0/0, and everywhere the norm of its gradient with
respect to the n predictions stays below :math:`5 / \sqrt{n \epsilon}`.
Axes: ``n`` frames or clips, ``d`` dimensions (valence, arousal).

Source:
    Lin (1989) for the coefficient; arXiv:2511.11406 (abstract) says nothing of ratings.
"""
from typing import Optional, Tuple

import torch
from torch import Tensor

#: Ratings lie in [-1, 1]: a D of 1e-5 is a spread of 0.003, which no rater means.
EPS = 1e-5


def concordance(predicted: Tensor, target: Tensor, valid: Optional[Tensor] = None, eps: float = EPS) -> Tensor:
    """CCC of each column: ``(n, d), (n, d) -> (d,)``, in [-1, 1].

    Args:
        predicted: real; a value that is not finite makes its column not finite.
        target: real; what is not valid may be anything, NaN too.
        valid: bool ``(n, d)``; None for all. A column without any valid entry is 0, with zero gradient.
        eps: smallest denominator.
    """
    predicted, target, count = masked(predicted, target, valid)
    kept = torch.ones_like(predicted) if valid is None else valid.to(predicted.dtype)
    mean_x, mean_y = predicted.sum(0) / count, target.sum(0) / count
    x, y = (predicted - mean_x) * kept, (target - mean_y) * kept
    below = (x.square().sum(0) + y.square().sum(0)) / count + (mean_x - mean_y).square()
    return 2 * (x * y).sum(0) / count / below.clamp(min=eps)


def masked(predicted: Tensor, target: Tensor, valid: Optional[Tensor]) -> Tuple[Tensor, Tensor, Tensor]:
    """Both with zeros where an entry is not valid, without gradient there, and the valid entries of each column, at
    least 1."""
    if valid is None:
        return predicted, target, predicted.new_tensor(max(predicted.shape[0], 1))
    nothing = predicted.new_zeros(())
    return (torch.where(valid, predicted, nothing), torch.where(valid, target.to(predicted.dtype), nothing),
            valid.sum(0).clamp(min=1).to(predicted.dtype))


def masked_mean_square(predicted: Tensor, target: Tensor, valid: Optional[Tensor] = None) -> Tensor:
    """Mean square error of each column over its valid entries: ``(n, d), (n, d) -> (d,)``; 0 without any."""
    predicted, target, count = masked(predicted, target, valid)
    return (predicted - target).square().sum(0) / count
