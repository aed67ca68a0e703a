"""Runs of a study, each in a process of its own. A finished run is a file; the next start takes it from there.

A run has a ``name``, which is its place under the folder, and a key, a hash of everything its result rests on: with
another key it is another run and made anew.
"""
from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import statistics
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Callable, Optional

from lsef_plugins.visualization.writing import write_whole

Work = Callable[[Any], dict]


def chosen(kind: str, known: dict[str, Any], names: Optional[Iterable[str]]) -> list:
    """The cells or arms of these names, all by default.

    Raises:
        ValueError: there is none of such a name.
    """
    if names is None:
        return list(known.values())
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise ValueError(f'There is no {kind} {", ".join(unknown)}; there are {", ".join(known)}.')
    return [known[name] for name in names]


def best_rate(results: Iterable[dict[str, Any]]) -> float:
    """The learning rate with the highest mean UAR on the tuning clips; the lower one of equals."""
    found: dict[float, list[float]] = {}
    for result in results:
        found.setdefault(result['rate'], []).append(result['uar_tune'])
    return max(sorted(found), key=lambda rate: statistics.fmean(found[rate]))


def key_of(*parts: Any) -> str:
    """A hash of what ``repr`` says of the parts."""
    return hashlib.blake2b(repr(parts).encode(), digest_size=16).hexdigest()


def file_of(out: Path, run: Any) -> Path:
    return out / 'runs' / f'{run.name}.json'


def known(out: Path, run: Any, key: str) -> Optional[dict[str, Any]]:
    """The result of a finished run, unless it was made from something else or is unreadable."""
    try:
        saved = json.loads(file_of(out, run).read_text(encoding='utf-8'))
        return saved['result'] if saved['key'] == key else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def results_of(runs: Sequence[Any], key: Callable[[Any], str], work: Work, out: Path, jobs: int = 1,
               say: Callable[[str], None] = print, what: str = 'runs',
               line: Callable[[dict], str] = str, method: str = 'fork') -> dict[str, dict[str, Any]]:
    """Results by name; those that are not there are made, ``jobs`` at a time.

    Args:
        work: makes one run, in a child process; can be pickled.
        line: what is said of a result.
        method: how a process is started.
    """
    keys = {run.name: key(run) for run in runs}
    found = {run.name: known(out, run, keys[run.name]) for run in runs}
    waiting = [run for run in runs if found[run.name] is None]
    if len(waiting) < len(runs):
        say(f'{what}: {len(runs) - len(waiting)} of {len(runs)} runs are there and reused.')
    context: Any = multiprocessing.get_context(method)
    tasks = [(work, run, str(out), keys[run.name]) for run in waiting]
    with context.Pool(jobs, maxtasksperchild=1) as pool:
        for count, (name, result) in enumerate(pool.imap_unordered(_child, tasks), start=1):
            found[name] = result
            say(f'[{what} {count}/{len(waiting)}] {line(result)}  {name}')
    return {name: result for name, result in found.items() if result is not None}


def _child(task: tuple) -> tuple[str, dict[str, Any]]:
    work, run, out, key = task
    path = file_of(Path(out), run)
    path.parent.mkdir(parents=True, exist_ok=True)
    log = os.open(path.with_suffix('.log'), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    sys.stdout = sys.stderr = os.fdopen(1, 'w', encoding='utf-8', buffering=1, closefd=False)
    result = work(run)
    write_whole(path, json.dumps(dict(key=key, result=result)))
    path.with_suffix('.log').unlink(missing_ok=True)
    return run.name, result
