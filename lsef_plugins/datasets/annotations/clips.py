"""One reader for every list of emotion clips.

``read_clips(path, 'dfew')`` finds out the form (:mod:`forms`), what the labels mean (:mod:`evidence`) and which clip
each line names (:mod:`paths`), and says how it knew. Labels come back as places in :data:`classes.CLASSES`.
"""
import dataclasses
import hashlib
import posixpath
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Optional, Union

from .classes import CLASSES, order_of
from .evidence import ClassMap, from_numbers, from_words, path_emotion
from .forms import Entry, RawList, integer, read_raw
from .paths import PathRules
from .text import AnnotationError, read_lines

DATA_SETS = ('dfew', 'ferv39k')
VIDEO_SUFFIXES = ('.mp4', '.avi', '.mkv', '.mov', '.webm')


@dataclasses.dataclass(frozen=True)
class ClipRecord:
    """A clip of a list.

    Attributes:
        identity: names the clip in every dialect: '00001' (DFEW), 'Action/Happy/0010' (FERV39k).
        path: as listed, without the prefix that was stripped.
        label: place of its class in CLASSES.
        line: line number in the list, from 1.
        num_frames: as listed, never trusted; None where the list has none.
        scene: from the path (FERV39k), else None.
    """
    identity: str
    path: str
    label: int
    line: int
    num_frames: Optional[int] = None
    scene: Optional[str] = None


@dataclasses.dataclass(frozen=True)
class AnnotationList:
    """A list that was read, and how it was understood.

    Attributes:
        path: of the file.
        form: 'columns', 'votes', 'path label' or 'path n label'.
        records: its clips, in their order.
        class_map: what each label means, and the evidence.
        sha256: of the file.
        skipped: lines that carry no single label.
        repeated: identities that occur on several lines (with the same label: anything else is refused).
    """
    path: str
    form: str
    records: tuple[ClipRecord, ...]
    class_map: ClassMap
    sha256: str
    skipped: int = 0
    repeated: tuple[str, ...] = ()

    def class_counts(self) -> dict[str, int]:
        """Clips of each class, in the order of CLASSES."""
        count = Counter(record.label for record in self.records)
        return {name: count.get(label, 0) for label, name in enumerate(CLASSES)}

    def content_sha256(self) -> str:
        """Hash of what the list says (clips and classes), the same for every dialect and order of the same list."""
        lines = sorted(f'{record.identity} {CLASSES[record.label]}\n' for record in self.records)
        return hashlib.sha256(''.join(lines).encode()).hexdigest()

    def __str__(self) -> str:
        scenes = {record.scene for record in self.records if record.scene}
        lines = [f'{self.path}: {len(self.records)} clips' + (f', {len(scenes)} scenes' if scenes else '')
                 + (f', {self.skipped} without a single label left out' if self.skipped else ''),
                 f'  form:     {self.form}', f'  classes:  {self.class_map}',
                 f'  evidence: {"; ".join(self.class_map.evidence)}',
                 '  clips:    ' + ', '.join(f'{name} {count}' for name, count in self.class_counts().items())]
        if self.repeated:
            lines.append(f'  repeated: {len(self.repeated)} clips are listed more than once, {self.repeated[0]} first')
        return '\n'.join(lines)


def clip_identity(path: str, data_set: str) -> Optional[str]:
    """What names a clip in every dialect; None where the path names none.

    Args:
        path: with forward slashes. DFEW: the last component is a number, padded or not, with or without the
            suffix of a video. FERV39k: the last three are scene, emotion and name.
        data_set: 'dfew' or 'ferv39k'.
    """
    stem, suffix = posixpath.splitext(path)
    parts = (stem if suffix.lower() in VIDEO_SUFFIXES else path).split('/')
    digits = re.fullmatch('[0-9]+', parts[-1])
    if data_set == 'dfew':
        return f'{int(parts[-1]):05d}' if digits else None
    if len(parts) < 3 or path_emotion('/'.join(parts)) is None:
        return None
    name = f'{int(parts[-1]):04d}' if digits else parts[-1]
    return f'{parts[-3]}/{path_emotion("/".join(parts))}/{name}'


def read_clips(path: Union[str, Path], data_set: str, *, label_base: Optional[int] = None, class_order: Any = None,
               label_index: Union[None, str, Path] = None, rules: Optional[PathRules] = None,
               companions: Sequence[Union[str, Path]] = (), check_counts: bool = True) -> AnnotationList:
    """Reads a list of emotion clips in any dialect.

    Args:
        path: the list.
        data_set: 'dfew' or 'ferv39k'.
        label_base: number of the first class, 0 or 1, where the evidence does not decide.
        class_order: 'dfew', 'alphabetical', or the seven words, where the evidence does not decide.
        label_index: file with lines ``Angry 0``. None looks for ``label_index.txt`` beside the list where neither
            words nor paths tell the order.
        rules: what to do with paths; None takes them as they are.
        companions: other lists of the same release, which share its label base.
        check_counts: compare the class shares of large lists with the published ones.

    Raises:
        FileNotFoundError: a file is missing.
        AnnotationError: the list is damaged, contradicts itself, or leaves base or order open.
    """
    if data_set not in DATA_SETS:
        raise ValueError(f'data_set={data_set!r} must be one of {", ".join(map(repr, DATA_SETS))}.')
    if label_base not in (None, 0, 1):
        raise ValueError(f'label_base={label_base!r} must be 0, 1, or None to find out.')
    if class_order is not None and label_index is not None:
        raise ValueError(f'class_order={class_order!r} and label_index={str(label_index)!r} both state the order of '
                         'the classes: give one of them.')
    raw = read_raw(path)
    rules = rules or PathRules(keep=1 if data_set == 'dfew' else 3, allow_outside=True)
    entries = [dataclasses.replace(entry, path=rules.apply(entry.path, f'{path}:{entry.line}'))
               for entry in raw.entries]
    others = {str(other): _labels(other) for other in companions if str(other) != str(path)}
    class_map = _class_map(str(path), data_set, raw, entries, label_base, class_order, label_index, others,
                           check_counts)
    records = [_record(str(path), data_set, entry, class_map) for entry in entries]
    return AnnotationList(str(path), raw.form, tuple(records), class_map, raw.sha256, raw.skipped,
                          _repeated(str(path), records))


def _labels(path: Union[str, Path]) -> list[int]:
    found = [integer(entry.word) for entry in read_raw(path).entries]
    return [label for label in found if label is not None]


def _class_map(path: str, data_set: str, raw: RawList, entries: Sequence[Entry], base: Optional[int],
               class_order: Any, label_index: Union[None, str, Path], others: dict[str, list[int]],
               check_counts: bool) -> ClassMap:
    if integer(entries[0].word) is None:
        return from_words(path, entries)
    others = {name: labels for name, labels in others.items() if labels}
    order = None if class_order is None else order_of(class_order)
    told_by = 'stated'
    if order is None and raw.spelled:
        order, told_by = tuple(raw.spelled[key] for key in sorted(raw.spelled)), 'spelled by the header'
        base = min(raw.spelled) if base is None else base
        others = {}
    beside = Path(path).with_name('label_index.txt')
    if label_index is None and order is None and data_set != 'dfew' and beside.is_file() and not any(
            path_emotion(entry.path) for entry in entries):
        label_index = beside
    if label_index is not None and order is None:
        order, start = read_label_index(label_index)
        told_by, base = f'from {label_index}', start if base is None else base
    return from_numbers(path, data_set, entries, others, order, base, told_by, check_counts)


def read_label_index(path: Union[str, Path]) -> tuple[tuple[str, ...], int]:
    """The order of the classes and the number of the first, from a file with lines ``Angry 0``."""
    numbers: dict[int, str] = {}
    for number, text in read_lines(path)[0]:
        words = text.replace(',', ' ').split()
        place = integer(words[-1])
        if len(words) != 2 or place is None or place in numbers:
            raise AnnotationError(f'{path}:{number}: expected "Class number" with every number once, got {text!r}.')
        numbers[place] = words[0]
    start = min(numbers)
    if sorted(numbers) != list(range(start, start + len(numbers))):
        raise AnnotationError(f'{path}: the numbers {sorted(numbers)} are not consecutive. Correct the file.')
    try:
        return order_of([numbers[key] for key in sorted(numbers)]), start
    except ValueError as error:
        raise AnnotationError(f'{path}: {error}') from error


def _record(path: str, data_set: str, entry: Entry, class_map: ClassMap) -> ClipRecord:
    identity = clip_identity(entry.path, data_set)
    if identity is None and data_set == 'dfew':
        raise AnnotationError(f'{path}:{entry.line}: {entry.path!r} does not end in the number of a DFEW clip '
                              '(00001, 1, 00001.mp4). Is this a list of DFEW?')
    identity = identity or entry.path
    number = integer(entry.word)
    name = class_map.names[entry.word if number is None else str(number)]
    scene = identity.split('/')[0] if data_set == 'ferv39k' and identity.count('/') == 2 else None
    return ClipRecord(identity, entry.path, CLASSES.index(name), entry.line, entry.num_frames, scene)


def _repeated(path: str, records: Sequence[ClipRecord]) -> tuple[str, ...]:
    first: dict[str, ClipRecord] = {}
    again: dict[str, None] = {}
    for record in records:
        before = first.setdefault(record.identity, record)
        if before.label != record.label:
            raise AnnotationError(f'{path}: clip {record.identity} is {CLASSES[before.label]} on line {before.line} '
                                  f'and {CLASSES[record.label]} on line {record.line}. Correct the list.')
        if before is not record:
            again[record.identity] = None
    return tuple(again)
