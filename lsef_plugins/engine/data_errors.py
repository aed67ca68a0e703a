"""Errors of data, told by a tool in one line: a list that is missing, a clip that is gone, empty or cut off."""
from __future__ import annotations

import contextlib
import os
import re
import traceback
from collections.abc import Iterator

from lsef_plugins.datasets.integrity import UnreadableClipError

from .launch import LaunchError


@contextlib.contextmanager
def data_errors() -> Iterator[None]:
    """What is wrong with files, lists and clips becomes a LaunchError; faults of programs keep their traceback."""
    try:
        yield
    except (OSError, ValueError, UnreadableClipError) as error:
        if isinstance(error, LaunchError):
            raise
        raise LaunchError(told(error)) from error
    except Exception as error:
        # Decord raises its own and RuntimeErrors; of one in a worker of the loader there is the traceback as text.
        places = [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
        if not any(f'decord{os.sep}' in text for text in (str(error), *places)):
            raise
        raise LaunchError(f'A video cannot be decoded: {told(error)} tools/data/check_dataset.py finds those that are '
                          "empty or cut off, and type='ClipListDataset' names them.") from error


def told(error: Exception) -> str:
    """The message of an error in one line, freed of the traceback that a worker of a loader puts before it."""
    text = str(error)
    if 'in DataLoader worker process' in text:
        text = re.split(r'\n[\w.]*(?:Error|Exception)\w*: ', text)[-1]
    return ' '.join(text.split())
