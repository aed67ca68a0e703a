"""Whether a file that is called a video is one: its kind, its first bytes, and what a decoder may be given.

FFmpeg, inside OpenCV and decord, goes by content and not by the name. A text called ``clip.mp4`` that is a playlist is
carried out: decord 0.6 opened the other files of an HLS list, fetched its ``http://`` addresses when it was given
bytes (as MMAction2's DecordInit does), and listened for ten seconds on the port of an SDP file; OpenCV 5.1 opened the
files of an ``ffconcat`` list. So text is refused whatever it says, and what FFmpeg's text formats look for is refused
in any file.
Functions return a phrase such as 'is text and no video', or None.
"""
from __future__ import annotations

import os
import re
import stat
from typing import BinaryIO, Optional

#: So many bytes are looked at. Where a video begins with none of VIDEOS, a zero byte comes before.
HEAD = 4096
VIDEOS = (b'RIFF', b'\x1aE\xdf\xa3', b'FLV\x01', b'OggS', b'\x30\x26\xb2\x75', b'GIF8', b'DKIF', b'.RMF', b'YUV4MPEG2',
          b'G@')
OTHERS = {b'\x7fELF': 'a program', b'MZ': 'a program', b'PK\x03\x04': 'a zip archive or a spreadsheet',
          b'\x1f\x8b': 'a gzip archive', b'%PDF': 'a PDF document', b'7z\xbc\xaf': 'a 7z archive'}
# At its beginning, or up to its first zero byte: what FFmpeg's readers of playlists and session descriptions look for.
_PLAYLIST = re.compile(rb'^(?:\xef\xbb\xbf)?\s*(?:#EXTM3U|ffconcat|\[playlist\]|\[Reference\]|RTSPtext|v=0\s)',
                       re.IGNORECASE)
_NAMES_OTHERS = re.compile(rb'c=IN IP|<MPD|CompositionPlaylist|<smil|<asx', re.IGNORECASE)


class NoRegularFileError(OSError):
    """The path leads to a pipe, a device, a socket or a folder: reading it may never end."""


def open_regular(path: str) -> BinaryIO:
    """The file, open for reading; never waits for the other end of a pipe.

    Raises:
        NoRegularFileError, OSError: it is no regular file, or cannot be opened.
    """
    def opened(name: str, flags: int) -> int:
        return os.open(name, flags | getattr(os, 'O_NONBLOCK', 0))

    file = open(path, 'rb', opener=opened)      # noqa: SIM115
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise NoRegularFileError(0, 'no regular file: a pipe or a device', path)
    return file


def kind_fault(path: str) -> Optional[str]:
    """Why a path that exists leads to no file: 'is a folder', 'is a pipe ...'; None for a file, also behind a link."""
    mode = os.stat(path).st_mode
    if stat.S_ISREG(mode):
        return None
    return 'is a folder' if stat.S_ISDIR(mode) else 'is a pipe or a device and no file'


def head_fault(head: bytes) -> Optional[str]:
    """What is wrong with the first HEAD bytes of a file that is called a video, or None where a decoder may look.

    Args:
        head: not empty.
    """
    other = next((what for magic, what in OTHERS.items() if head.startswith(magic)), None)
    if other:
        return f'is {other} and no video'
    words = head.partition(b'\0')[0]
    if _PLAYLIST.search(words) or _NAMES_OTHERS.search(words):
        return ('is a playlist, which names other files and addresses, and no video (it begins with '
                f'{_shown(words)}). Give the videos themselves')
    if len(words) == len(head) and not head.startswith(VIDEOS):
        return f'is text and no video (it begins with {_shown(words)})'
    return None


def _shown(words: bytes) -> str:
    return repr(words[:24].decode('utf-8', 'replace'))
