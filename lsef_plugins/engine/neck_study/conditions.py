"""The test clips, broken: corrupted at full size and full rate, then shrunk as all clips are, once for all arms.

A condition is ``clean`` or ``<kind>/<severity>``. A file's name holds a hash of what made it.
"""
from __future__ import annotations

from pathlib import Path
from typing import Any, Iterable, Union

import numpy as np

from lsef_plugins.datasets.synthetic import draw_clip
from lsef_plugins.datasets.synthetic.presets import GENERATOR
from lsef_plugins.datasets.transforms.corruptions import CORRUPTIONS, MAX_SEVERITY, corrupt_clip, sample_rng
from lsef_plugins.visualization.writing import whole_file

from ..sources import hash_of_sources
from ..studies.clips import SMALL, View, numbers

CLEAN = 'clean'


def conditions_of(severities: Iterable[int], names: Union[Iterable[str], None] = None) -> list[str]:
    """``clean``, then each kind at each severity.

    Raises:
        ValueError: there is no such kind or severity.
    """
    wanted = list(CORRUPTIONS) if names is None else list(names)
    unknown = sorted(set(wanted) - set(CORRUPTIONS))
    if unknown:
        raise ValueError(f'There is no corruption {", ".join(unknown)}; there are {", ".join(CORRUPTIONS)}.')
    if not all(1 <= severity <= MAX_SEVERITY for severity in severities):
        raise ValueError(f'A severity is 1 to {MAX_SEVERITY}, got {list(severities)}.')
    return [CLEAN, *(f'{name}/{severity}' for severity in severities for name in wanted)]


def broken(frames: np.ndarray, kind: str, severity: int, *identity: Any) -> np.ndarray:
    """A drawn clip ``(t, h, w, 3)`` uint8, corrupted; the same for the same identity."""
    return np.stack(corrupt_clip(list(frames), kind, severity, sample_rng(0, *identity, kind)))


def file_of(folder: Union[str, Path], preset: str, split: str, what: str, view: View, count: int) -> Path:
    """Where broken clips lie; ``what`` is a condition or the name of a mixture."""
    kind = what.partition('/')[0]
    levels = {name: each.levels for name, each in CORRUPTIONS.items() if name == kind or kind not in CORRUPTIONS}
    mark = hash_of_sources(['datasets/transforms/corruptions'], '', (), extra=[repr(sorted(levels.items()))])
    return Path(folder) / f'{preset}_{split}_{what.replace("/", "_")}_{count}{view.name}_g{GENERATOR}_{mark[:8]}.npz'


def prepare(folder: Union[str, Path], preset: str, split: str, conditions: Iterable[str], count: int,
            view: View = SMALL) -> list[Path]:
    """The files of the corrupted conditions; what is missing is made, each clip being drawn once."""
    paths = {condition: file_of(folder, preset, split, condition, view, count) for condition in conditions
             if condition != CLEAN}
    missing = [condition for condition, path in paths.items() if not path.is_file()]
    made: dict[str, list[np.ndarray]] = {condition: [] for condition in missing}
    labels = []
    for number in numbers(split)[:count] if missing else []:
        frames, truth = draw_clip(preset, *number)
        labels.append(truth.label)
        for condition in missing:
            kind, _, severity = condition.partition('/')
            made[condition].append(view.of(broken(frames, kind, int(severity), *number)))
    for condition in missing:
        _write(paths[condition], made[condition], labels)
    return list(paths.values())


def prepare_mixtures(folder: Union[str, Path], preset: str, copies: int = 3, view: View = SMALL) -> list[Path]:
    """Training clips, each under a kind and a severity of its own, in ``copies`` draws."""
    clips = numbers('train')
    paths = [file_of(folder, preset, 'train', f'mixture{copy}', view, len(clips)) for copy in range(copies)]
    if all(path.is_file() for path in paths):
        return paths
    made: list[list[np.ndarray]] = [[] for _ in paths]
    labels, names = [], list(CORRUPTIONS)
    for number in clips:
        frames, truth = draw_clip(preset, *number)
        labels.append(truth.label)
        for copy, part in enumerate(made):
            rng = sample_rng(1, copy, *number)
            kind, severity = names[rng.randint(len(names))], 1 + rng.randint(MAX_SEVERITY)
            part.append(view.of(broken(frames, kind, severity, copy, *number)))
    for path, part in zip(paths, made):
        _write(path, part, labels)
    return paths


def _write(path: Path, frames: list[np.ndarray], labels: list[int]) -> None:
    with whole_file(path) as unfinished:
        np.savez(unfinished, frames=np.stack(frames), labels=np.array(labels))
