r"""Spectral damping of a matrix: weak directions are lifted up to a noise floor, strong ones keep their proportions.

For :math:`X` with :math:`\|X\|_F = 1` and :math:`m` = its smaller side,

.. math::
    H = (XX^\top + \tau^2 I)^{-1/2} X, \qquad \phi = \|H\|_F^2/m = \frac1m\sum_i \frac{l_i}{l_i + \tau^2} \in [0, 1],

with :math:`l_i` the eigenvalues of the Gram matrix :math:`XX^\top`, which sum to 1. :math:`\tau\to\infty` gives back
the direction of :math:`X`, :math:`\tau\to0` its polar factor. The *ridge effective rank* :math:`\phi` is the share of
directions above the floor. The floor is set as :math:`\tau = \kappa/\sqrt m` (:math:`\kappa = 1`: the mean
eigenvalue) or so that :math:`\phi` meets a target.

Axes: ``...`` any number of matrices, ``r`` rows, ``c`` columns, ``m`` the smaller side. The Gram matrix is that of the
smaller side: :math:`XX^\top` of a wide matrix, :math:`X^\top X` of a tall one.

Source:
    Ours; arXiv:2511.11406 (abstract) names rank-aware optimisation and gives no equation. The coupled iteration is
    Newton and Schulz's in the form of Higham (Functions of Matrices, 2008), its scaling that of Chen and Chow (2014).
"""
import math
from typing import Any, Callable, NamedTuple, Tuple

import torch
from torch import Tensor

#: Smallest tau^2 of a matrix of norm 1: below it float32 Gram matrices hold rounding only.
FLOOR = 1e-6
BISECTIONS = 40


class Root(NamedTuple):
    """``matrix`` ``(..., m, m)`` is the inverse root, ``tau2`` ``(...)`` its squared floor, ``rank`` ``(...)`` the
    ridge effective rank that it gives."""
    matrix: Tensor
    tau2: Tensor
    rank: Tensor


def norm_of(x: Tensor) -> Tensor:
    """Frobenius norm of each matrix, ``(..., r, c) -> (..., 1, 1)``."""
    return torch.linalg.vector_norm(x, dim=(-2, -1), keepdim=True)


def over(x: Tensor, size: Tensor) -> Tensor:
    """``x / size``, and zero where ``size`` is."""
    return x / torch.where(size > 0, size, torch.ones_like(size))


def gram(x: Tensor) -> Tensor:
    """The Gram matrix of the smaller side, ``(..., r, c) -> (..., m, m)``."""
    return x @ x.mT if x.shape[-2] <= x.shape[-1] else x.mT @ x


def apply_root(root: Tensor, x: Tensor) -> Tensor:
    """The inverse root of ``gram(x)``'s side times ``x``: ``(..., m, m), (..., r, c) -> (..., r, c)``."""
    return root @ x if x.shape[-2] <= x.shape[-1] else x @ root


# ---- the floor -----------------------------------------------------------------------------------------------------

def ridge_rank(spectrum: Tensor, tau2: Tensor) -> Tensor:
    """Ridge effective rank, 0 to 1: eigenvalues ``(..., m)``, ``tau2`` ``(...) -> (...)``."""
    return (spectrum / (spectrum + tau2[..., None])).mean(-1)


def tau2_of_kappa(kappa: float, m: int) -> float:
    """Squared floor of ``kappa`` root mean eigenvalues of a matrix of norm 1, at least :data:`FLOOR`."""
    return max(kappa ** 2 / m, FLOOR)


def tau2_of_rank(spectrum: Tensor, target: float) -> Tensor:
    """The squared floor at which the ridge effective rank is ``target``, by bisection: ``(..., m) -> (...)``.

    A matrix of too low rank for the target gets the lowest floor, :data:`FLOOR`.
    """
    spectrum = spectrum.double()
    low = torch.full_like(spectrum[..., 0], math.log(FLOOR))
    # sum l / (l + tau^2) <= 1 / tau^2, so at 1 / (m target) the rank is not above the target.
    high = torch.full_like(low, _highest(target, spectrum.shape[-1]))
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        above = ridge_rank(spectrum, middle.exp()) > target
        low, high = torch.where(above, middle, low), torch.where(above, high, middle)
    return ((low + high) / 2).exp()


def _highest(target: float, m: int) -> float:
    return max(-math.log(m * target), math.log(FLOOR))


def nearer_tau2(root: Root, target: float) -> Tensor:
    r"""One Newton step in :math:`\log\tau^2` towards the target, from the root that the present floor gives: ``(...)``.

    With :math:`q = \tau^2 Z^2 = I - x`, :math:`m\phi = \sum x_i` and
    :math:`m\,d\phi/d\log\tau^2 = -\sum x_i (1 - x_i)`: matrix products only, where bisection needs eigenvalues.
    """
    m = root.matrix.shape[-1]
    slope = (1 - root.rank) - root.tau2.square() * gram(root.matrix).square().sum((-2, -1)) / m
    step = ((root.rank - target) / slope.clamp_min(0.02)).clamp(-1.5, 1.5)
    return (root.tau2.log() + step).clamp(math.log(FLOOR), _highest(target, m)).exp()


# ---- the inverse root ----------------------------------------------------------------------------------------------

def root_by_eigenvectors(g: Tensor, tau2: float = 0.0, target: float = 0.0) -> Root:
    """Inverse root of Gram matrices of trace 1, exactly: ``(..., m, m)``. Fast on a CPU.

    Either ``tau2`` or the ``target`` rank is given; with a target the floor is found by bisection.
    """
    spectrum, vectors = (each.to(g.dtype) for each in in_float64_if_need_be(torch.linalg.eigh, g))
    spectrum = spectrum.clamp_min(0)
    floor = tau2_of_rank(spectrum, target).to(g.dtype) if target else torch.full_like(spectrum[..., 0], tau2)
    matrix = (vectors * (spectrum + floor[..., None]).rsqrt()[..., None, :]) @ vectors.mT
    return Root(matrix, floor, ridge_rank(spectrum, floor))


def in_float64_if_need_be(solve: Callable[[Tensor], Any], g: Tensor) -> Any:
    """``solve(g)``; in float64 where LAPACK's float32 routine gives up, as it may on many rows of exact zeros."""
    try:
        return solve(g)
    except torch.linalg.LinAlgError:
        return solve(g.double())


def root_by_products(g: Tensor, tau2: Tensor, least: float = FLOOR) -> Root:
    r""":math:`(G + \tau^2 I)^{-1/2}` by the coupled Newton-Schulz iteration: ``(..., m, m), (...) -> (..., m, m)``.

    Matrix products only, so that an accelerator neither waits for the host nor solves eigenproblems. ``least`` is a
    lower bound of ``tau2``; the number of iterations follows from it.
    """
    m = g.shape[-1]
    eye = torch.eye(m, dtype=g.dtype, device=g.device)
    floor = tau2[..., None, None]
    size = norm_of(g) + floor                         # at least the largest eigenvalue of g + floor
    y, z = (g + floor * eye) / size, eye.expand_as(g)
    low = (floor / size).sqrt()                       # singular values of the sign iteration lie in [low, 1]
    for _ in range(newton_schulz_steps(least)):
        rho2 = 3 / (1 + low + low.square())
        t = rho2.sqrt() / 2 * (3 * eye - rho2 * (z @ y))
        y, z = y @ t, t @ z
        low = rho2.sqrt() / 2 * low * (3 - rho2 * low.square())
    z = z / size.sqrt()
    rank = (1 - tau2 * z.square().sum((-2, -1)) / m).clamp(0, 1)
    return Root(z, tau2, rank)


def newton_schulz_steps(least: float) -> int:
    """Iterations after which every singular value from ``sqrt(least)`` on is 1 to float32 rounding."""
    low, steps = math.sqrt(least / (1 + least)), 0
    while low < 1 - 1e-6:
        rho2 = 3 / (1 + low + low ** 2)
        low, steps = math.sqrt(rho2) / 2 * low * (3 - rho2 * low ** 2), steps + 1
    return steps + 1


def damped(x: Tensor, kappa: float = 0.0, target: float = 0.0) -> Tuple[Tensor, Tensor]:
    """Matrices ``(..., r, c)`` with their spectra damped and their norms kept, and the ridge effective rank ``(...)``.

    The whole formula in one call, for ``kappa`` or a ``target`` rank; training keeps its parts (:class:`MatrixStack`).
    """
    size = norm_of(x)
    unit = over(x, size)
    g = gram(unit)
    root = root_by_eigenvectors(g, 0.0 if target else tau2_of_kappa(kappa, g.shape[-1]), target)
    h = apply_root(root.matrix, unit)
    return h * over(size, norm_of(h)), root.rank
