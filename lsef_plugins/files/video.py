"""Whether a video file is whole and a video, judged by its first bytes and the boxes of MP4/MOV; nothing is decoded."""
from __future__ import annotations

import os
import struct
from typing import BinaryIO, Optional

from .content import HEAD, head_fault, open_regular
from .mp4 import Index

MP4_FIRST_BOXES = (b'ftyp', b'moov', b'mdat', b'free', b'skip', b'wide', b'styp', b'sidx')
MP4_DATA_BOXES = (b'moov', b'mdat', b'moof')


def container_fault(path: str) -> Optional[str]:
    """What is wrong with a video file, as far as its first bytes and its outer structure tell.

    Args:
        path: A local file. Containers other than MP4/MOV are only checked not to be empty, text, or another thing that
            is no video (:mod:`lsef_plugins.files.content`).

    Returns:
        A phrase such as 'is empty', or None.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size == 0:
            return 'is empty'
        head = file.read(HEAD)
        if head[4:8] not in MP4_FIRST_BOXES:
            return head_fault(head) or ('is cut off' if size < 8 else None)
        return _boxes_fault(file, size)


def _boxes_fault(file: BinaryIO, size: int) -> Optional[str]:
    """The same of a file whose first box is one of MP4/MOV."""
    seen: set[bytes] = set()
    index = Index(file, size)
    start = 0
    while start + 8 <= size:
        file.seek(start)
        head = file.read(16)
        length, kind = struct.unpack('>I4s', head[:8])
        inside = start + 8
        if length == 1 and len(head) == 16:
            length, = struct.unpack('>Q', head[8:])
            inside = start + 16
        elif length == 0:  # the last box reaches to the end of the file
            length = size - start
        if length < 8 or (kind not in MP4_DATA_BOXES and {b'moov', b'mdat'} <= seen):
            break  # what follows the video is not ours to judge
        if start + length > size:
            return f'is cut off ({size} bytes, its own structure asks for at least {start + length})'
        fault = index.count() or index.fault(kind, inside, start + length)
        if fault:
            return fault
        seen.add(kind)
        start += length
    if b'moov' not in seen:
        return 'is cut off (it has no index, the moov box)'
    if not seen & {b'mdat', b'moof'}:
        return 'is cut off (it has an index and no pictures, no mdat box)'
    return None


def untrue_fault(path: str) -> Optional[str]:
    """The same for readers that take what is there of a film that breaks off: what is no video, or claims too much."""
    fault = container_fault(path)
    return None if fault and ('cut off' in fault or 'empty' in fault) else fault
