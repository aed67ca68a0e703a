"""From any dialect to the file lists that MMAction2's own data sets read, labels from 0 in the order of CLASSES.

=============  ==================  ========================================================================
form           a line              read by
=============  ==================  ========================================================================
``videos``     ``00001.mp4 3``     VideoDataset, ClipListDataset
``rawframes``  ``00001 77 3``      RawframeDataset (whose filename_tmpl has to fit), DFER-CLIP, Former-DFER
=============  ==================  ========================================================================
"""
import os
from collections.abc import Sequence

from .annotations import AnnotationError, ClipRecord
from .frames import ClipFolders, list_frames
from .splits import select

FORMS = ('videos', 'rawframes')


def choose(records: Sequence[ClipRecord], split: str, protocol: str, val_ratio: float, seed: int) -> list[ClipRecord]:
    """The clips of a list that belong to a split; see :mod:`splits`."""
    places = select([record.identity for record in records], [record.label for record in records], split, protocol,
                    val_ratio, seed)
    return [records[i] for i in places]


def file_list(records: Sequence[ClipRecord], root: str, form: str) -> str:
    """The text of a file list; frames are counted on disk.

    Args:
        records: clips in the order of the list.
        root: folder that the listed paths start from.
        form: 'videos' or 'rawframes'.

    Raises:
        AnnotationError: clips are not there, have no frames, or lie under a path with blanks.
    """
    if form not in FORMS:
        raise ValueError(f'form={form!r} must be one of {", ".join(map(repr, FORMS))}.')
    folders = ClipFolders(root, videos=form == 'videos')
    lines, missing = [], []
    for record in records:
        path = folders.find(record.path)
        if path is None:
            missing.append(record.path)
            continue
        name = os.path.relpath(path, root).replace(os.sep, '/')
        if name.split() != [name]:
            raise AnnotationError(f'{name!r} holds blanks, which split the line of a file list. Rename the folder.')
        if form == 'rawframes':
            frames = len(list_frames(path))
            if not frames:
                raise AnnotationError(f'{path} holds no frames. tools/data/check_dataset.py finds all such clips.')
            name = f'{name} {frames}'
        lines.append(f'{name} {record.label}\n')
    if missing:
        raise AnnotationError(f'{len(missing)} of {len(records)} clips are not in {root}, {missing[0]} first. '
                              'tools/data/check_dataset.py lists all of them.')
    return ''.join(lines)
