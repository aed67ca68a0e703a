"""As many parameters for every arm: those of neck and head together, which an LSEFNeck and LSEFHead set.

The number of hidden channels of a neck is chosen so that its arm comes nearest to that. The count grows by a fixed
amount with each hidden channel, so two counts tell the width. Without a neck there is nothing to choose.
"""
from __future__ import annotations

import ast
import functools
from typing import Optional

from mmaction.registry import MODELS

from lsef_plugins.nn.lsef import WITHOUT_CIM

CLASSES = 7


def parameters_of(config: Optional[dict], channels: int) -> int:
    """Of a neck or a head built for maps of this many channels; 0 for None."""
    if config is None:
        return 0
    return _counted(repr(config), channels)


@functools.cache
def _counted(config: str, channels: int) -> int:
    cfg = dict(dict(in_channels=channels), **ast.literal_eval(config))
    return sum(p.numel() for p in MODELS.build(cfg).parameters())


def reference(channels: int, neck: dict, head: dict) -> int:
    """The budget: this neck and head at their own widths."""
    return parameters_of(neck, channels) + parameters_of(head, channels)


def with_width(neck: dict, width: int) -> dict:
    """A neck's config with so many hidden channels."""
    if neck['type'] != 'LSEFNeck':
        return dict(neck, width=width)
    cim = neck.get('cim', True)
    if cim is False:            # what the merge is without CIM: said so that its width can be said
        cim = WITHOUT_CIM
    return dict(neck, cim=dict({} if cim is True else cim, hidden_channels=width))


def fitted(neck: dict, head: dict, channels: int, budget: int) -> dict:
    """The neck with the width that brings neck and head nearest to the budget.

    Raises:
        ValueError: the head alone uses up all of it.
    """
    left = budget - parameters_of(head, channels)
    one, two = (parameters_of(with_width(neck, width), channels) for width in (8, 16))
    each = (two - one) / 8
    width = round(8 + (left - one) / each)
    if width < 1:
        raise ValueError(f'{neck["type"]} has no width with which it and {head["type"]} fit into {budget} parameters.')
    return with_width(neck, width)
