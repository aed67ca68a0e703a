"""What takes the place of a compiled operator that is not installed, in stock and plugged recognizers alike."""
from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any, List

import torch
from torch import Tensor

from .catalogue import type_name


def tin_shift(x: Tensor, shift: Tensor) -> Tensor:
    """What ``mmcv.ops.tin_shift`` computes: each group of channels moves ``shift`` frames, zeros come in.

    Args:
        x: ``(b, t, c, p)``.
        shift: ``(b, groups)`` whole numbers; group g is the g-th run of ``c / groups`` channels.

    Returns:
        ``(b, t, c, p)`` with ``out[t] = x[t - shift]`` where that frame exists, else 0.
    """
    b, t, c, _ = x.shape
    moves = shift.long().repeat_interleave(c // shift.shape[1], dim=1)              # (b, c)
    source = torch.arange(t, device=x.device).view(1, t, 1) - moves.view(b, 1, c)   # (b, t, c)
    inside = (source >= 0) & (source < t)
    index = source.clamp(0, t - 1).unsqueeze(-1).expand_as(x)
    return x.gather(1, index) * inside.unsqueeze(-1)


def stand_ins(model: Any) -> List[str]:
    """Puts stand-ins where this recognizer needs them, and names them.

    MMCV's ``tin_shift`` exists for accelerators only, and not at all in mmcv-lite.
    """
    if type_name(model.backbone) != 'ResNetTIN':
        return []
    module: Any = sys.modules.get('mmcv.ops')
    if module is None or not hasattr(module, 'tin_shift'):
        try:
            module = importlib.import_module('mmcv.ops')
        except ImportError:
            module = sys.modules['mmcv.ops'] = ModuleType('mmcv.ops')
    module.tin_shift = tin_shift
    return ["tin_shift in PyTorch instead of MMCV's compiled operator"]
