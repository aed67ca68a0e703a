from .class_counts_hook import ClassCountsHook
from .decomposition_hook import DecompositionHook
from .decomposition_tap_hook import DecompositionTapHook
from .random_state_hook import RandomStateHook
from .trained_on_hook import TrainedOnHook

__all__ = ['ClassCountsHook', 'DecompositionHook', 'DecompositionTapHook', 'RandomStateHook', 'TrainedOnHook']
