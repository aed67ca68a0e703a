"""All rows, each in a process of its own; a finished row is a file, which the next start reuses."""
from __future__ import annotations

import functools
import hashlib
import re
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence

from ..insertion_matrix import run as matrix
from ..insertion_matrix.catalogue import Entry
from ..sources import hash_of_sources
from .measure import measured
from .settings import Settings

SOURCES = ('engine/backbone_benchmark', )
WITHOUT_EFFECT = ('choose.py', 'run.py', 'report.py')   # on what a row says


def run(entries: Sequence[Entry], settings: Settings, work_dir: Any = 'work_dirs/benchmark_backbones',
        timeout: float = 3600, fresh: bool = False, say: Callable[[str], None] = print,
        work: Callable[..., Dict] = measured) -> List[Dict[str, Any]]:
    """Measures configs, in the order of the entries.

    Args:
        entries: of :func:`lsef_plugins.engine.backbone_benchmark.choose.chosen`.
        settings: checked ones.
        work_dir: folder of the rows and logs.
        timeout: seconds one config may take.
        fresh: whether to measure again what was measured before.
        say: receives lines of progress.
        work: makes one row, in the child.

    Returns:
        the rows, in the order of the entries.
    """
    return matrix.run(entries, folder_of(settings), work_dir, 1, timeout, fresh, say,
                      functools.partial(work, settings))


def folder_of(settings: Settings, root: Optional[Path] = None) -> str:
    """A name for the rows of these settings, which changes with them and with the sources that measure."""
    words = settings.words()
    sources = hash_of_sources(SOURCES, 'backbone_benchmark', WITHOUT_EFFECT, root, [words])
    short = hashlib.blake2b(sources.encode(), digest_size=4).hexdigest()
    return re.sub(r'[^\w.-]+', '_', words)[:80] + f'-{short}'
