"""Runs of a study, each in a process of its own. A finished run is a file; the next start takes it from there.

A run has a ``name``, which is its place under the folder, and a key, a hash of everything its result rests on: with
another key it is another run and made anew.
"""
from __future__ import annotations

import dataclasses
import hashlib
import json
import multiprocessing
import os
import statistics
import sys
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, Callable, Optional

from lsef_plugins.visualization.writing import write_whole

Work = Callable[[Any], dict]


def chosen(kind: str, known: dict[str, Any], names: Optional[Iterable[str]]) -> list:
    """The cells or arms of these names, each once; all by default.

    Raises:
        ValueError: there is none of such a name.
    """
    if names is None:
        return list(known.values())
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise ValueError(f'There is no {kind} {", ".join(unknown)}; there are {", ".join(known)}.')
    return [known[name] for name in dict.fromkeys(names)]


def best_rate(results: Iterable[dict[str, Any]]) -> float:
    """The learning rate with the highest mean UAR on the tuning clips; the lower one of equals."""
    found: dict[float, list[float]] = {}
    for result in results:
        found.setdefault(result['rate'], []).append(result['uar_tune'])
    return max(sorted(found), key=lambda rate: statistics.fmean(found[rate]))


def tuning_cell(cell: Any, tune_on: Optional[str], presets: Collection[str]) -> Any:
    """Where a cell's learning rates are tried: there, or on the preset of that name.

    Raises:
        ValueError: there is no such preset.
    """
    if tune_on is None:
        return cell
    if tune_on not in presets:
        raise ValueError(f'tune_on={tune_on!r} is no preset of the study; there are {", ".join(presets)}.')
    return dataclasses.replace(cell, preset=tune_on)


def tuned_rates(tried_in: Mapping[Any, Any], arms: Sequence[Any], trials_of: Callable[[Any, Any], Sequence[Any]],
                all_of: Callable[[Sequence[Any], str], dict[str, dict]]) -> dict[tuple[str, str], float]:
    """The best learning rate by (cell, arm), found where the cell's rates are tried.

    Args:
        tried_in: that cell, by cell (:func:`tuning_cell`).
        trials_of: the tuning runs of (cell, arm).
        all_of: ``all_of(runs, what)`` makes them all, results by name.
    """
    trials = {(cell, arm.name): trials_of(cell, arm) for cell in dict.fromkeys(tried_in.values()) for arm in arms}
    tuned = all_of([run for each in trials.values() for run in each], 'tuning')
    best = {key: best_rate(tuned[run.name] for run in each) for key, each in trials.items()}
    return {(cell.name, arm.name): best[tried, arm.name] for cell, tried in tried_in.items() for arm in arms}


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

    Raises:
        ValueError: a run fails or is killed; what is finished stays.
    """
    keys = {run.name: key(run) for run in runs}
    found = {run.name: known(out, run, keys[run.name]) for run in runs}
    waiting = [run for run in runs if found[run.name] is None]
    if len(waiting) < len(runs):
        say(f'{what}: {len(runs) - len(waiting)} of {len(runs)} runs are there and reused.')
    context: Any = multiprocessing.get_context(method)
    for count, run in enumerate(_finished(waiting, work, out, keys, jobs, context), start=1):
        found[run.name] = result = known(out, run, keys[run.name])
        say(f'[{what} {count}/{len(waiting)}] {line(result or {})}  {run.name}')
    return {name: result for name, result in found.items() if result is not None}


def _finished(waiting: Sequence[Any], work: Work, out: Path, keys: dict[str, str], jobs: int,
              context: Any) -> Iterator[Any]:
    """Each run as soon as its file is there. Not a Pool, which waits for ever for a child that was killed.

    Raises:
        ValueError: a run fails; the others are stopped.
    """
    left = deque(waiting)
    running: dict[Any, tuple[Any, Any]] = {}
    try:
        while left or running:
            while left and len(running) < jobs:
                run = left.popleft()
                child = context.Process(target=_child, args=(work, run, out, keys[run.name]), daemon=True)
                child.start()
                running[child.sentinel] = child, run
            for sentinel in wait(list(running)):
                child, run = running.pop(sentinel)
                child.join()
                if child.exitcode or known(out, run, keys[run.name]) is None:
                    raise ValueError(_what_failed(file_of(out, run).with_suffix('.log'), run.name, child.exitcode))
                yield run
    finally:
        for child, _ in running.values():
            child.terminate()
            child.join()


def _what_failed(log: Path, name: str, code: int) -> str:
    try:
        said = log.read_text(encoding='utf-8', errors='replace').strip().rpartition('\n')[2]
    except OSError:
        said = ''
    why = f'it was ended by signal {-code}, as when memory runs out; try fewer --jobs' if code < 0 else said
    return f'The run {name} failed: {why or "nothing was said"}. What it said is in {log}; the same command goes on.'


def _child(work: Work, run: Any, out: Path, key: str) -> None:
    path = file_of(out, run)
    path.parent.mkdir(parents=True, exist_ok=True)
    log = os.open(path.with_suffix('.log'), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    sys.stdout = sys.stderr = os.fdopen(1, 'w', encoding='utf-8', buffering=1, closefd=False)
    write_whole(path, json.dumps(dict(key=key, result=work(run))))
    path.with_suffix('.log').unlink(missing_ok=True)
