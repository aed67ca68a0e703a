"""Whether a checkpoint holds all weights of a model: compared by name and shape before anything is measured."""
from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.hooks import Hook


class WeightsError(ValueError):
    """A checkpoint is not one of this model: weights are missing, left over, or of another shape."""


class WholeWeights(Hook):
    """Refuses a checkpoint without all of the model's weights; MMEngine would warn and measure random numbers."""

    def after_load_checkpoint(self, runner: Any, checkpoint: dict) -> None:
        """WeightsError for missing weights, weights of another shape, and a neck that the config does not have."""
        own = without_wrapper(runner.model.state_dict())
        check_weights(own, state_of(checkpoint), runner._load_from, str(runner.cfg.filename))


def load_weights(recognizer: torch.nn.Module, content: Any, checkpoint: str, config: str) -> None:
    """Loads all weights, or says which are not there.

    Raises:
        WeightsError: the checkpoint has no weights of the neck, or is one of another model.
    """
    state = state_of(content)
    check_weights(recognizer.state_dict(), state, checkpoint, config)
    recognizer.load_state_dict(state, strict=False)


def state_of(content: Any) -> dict[str, Any]:
    """The weights of a checkpoint's content by the names they have without a wrapper."""
    return without_wrapper(content.get('state_dict', content) if isinstance(content, Mapping) else {})


def without_wrapper(state: Mapping[str, Any]) -> dict[str, Any]:
    """Weights by the names they have in the model that DistributedDataParallel wraps."""
    return {name[7:] if name.startswith('module.') else name: value for name, value in state.items()}


def check_weights(own: Mapping[str, Any], state: Mapping[str, Any], checkpoint: str, config: str) -> None:
    """Compares the weights of a model with those of a checkpoint, by name and shape.

    Raises:
        WeightsError: see :func:`load_weights`.
    """
    missing = [name for name in own if name not in state and not name.endswith('num_batches_tracked')]
    necks = [name for name in missing if name.split('.')[0] == 'neck']
    if missing and necks == missing:
        raise WeightsError(f'{checkpoint} has no weights of the neck ({len(necks)} are missing, such as {necks[0]}): '
                           f'it was trained without one. Train {Path(config).name} from it (--cfg-options load_from='
                           f'{checkpoint}) and give that checkpoint.')
    if missing:
        raise WeightsError(f'{checkpoint} does not fit {config}: {len(missing)} weights are missing, such as '
                           f'{", ".join(missing[:3])}. Give the config it was trained with.')
    for name, value in own.items():
        if name in state and tuple(state[name].shape) != tuple(value.shape):
            raise WeightsError(f'{checkpoint} does not fit {config}: size mismatch for {name}, '
                               f'{tuple(state[name].shape)} in the checkpoint and {tuple(value.shape)} in the '
                               'model. Give the config it was trained with.')
    dropped = [name for name in state if name.split('.')[0] == 'neck']
    if dropped and not any(name.split('.')[0] == 'neck' for name in own):
        raise WeightsError(f'{checkpoint} has a neck ({dropped[0]} and so on) and {config} has none: without it the '
                           'weights are of no use. Give the config it was trained with.')
