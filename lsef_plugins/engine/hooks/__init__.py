from .class_counts_hook import ClassCountsHook
from .random_state_hook import RandomStateHook

__all__ = ['ClassCountsHook', 'RandomStateHook']
