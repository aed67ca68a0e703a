"""Stateless formulas of tensors: nothing here owns a parameter, nothing needs OpenMMLab.

Those that read whole features stand in :mod:`lsef_plugins.ops`, beside their compiled bodies, and are named here too.
"""
from ..ops import (
    gram,
    group_shrink,
    isolation,
    moving_average,
    noise_scale,
    plain_operations,
    shrink,
)
from ..ops.frame_repair import geometric_median_weights, neighbour_predictor
from .decomposition import (
    StableOperator,
    apply_over_time,
    clip_gram,
    frame_keep,
    stable_operator,
)
from .jacobi import jacobi_eigh
from .low_rank import safe_scale, spectral_shrinkage
from .multiscale import limit_by_neighbours, transient_maps, transient_scales
from .pooling import excursions, gated_out_of_reach, limited_mean, transient_magnitude
from .rank import participation_ratio
from .regularizers import rank_excess, reconstruction_energy, scale_consistency, transient_density
from .temporal import base_bands, check_windows, dct_basis

__all__ = [
    'StableOperator', 'apply_over_time', 'base_bands', 'check_windows', 'clip_gram', 'dct_basis', 'excursions',
    'frame_keep', 'gated_out_of_reach', 'geometric_median_weights', 'gram', 'group_shrink', 'isolation',
    'jacobi_eigh', 'limit_by_neighbours', 'limited_mean', 'moving_average', 'neighbour_predictor',
    'noise_scale', 'participation_ratio', 'plain_operations', 'rank_excess', 'reconstruction_energy',
    'safe_scale', 'scale_consistency', 'shrink', 'spectral_shrinkage', 'stable_operator', 'transient_density',
    'transient_magnitude', 'transient_maps', 'transient_scales',
]
