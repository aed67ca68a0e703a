"""From a preset and a seed to a folder of videos, annotation lists and truth.

::

    <out>/<preset>/videos/{train,val}/00000.mp4   the clips
    <out>/<preset>/{train,val}.txt                'train/00000.mp4 3', VideoDataset's form; data_prefix: videos/
    <out>/<preset>/truth/{train,val}/00000.npz    what was planted (Truth)
    <out>/<preset>/{train,val}_va.txt             preset 'va': 'train/00000.mp4 train/00000.npz' (videos/, truth/)
    <out>/<preset>/settings.json                  written first: what this folder is being filled with
    <out>/<preset>/meta.json                      written last: marks a complete data set

A clip depends on (preset, seed, split, index) alone, so the number of workers, an interruption, and the
number of clips asked for change nothing in it.
"""
import concurrent.futures
import contextlib
import dataclasses
import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Optional, Union

import cv2
import numpy as np

from .actions import ACTIONS
from .design import CLASSES
from .drawing import draw_frames
from .presets import GENERATOR, Preset, label_ceilings, preset_of
from .signals import NUISANCE, SPLITS, draw_signals
from .truth import Truth, load_truth
from .video import complete_clip, temporary, write_bytes, write_clip

_OURS = ('videos', 'truth', 'train.txt', 'val.txt', 'train_va.txt', 'val_va.txt', 'settings.json',
         'meta.json')
_CHUNK = 14


def draw_clip(preset: Union[str, Preset], split: str, index: int, seed: int = 0) -> tuple[np.ndarray, Truth]:
    """Draws one clip in memory.

    Args:
        preset: a name of PRESETS, or a record of one's own.
        split: 'train' or 'val'; the persons of the two are disjoint.
        index: number of the clip, from 0.
        seed: seed of the data set.

    Returns:
        Frames ``(t, h, w, 3)``, uint8 RGB, as they are before encoding, and the planted truth.
    """
    record = preset_of(preset)
    truth = draw_signals(record, split, index, seed)
    return draw_frames(truth, record), truth


def clip_paths(root: Path, split: str, index: int) -> tuple[Path, Path]:
    """The video and the truth file of a clip."""
    return root / 'videos' / split / f'{index:05d}.mp4', root / 'truth' / split / f'{index:05d}.npz'


def generate(preset: Union[str, Preset], out: Union[str, Path], clips: Optional[tuple[int, int]] = None,
             seed: int = 0, workers: Optional[int] = None, progress: bool = True,
             overwrite: bool = False) -> Path:
    """Writes a data set, or finishes one that was interrupted, or finds it complete.

    Args:
        preset: a name of PRESETS, or a record of one's own.
        out: folder that receives ``<preset name>/``.
        clips: number of (train, val) clips; None takes the preset's.
        seed: seed of the data set.
        workers: processes; None takes one per available core. With more than one, the calling script needs
            the usual ``if __name__ == '__main__':``.
        progress: prints progress to stderr.
        overwrite: throws away a data set of other settings in the same folder.

    Returns:
        ``<out>/<preset name>``.

    Raises:
        ValueError: impossible settings.
        FileExistsError: the folder holds something else.
        OSError: a file could not be written; complete clips stay and a second start goes on.
    """
    record = preset_of(preset)
    numbers = _checked(record.clips if clips is None else clips, seed, workers)
    root = Path(out) / record.name
    shape = {key: value for key, value in dataclasses.asdict(record).items() if key != 'clips'}
    settings = json.loads(json.dumps({'generator': GENERATOR, 'preset': shape, 'seed': seed,
                                      'clips': dict(zip(SPLITS, numbers))}))
    report = _Progress(sum(numbers), progress, root)
    _claim(root, settings, overwrite)
    if is_complete(root):
        report.say(f'{root}: complete, reused')
        return root
    for folder in ('videos', 'truth'):
        for split in SPLITS:
            (root / folder / split).mkdir(parents=True, exist_ok=True)
            for leftover in (root / folder / split).glob('.*.tmp.*'):
                leftover.unlink()
    jobs = [(split, list(range(first, min(first + _CHUNK, number))))
            for split, number in zip(SPLITS, numbers) for first in range(0, number, _CHUNK)]
    for done in _run(jobs, record, root, seed, workers or _cores()):
        report.add(done)
    _write_lists(root, record, settings)
    report.say(f'{root}: {numbers[0]} train and {numbers[1]} val clips')
    return root


def is_complete(root: Path) -> bool:
    """Whether ``root`` holds a finished data set: meta.json is there and every file has the size it lists."""
    try:
        meta = json.loads((root / 'meta.json').read_text(encoding='utf-8'))
        lists = meta['preset']['va_lists']
        return all(_manifest(root, split, meta['clips'][split], lists) == meta['files_sha256'][split]
                   for split in SPLITS)
    except (OSError, ValueError, KeyError):
        return False


def _checked(clips: Sequence[int], seed: int, workers: Optional[int]) -> tuple[int, int]:
    if len(clips) != 2 or any(int(number) != number or number < 1 for number in clips):
        raise ValueError(f'clips is {clips!r}; it must be (train, val), two whole numbers of at least 1.')
    if int(seed) != seed or seed < 0:
        raise ValueError(f'seed is {seed!r}; it must be a whole number of at least 0.')
    if workers is not None and workers < 1:
        raise ValueError(f'workers is {workers!r}; it must be at least 1, or None for one per core.')
    return int(clips[0]), int(clips[1])


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1


def _claim(root: Path, settings: dict[str, Any], overwrite: bool) -> None:
    """Makes the folder ours for these settings, or says why it cannot."""
    note = root / 'settings.json'
    found: Optional[dict[str, Any]] = None
    if note.exists():
        with contextlib.suppress(ValueError):
            found = json.loads(note.read_text(encoding='utf-8'))
        if found == settings:
            return
    occupied = [name for name in _OURS if (root / name).exists()]
    if occupied and not overwrite:
        raise FileExistsError(
            f'{root} already holds {_difference(found, settings)}. Choose another --out, ask for the settings '
            'that are there, or pass --overwrite (overwrite=True) to throw that data set away.')
    for name in occupied:
        path = root / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    root.mkdir(parents=True, exist_ok=True)
    write_bytes(note, json.dumps(settings, indent=1).encode())


def _difference(found: Optional[dict[str, Any]], wanted: dict[str, Any]) -> str:
    if not isinstance(found, dict):
        return 'files that this generator did not leave there (no readable settings.json)'
    flat = [{**{key: value for key, value in each.items() if key != 'preset'}, **each.get('preset', {})}
            for each in (found, wanted)]
    keys = [key for key in {**flat[0], **flat[1]} if flat[0].get(key) != flat[1].get(key)]
    return 'a data set of other settings (' + ', '.join(
        f'{key}: {flat[0].get(key)} there, {flat[1].get(key)} asked for' for key in keys) + ')'


def _run(jobs: list[tuple[str, list[int]]], preset: Preset, root: Path, seed: int,
         workers: int) -> Iterator[int]:
    """Yields the number of clips of every finished chunk."""
    if workers == 1:
        for split, indices in jobs:
            yield _write_chunk(preset, root, split, indices, seed)
        return
    with worker_pool(workers) as pool:
        futures = [pool.submit(_write_chunk, preset, root, split, indices, seed) for split, indices in jobs]
        try:
            for future in concurrent.futures.as_completed(futures):
                yield future.result()
        except BrokenProcessPool as error:
            raise RuntimeError(
                "A worker process died before it could say why. A script that calls generate() needs `if __name__ "
                "== '__main__':` around the call; otherwise pass workers=1 to see the cause.") from error
        finally:
            for future in futures:
                future.cancel()


@contextlib.contextmanager
def worker_pool(workers: int) -> Iterator[concurrent.futures.Executor]:
    """Processes that are born without MMAction2: drawing needs none of it, and importing it takes seconds."""
    name, kept = 'LSEF_PLUGINS_REGISTER', os.environ.get('LSEF_PLUGINS_REGISTER')
    os.environ[name] = '0'
    try:
        with concurrent.futures.ProcessPoolExecutor(
                workers, mp_context=get_context('spawn'), initializer=cv2.setNumThreads, initargs=(1,)) as pool:
            yield pool
    finally:
        if kept is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = kept


def _write_chunk(preset: Preset, root: Path, split: str, indices: Sequence[int], seed: int) -> int:
    for index in indices:
        video, truth_file = clip_paths(root, split, index)
        if not complete_clip(video, truth_file):
            frames, truth = draw_clip(preset, split, index, seed)
            write_clip(video, truth_file, frames, truth)
    return len(indices)


def _manifest(root: Path, split: str, number: int, va_lists: bool) -> str:
    """Hash of the names and sizes of the annotation lists and of every clip's two files."""
    paths = [root / f'{split}.txt'] + [root / f'{split}_va.txt'] * va_lists
    for index in range(number):
        paths += clip_paths(root, split, index)
    lines = [f'{path.name} {path.stat().st_size}' for path in paths]
    return hashlib.sha256('\n'.join(lines).encode()).hexdigest()


def _write_lists(root: Path, preset: Preset, settings: dict[str, Any]) -> None:
    """Annotation lists and, last of all, meta.json."""
    counts, frames_hash, signals_hash = {}, {}, {}
    for split in SPLITS:
        truths = [load_truth(clip_paths(root, split, index)[1]) for index in range(settings['clips'][split])]
        names = [f'{split}/{truth.index:05d}' for truth in truths]
        write_bytes(root / f'{split}.txt', ''.join(
            f'{name}.mp4 {truth.label}\n' for name, truth in zip(names, truths)).encode())
        if preset.va_lists:
            pairs = ''.join(f'{name}.mp4 {name}.npz\n' for name in names)
            write_bytes(root / f'{split}_va.txt', pairs.encode())
        labels = np.bincount([truth.label for truth in truths], minlength=len(CLASSES))
        counts[split] = dict(zip(CLASSES, labels.tolist()))
        frames_hash[split] = _hash(truth.frames_sha256 for truth in truths)
        signals_hash[split] = _hash(truth.signals_sha256() for truth in truths)
    files_hash = {split: _manifest(root, split, settings['clips'][split], preset.va_lists) for split in SPLITS}
    meta = {**settings, 'classes': CLASSES, 'actions': ACTIONS, 'nuisance': NUISANCE, 'counts': counts,
            'ceilings': label_ceilings(preset), 'frames_sha256': frames_hash, 'signals_sha256': signals_hash,
            'files_sha256': files_hash}
    with temporary(root / 'meta.json') as unfinished:
        unfinished.write_text(json.dumps(meta, indent=1) + '\n', encoding='utf-8')


def _hash(digests: Iterator[str]) -> str:
    return hashlib.sha256('\n'.join(digests).encode()).hexdigest()


class _Progress:
    """One line that moves on a terminal; a line now and then elsewhere."""

    def __init__(self, total: int, shown: bool, root: Path) -> None:
        self.total, self.shown, self.root, self.done = total, shown, root, 0
        self.begun = self.last = time.monotonic()

    def add(self, clips: int) -> None:
        self.done += clips
        now, terminal = time.monotonic(), sys.stderr.isatty()
        if self.shown and (now - self.last > (.2 if terminal else 5) or self.done == self.total):
            self.last = now
            line = f'{self.root}: {self.done}/{self.total} clips, {now - self.begun:.0f} s'
            start, end = ('\r', '') if terminal else ('', '\n')
            print(f'{start}{line}', end=end, file=sys.stderr, flush=True)

    def say(self, line: str) -> None:
        if self.shown:
            print(('\n' if self.done and sys.stderr.isatty() else '') + line, file=sys.stderr, flush=True)
