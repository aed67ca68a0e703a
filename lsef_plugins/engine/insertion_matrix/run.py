"""All rows, each in a process of its own, so that a crash or a lack of memory costs one row and not the run.

Every process is forked from this one, which has imported everything and computed nothing. A finished row is a file
in the work folder, written whole; the next start reuses the rows that passed if nothing they rest on has changed.
"""
from __future__ import annotations

import gc
import hashlib
import importlib.metadata
import inspect
import json
import multiprocessing
import os
import re
import signal
import sys
import time
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence

import torch

from lsef_plugins.models import SitedNeck
from lsef_plugins.registry import MODELS
from lsef_plugins.visualization.writing import write_whole

from ..sources import hash_of_sources
from .catalogue import Entry, MatrixError
from .examine import CHECKING, FAILED, PASSED, examine

PACKAGES = ('lsef_plugins', 'torch', 'mmaction2', 'mmengine', 'mmcv', 'mmcv-lite', 'mmpretrain', 'mmcls', 'timm',
            'torchvision', 'numpy')
SOURCES = ('models', 'nn', 'functional', 'ops', 'compat', 'engine/insertion_matrix')
WITHOUT_EFFECT = ('run.py', 'report.py')    # on what a row says


def must_be_one_of_ours(neck: str) -> None:
    """Checks that a neck can be asked for by this name.

    Raises:
        MatrixError: no neck of the pack is called so.
    """
    cls = MODELS.get(neck)
    if not (inspect.isclass(cls) and issubclass(cls, SitedNeck)):
        known = sorted(name for name, each in MODELS.module_dict.items()
                       if inspect.isclass(each) and issubclass(each, SitedNeck))
        raise MatrixError(f'--neck {neck!r} is no neck of this pack; there are {", ".join(known)}.')


def versions() -> Dict[str, str]:
    """Versions of what the rows rest on, as far as it is installed."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def source_hash(root: Optional[Path] = None) -> str:
    """A hash of the sources that a recognizer with one of our necks executes."""
    return hash_of_sources(SOURCES, 'insertion_matrix', WITHOUT_EFFECT, root)


def key_of(entry: Entry, neck: str, rests_on: Any) -> str:
    """Changes with whatever could change a row."""
    text = repr((entry.name, entry.cfg.to_dict(), neck, rests_on))
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def file_of(work_dir: Path, entry: Entry, neck: str) -> Path:
    return work_dir / 'rows' / neck / (re.sub(r'[^\w.-]+', '__', entry.name) + '.json')


def run(entries: Sequence[Entry], neck: str = 'LSEFNeck', work_dir: Any = 'work_dirs/insertion_matrix', jobs: int = 1,
        timeout: float = 600, fresh: bool = False, say: Callable[[str], None] = print,
        work: Callable[[Entry, str], Dict] = examine) -> List[Dict[str, Any]]:
    """Examines configs.

    Call it from a process that has not computed with several threads: its children are forked.

    Args:
        entries: of :func:`lsef_plugins.engine.insertion_matrix.catalogue.chosen`.
        neck: type of the neck.
        work_dir: folder of the rows and logs.
        jobs: processes at a time.
        timeout: seconds one config may take.
        fresh: whether to examine again what has passed before.
        say: receives lines of progress.
        work: makes one row, in the child.

    Returns:
        the rows, in the order of the entries.
    """
    work_dir = Path(work_dir)
    rests_on = (versions(), source_hash())
    rows: Dict[str, Dict] = {}
    waiting = []
    for entry in entries:
        known = None if fresh else _known(file_of(work_dir, entry, neck), key_of(entry, neck, rests_on))
        if known is not None and known['status'] == PASSED:
            rows[entry.name] = known
        else:
            waiting.append(entry)
    if rows:
        say(f'{len(rows)} of {len(entries)} passed before and are reused; --fresh examines them again.')
    crew = _Crew(neck, work_dir, timeout, rests_on, work)
    try:
        while waiting or crew.busy:
            while waiting and len(crew.busy) < jobs:
                crew.start(waiting.pop(0))
            for row in crew.finished():
                rows[row['name']] = row
                reason = f'  {row["reason"]}' if row['reason'] else ''
                say(f'[{len(rows)}/{len(entries)}] {row["status"]} {row.get("seconds", 0):6.1f} s  {row["name"]}'
                    f'{reason}')
    finally:
        crew.dismiss()
    return [rows[entry.name] for entry in entries]


def _known(path: Path, key: str) -> Optional[Dict]:
    """A row of an earlier start, unless it was made from something else or is unreadable."""
    try:
        saved = json.loads(path.read_text(encoding='utf-8'))
        return saved['row'] if saved['key'] == key else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


class _Crew:
    """The processes at work."""

    def __init__(self, neck: str, work_dir: Path, timeout: float, rests_on: Any, work: Callable) -> None:
        self.neck, self.work_dir, self.timeout, self.rests_on, self.work = neck, work_dir, timeout, rests_on, work
        self.context: Any = multiprocessing.get_context('fork')
        self.busy: Dict[Any, Dict[str, Any]] = {}

    def start(self, entry: Entry) -> None:
        path = file_of(self.work_dir, entry, self.neck)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        key = key_of(entry, self.neck, self.rests_on)
        process = self.context.Process(target=_child, args=(self.work, entry, self.neck, path, key), daemon=True)
        process.start()
        self.busy[process.sentinel] = dict(process=process, entry=entry, path=path, key=key, began=time.monotonic())

    def finished(self) -> List[Dict]:
        """Rows of the processes that ended, or had to be ended; waits a moment for the first."""
        ended = set(wait(list(self.busy), timeout=0.2))
        rows = []
        for sentinel, job in list(self.busy.items()):
            late = time.monotonic() - job['began'] > self.timeout
            if sentinel not in ended and not late:
                continue
            if sentinel not in ended:
                job['process'].kill()
            job['process'].join()
            del self.busy[sentinel]
            rows.append(_known(job['path'], job['key']) or self._lost(job, late and sentinel not in ended))
        return rows

    def _lost(self, job: Dict, late: bool) -> Dict:
        code = job['process'].exitcode
        seconds = time.monotonic() - job['began']
        if late:
            reason = f'not ready after {self.timeout:.0f} s'
        elif code is not None and code < 0:
            memory = ' (out of memory?)' if code == -signal.SIGKILL else ''
            reason = f'killed by {signal.Signals(-code).name}{memory}'
        else:
            reason = f'ended with code {code} and no row'
        where = last_check(log_of(job['path']))
        return dict(name=job['entry'].name, family=job['entry'].family, neck=self.neck, status=FAILED, cells={},
                    reason=reason + (f' in {where}' if where else ''), seconds=round(seconds, 1))

    def dismiss(self) -> None:
        for job in self.busy.values():
            job['process'].kill()
            job['process'].join()
        self.busy.clear()


def log_of(path: Path) -> Path:
    return path.with_suffix('.log')


def last_check(log: Path) -> str:
    """The check that a log ends in."""
    try:
        lines = log.read_text(encoding='utf-8', errors='replace').splitlines()
    except OSError:
        return ''
    return next((line[len(CHECKING):] for line in reversed(lines) if line.startswith(CHECKING)), '')


def _child(work: Callable[[Entry, str], Dict], entry: Entry, neck: str, path: Path, key: str) -> None:
    log = os.open(log_of(path), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    sys.stdout = sys.stderr = os.fdopen(1, 'w', encoding='utf-8', buffering=1, closefd=False)
    torch.set_num_threads(1)
    gc.freeze()     # what the parent imported is never looked through again
    _quiet_host()
    row = work(entry, neck)
    write_whole(path, json.dumps(dict(key=key, row=row), indent=1))


def _quiet_host() -> None:
    from mmengine.logging import MMLogger
    from mmengine.registry import init_default_scope
    init_default_scope('mmaction')
    MMLogger.get_current_instance().setLevel('ERROR')   # it lists every parameter at initialisation
