"""Lists of clips, ``path label`` line by line: MMAction2's VideoDataset that says what is wrong, and where.

Everything is checked in the main process while the list is read, before a worker starts: the list itself
(each message names file and line), labels against the classes, and each video. A video is judged by the box
structure of its container and by its first bytes, which costs a few short reads and no decoding: a copy that
stopped half-way ends in the middle of a box, and a text called .mp4 may be a playlist, which decoders carry out
(:mod:`lsef_plugins.files.content`). That matters, because decoders are no judge of it: of 50 reads of an H.264 film
with its index in front, cut at 25 places, decord 0.6 refused 43 and took the process down with a segmentation
fault in 7 (a DataLoader then only says that a worker was killed); from an MPEG-4 film without its last half
percent it made up the missing frame in silence.
"""
from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from typing import Any, Optional

from mmaction.datasets import VideoDataset
from mmengine.fileio import list_from_file

from lsef_plugins.registry import DATASETS

from .annotations.paths import has_control, leads_out
from .annotations.text import LONGEST
from .integrity import UnreadableClipError, local_path, video_fault

SHOWN = 5


@DATASETS.register_module()
class ClipListDataset(VideoDataset):
    """A VideoDataset that checks its list, its labels and its videos, and names what is wrong with them.

    The annotation file holds a line ``path label`` per clip (several labels with ``multi_class``). Labels are
    split off from the right, so paths may contain spaces; a byte order mark, CRLF and blank lines are
    tolerated. With ``test_mode`` a list without any label is taken too (label -1, as MMAction2 does).

    Args:
        ann_file: Path of the annotation file.
        pipeline: Transforms, as for VideoDataset.
        classes: Class names in the order of their labels, or a text file with one per line; they go
            to ``metainfo['classes']``, where metrics look. ``metainfo=dict(classes=...)`` says the same.
        num_classes: Number of classes; that of ``classes`` when these are given. Labels must lie in
            ``[0, num_classes)``; without either only negative labels are refused.
        check_files: 'error' looks at every local video when the list is read and refuses the list when one is
            missing, empty or cut off. 'off' leaves that to the worker that meets the file, for lists that are
            large and stored where opening a file is slow.
        allow_outside_root: Take paths that lead out of the data folder: absolute ones, and those with ``..``. They are
            judged as they are written; a link inside the folder is the user's own, wherever it leads. The folder is
            ``data_root`` or the one ``data_prefix`` names; where neither is given, paths may lead anywhere.
        kwargs: Those of VideoDataset: data_root, data_prefix, delimiter, test_mode, multi_class, ...
    """

    def __init__(self, ann_file: str, pipeline: list[Any], classes: Any = None,
                 num_classes: Optional[int] = None, check_files: str = 'error',
                 metainfo: Optional[dict] = None, allow_outside_root: bool = False, **kwargs: Any) -> None:
        if check_files not in ('error', 'off'):
            raise ValueError(f'check_files={check_files!r} must be \'error\' (refuse a list with missing '
                             'or cut off videos) or \'off\'.')
        self.check_files, self.allow_outside_root = check_files, allow_outside_root
        metainfo = dict(metainfo or {})
        if classes is not None:
            metainfo['classes'] = classes if isinstance(classes, str) else list(classes)
        num_classes = class_count(metainfo, self._load_metainfo, num_classes)
        super().__init__(ann_file, pipeline, num_classes=num_classes, metainfo=metainfo, **kwargs)

    def load_data_list(self) -> list[dict]:
        """Reads and checks the annotation file.

        Returns:
            A dict for each clip: ``filename`` (with the data prefix) and ``label``.

        Raises:
            FileNotFoundError: the annotation file is not there, or videos it lists are not.
            ValueError: the file is empty or not text, or a line or a label is wrong.
            UnreadableClipError: videos are there but empty, cut off or no videos.
        """
        data_list: list[dict] = []
        entries = self.read_lines()
        unlabelled = (self.test_mode and not self.multi_class
                      and all(len(text.split(self.separator, 1)) == 1 for _, text in entries))
        for number, text in entries:
            filename, label = (text, -1) if unlabelled else self.parse_line(number, text)
            self.check_path(number, filename)
            if self.data_prefix.get('video') is not None:
                filename = os.path.join(self.data_prefix['video'], filename)
            data_list.append({'filename': filename, 'label': label})
        if self.check_files == 'error':
            self.check_videos([data['filename'] for data in data_list])
        return data_list

    @property
    def separator(self) -> Optional[str]:
        """What str.split takes: the blank means any white space."""
        return None if self.delimiter == ' ' else self.delimiter

    def read_lines(self) -> list[tuple[int, str]]:
        """(line number from 1, text) of each line that is not blank."""
        try:
            lines = list_from_file(self.ann_file)
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f'The annotation file {self.ann_file!r} does not exist (looked for it at '
                f'{os.path.abspath(self.ann_file)!r}). Check ann_file and '
                f'data_root={self.data_root!r}, or create the list: one line "path label" per '
                'clip.') from error
        except UnicodeDecodeError as error:
            raise ValueError(f'The annotation file {self.ann_file!r} is not UTF-8 text: '
                             f'{error}. Is it the list, or a spreadsheet or an archive? Save '
                             'the list as UTF-8.') from error
        texts = (line.lstrip('\ufeff').strip() for line in lines)
        entries = [(number, text) for number, text in enumerate(texts, start=1) if text]
        if not entries:
            raise ValueError(f'The annotation file {self.ann_file!r} is empty: {len(lines)} lines and no '
                             'clip. Expected one line "path label" per clip; was the step that writes the '
                             'list interrupted?')
        long = next((number for number, text in entries if len(text) > LONGEST), None)
        if long:
            raise ValueError(f'The annotation file {self.ann_file!r} has a line {long} of more than {LONGEST} '
                             'characters, which names no clip. Is this the list, and are its line ends whole?')
        return entries

    def check_path(self, number: int, path: str) -> None:
        """ValueError for a path that leads out of the data folder, or that holds control characters."""
        if has_control(path):
            raise ValueError(f'{self.ann_file}:{number}: the path {path!r} holds a control character. Is this line of '
                             'the list damaged?')
        folder = self.data_prefix.get('video') or ''
        roots = [root for root in (self.data_root, folder) if root]
        if not self.allow_outside_root and roots and all(leads_out(path, folder, root) for root in roots):
            raise ValueError(f'{self.ann_file}:{number}: {path!r} leads out of the data folder {roots[0]!r}. Correct '
                             'the list, or set allow_outside_root=True if you trust it.')

    def parse_line(self, number: int, text: str) -> tuple[str, Any]:
        """Path and label (a list of labels with ``multi_class``) of one line."""
        parts = [part.strip() for part in text.rsplit(self.separator, 1)]
        if len(parts) != 2 or not all(parts):
            raise ValueError(f'{self.ann_file}:{number}: expected "path label" split by '
                             f'{self.delimiter!r}, got {text!r}. Add the label, or set the delimiter of '
                             'the list (delimiter=\',\').')
        labels = [self.parse_label(number, text, parts[1])]
        while self.multi_class:
            front = [part.strip() for part in parts[0].rsplit(self.separator, 1)]
            if len(front) != 2 or not re.fullmatch(r'[+-]?\d+', front[1]):
                return parts[0], labels
            parts = front
            labels.insert(0, self.parse_label(number, text, parts[1]))
        return parts[0], labels[0]

    def parse_label(self, number: int, text: str, word: str) -> int:
        if not re.fullmatch(r'[+-]?\d+', word):
            raise ValueError(f'{self.ann_file}:{number}: the label {word!r} of {text!r} is not an integer. '
                             'Expected "path label" with the index of the class; names have to be '
                             'translated to indices first.')
        label = int(word)
        if label < 0 or (self.num_classes is not None and label >= self.num_classes):
            limit = 'a number from 0' if self.num_classes is None else f'0..{self.num_classes - 1}'
            from_one = label == self.num_classes
            hint = ' The list may count from 1: subtract 1 from every label.' if from_one else ''
            names = self._metainfo.get('classes')
            names = f' ({", ".join(map(str, names))})' if names else ''
            raise ValueError(f'{self.ann_file}:{number}: label {label} of {text!r} is out of range, '
                             f'expected {limit}{names}.{hint} Check the list and num_classes.')
        return label

    def check_videos(self, filenames: Sequence[str]) -> None:
        """Refuses a list with missing, empty or cut off videos; says how many and shows the first few."""
        faults = {name: video_fault(name) for name in dict.fromkeys(filenames)}
        faults = {name: fault for name, fault in faults.items() if fault}
        if not faults:
            return
        missing = [name for name, fault in faults.items() if fault == 'does not exist']
        shown = ''.join(f'\n  {name} {fault}' for name, fault in list(faults.items())[:SHOWN])
        more = f'\n  ... and {len(faults) - SHOWN} more' if len(faults) > SHOWN else ''
        kind = FileNotFoundError if missing else UnreadableClipError
        raise kind(
            f'{len(faults)} of {len(set(filenames))} videos of {self.ann_file} cannot be used '
            f'({len(missing)} missing, {len(faults) - len(missing)} empty, cut off or no video):{shown}{more}\n'
            f'Check data_root={self.data_root!r} and data_prefix={dict(self.data_prefix)!r}, create or '
            'copy these files again, or remove their lines from the list.')

    def prepare_data(self, idx: int) -> Any:
        """Runs the pipeline on one clip.

        Raises:
            UnreadableClipError: the video is missing or cut off, or the steps that open and decode it fail;
                the original exception is its cause. Errors of other steps pass as they are.
        """
        data = self.look_at(self.get_data_info(idx))
        filename = data['filename']
        for step in getattr(self.pipeline, 'transforms', [self.pipeline]):
            data = self.run_step(step, data, filename)
            if data is None:
                return None
        return data

    def look_at(self, data: dict) -> dict:
        """Judges the clip before the decoder sees it: see the module's first paragraph."""
        path = local_path(data['filename'])
        fault = video_fault(path) if path and os.path.exists(path) else None
        if fault:
            raise UnreadableClipError(self.unreadable(data['filename'], fault))
        return data

    def run_step(self, step: Callable, data: dict, filename: str) -> Any:
        name = type(step).__name__
        if 'imgs' in data or not re.search('Init|Decode', name):
            return step(data)
        try:
            out = step(data)
        except (ImportError, MemoryError, UnreadableClipError):
            raise
        except Exception as error:
            why = (str(error).strip().splitlines() or [''])[0]
            fault = video_fault(filename) or f'cannot be decoded ({name}: {type(error).__name__}: {why})'
            raise UnreadableClipError(self.unreadable(filename, fault)) from error
        if out is not None and out.get('total_frames', 1) <= 0:
            raise UnreadableClipError(self.unreadable(filename, f'holds no frames ({name} counts '
                                                                f'{out["total_frames"]})'))
        return out

    def unreadable(self, filename: str, fault: str) -> str:
        return (f'The video {filename!r} {fault}. Create or copy it again, or remove its line from '
                f'{self.ann_file!r}.')


def class_count(metainfo: dict, load_metainfo: Callable, num_classes: Optional[int]) -> Optional[int]:
    """The number of classes that names and ``num_classes`` agree on; None when neither is given."""
    names = load_metainfo(metainfo).get('classes')
    if names is None:
        return num_classes
    if isinstance(names, str):
        raise ValueError(f'classes={names!r} is not a file with one class name per line, and a single '
                         'string is not a list of names.')
    if len(set(names)) != len(names):
        raise ValueError(f'classes names a class twice: {", ".join(map(str, names))}.')
    if num_classes is not None and num_classes != len(names):
        raise ValueError(f'num_classes={num_classes} and {len(names)} class names '
                         f'({", ".join(map(str, names))}) disagree. Give one of them, or make them agree.')
    return len(names)
