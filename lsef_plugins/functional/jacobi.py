r"""Eigenvalues of symmetric matrices by cyclic Jacobi rotations, in operations that every exporter knows.

ONNX has no eigendecomposition. Jacobi's method needs products only: each round turns n/2 disjoint pairs (p, q) of
axes, so that their off-diagonal element becomes zero,

.. math::
    t = \frac{2 a_{pq} \operatorname{sgn}(a_{qq} - a_{pp})}{|a_{qq} - a_{pp}| + \sqrt{(a_{qq} - a_{pp})^2
    + 4 a_{pq}^2}}, \qquad c = \frac1{\sqrt{1 + t^2}}, \qquad s = t c,

all of them as one orthogonal n x n matrix :math:`W`: :math:`A \leftarrow W^\top A W`, :math:`V \leftarrow V W`. The
pairs always lie at i and i + n/2; a fixed permutation inside :math:`W` moves the axes on in a round robin, so that
n - 1 equal rounds let every axis meet every other (a sweep). Hence the graph is one loop over one small body.
Axes: ``b`` matrices, ``n`` rows.

Source:
    Jacobi (1846); the rotation is Rutishauser's (1966), the ordering that of Brent and Luk (1985).
"""
from typing import NamedTuple, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..ops.exporting import at_least, is_traced, writes_loops

# Ordinary matrices need 4 (n = 4) to 8 (n = 32) sweeps, large clusters of equal eigenvalues up to about twice as many.
MAX_SWEEPS = 24
# Where a tracer unrolls them, every one of them is in the graph.
UNROLLED_SWEEPS = 12


class _Plan(NamedTuple):
    """What is the same in every round of n axes, each ``(n, n)``: ``swap`` exchanges the partners of the pairs,
    ``order`` moves the axes on; ``tie`` ``(n,)`` decides the sense of rotation for equal diagonal elements."""
    identity: Tensor
    swap: Tensor
    order: Tensor
    tie: Tensor


def jacobi_eigh(a: Tensor, max_sweeps: int = MAX_SWEEPS) -> Tuple[Tensor, Tensor]:
    """Eigenvalues ``(b, n)``, descending, and eigenvectors ``(b, n, n)`` (columns) of symmetric ``a`` ``(b, n, n)``.

    In float64 as accurate as ``torch.linalg.eigh``, more so for small eigenvalues of graded matrices. Not meant to be
    differentiated. Stops as soon as all matrices have converged, except where a tracer unrolls the rounds.

    Raises:
        ValueError: ``a`` is not a batch of square matrices, or ``max_sweeps`` < 1.
    """
    if a.dim() != 3 or a.shape[-1] != a.shape[-2] or not a.is_floating_point():
        raise ValueError(f'jacobi_eigh takes floating symmetric matrices (b, n, n), got {a.dtype} {tuple(a.shape)}.')
    if max_sweeps < 1:
        raise ValueError(f'max_sweeps counts passes over all pairs and is at least 1, got {max_sweeps}.')
    rows = a.shape[-1]
    odd = rows % 2
    scale = at_least(a.abs().amax((-2, -1), keepdim=True), torch.finfo(a.dtype).tiny)
    a = a / scale
    if odd:
        # One more axis, coupled to none; no eigenvalue is as low as its own, so that it comes last.
        lowest = torch.zeros(rows + 1, dtype=a.dtype, device=a.device)
        lowest[-1] = -(rows + 1)
        a = F.pad(a, (0, 1, 0, 1)) + torch.diag(lowest)
    plan = _plan(rows + odd, a)
    v = plan.identity.expand_as(a).clone()
    a, v = _rounds(plan, a, v, max_sweeps * (rows + odd - 1))
    values, index = (a * plan.identity).sum(-1).sort(-1, descending=True)
    vectors = v.gather(-1, index[:, None, :].expand_as(v))
    return values[:, :rows] * scale[..., 0], vectors[:, :rows, :rows]


def _plan(size: int, like: Tensor) -> _Plan:
    half = size // 2
    first, second = list(range(half)), list(range(half, size))
    identity = torch.eye(size, dtype=like.dtype, device=like.device)
    # The round robin: axis 0 stays, the others go round, along the first half and back along the second.
    order = [0, second[0], *first[1:-1], *second[1:], first[-1]] if half > 1 else [0, 1]
    tiny = torch.finfo(like.dtype).tiny
    tie = torch.tensor([tiny] * half + [-tiny] * half, dtype=like.dtype, device=like.device)
    return _Plan(identity, identity.roll(half, 0), identity[:, order], tie)


def _round(plan: _Plan, a: Tensor, v: Tensor) -> Tuple[Tensor, Tensor]:
    """One rotation of every pair: ``(b, n, n)`` twice, in and out."""
    diagonal = (a * plan.identity).sum(-1)
    coupling = a * plan.swap
    # From both triangles: a difference of one bit between them would make W not orthogonal where axes are equal.
    twice = coupling.sum(-1) + coupling.sum(-2)
    gap = diagonal @ plan.swap - diagonal
    length = (gap * gap + twice * twice).sqrt() + gap.abs()
    tangent = twice * (gap + plan.tie).sign() / torch.maximum(length, plan.tie.abs())
    cosine = 1 / (1 + tangent * tangent).sqrt()
    w = cosine[..., None] * plan.order + (tangent * cosine)[..., None] * (plan.swap @ plan.order)
    return w.transpose(-1, -2) @ a @ w, v @ w


def _unfinished(plan: _Plan, a: Tensor) -> Tensor:
    """Whether some matrix still has an off-diagonal element that counts: a boolean scalar."""
    rounding = 2 * a.shape[-1] * torch.finfo(a.dtype).eps
    return (a * (1 - plan.identity)).abs().max() > rounding


def _rounds(plan: _Plan, a: Tensor, v: Tensor, limit: int) -> Tuple[Tensor, Tensor]:
    if writes_loops():
        from torch._higher_order_ops.while_loop import while_loop
        count = torch.zeros((), dtype=torch.int64, device=a.device)

        def more(count: Tensor, a: Tensor, v: Tensor) -> Tensor:
            return (count < limit) & _unfinished(plan, a)

        def turn(count: Tensor, a: Tensor, v: Tensor) -> Tuple[Tensor, Tensor, Tensor]:
            return (count + 1, *_round(plan, a, v))

        return while_loop(more, turn, (count, a, v))[1:]
    unrolled = is_traced()
    for _ in range(min(limit, UNROLLED_SWEEPS * (a.shape[-1] - 1)) if unrolled else limit):
        if not unrolled and not _unfinished(plan, a):
            break
        a, v = _round(plan, a, v)
    return a, v
