"""One clip on disk: frames listed with os.scandir, sizes asked for, few files opened, decoding only when asked.

Opening a file is what takes time (docs/datasets.md has figures). So by default only the first and the last frame of a
clip are opened, and those that are empty or clearly smaller than the others, as most files that were cut off are. Works
on names and bytes alone, in several processes.
"""
import dataclasses
import hashlib
import os
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Optional

import cv2
import numpy as np

from ..annotations.paths import natural_key
from ..frames import is_frame, list_frames
from ..integrity import image_fault, image_file_fault, video_fault
from ..synthetic.writer import worker_pool
from .report import Finding

_CHUNK = 200
_SMALL = .8       # of the median size of a clip's frames: such a file is opened
ENDS = ('none', 'some', 'all')
_NAME = re.compile(r'(.*?)([0-9]+)\.[^.]*', re.DOTALL)


@dataclasses.dataclass(frozen=True)
class Look:
    """How closely to look.

    Attributes:
        frames: clips are folders of frames (else videos).
        min_frames: fewer are too few.
        decode: decode every frame.
        ends: of which frames the first and last bytes are read: 'none', 'some' (see the module) or 'all'.
    """
    frames: bool = True
    min_frames: int = 1
    decode: bool = False
    ends: str = 'some'


@dataclasses.dataclass(frozen=True)
class Seen:
    """What was seen of one clip.

    Attributes:
        name: what findings call it.
        frames: how many; None for a video that was not decoded.
        findings: what is wrong.
        signature: a number that clips of the same frames share (from the sizes of the files); None where unknown.
    """
    name: str
    frames: Optional[int]
    findings: list[Finding]
    signature: Optional[int] = None


def scan_clip(name: str, path: str, look: Look) -> Seen:
    """Looks at one clip.

    Args:
        name: what findings call it.
        path: folder of frames, or video.
    """
    return _scan_folder(name, path, look) if look.frames else Seen(name, *_scan_video(name, path, look))


def _scan_folder(name: str, path: str, look: Look) -> Seen:
    try:
        with os.scandir(path) as entries:
            found = [entry for entry in entries if is_frame(entry.name)]
            sizes = {entry.name: 0 if look.ends == 'none' else entry.stat().st_size for entry in found}
    except OSError as error:
        return Seen(name, 0, [Finding('unreadable', name, f'{path} cannot be opened ({error.strerror})')])
    frames = sorted(sizes, key=natural_key)
    if not frames:
        return Seen(name, 0, [Finding('empty', name, f'{path} holds no frames')])
    findings = _names(name, path, frames)
    if len(frames) < look.min_frames:
        findings.append(Finding('too_short', name, f'{len(frames)} frames, at least {look.min_frames} expected'))
    if look.decode or look.ends == 'all':
        findings += _contents(name, path, frames, frames, look.decode)
    elif look.ends == 'some':
        findings += _contents(name, path, frames, _suspects(frames, sizes), False)
    signature = None if look.ends == 'none' else hash(tuple(sizes[frame] for frame in frames))
    return Seen(name, len(frames), findings, signature)


def clip_sha256(path: str) -> str:
    """Hash of the contents of all frames of a folder, in natural order."""
    digest = hashlib.sha256()
    for frame in list_frames(path):
        with open(os.path.join(path, frame), 'rb') as file:
            content = file.read()
        digest.update(len(content).to_bytes(8, 'big') + content)
    return digest.hexdigest()


def _suspects(frames: Sequence[str], sizes: dict[str, int]) -> list[str]:
    """The first frame, the last, and those clearly smaller than the others."""
    middle = sorted(sizes.values())[len(sizes) // 2]
    ends = {frames[0], frames[-1]}
    return [frame for frame in frames if frame in ends or sizes[frame] < _SMALL * middle or sizes[frame] == 0]


def _names(name: str, path: str, natural: Sequence[str]) -> list[Finding]:
    """What the file names alone, in natural order, tell: order, gaps, doubles, strangers."""
    findings = []
    frames = sorted(natural)
    if natural != frames:
        wrong = next(i for i, (one, other) in enumerate(zip(natural, frames)) if one != other)
        findings.append(Finding('unnatural_order', name, f'place {wrong + 1} is {natural[wrong]}, sorted as text '
                                                         f'{frames[wrong]}'))
    parts = [_NAME.fullmatch(frame) for frame in natural]
    if not all(parts):
        return findings
    prefixes = Counter(match[1] for match in parts if match)
    own = prefixes.most_common(1)[0][0]
    clip, stem = os.path.basename(path), own.rstrip('_-. ')
    strange = [frame for frame, match in zip(natural, parts) if match and match[1] != own]
    if stem.isdecimal() and clip.isdecimal() and int(stem) != int(clip):
        strange = list(natural)
    if strange:
        findings.append(Finding('foreign_frame', name, f'{len(strange)} of {len(frames)} frames, {strange[0]} first'))
        return findings
    numbers = [int(match[2]) for match in parts if match]
    twice = [number for number, count in Counter(numbers).items() if count > 1]
    if twice:
        both = [frame for frame, number in zip(natural, numbers) if number == twice[0]]
        findings.append(Finding('duplicate_frame', name, f'frame {twice[0]} is {" and ".join(both)}'))
    present = sorted(set(numbers))
    if present[-1] - present[0] + 1 != len(present):
        before = next(a for a, b in zip(present, present[1:]) if b != a + 1)
        lost = present[-1] - present[0] + 1 - len(present)
        findings.append(Finding('gap', name, f'{lost} numbers are absent, the first after {before}'))
    return findings


def _contents(name: str, path: str, frames: Sequence[str], opened: Sequence[str], decode: bool) -> list[Finding]:
    """Truncated and unreadable pictures; with ``decode`` also those that do not decode, and differing sizes."""
    broken: dict[str, list[tuple[str, str]]] = {'truncated': [], 'unreadable': []}
    sizes: dict[Any, str] = {}
    for frame in opened:
        file = os.path.join(path, frame)
        fault = image_file_fault(file)
        if fault:
            broken['truncated' if 'cut off' in fault or 'empty' in fault else 'unreadable'].append((frame, fault))
        elif decode:
            size = _decoded_size(file)
            if size is None:
                broken['unreadable'].append((frame, 'does not decode'))
            else:
                sizes.setdefault(size, frame)
    findings = [Finding(code, name, f'{len(found)} of {len(frames)} frames, {min(found)[0]} {min(found)[1]}')
                for code, found in broken.items() if found]
    if len(sizes) > 1:
        told = ', '.join(f'{frame} is {size[1]} x {size[0]}' for size, frame in sizes.items())
        findings.append(Finding('frame_sizes', name, told))
    return findings


def _decoded_size(file: str) -> Optional[tuple[int, int]]:
    with open(file, 'rb') as stream:
        content = stream.read()
    picture = None if image_fault(content) else cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    return None if picture is None else picture.shape[:2]


def _scan_video(name: str, path: str, look: Look) -> tuple[Optional[int], list[Finding]]:
    fault = video_fault(path)
    if fault:
        code = 'truncated' if 'cut off' in fault or 'empty' in fault else 'unreadable'
        return None, [Finding(code, name, f'{path} {fault}')]
    if not look.decode:
        return None, []
    frames = count_frames(path)
    if not frames:
        return 0, [Finding('unreadable', name, f'{path} does not decode')]
    if frames < look.min_frames:
        return frames, [Finding('too_short', name, f'{frames} frames, at least {look.min_frames} expected')]
    return frames, []


def count_frames(path: str, decode: bool = True) -> int:
    """Frames of a video: decoded and counted, or as its index says."""
    video = cv2.VideoCapture(path)
    try:
        if not decode:
            return int(video.get(cv2.CAP_PROP_FRAME_COUNT)) if video.isOpened() else 0
        frames = 0
        while video.grab():
            frames += 1
        return frames
    finally:
        video.release()


def scan_chunk(clips: Sequence[tuple[str, str]], look: Look) -> list[Seen]:
    """:func:`scan_clip` of several (name, path)."""
    return [scan_clip(name, path, look) for name, path in clips]


def scan_clips(clips: Sequence[tuple[str, str]], look: Look, workers: int = 1,
               progress: bool = True) -> Iterator[Seen]:
    """Looks at many clips, in order.

    Args:
        clips: (name, path) of each.
        workers: processes.
        progress: print progress to stderr.
    """
    chunks = [clips[i:i + _CHUNK] for i in range(0, len(clips), _CHUNK)]
    tell = Progress(len(clips), progress)
    if workers <= 1 or len(chunks) < 2:
        yield from tell.follow(scan_chunk(chunk, look) for chunk in chunks)
        return
    with worker_pool(workers) as pool:
        yield from tell.follow(pool.map(scan_chunk, chunks, [look] * len(chunks)))


class Progress:
    """One line that moves on a terminal; a line now and then elsewhere."""

    def __init__(self, total: int, shown: bool, clock: Callable[[], float] = time.monotonic) -> None:
        self.total, self.shown, self.clock = total, shown, clock

    def follow(self, chunks: Iterable[Sequence[Any]]) -> Iterator[Any]:
        """Passes the items of the chunks on and prints how far it is."""
        done, begun, terminal = 0, self.clock(), sys.stderr.isatty()
        last = begun
        for chunk in chunks:
            done += len(chunk)
            now = self.clock()
            if self.shown and (now - last > (.2 if terminal else 5) or (done == self.total and done)):
                last = now
                start, end = ('\r', '\n' if done == self.total else '') if terminal else ('', '\n')
                print(f'{start}{done}/{self.total} clips, {now - begun:.0f} s', end=end, file=sys.stderr, flush=True)
            yield from chunk
