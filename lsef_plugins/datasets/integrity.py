"""Whether a file is whole, judged by its own structure: a few reads of a few bytes, no decoding.

Videos: :mod:`lsef_plugins.files.video`. Pictures: JPEG, PNG, WebP and BMP all say where they end. OpenCV is no
judge of that: up to 4.x it fills the lower part of a truncated JPEG with grey and prints a line on stderr. Functions
return a phrase such as 'is empty', or None.
"""
from __future__ import annotations

import os
import struct
from typing import Optional

from lsef_plugins.files.content import kind_fault, open_regular
from lsef_plugins.files.video import container_fault


class UnreadableClipError(RuntimeError):
    """A clip cannot be read; the message names the file and the way out."""


IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.webp')


def image_fault(content: bytes) -> Optional[str]:
    """What is wrong with the bytes of a picture, or None; other formats are refused."""
    if not content:
        return 'is empty'
    if content[:2] == b'\xff\xd8':
        return None if _jpeg_ends(content) else 'is cut off (a JPEG without its end)'
    if content[:8] == b'\x89PNG\r\n\x1a\n':
        return None if b'IEND' in content else 'is cut off (a PNG without its end)'
    if content[:4] == b'RIFF' and content[8:12] == b'WEBP':
        size = struct.unpack('<I', content[4:8])[0] + 8
        return None if len(content) >= size else f'is cut off ({len(content)} of {size} bytes)'
    if content[:2] == b'BM' and len(content) >= 6:
        size, = struct.unpack('<I', content[2:6])
        return None if len(content) >= size else f'is cut off ({len(content)} of {size} bytes)'
    return 'is no picture (unknown first bytes)'


def _jpeg_ends(content: bytes) -> bool:
    """Whether the end marker comes after the scan data: a thumbnail inside has an end marker of its own."""
    if content.endswith(b'\xff\xd9'):
        return True
    at = 2
    while at + 4 <= len(content) and content[at] == 0xFF and content[at + 1] != 0xDA:
        at += 2 + int.from_bytes(content[at + 2:at + 4], 'big')
    return content.find(b'\xff\xd9', at) >= 0


def image_file_fault(path: str) -> Optional[str]:
    """The same for a file; reads its two ends, and all of it only where these leave doubt."""
    try:
        with open_regular(path) as file:
            head = file.read(12)
            if head[:2] == b'\xff\xd8' and len(head) == 12:
                file.seek(-2, os.SEEK_END)
                if file.read(2) == b'\xff\xd9':
                    return None
            file.seek(0)
            return image_fault(file.read())
    except OSError as error:
        return f'cannot be opened ({error.strerror})'


def local_path(filename: str) -> Optional[str]:
    """The file behind ``filename`` on this machine; None when a storage backend (``s3://...``) has it.

    DecordInit reads ``name.mp4`` when the list says ``name``.
    """
    if '://' in filename:
        return None
    if not os.path.splitext(filename)[1] and not os.path.exists(filename):
        return filename + '.mp4'
    return filename


def video_fault(filename: str) -> Optional[str]:
    """Why ``filename`` cannot be a video ('does not exist', 'is empty', ...), or None."""
    path = local_path(filename)
    if path is None:
        return None
    try:
        return kind_fault(path) or container_fault(path)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return 'does not exist'
    except OSError as error:
        return f'cannot be opened ({error.strerror})'
