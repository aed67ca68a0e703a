r"""Eigenvalues and eigenvectors of small symmetric matrices, :math:`A = V \Lambda V^\top`, many at once.

The T x T stage of a clip is as small as its features are large: there a solver's calls cost more than its arithmetic.
The compiled body is Jacobi's method (:mod:`lsef_plugins.functional.jacobi` has its formula): on CUDA one warp for each
matrix, without a word to the host, on the CPU a matrix in each lane of a vector. It turns a pair of axes as long as
:math:`|a_{pq}| > \varepsilon \sqrt{|a_{pp} a_{qq}|}`, so that graded matrices keep their small eigenvalues.
Axes: ``b`` matrices, ``t`` rows.

Source:
    Jacobi (1846); corrections by Rutishauser (1966), rounds of disjoint pairs by Brent and Luk (1985), the criterion
    by Demmel and Veselic (1992).
"""
from typing import Tuple

import torch
from torch import Tensor

from .library import serves, when_loaded

# LSEF_CPU_EIGH_ROWS, LSEF_CUDA_EIGH_ROWS of csrc/kernels.h. On the CPU LAPACK is as fast beyond them.
MAX_ROWS = {'cpu': 16, 'cuda': 32}


@torch.no_grad()
def symmetric_eigh(a: Tensor) -> Tuple[Tensor, Tensor]:
    """Eigenvalues ``(b, t)``, ascending, and orthonormal eigenvectors ``(b, t, t)`` (columns) of ``a`` ``(b, t, t)``.

    Like ``torch.linalg.eigh``, of which it reads the same, the lower triangle, but without gradient: where eigenvalues
    coincide that of eigenvectors is infinite, and whoever needs one has a closed form of his own
    (:func:`~lsef_plugins.functional.spectral_shrinkage`). A compiled matrix that is not finite has NaN for eigenvalues
    and vectors and disturbs none beside it; ``torch.linalg.eigh`` stops the program on some devices.

    Raises:
        ValueError: ``a`` is no batch of square matrices of float32 or float64.
    """
    if a.dim() != 3 or a.shape[-1] != a.shape[-2] or a.dtype not in (torch.float32, torch.float64):
        raise ValueError(f'symmetric_eigh takes symmetric matrices (b, t, t) of float32 or float64, got {a.dtype} '
                         f'{tuple(a.shape)}.')
    if a.shape[-1] <= MAX_ROWS.get(a.device.type, 0) and serves(a):
        values, vectors = torch.ops.lsef.symmetric_eigh(a.contiguous())
        return values, vectors
    values, vectors = torch.linalg.eigh(a)
    return values, vectors


@when_loaded
def _register() -> None:
    torch.library.register_fake('lsef::symmetric_eigh')(_shape)


def _shape(a):
    return a.new_empty(a.shape[:2]), torch.empty_like(a, memory_format=torch.contiguous_format)
