"""What the compiled operators count for ``torch.utils.flop_counter``: the products over time of their formulas.

Two operations for each multiplication and addition, as PyTorch counts its own products; element-wise work is not
counted there either, nor the noise scale, which looks at a sample.
Axes: ``b`` clips, ``c`` channels, ``t`` frames, ``n`` positions.
"""
from typing import Any, Sequence

import torch

from .library import when_loaded


def _product(shape: Sequence[int]) -> int:
    """``(b, 1, t, t) @ (b, c, t, n)``."""
    batch, channels, frames, positions = shape
    return 2 * batch * channels * frames * frames * positions


def _one(x_shape: Sequence[int], *args: Any, out_shape: Any = None, **kwargs: Any) -> int:
    return _product(x_shape)


def _gram(x_shape: Sequence[int], operator_shape: Any = None, *args: Any, out_shape: Any = None, **kwargs: Any) -> int:
    return _product(x_shape) * (1 if operator_shape is None else 2)


def _low_rank_sparse_backward(to_y: Any, to_l: Any, to_s: Any, to_r: Any, to_sums: Any, x_shape: Sequence[int],
                              *args: Any, out_shape: Any = None, **kwargs: Any) -> int:
    """The product again, its transpose, and the gradient of the matrix."""
    return 3 * _product(x_shape)


@when_loaded
def _register() -> None:
    from torch.utils.flop_counter import flop_registry, register_flop_formula
    for operator, formula in ((torch.ops.lsef.gram, _gram), (torch.ops.lsef.low_rank_sparse, _one),
                              (torch.ops.lsef.low_rank_sparse_backward, _low_rank_sparse_backward)):
        if operator not in flop_registry:       # a reload of the package finds those of the first import
            register_flop_formula(operator)(formula)
