"""Paths in lists: somebody's prefix in front, two kinds of slashes, and none that may leave the data folder.

The check is made on the written path, before the disk is asked: a link inside the data folder that leads to another
disk is the user's own and passes; ``../..`` and absolute paths in a list somebody else wrote do not.
"""
import dataclasses
import os
import posixpath
import re
from collections.abc import Sequence
from typing import Optional, Union

from .text import AnnotationError

_NUMBER = re.compile('([0-9]+)')


def natural_key(name: str) -> tuple:
    """Sorts 'a_2.jpg' before 'a_10.jpg': numbers by value, and the text itself to break ties ('1', '01')."""
    parts = _NUMBER.split(name)
    parts[1::2] = map(int, parts[1::2])     # type: ignore[assignment]
    return tuple(parts), name


def is_absolute(path: str) -> bool:
    """Whether a path is absolute on any system: '/data', 'C:/data', '//host/data'."""
    return path.startswith('/') or bool(re.match('[A-Za-z]:', path))


def clean(path: str) -> str:
    """Forward slashes, no './', no doubled slashes."""
    path = path.replace('\\', '/')
    return posixpath.normpath(path) if path else path


def leads_out(path: str, folder: str, root: str) -> bool:
    """Whether a path of a list leads out of ``root`` as it is written.

    Args:
        path: as listed.
        folder: where relative paths start.
        root: folder or address (``s3://...``).
    """
    if '://' in path and '://' not in root:
        return True
    start, fence = (clean(each if '://' in each else os.path.abspath(each)) for each in (folder, root))
    short = clean(path)
    full = short if is_absolute(short) else clean(f'{start}/{short}')
    return not f'{full}/'.startswith(fence.rstrip('/') + '/')


def has_control(path: str) -> bool:
    """Whether a path holds a character below the blank, or DEL: no list writes one, and terminals obey them."""
    return any(ord(letter) < 32 or ord(letter) == 127 for letter in path)


@dataclasses.dataclass(frozen=True)
class PathRules:
    """How a path of the list becomes a path under the data folder.

    Attributes:
        strip_prefix: text that is cut off in front, or several of which the longest that fits is cut; 'auto' keeps
            the last ``keep`` components.
        keep: components that name a clip: 1 for DFEW (``00001``), 3 for FERV39k (``Scene/Emotion/0001``).
        root: the data folder; absolute paths inside it are taken.
        allow_outside: take absolute paths and ``..`` that lead out of ``root``.
    """
    strip_prefix: Union[None, str, Sequence[str]] = None
    keep: int = 1
    root: Optional[str] = None
    allow_outside: bool = False

    def apply(self, path: str, place: str) -> str:
        """The path without the prefix, with forward slashes.

        Args:
            path: as written in the list.
            place: ``file:line``, for the message.

        Raises:
            AnnotationError: the prefix is not there, or the path leads out of the data folder.
        """
        if has_control(path):
            raise AnnotationError(f'{place}: the path {path!r} holds a control character. Is this line of the list '
                                  'damaged?')
        short = self._stripped(clean(path), place)
        if self.allow_outside or self._inside(short):
            return short
        if is_absolute(short):
            guess = clean(path).rsplit('/', self.keep)[0] + '/'
            raise AnnotationError(
                f'{place}: {path!r} is an absolute path outside the data folder {self.root!r}, probably of the machine '
                f'where the list was made. Cut it off with strip_prefix={guess!r} (--strip-prefix), or set '
                'allow_outside_root=True if it is yours.')
        raise AnnotationError(f'{place}: {path!r} leads out of the data folder through "..". Correct the list, or set '
                              'allow_outside_root=True if you trust it.')

    def _stripped(self, path: str, place: str) -> str:
        if self.strip_prefix is None:
            return path
        if self.strip_prefix == 'auto':
            return '/'.join([part for part in path.split('/') if part][-self.keep:])
        given = [self.strip_prefix] if isinstance(self.strip_prefix, str) else list(self.strip_prefix)
        prefixes = sorted((clean(prefix).rstrip('/') for prefix in given), key=len, reverse=True)
        for prefix in prefixes:
            if path.startswith(prefix + '/'):
                return path[len(prefix) + 1:]
        raise AnnotationError(f'{place}: {path!r} does not begin with strip_prefix {" or ".join(map(repr, given))}. '
                              f"Correct it, or set strip_prefix='auto' to keep the last {self.keep} component(s).")

    def _inside(self, path: str) -> bool:
        if not is_absolute(path):
            return path != '..' and not path.startswith('../')
        root = clean(self.root) if self.root else None
        return root is not None and path.startswith(root.rstrip('/') + '/')
