"""MMAction2's own registries.

A child registry would make ``type='LSEFNeck'`` in a stock config a KeyError: the host looks names
up in its own registry only. Importing this module needs MMAction2.
"""
from mmaction.registry import DATASETS, HOOKS, METRICS, MODELS, OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS, TRANSFORMS

__all__ = ['DATASETS', 'HOOKS', 'METRICS', 'MODELS', 'OPTIM_WRAPPER_CONSTRUCTORS', 'OPTIM_WRAPPERS', 'TRANSFORMS']
