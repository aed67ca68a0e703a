"""The formulas that read whole features, each with a compiled body where one was built (``csrc/``).

``python -m lsef_plugins.ops.build`` builds it; :func:`status` tells what computes, and why. Without it, and wherever it
does not fit, every operator is its PyTorch formula, which stands beside it in the same file.
"""
from . import flops  # noqa: F401  (registers)
from .exporting import plain_operations
from .frame_repair import frame_repair, isolation
from .frame_shrink import frame_norms, frame_shrink, group_soft_threshold
from .gram import gram
from .library import backend, load, serves, status
from .low_rank_sparse import LowRankSparse, low_rank_sparse
from .residual_scale import noise_scale, residual_scale
from .scale_shrink import moving_average, scale_shrink
from .shrinkage import group_shrink, shrink, soft_threshold
from .symmetric_eigh import symmetric_eigh

__all__ = [
    'LowRankSparse', 'backend', 'frame_norms', 'frame_repair', 'frame_shrink', 'gram', 'group_shrink',
    'group_soft_threshold', 'isolation', 'load', 'low_rank_sparse', 'moving_average', 'noise_scale', 'plain_operations',
    'residual_scale', 'scale_shrink', 'serves', 'shrink', 'soft_threshold', 'status', 'symmetric_eigh',
]

load()
