"""The embedded data set in the directory layouts and list formats of DFEW, FERV39k and VEATIC.

Readers, folds, doctor and both tasks then run end to end on disk without the real data. The pictures are the
schematic faces of :mod:`drawing`; what was planted is kept beside them (``truth/``, as in :mod:`writer`).

::

    dfew      Clip/clip_224x224/00001/00001_00001.jpg           frames, one folder per clip (and Clip/original/*.mp4)
              EmoLabel_DataSplit/{train,test}(single-labeled)/set_{1..5}.csv       header video_name,label; 1-based
    ferv39k   2_ClipsforFaceCrop/Action/Happy/0001/00.jpg
              4_setups/All_scenes/{train,test}_All.csv          'Action/Happy/0001 Happy'
    veatic    videos/0.mp4, rating_averaged/0_{valence,arousal}.csv         'frame,rating'

Persons are disjoint between folds (DFEW), between train and test (FERV39k) and between videos (VEATIC). A clip depends
on (seed, its number) alone. Clips are 14 frames or longer, FERV39k's 8 or longer (every other frame of a longer one).
"""
import contextlib
import dataclasses
import functools
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Optional, Union

import cv2
import numpy as np

from .design import CLASSES
from .drawing import draw_frames
from .presets import PRESETS, Preset
from .signals import SPLITS, draw_signals
from .truth import Truth
from .video import WriteError, encode, temporary, write_bytes
from .writer import GENERATOR, worker_pool

LAYOUTS = ('dfew', 'ferv39k', 'veatic')
SCENES = ('Action', 'Crime', 'DailyLife', 'School', 'Social', 'Speech', 'Talkshow', 'War')
FOLDS = 5
#: Lengths of clips in frames, (shortest, longest).
LENGTHS = {'dfew': (16, 40), 'ferv39k': (8, 28), 'veatic': (120, 180)}
_SHORTEST = 14      # an event of one clip needs so many


@dataclasses.dataclass(frozen=True)
class Clip:
    """One clip of a layout: where it lies, and what it is drawn from.

    Attributes:
        number: number of the clip, from 1.
        group: fold (DFEW, 0-based), 0 train and 1 test (FERV39k), number of the video (VEATIC): persons of one group
            are in no other.
        index: number of the clip in its group.
        frames: length.
    """
    number: int
    group: int
    index: int
    frames: int


@dataclasses.dataclass(frozen=True)
class Settings:
    """What a layout is written from; see :func:`write_layout`."""
    layout: str
    clips: int
    seed: int
    preset: Preset
    videos: bool
    jpeg_quality: int = 95


def write_layout(layout: str, out: Union[str, Path], clips: Optional[int] = None, seed: int = 0,
                 preset: Union[str, Preset, None] = None, videos: bool = False, workers: int = 1,
                 size: Optional[int] = None) -> Path:
    """Writes the embedded data set in an official layout, or finishes one that was interrupted.

    Args:
        layout: 'dfew', 'ferv39k' or 'veatic'.
        out: root of the data set (``data_root`` of the data sets).
        clips: number of clips (veatic: videos); None writes 140, 140 and 6.
        seed: seed of the data set.
        preset: difficulty, a name of PRESETS or a record; None takes 'default', for veatic 'va'.
        videos: dfew: also ``Clip/original/*.mp4``.
        workers: processes.
        size: pixels per side instead of the preset's.

    Returns:
        ``out``.

    Raises:
        ValueError: impossible settings.
        FileExistsError: the folder holds something else.
    """
    if layout not in LAYOUTS:
        raise ValueError(f'layout={layout!r} must be one of {", ".join(map(repr, LAYOUTS))}.')
    number = {'dfew': 140, 'ferv39k': 140, 'veatic': 6}[layout] if clips is None else clips
    least = {'dfew': 2 * FOLDS, 'ferv39k': 5, 'veatic': 1}[layout]
    if number < least:
        raise ValueError(f'clips={number}: the layout of {layout} needs at least {least}.')
    record = PRESETS['va' if layout == 'veatic' else 'default'] if preset is None else (
        PRESETS[preset] if isinstance(preset, str) else preset)
    record = record if size is None else dataclasses.replace(record, size=size)
    settings, root = Settings(layout, number, seed, record, videos), Path(out)
    note = {'generator': GENERATOR, **json.loads(json.dumps(dataclasses.asdict(settings)))}
    if _complete(root, note):
        return root
    _claim(root, note)
    clips_of = plan(settings)
    job = functools.partial(_write_clip, settings, root)
    if workers == 1:
        truths = [job(clip) for clip in clips_of]
    else:
        with worker_pool(workers) as pool:
            truths = list(pool.map(job, clips_of, chunksize=4))
    lists = {'dfew': _dfew_lists, 'ferv39k': _ferv39k_lists, 'veatic': lambda *_: {}}[layout]
    for name, text in lists(clips_of, [label for label, _ in truths]).items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        write_bytes(root / name, text.encode())
    write_bytes(root / 'meta.json', (json.dumps({**note, 'complete': True}, indent=1) + '\n').encode())
    return root


def plan(settings: Settings) -> list[Clip]:
    """The clips of a layout: groups and lengths."""
    low, high = LENGTHS[settings.layout]
    groups = {'dfew': lambda i: i % FOLDS, 'ferv39k': lambda i: int(i % 5 == 4), 'veatic': lambda i: i}
    clips, seen = [], {}  # type: tuple[list[Clip], dict[int, int]]
    for i in range(settings.clips):
        group = groups[settings.layout](i)
        rng = np.random.default_rng([settings.seed, i, 0xC11B])
        clips.append(Clip(i + 1, group, seen.get(group, 0), int(rng.integers(low, high + 1))))
        seen[group] = seen.get(group, 0) + 1
    return clips


def draw_layout_clip(settings: Settings, clip: Clip) -> tuple[np.ndarray, Truth]:
    """Frames ``(t, h, w, 3)`` uint8 RGB of a clip, and what was planted (for short clips: in the longer one they are
    every other frame of)."""
    halved = clip.frames < _SHORTEST
    frames = 2 * clip.frames if halved else clip.frames
    events = max(settings.preset.events, frames // 40) if settings.layout == 'veatic' else settings.preset.events
    preset = dataclasses.replace(settings.preset, frames=frames, events=events)
    truth = draw_signals(preset, SPLITS[0], clip.index, settings.seed * 1000 + clip.group)
    pictures = draw_frames(truth, preset)
    return pictures[::2] if halved else pictures, truth


def clip_place(settings: Settings, clip: Clip, label: int) -> str:
    """Folder (or video) of a clip under the root."""
    if settings.layout == 'dfew':
        return f'Clip/clip_224x224/{clip.number:05d}'
    if settings.layout == 'ferv39k':
        return f'2_ClipsforFaceCrop/{scene_of(clip)}/{CLASSES[label]}/{clip.number:04d}'
    return f'videos/{clip.number - 1}.mp4'


def scene_of(clip: Clip) -> str:
    """Scene of a FERV39k clip: unrelated to its class and its split."""
    return SCENES[(clip.index * 3 + clip.group) % len(SCENES)]


def _write_clip(settings: Settings, root: Path, clip: Clip) -> tuple[int, int]:
    """Writes one clip, whole or not at all; returns its class and its number of frames."""
    done = root / 'truth' / f'{clip.number:05d}.npz'
    if done.exists():
        with np.load(done, allow_pickle=False) as stored:
            return int(stored['label']), clip.frames
    frames, truth = draw_layout_clip(settings, clip)
    place = root / clip_place(settings, clip, truth.label)
    if settings.layout == 'veatic':
        _write_video(place, frames, truth.fps)
        _write_ratings(root, place.stem, truth)
    else:
        stem = f'{clip.number:05d}_' if settings.layout == 'dfew' else ''
        digits, first = (5, 1) if settings.layout == 'dfew' else (2, 0)
        names = [f'{stem}{first + t:0{digits}d}.jpg' for t in range(len(frames))]
        _write_frames(place, names, frames, settings.jpeg_quality)
        if settings.videos and settings.layout == 'dfew':
            _write_video(root / 'Clip' / 'original' / f'{clip.number:05d}.mp4', frames, truth.fps)
    done.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(done, truth.to_bytes())
    return truth.label, clip.frames


def _write_video(path: Path, frames: np.ndarray, fps: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with temporary(path) as unfinished:
        encode(unfinished, frames, fps)


def _write_ratings(root: Path, name: str, truth: Truth) -> None:
    folder = root / 'rating_averaged'
    folder.mkdir(parents=True, exist_ok=True)
    for kind, curve in (('valence', truth.valence), ('arousal', truth.arousal)):
        text = ''.join(f'{t},{value:.6f}\n' for t, value in enumerate(curve))
        write_bytes(folder / f'{name}_{kind}.csv', text.encode())


def _write_frames(folder: Path, names: Sequence[str], frames: np.ndarray, quality: int) -> None:
    """A folder of pictures under a temporary name, renamed when it is whole."""
    with _temporary_folder(folder) as unfinished:
        for name, frame in zip(names, frames):
            good, content = cv2.imencode('.jpg', np.ascontiguousarray(frame[..., ::-1]),
                                         [cv2.IMWRITE_JPEG_QUALITY, quality])
            if not good:
                raise WriteError(f'{folder / name}: OpenCV could not encode this frame.')
            (unfinished / name).write_bytes(content.tobytes())


@contextlib.contextmanager
def _temporary_folder(folder: Path) -> Iterator[Path]:
    unfinished = folder.with_name(f'.{folder.name}.{os.getpid()}.tmp')
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    try:
        yield unfinished
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(unfinished, folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _dfew_lists(clips: Sequence[Clip], labels: Sequence[int]) -> dict[str, str]:
    """Fold k tests group k - 1 and trains on the others; labels from 1."""
    lists = {}
    for fold in range(FOLDS):
        for split in ('train', 'test'):
            rows = [f'{clip.number:05d},{label + 1}\n' for clip, label in zip(clips, labels)
                    if (clip.group == fold) == (split == 'test')]
            name = f'EmoLabel_DataSplit/{split}(single-labeled)/set_{fold + 1}.csv'
            lists[name] = 'video_name,label\n' + ''.join(rows)
    return lists


def _ferv39k_lists(clips: Sequence[Clip], labels: Sequence[int]) -> dict[str, str]:
    rows: dict[int, list[str]] = {0: [], 1: []}
    for clip, label in zip(clips, labels):
        word = CLASSES[label]
        rows[clip.group].append(f'{scene_of(clip)}/{word}/{clip.number:04d} {word}\n')
    return {f'4_setups/All_scenes/{split}_All.csv': ''.join(rows[i]) for i, split in enumerate(('train', 'test'))}


def _complete(root: Path, note: dict[str, Any]) -> bool:
    try:
        found = json.loads((root / 'meta.json').read_text(encoding='utf-8'))
    except (OSError, ValueError):
        return False
    return found == {**note, 'complete': True}


def _claim(root: Path, note: dict[str, Any]) -> None:
    """Makes the folder ours for these settings, or refuses one that holds anything else."""
    settings = root / 'settings.json'
    try:
        found = json.loads(settings.read_text(encoding='utf-8'))
    except (OSError, ValueError):
        found = None
    if found == note:
        return
    if root.is_dir() and any(root.iterdir()):
        told = 'files that this generator did not leave there' if found is None else 'a data set of other settings ('
        told += '' if found is None else ', '.join(
            f'{key}: {found.get(key)} there, {note[key]} asked for' for key in note
            if found.get(key) != note[key] and key != 'preset') + ')'
        raise FileExistsError(f'{root} already holds {told}. Choose another --out, or empty it.')
    root.mkdir(parents=True, exist_ok=True)
    write_bytes(settings, (json.dumps(note, indent=1) + '\n').encode())
