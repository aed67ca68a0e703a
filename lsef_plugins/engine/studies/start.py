"""Where every run starts: a backbone that has learned to read facial actions from single frames.

From random weights nothing at all is learned in the few hundred steps a run has (measured: all arms stay at chance),
and people fine-tune. The backbone is trained once for all arms, by AdamW, on clips and persons' expressions that no
run sees as emotions: it regresses the strength of each action in each frame.

What it has learned depends on the seed and, as float arithmetic does, on the machine, and what is learned from there
depends on it more than on all other chance: differences between arms hold for a start unless it varies as well.
"""
from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Optional, Union

import numpy as np
import torch
from mmaction.registry import MODELS
from torch import nn

from lsef_plugins.datasets.synthetic import draw_clip
from lsef_plugins.datasets.synthetic.presets import GENERATOR
from lsef_plugins.visualization.writing import whole_file

from .clips import SMALL, View

FIRST, CLIPS, STEPS, BATCH, RATE = 10_000, 1512, 700, 16, 0.006


def prepare_start(folder: Union[str, Path], backbone: dict, view: View = SMALL, rate: float = RATE,
                  device: str = 'cpu') -> Path:
    """The file of the weights, as ``init_cfg=dict(type='Pretrained', prefix='backbone.')`` reads them."""
    path, = prepare_starts(folder, backbone, [0], view, rate, device)
    return path


def prepare_starts(folder: Union[str, Path], backbone: dict, seeds: Iterable[int], view: View = SMALL,
                   rate: float = RATE, device: str = 'cpu') -> list[Path]:
    """One file for each seed, of first weights and order; all from the same clips."""
    sources = [(Path(__file__).parent / name).read_text(encoding='utf-8') for name in ('start.py', 'clips.py')]
    mark = hashlib.blake2b(repr((sorted(backbone.items()), view, rate, sources)).encode(), digest_size=4).hexdigest()
    drawn: Optional[tuple[np.ndarray, np.ndarray]] = None
    paths = []
    for seed in seeds:
        path = Path(folder) / f'start_{CLIPS}_{STEPS}_s{seed}_{mark}_g{GENERATOR}.pth'
        if not path.is_file():
            drawn = drawn or draw_actions(view)
            state = learned(backbone, *drawn, rate=rate, device=device, seed=seed)
            with whole_file(path) as unfinished:
                torch.save(dict(state_dict={f'backbone.{key}': value for key, value in state.items()}), unfinished)
        paths.append(path)
    return paths


def digest_of(path: Union[str, Path]) -> str:
    """Eight hex digits of the weights in a start's file."""
    state = torch.load(path, map_location='cpu', weights_only=True)['state_dict']
    digest = hashlib.blake2b(digest_size=4)
    for name, value in sorted(state.items()):
        digest.update(name.encode() + value.contiguous().numpy().tobytes())
    return digest.hexdigest()


def draw_actions(view: View = SMALL) -> tuple[np.ndarray, np.ndarray]:
    """Frames ``(clips, t, h, w, 3)`` and the facial actions in them ``(clips, t, a)``."""
    frames, actions = [], []
    for index in range(FIRST, FIRST + CLIPS):
        drawn, truth = draw_clip('default', 'train', index)
        frames.append(view.of(drawn))
        actions.append(view.moments(truth.rest + truth.base + truth.transient))
    return np.stack(frames), np.stack(actions).astype(np.float32)


def learned(backbone: dict, frames: np.ndarray, actions: np.ndarray, steps: int = 0, rate: float = RATE,
            device: str = 'cpu', seed: int = 0) -> dict[str, torch.Tensor]:
    """State of the backbone after ``steps`` steps (0: ``STEPS``) of regression; the same for the same inputs and seed
    on the same machine."""
    steps = steps or STEPS
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = MODELS.build(backbone).to(device)
        model.train()
        read = nn.Linear(_channels(model, frames), actions.shape[-1]).to(device)
        optimizer = torch.optim.AdamW([*model.parameters(), *read.parameters()], weight_decay=0.02)
        for step in range(steps):
            chosen = torch.randint(len(frames), (BATCH, ))
            # (b, t, h, w, c) -> (b, c, t, h, w)
            clips = torch.from_numpy(frames[chosen.numpy()]).to(device)
            x = (clips.permute(0, 4, 1, 2, 3).float() - 120) / 60
            guess = read(model(x).mean((3, 4)).transpose(1, 2))
            optimizer.zero_grad()
            nn.functional.mse_loss(guess, torch.from_numpy(actions[chosen.numpy()]).to(device)).backward()
            for group in optimizer.param_groups:
                group['lr'] = rate * min((step + 1) / 50, (1 + math.cos(math.pi * step / steps)) / 2)
            optimizer.step()
    return {key: value.cpu() for key, value in model.state_dict().items()}


def _channels(model: nn.Module, frames: np.ndarray) -> int:
    t, h, w = frames.shape[1:4]
    with torch.no_grad():
        return model(torch.zeros(2, 3, t, h, w, device=next(model.parameters()).device)).shape[1]
