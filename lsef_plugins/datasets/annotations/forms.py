"""The form of a list: which cells of a line are the clip, its number of frames, and its label.

=================  ===========================================================  ==================================
form               a line                                                       known from
=================  ===========================================================  ==================================
``columns``        ``00001,3`` under a header ``video_name,label``              DFEW official, S2D; FERV39k S2D
``votes``          ``9,0,1,0,0,0,0,1,1`` under ``1happy,...,order,label``       DFEW annotation.xlsx saved as CSV
``path label``     ``some/00001 3``, ``Action/Happy/0267 Happy``                MAE-DFER; FERV39k official
``path n label``   ``some/00001 77 3``                                          DFER-CLIP, Former-DFER, MMAction2
=================  ===========================================================  ==================================
"""
import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Optional, Union

from .classes import emotion_word
from .text import AnnotationError, delimiter_of, read_lines, split_cells

_PATH_NAMES = ('video_name', 'path', 'filename', 'name', 'video', 'clip', 'order')
_LABEL_NAMES = ('label', 'emotion', 'class', 'id')
_COUNT_NAMES = ('n_frames', 'num_frames', 'frames', 'total_frames')
_INTEGER = re.compile(r'[+-]?\d+(\.0+)?')
_VOTE = re.compile(r'([1-7])\s*([A-Za-z]+)')
_FORMS = 'Expected "path label", "path n_frames label", or a header such as "video_name,label" or "path,id"'


@dataclasses.dataclass(frozen=True)
class Entry:
    """One line of a list, before its label is understood."""
    line: int
    path: str
    word: str
    num_frames: Optional[int] = None


@dataclasses.dataclass(frozen=True)
class RawList:
    """A list, before its labels are understood.

    Attributes:
        form: see the table of the module.
        entries: the lines, in their order.
        sha256: of the file.
        spelled: class of each number where the file itself spells it (``votes``).
        skipped: clips that carry no single label (``votes``, label 0).
    """
    form: str
    entries: tuple[Entry, ...]
    sha256: str
    spelled: Optional[dict[int, str]] = None
    skipped: int = 0


def integer(word: str) -> Optional[int]:
    """The whole number a cell holds; '3.0' (a column that a spreadsheet turned into floats) is 3."""
    return int(word.split('.')[0]) if _INTEGER.fullmatch(word) else None


def read_raw(path: Union[str, Path]) -> RawList:
    """Reads a list in any of the forms.

    Raises:
        FileNotFoundError, AnnotationError: see :func:`text.read_lines`; or a line does not have the list's form.
    """
    lines, sha256 = read_lines(path)
    delimiter = delimiter_of([text for _, text in lines])
    first = delimiter_of([lines[0][1]])
    if first and _is_header(split_cells(lines[0][1], first)):
        delimiter = first       # a line without it is then told so
    cells = [(number, split_cells(text, delimiter) if delimiter else text.split()) for number, text in lines]
    head = cells[0][1]
    if _is_header(head):
        if len(cells) == 1:
            raise AnnotationError(f'{path} holds a header and no clip. Was the download interrupted?')
        if any(_VOTE.fullmatch(cell) for cell in head):
            return _votes(path, cells, sha256)
        return RawList('columns', tuple(_columns(path, cells)), sha256)
    entries = _trailing(path, lines, delimiter)
    return RawList('path n label' if entries[0].num_frames is not None else 'path label', tuple(entries), sha256)


def _is_header(head: Sequence[str]) -> bool:
    """A header names its columns: the last cell of a line of clips is a number or an emotion."""
    return len(head) > 1 and any(cell.lower() in _LABEL_NAMES for cell in head) and integer(head[-1]) is None


def _columns(path: Union[str, Path], cells: list[tuple[int, list[str]]]) -> list[Entry]:
    names = [cell.lower() for cell in cells[0][1]]
    clip = next((names.index(name) for name in _PATH_NAMES if name in names), None)
    label = next((i for name in _LABEL_NAMES for i, have in enumerate(names) if have == name and i != clip), None)
    count = next((names.index(name) for name in _COUNT_NAMES if name in names), None)
    if clip is None or label is None:
        raise AnnotationError(f'{path}:{cells[0][0]}: the header {",".join(cells[0][1])!r} names no clip column '
                              f'({", ".join(_PATH_NAMES)}) or no label column ({", ".join(_LABEL_NAMES)}). {_FORMS}.')
    entries = []
    for number, row in cells[1:]:
        if len(row) != len(names):
            raise AnnotationError(f'{path}:{number}: {len(row)} cells, but the header '
                                  f'{",".join(cells[0][1])!r} has {len(names)}. Correct the line.')
        frames = None if count is None else integer(row[count])
        entries.append(Entry(number, row[clip], row[label], frames))
    return entries


def _votes(path: Union[str, Path], cells: list[tuple[int, list[str]]], sha256: str) -> RawList:
    """annotation.xlsx as CSV: the header spells the classes; label 0 means that no class won enough votes."""
    names = cells[0][1]
    votes = {i: match for i, match in enumerate(map(_VOTE.fullmatch, names)) if match}
    spelled = {int(match[1]): emotion_word(match[2]) or '' for match in votes.values()}
    if len(spelled) != 7 or not all(spelled.values()):
        raise AnnotationError(f'{path}:{cells[0][0]}: the header {",".join(names)!r} must spell seven vote columns '
                              'such as 1happy. Save the whole sheet of annotation.xlsx.')
    entries, skipped = [], 0
    for entry, (number, row) in zip(_columns(path, cells), cells[1:]):
        label = integer(entry.word)
        if label == 0:
            skipped += 1
            continue
        counts = {int(match[1]): integer(row[i]) or 0 for i, match in votes.items()}
        if label in counts and counts[label] < max(counts.values()):
            most = max(counts, key=lambda key: counts[key])
            raise AnnotationError(f'{path}:{number}: label {label} ({spelled[label]}) has {counts[label]} votes and '
                                  f'{most} ({spelled[most]}) has {counts[most]}: label and votes contradict. Were '
                                  'columns or rows shifted in the spreadsheet?')
        entries.append(entry)
    if not entries:
        raise AnnotationError(f'{path}: none of the {skipped} clips carries a single label (all labels are 0).')
    return RawList('votes', tuple(entries), sha256, spelled, skipped)


def _trailing(path: Union[str, Path], lines: list[tuple[int, str]], delimiter: Optional[str]) -> list[Entry]:
    """Lines without a header: the label is the last cell; so many frames stand before it if they do on every line."""
    rows = [(number, text, split_cells(text, delimiter) if delimiter else text.rsplit(None, 3))
            for number, text in lines]
    for number, text, cells in rows:
        if len(cells) < 2 or not all(cells):
            raise AnnotationError(f'{path}:{number}: {text!r} has no label. {_FORMS}.')
        if integer(cells[-1]) is None and emotion_word(cells[-1]) is None:
            raise AnnotationError(f'{path}:{number}: the label {cells[-1]!r} of {text!r} is neither a number nor one '
                                  f'of the seven emotions. {_FORMS}.')
    counted = [len(cells) > 2 and integer(cells[-2]) is not None for _, _, cells in rows]
    if any(counted) and not all(counted):
        number, text, _ = rows[counted.index(False)]
        raise AnnotationError(f'{path}:{number}: {text!r} has no number of frames and line '
                              f'{rows[counted.index(True)][0]} has one. {_FORMS}.')
    if all(counted) and all(len(cells) > 3 and integer(cells[-3]) is not None for _, _, cells in rows):
        raise AnnotationError(f"{path}: every line ends in three numbers (offset, frames, label: MMAction2's "
                              f'with_offset form), which names pieces of videos and not clips. {_FORMS}.')
    tail = 2 if all(counted) else 1
    joint = delimiter or ' '
    return [Entry(number, joint.join(cells[:-tail]) if delimiter else text.rsplit(None, tail)[0], cells[-1],
                  integer(cells[-2]) if tail == 2 else None) for number, text, cells in rows]
