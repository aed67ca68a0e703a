"""The synthetic clips as arrays of small frames, drawn once: a training then reads memory instead of videos.

A split is a range of clips that never overlaps another: ``tune`` chooses the learning rate and ``test`` compares,
both of persons that are not in ``train``. ``fresh`` compares what was developed while looking at ``test``.
"""
from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import Any, Optional, Union

import numpy as np
import torch
from mmaction.structures import ActionDataSample
from torch.utils.data import Dataset

from lsef_plugins.datasets.synthetic import CLASSES, draw_clip
from lsef_plugins.datasets.synthetic.presets import GENERATOR
from lsef_plugins.registry import DATASETS
from lsef_plugins.visualization.writing import whole_file

#: name -> (split of the generator, first clip, number of clips)
SPLITS = {'train': ('train', 0, 1008), 'tune': ('val', 0, 252), 'test': ('val', 252, 504),
          'fresh': ('val', 756, 504)}


@dataclasses.dataclass(frozen=True)
class View:
    """What a run sees of a drawn clip: ``frames`` of them at equal distances, ``edge`` pixels wide."""
    frames: int = 8
    edge: int = 32

    def of(self, drawn: np.ndarray) -> np.ndarray:
        """Some frames, pixels averaged: ``(32, 64, 64, 3) -> (8, 32, 32, 3)`` uint8."""
        chosen = self.moments(drawn).astype(np.float32)
        t, h, w, c = chosen.shape
        chosen = chosen.reshape(t, self.edge, h // self.edge, self.edge, w // self.edge, c).mean((2, 4))
        return chosen.round().astype(np.uint8)

    def moments(self, values: np.ndarray) -> np.ndarray:
        """The frames seen of any sequence ``(t, ...)``: the middles of ``frames`` equal parts."""
        return values[[int((place + 0.5) * len(values) / self.frames) for place in range(self.frames)]]

    @property
    def name(self) -> str:
        return '' if self == SMALL else f'_{self.frames}x{self.edge}'


SMALL = View()


def numbers(split: str) -> list[tuple[str, int]]:
    """The clips of a split as the generator knows them: (its split, number)."""
    source, first, count = SPLITS[split]
    return [(source, index) for index in range(first, first + count)]


def draw(preset: str, split: str, view: View = SMALL) -> tuple[np.ndarray, np.ndarray]:
    """Frames ``(clips, t, h, w, 3)`` uint8 and labels ``(clips,)``."""
    drawn = [draw_clip(preset, *number) for number in numbers(split)]
    return np.stack([view.of(frames) for frames, _ in drawn]), np.array([truth.label for _, truth in drawn])


def prepare(folder: Union[str, Path], preset: str, split: str, view: View = SMALL) -> Path:
    """The file of a split; drawn (about 40 ms a clip) unless it is there."""
    path = Path(folder) / f'{preset}_{split}_{SPLITS[split][2]}{view.name}_g{GENERATOR}.npz'
    if not path.is_file():
        frames, labels = draw(preset, split, view)
        with whole_file(path) as unfinished:
            np.savez(unfinished, frames=frames, labels=labels)
    return path


@functools.lru_cache(maxsize=8)
def load(path: str) -> tuple[np.ndarray, np.ndarray]:
    with np.load(path, allow_pickle=False) as arrays:
        return arrays['frames'], arrays['labels']


def wrong_labels(labels: np.ndarray, ratio: float, seed: int) -> np.ndarray:
    """Labels of which a random ``ratio`` (0 to 1) is replaced by another class, each with the same chance."""
    rng = np.random.default_rng([seed, 40])
    changed = rng.permutation(len(labels)) < round(ratio * len(labels))
    other = (labels + rng.integers(1, len(CLASSES), len(labels))) % len(CLASSES)
    return np.where(changed, other, labels)


@DATASETS.register_module()
class SmallClips(Dataset):
    """Clips of one split in the form MMAction2's collate function and preprocessor take.

    Args:
        path: of a file written by :func:`prepare`.
        wrong: share of wrong labels.
        seed: which labels are wrong.
        mirror: mirror half of the clips, at random.
        count: the first clips only.
        broken: files of the same clips with corrupted frames; half of the time a clip comes from one of them.
    """

    def __init__(self, path: str, wrong: float = 0.0, seed: int = 0, mirror: bool = False,
                 count: Optional[int] = None, broken: tuple = ()) -> None:
        frames, labels = load(str(path))
        self.frames = frames[:count]
        self.broken = [load(str(each))[0][:count] for each in broken]
        self.labels = wrong_labels(labels, wrong, seed)[:count] if wrong else labels[:count]
        self.mirror = mirror
        self.metainfo = dict(classes=CLASSES)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, Any]:
        frames = self.frames
        if self.broken and torch.rand(()) < 0.5:
            frames = self.broken[int(torch.randint(len(self.broken), ()))]
        clip = torch.from_numpy(frames[index]).permute(3, 0, 1, 2)      # (t, h, w, c) -> (c, t, h, w)
        if self.mirror and torch.rand(()) < 0.5:
            clip = clip.flip(-1)
        return dict(inputs=clip[None], data_samples=ActionDataSample().set_gt_label(int(self.labels[index])))
