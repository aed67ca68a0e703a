r"""The low-rank part of a clip, found on the T x T Gram matrix of its frames instead of by an SVD.

With the frames of a clip as the rows of :math:`X` (T x D) and :math:`G = XX^\top = U\Lambda U^\top`,

.. math::  L = P X,\qquad P = U f(\Lambda) U^\top,\qquad f_i = 0 \text{ for } i > r,

has rank at most :math:`r`. Three gains :math:`f_i` for :math:`i \le r`, with the cut :math:`c = \lambda_{r+1}`:

- ``garrote``: :math:`1 - c/\lambda_i`. Continuous in X; under white noise the best gain per mode.
- ``soft``: :math:`1 - \sqrt{c/\lambda_i}`, soft thresholding of the singular values at the (r+1)-th.
- ``hard``: 1, the truncated SVD (Eckart-Young). Discontinuous where :math:`\lambda_r = \lambda_{r+1}`.

Axes: ``b`` clips, ``c`` channels, ``t`` frames, ``n`` positions.

Source:
    arXiv:2511.11406 asks for a low-rank base and gives no equation; this estimator is ours. The garrote gain is
    the large-D limit of the optimal singular-value shrinker of Gavish and Donoho (2017); the derivative of a
    spectral function is the theorem of Daleckii and Krein (1965).
"""
from typing import Callable, Tuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..ops import symmetric_eigh
from ..ops.exporting import at_least, must_be_plain
from .jacobi import jacobi_eigh

MODES = ('garrote', 'soft', 'hard')
# Eigenvalues below this part of the largest are rounding: they carry no direction of their own.
NULL_RATIO = 1e-7
# Squared amplitudes stay far inside float32 for feature magnitudes 2**-40 .. 2**40 (1e-12 .. 1e12).
SAFE_EXPONENT = 40
# What is beyond 2**-120 .. 2**120 is brought as near as a float32 factor can.
EXPONENT_LIMIT = 120


def safe_scale(peak: Tensor) -> Tensor:
    """A power of two per clip that brings its largest magnitude into the range where squares are safe.

    ``peak`` ``(b,)`` is the largest magnitude of each clip. The scale is exactly 1 for ordinary clips, so that
    ordinary results do not change by a bit; multiplying by it is exact for the others.
    """
    peak = peak.detach()
    if must_be_plain():
        return _tabled_scale(peak)
    _, exponent = torch.frexp(peak)
    exponent = torch.where(torch.isfinite(peak) & (peak > 0), exponent, torch.zeros_like(exponent))
    outside = exponent.abs() > SAFE_EXPONENT
    shift = torch.where(outside, -exponent, torch.zeros_like(exponent)).clamp(-EXPONENT_LIMIT, EXPONENT_LIMIT)
    return torch.ldexp(torch.ones_like(peak), shift)


def _tabled_scale(peak: Tensor) -> Tensor:
    """The same scale without frexp and ldexp: powers of two are counted and looked up."""
    exponents = range(-EXPONENT_LIMIT, EXPONENT_LIMIT + 1)
    # frexp's exponent is that of the lowest power of two beyond the peak.
    levels = torch.tensor([2.0 ** e for e in exponents[:-1]], dtype=peak.dtype, device=peak.device)
    scales = torch.tensor([2.0 ** -e if abs(e) > SAFE_EXPONENT else 1.0 for e in exponents], dtype=peak.dtype,
                          device=peak.device)
    scale = scales[(peak[:, None] >= levels).sum(-1)]
    return torch.where(torch.isfinite(peak) & (peak > 0), scale, torch.ones_like(scale))


def spectral_shrinkage(g: Tensor, rank: int, mode: str = 'garrote') -> Tensor:
    """The operator ``P`` of the module's formula: ``(b, t, t) -> (b, t, t)``, symmetric, rank <= ``rank``.

    ``g`` is symmetric and positive semidefinite; only its direction matters: ``P(a g) = P(g)`` for a > 0. The
    gradient is in closed form and bounded where eigenvalues coincide (no 1/(l_i - l_j) inside a block).
    Differentiable once. Zero for a zero matrix.

    Raises:
        ValueError: unknown ``mode``, ``rank`` < 1, or ``g`` is not a batch of square matrices.
    """
    if mode not in MODES:
        raise ValueError(f'mode {mode!r} is not a spectral gain; choose one of {", ".join(MODES)}.')
    if rank < 1:
        raise ValueError(f'rank is the largest rank of the stable part and at least 1, got {rank}.')
    if g.dim() != 3 or g.shape[-1] != g.shape[-2]:
        raise ValueError(f'spectral_shrinkage takes Gram matrices (b, t, t), got {tuple(g.shape)}; '
                         'gram(x) makes them from (b, c, t, n).')
    if rank >= g.shape[-1]:
        return torch.eye(g.shape[-1], dtype=g.dtype, device=g.device).expand_as(g)
    if must_be_plain():
        return _shrunken_spectrum(g, rank, mode, jacobi_eigh)[0]
    return _SpectralShrinkage.apply(g, rank, mode)


def _descending_eigh(a: Tensor) -> Tuple[Tensor, Tensor]:
    values, vectors = symmetric_eigh(a)
    return values.flip(-1), vectors.flip(-1)


def _shrunken_spectrum(g: Tensor, rank: int, mode: str, eigh: Callable = _descending_eigh) -> Tuple[Tensor, ...]:
    trace = g.diagonal(dim1=-2, dim2=-1).sum(-1)
    weight = torch.where(trace > 0, 1 / at_least(trace, torch.finfo(g.dtype).tiny), torch.zeros_like(trace))
    values, vectors = eigh(g * weight[:, None, None])
    values = values.clamp_min(0)
    top, cut = values[:, :rank], values[:, rank:rank + 1]
    kept = top > NULL_RATIO * values[:, :1]
    gain = _gain(at_least(top, torch.finfo(g.dtype).tiny), cut, mode).clamp_min(0) * kept
    u = vectors[..., :rank]
    return (u * gain[:, None, :]) @ u.transpose(-1, -2), values, vectors, gain, weight


class _SpectralShrinkage(torch.autograd.Function):

    @staticmethod
    def forward(ctx, g, rank, mode):
        operator, *spectrum = _shrunken_spectrum(g, rank, mode)
        ctx.save_for_backward(*spectrum)
        ctx.rank, ctx.mode = rank, mode
        return operator

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        values, u, gain, weight = ctx.saved_tensors
        grad = (grad + grad.transpose(-1, -2)) / 2
        q = u.transpose(-1, -2) @ grad @ u
        inner = q * _divided_differences(values, gain, ctx.rank, ctx.mode)
        cut = _cut_gradient(values, gain, q, ctx.rank, ctx.mode)
        inner[:, ctx.rank, ctx.rank] = inner[:, ctx.rank, ctx.rank] + cut
        return u @ inner @ u.transpose(-1, -2) * weight[:, None, None], None, None


def _gain(top: Tensor, cut: Tensor, mode: str) -> Tensor:
    if mode == 'garrote':
        return 1 - cut / top
    if mode == 'soft':
        return 1 - (cut / top).sqrt()
    return torch.ones_like(top)


def _divided_differences(values: Tensor, gain: Tensor, rank: int, mode: str) -> Tensor:
    """(f_i - f_j) / (l_i - l_j) for all pairs: ``(b, t), (b, r) -> (b, t, t)``, each in a form that stays finite."""
    tiny = torch.finfo(values.dtype).tiny
    # The dropped part of the spectrum, l_j for j > r; a kept mode without gain belongs to it as well.
    alive = gain > 0
    top = torch.where(alive, values[:, :rank], torch.ones_like(gain))
    cut = values[:, rank:rank + 1]
    both = alive[:, :, None] & alive[:, None, :]
    if mode == 'garrote':
        within = cut[..., None] / (top[:, :, None] * top[:, None, :])
    elif mode == 'soft':
        root = top.sqrt()
        within = cut.sqrt()[..., None] / (
            root[:, :, None] * root[:, None, :] * (root[:, :, None] + root[:, None, :]))
    else:
        within = torch.zeros_like(both, dtype=values.dtype)
    gap = top[:, :, None] - values[:, None, :]
    if mode == 'hard':
        # The one discontinuous gain: its derivative is damped where the gap closes.
        across = gap / (gap ** 2 + (1e-3 * values[:, :1, None]) ** 2).clamp_min(tiny)
    else:
        across = torch.minimum(gain[:, :, None] / gap.clamp_min(tiny), 1 / top[:, :, None])
    across = across * alive[:, :, None]
    table = values.new_zeros(*values.shape, values.shape[-1])
    table[:, :rank, :] = across
    table[:, :, :rank] = torch.where(alive[:, None, :], across.transpose(-1, -2), table[:, :, :rank])
    table[:, :rank, :rank] = torch.where(both, within, table[:, :rank, :rank])
    return table


def _cut_gradient(values: Tensor, gain: Tensor, q: Tensor, rank: int, mode: str) -> Tensor:
    """The derivative through the cut c = l_{r+1}, which every gain contains: ``(b,)``."""
    if mode == 'hard':
        return torch.zeros_like(values[:, 0])
    alive = gain > 0
    top = torch.where(alive, values[:, :rank], torch.ones_like(gain))
    slope = 1 / top
    if mode == 'soft':
        cut = values[:, rank:rank + 1]
        alive = alive & (cut > NULL_RATIO * values[:, :1])
        slope = 0.5 / (cut.clamp_min(torch.finfo(cut.dtype).tiny) * top).sqrt()
    diagonal = q.diagonal(dim1=-2, dim2=-1)[:, :rank]
    return -torch.where(alive, diagonal * slope, torch.zeros_like(diagonal)).sum(-1)
