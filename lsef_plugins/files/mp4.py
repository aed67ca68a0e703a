"""Whether the index of an MP4 or MOV film can be true: frames its bytes can hold, and pictures that fit in memory.

A decoder believes the index: the entries of ``stsz`` and ``trun`` become a table in memory, 24 bytes a frame in FFmpeg,
and a sample entry of 65535 x 65535 pixels asks for 13 gigabytes a frame. Boxes are read as in ISO/IEC 14496-12, a few
bytes each, down to ``stsd``, ``stsz`` and ``trun``.
"""
from __future__ import annotations

import struct
from typing import BinaryIO, Optional

CONTAINERS = (b'moov', b'trak', b'mdia', b'minf', b'stbl', b'moof', b'traf')
#: Pixels of a frame: 16384 x 8192, the largest panoramas; 400 MB as RGB.
MOST_PIXELS = 1 << 27
MOST_BOXES = 200_000


class Index:
    """Reads the boxes of one file; ``boxes`` counts them, those of the caller too."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self.file, self.size, self.boxes, self.handler = file, size, 0, b'vide'

    def count(self) -> Optional[str]:
        """One more box; a phrase where there are too many."""
        self.boxes += 1
        return None if self.boxes <= MOST_BOXES else f'has more than {MOST_BOXES} boxes, which no film needs'

    def fault(self, kind: bytes, start: int, end: int) -> Optional[str]:
        """What cannot be true in a box, or None.

        Args:
            kind: of the box.
            start, end: of its content.
        """
        if kind == b'trak':
            self.handler = b'vide'
        look = {b'hdlr': self._hdlr, b'stsd': self._stsd, b'stsz': self._stsz, b'trun': self._trun}.get(kind)
        if look:
            return look(start, end)
        if kind not in CONTAINERS:
            return None
        while start + 8 <= end:
            length, inner = struct.unpack('>I4s', self._at(start, 8))
            length = end - start if length == 0 else length
            if length < 8 or start + length > end:
                return None     # damaged, or a form of box that these are never written in: for the decoder to judge
            fault = self.count() or self.fault(inner, start + 8, start + length)
            if fault:
                return fault
            start += length
        return None

    def _at(self, start: int, count: int) -> bytes:
        self.file.seek(start)
        return self.file.read(count).ljust(count, b'\0')

    def _hdlr(self, start: int, end: int) -> None:
        self.handler = self._at(start + 8, 4)

    def _stsd(self, start: int, end: int) -> Optional[str]:
        # version 4, entries 4, then the first entry: size 4, format 4, 24 bytes, width 2, height 2
        width, height = struct.unpack('>HH', self._at(start + 40, 4))
        if self.handler == b'vide' and end >= start + 44 and width * height > MOST_PIXELS:
            return f'claims frames of {width} x {height} pixels (at most {MOST_PIXELS} pixels are taken)'
        return None

    def _stsz(self, start: int, end: int) -> Optional[str]:
        _, each, count = struct.unpack('>III', self._at(start, 12))
        room = self.size // each if each else (end - start) // 4
        return self._claims(count) if self.handler == b'vide' and count > room else None

    def _trun(self, start: int, end: int) -> Optional[str]:
        flags, count = struct.unpack('>II', self._at(start, 8))
        each = 4 * bin(flags & 0xF00).count('1')
        return self._claims(count) if count > ((end - start) // each if each else self.size) else None

    def _claims(self, count: int) -> str:
        return f'claims {count} frames, more than its {self.size} bytes can hold'
