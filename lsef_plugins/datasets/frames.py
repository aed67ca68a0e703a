"""Frames of a clip as files in a folder: named by anybody, in natural order; and clips in a folder, padded or not.

No filename template is needed, and none could say ``00001_00017.jpg`` (DFEW's names begin with the clip's own
number). Order is natural: '2.jpg' before '10.jpg'.
"""
import os
import posixpath
import re
from typing import Optional

from .annotations.clips import VIDEO_SUFFIXES
from .annotations.paths import natural_key
from .integrity import IMAGE_SUFFIXES


def is_frame(name: str) -> bool:
    """Whether a file name is that of a picture; '._00001.jpg', which macOS leaves beside it, is not."""
    return name.lower().endswith(IMAGE_SUFFIXES) and not name.startswith('.')


def list_frames(folder: str) -> list[str]:
    """Names of the pictures in a folder, in natural order; pipes and folders of such names are none.

    Raises:
        OSError: the folder is not there or cannot be read.
    """
    with os.scandir(folder) as entries:
        return sorted((entry.name for entry in entries if is_frame(entry.name) and entry.is_file()), key=natural_key)


class ClipFolders:
    """Finds a clip by its name under a folder, whichever way its number is padded; each folder is listed once.

    Args:
        root: folder that the paths of clips start from.
        videos: look for video files ('00001' finds '1.mp4') instead of folders of frames.
    """

    def __init__(self, root: str, videos: bool = False) -> None:
        self.root, self.videos = root, videos
        self._listed: dict[str, dict[str, list[str]]] = {}

    def find(self, path: str) -> Optional[str]:
        """The full path of a clip; None where there is none.

        Raises:
            ValueError: two entries carry the clip's number ('1' and '00001').
        """
        parent, name = posixpath.split(path)
        folder = os.path.join(self.root, parent) if parent else self.root
        names = self._names(folder)
        found = names.get(self._key(name), [])
        if len(found) > 1:
            exact = [each for each in found if each == name]
            if len(exact) != 1:
                raise ValueError(f'{folder} holds {" and ".join(map(repr, found))}: both can be clip {name!r}. Remove '
                                 'the one that does not belong there.')
            found = exact
        return os.path.join(folder, found[0]) if found else None

    def names(self, parent: str = '') -> list[str]:
        """Names of all clips directly in a folder under the root, in natural order."""
        folder = os.path.join(self.root, parent) if parent else self.root
        return sorted((name for found in self._names(folder).values() for name in found), key=natural_key)

    def _key(self, name: str) -> str:
        stem, suffix = posixpath.splitext(name)
        stem = stem if suffix.lower() in VIDEO_SUFFIXES else name
        return str(int(stem)) if re.fullmatch('[0-9]+', stem) else stem

    def _names(self, folder: str) -> dict[str, list[str]]:
        if folder not in self._listed:
            names: dict[str, list[str]] = {}
            try:
                with os.scandir(folder) as entries:
                    for entry in entries:
                        fits = (entry.name.lower().endswith(VIDEO_SUFFIXES) if self.videos
                                else entry.is_dir())
                        if fits and not entry.name.startswith('.'):
                            names.setdefault(self._key(entry.name), []).append(entry.name)
            except OSError:
                names = {}
            self._listed[folder] = names
        return self._listed[folder]
