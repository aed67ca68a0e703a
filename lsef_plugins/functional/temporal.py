r"""Linear maps over time, as T x T matrices applied from the left to (..., t, n).

Every map here works for any number of frames, is exact at the clip's ends (rows renormalised, no padding) and
commutes with reversing time. At T = 1 every average is the identity.

Source:
    The paper's abstract speaks of several time scales and gives no filter; the matrices are ours.
"""
import math
from typing import List, Sequence

import torch
from torch import Tensor

from ..ops.scale_shrink import moving_average


def base_bands(frames: int, windows: Sequence[int], dtype=torch.float32, device=None) -> Tensor:
    r"""Splits the identity over time into bands, finest first: ``(s, t, t)``, summing to the identity.

    :math:`B_j = A_{w_j} - A_{w_{j+1}}`, the last one :math:`A_{w_J}`. ``windows`` ascend and begin with 1.
    """
    check_windows(windows)
    averages = [moving_average(frames, w, dtype, device) for w in windows]
    bands: List[Tensor] = [fine - coarse for fine, coarse in zip(averages, averages[1:])]
    return torch.stack([*bands, averages[-1]])


def check_windows(windows: Sequence[int]) -> None:
    """Raises ValueError unless the windows are odd numbers of frames, ascending from 1."""
    sequence = isinstance(windows, Sequence) and not isinstance(windows, str)
    if not sequence or not windows or windows[0] != 1 or any(a >= b for a, b in zip(windows, windows[1:])) \
            or any(w % 2 != 1 for w in windows):
        raise ValueError(f'windows are odd numbers of frames, ascending from 1 (then the bands sum to the '
                         f'identity), for example (1, 3, 5); got {windows!r}.')


def dct_basis(frames: int, size: int, dtype=torch.float64, device=None) -> Tensor:
    """The ``size`` slowest vectors of the orthonormal DCT-II over time: ``(t, size)``."""
    time = torch.arange(frames, dtype=dtype, device=device)
    order = torch.arange(size, dtype=dtype, device=device)
    basis = torch.cos(math.pi / frames * (time[:, None] + 0.5) * order) * math.sqrt(2.0 / frames)
    basis[:, 0] = 1 / math.sqrt(frames)
    return basis
