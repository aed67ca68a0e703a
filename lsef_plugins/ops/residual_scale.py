r"""How large the noise of each channel is, from what the stable part leaves of it.

.. math::
    \hat\sigma_c = \max\bigl(1.4826\,\operatorname{median}\{|r| : x \ne 0\},\ 10^{-3}\operatorname{rms}(x)\bigr)

The median absolute deviation in units of a Gaussian's standard deviation, as usual in robust statistics, and a floor:
rounding is no event. **Only where the feature is not zero**: behind a ReLU a zero says that the noise was cut off, not
that there was none, and where more than half of a channel is zero, or so little alive that its residual is next to
nothing, the median of all would be the floor, and all that moves an event. Features without zeros have the usual
median, bit for bit; a channel of zeros only has the floor. Without gradient: through a median a single element would
receive all of it.
Axes: ``b`` clips, ``c`` channels, ``t`` frames, ``n`` positions.

Source:
    Ours; the abstract of arXiv:2511.11406 gives no thresholds.
"""
import math

import torch
from torch import Tensor

from .exporting import lower_median_where
from .layout import check_features, in_own_dtype, sums_dtype
from .library import serves, when_loaded

# The standard deviation of a Gaussian in units of its median absolute deviation.
MAD_TO_SIGMA = 1.4826
# A channel is never judged finer than this part of its own root mean square: rounding is no event.
SCALE_FLOOR_RATIO = 1e-3
# The median of this many values is known to about 2 %.
MEDIAN_SAMPLE = 4096


@torch.no_grad()
def residual_scale(x: Tensor, operator: Tensor) -> Tensor:
    """:func:`noise_scale` of ``x - operator x`` in one read: ``(b, c, t, n), (b, t, t) -> (b, c, 1, 1)``.

    In the dtype of sums, float32 or float64.

    Raises:
        ValueError: shapes that do not belong together.
    """
    check_features(x, operator, 'residual_scale')
    operator = operator.to(sums_dtype(x))
    if serves(x):
        return torch.ops.lsef.residual_scale(x, operator.contiguous(), None, MEDIAN_SAMPLE, MAD_TO_SIGMA,
                                             SCALE_FLOOR_RATIO)[..., None, None]
    return _left_scale(x.to(operator.dtype), operator)


@in_own_dtype
def _left_scale(x: Tensor, operator: Tensor) -> Tensor:
    # (b, 1, t, t) @ (b, c, t, n)
    return noise_scale(x - torch.matmul(operator[:, None], x), x)


@torch.no_grad()
def noise_scale(r: Tensor, x: Tensor) -> Tensor:
    r"""Robust standard deviation of the residual of ``x``, per clip and channel: ``(b, c, t, n) -> (b, c, 1, 1)``.

    The module's :math:`\hat\sigma`, in the units of the feature and the dtype of ``r``, without gradient. Above 4,096
    values the median is that of evenly spaced positions (all frames of each), about 2 % from the exact one.

    Raises:
        ValueError: ``r`` and ``x`` are not of one shape.
    """
    if r.shape != x.shape:
        raise ValueError(f'noise_scale takes a residual and the features it was taken from, of one shape (b, c, t, n); '
                         f'got {tuple(r.shape)} and {tuple(x.shape)}.')
    if serves(r):
        return torch.ops.lsef.residual_scale(x.to(r.dtype), None, r, MEDIAN_SAMPLE, MAD_TO_SIGMA,
                                             SCALE_FLOOR_RATIO)[..., None, None].to(r.dtype)
    frames, positions = r.shape[-2:]
    stride = max(1, math.ceil(frames * positions / MEDIAN_SAMPLE))
    floor = SCALE_FLOOR_RATIO * x.square().mean((-2, -1)).sqrt()
    if frames * positions == 0:
        return floor.nan_to_num()[..., None, None]
    sample = r[..., ::stride].abs().flatten(-2)
    spread = MAD_TO_SIGMA * lower_median_where(x[..., ::stride].flatten(-2) != 0, sample)
    return torch.maximum(spread, floor)[..., None, None]


@when_loaded
def _register() -> None:
    torch.library.register_fake('lsef::residual_scale')(_shape)


def _shape(x, operator, residual, sample, to_sigma, floor_ratio):
    return x.new_empty(x.shape[:2], dtype=sums_dtype(x))
