"""Where every run starts: a backbone that has learned to read facial actions from single frames.

From random weights nothing at all is learned in the few hundred steps a run has (measured: all arms stay at chance),
and people fine-tune. The backbone is trained once for all arms, by AdamW, on clips and persons' expressions that no
run sees as emotions: it regresses the strength of each action in each frame.
"""
from __future__ import annotations

import math
from pathlib import Path
from typing import Union

import numpy as np
import torch
from mmaction.registry import MODELS
from torch import nn

from lsef_plugins.datasets.synthetic import draw_clip
from lsef_plugins.datasets.synthetic.presets import GENERATOR
from lsef_plugins.visualization.writing import whole_file

from .clips import EVERY, FRAMES, small

FIRST, CLIPS, STEPS, BATCH, RATE = 10_000, 1512, 700, 16, 0.006


def prepare_start(folder: Union[str, Path], backbone: dict) -> Path:
    """The file of the weights, as ``init_cfg=dict(type='Pretrained', prefix='backbone.')`` reads them."""
    path = Path(folder) / f'start_{CLIPS}_{STEPS}_g{GENERATOR}.pth'
    if not path.is_file():
        frames, actions = draw_actions()
        state = learned(backbone, frames, actions)
        with whole_file(path) as unfinished:
            torch.save(dict(state_dict={f'backbone.{key}': value for key, value in state.items()}), unfinished)
    return path


def draw_actions() -> tuple[np.ndarray, np.ndarray]:
    """Frames ``(clips, 8, 32, 32, 3)`` and the facial actions in them ``(clips, 8, a)``."""
    frames, actions = [], []
    for index in range(FIRST, FIRST + CLIPS):
        drawn, truth = draw_clip('default', 'train', index)
        frames.append(small(drawn))
        actions.append((truth.rest + truth.base + truth.transient)[EVERY // 2::EVERY][:FRAMES])
    return np.stack(frames), np.stack(actions).astype(np.float32)


def learned(backbone: dict, frames: np.ndarray, actions: np.ndarray, steps: int = STEPS) -> dict[str, torch.Tensor]:
    """State of the backbone after ``steps`` steps of regression; the same for the same inputs."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = MODELS.build(backbone)
        model.train()
        read = nn.Linear(_channels(model), actions.shape[-1])
        optimizer = torch.optim.AdamW([*model.parameters(), *read.parameters()], weight_decay=0.02)
        for step in range(steps):
            chosen = torch.randint(len(frames), (BATCH, ))
            # (b, t, h, w, c) -> (b, c, t, h, w)
            x = (torch.from_numpy(frames[chosen.numpy()]).permute(0, 4, 1, 2, 3).float() - 120) / 60
            guess = read(model(x).mean((3, 4)).transpose(1, 2))
            optimizer.zero_grad()
            nn.functional.mse_loss(guess, torch.from_numpy(actions[chosen.numpy()])).backward()
            for group in optimizer.param_groups:
                group['lr'] = RATE * min((step + 1) / 50, (1 + math.cos(math.pi * step / steps)) / 2)
            optimizer.step()
    return model.state_dict()


def _channels(model: nn.Module) -> int:
    with torch.no_grad():
        return model(torch.zeros(2, 3, FRAMES, 32, 32)).shape[1]
