"""All runs of the study, each in a process of its own. A finished run is a file; the next start takes it from there.

A file counts as long as nothing it rests on has changed: the run's settings, and the sources of RAO and of this study.
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

from ..sources import hash_of_sources
from . import clips, start
from .design import SEEDS, TUNING_SEEDS, Arm, Cell, Run, final_runs, tuning_runs
from .train import MODEL, train

SOURCES = ('optim', 'engine/optimizers', 'engine/optimizer_study', 'nn', 'functional', 'ops')
WITHOUT_EFFECT = ('run.py', 'report.py', 'design.py')   # what design.py says of a run is in the key


def source_hash() -> str:
    return hash_of_sources(SOURCES, 'optimizer_study', WITHOUT_EFFECT)


def key_of(run: Run, steps: int, sources: str) -> str:
    text = repr((run.name, run.arm.optim_wrapper(run.rate), run.cell, steps, sources))
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def file_of(out: Path, run: Run) -> Path:
    return out / 'runs' / f'{run.name}.json'


def known(out: Path, run: Run, key: str) -> Optional[dict[str, Any]]:
    """The result of a finished run, unless it was made from something else or is unreadable."""
    try:
        saved = json.loads(file_of(out, run).read_text(encoding='utf-8'))
        return saved['result'] if saved['key'] == key else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def best_rate(results: Iterable[dict[str, Any]]) -> float:
    """The learning rate with the highest mean UAR on the tuning clips; the lower one of equals."""
    found: dict[float, list[float]] = {}
    for result in results:
        found.setdefault(result['rate'], []).append(result['uar_tune'])
    return max(sorted(found), key=lambda rate: statistics.fmean(found[rate]))


class Study:
    """Cells and arms, and where their runs lie.

    Args:
        out: folder of the runs and the cached clips.
        jobs: processes at a time, one thread each.
        steps: of each run; 0: as designed.
        say: receives lines of progress.
        work: makes one run, in a child process.
    """

    def __init__(self, cells: Sequence[Cell], arms: Sequence[Arm], out: Any, jobs: int = 1, steps: int = 0,
                 tuning_seeds: Iterable[int] = TUNING_SEEDS, seeds: Iterable[int] = SEEDS,
                 say: Callable[[str], None] = print, work: Callable[[Run, str, int], dict] = train) -> None:
        self.cells, self.arms, self.out, self.jobs, self.steps = list(cells), list(arms), Path(out), jobs, steps
        self.tuning_seeds, self.seeds = list(tuning_seeds), list(seeds)
        self.say, self.work, self.sources = say, work, source_hash()
        self.rates: dict[tuple[str, str], float] = {}

    def run(self) -> dict[tuple[str, str], list[dict[str, Any]]]:
        """Results of the chosen learning rate by (cell, arm), in the order of the seeds."""
        self.prepare()
        tuned = self.all_of([run for cell in self.cells for arm in self.arms
                             for run in tuning_runs(cell, arm, self.tuning_seeds)], 'tuning')
        for cell in self.cells:
            for arm in self.arms:
                self.rates[cell.name, arm.name] = best_rate(
                    tuned[run.name] for run in tuning_runs(cell, arm, self.tuning_seeds))
        runs = {(cell.name, arm.name): final_runs(cell, arm, self.rates[cell.name, arm.name], self.seeds)
                for cell in self.cells for arm in self.arms}
        found = self.all_of([run for each in runs.values() for run in each], 'comparing')
        return {key: [found[run.name] for run in each] for key, each in runs.items()}

    def prepare(self) -> None:
        """Clips and the backbone's start, before any child asks for them."""
        if self.work is train:
            for preset in sorted({cell.preset for cell in self.cells}):
                for split in clips.SPLITS:
                    self.say(f'clips: {clips.prepare(self.out / "clips", preset, split)}')
            self.say(f'start: {start.prepare_start(self.out / "clips", MODEL["backbone"])}')

    def all_of(self, runs: Sequence[Run], what: str) -> dict[str, dict[str, Any]]:
        keys = {run.name: key_of(run, self.steps, self.sources) for run in runs}
        found = {run.name: known(self.out, run, keys[run.name]) for run in runs}
        waiting = [run for run in runs if found[run.name] is None]
        if len(waiting) < len(runs):
            self.say(f'{what}: {len(runs) - len(waiting)} of {len(runs)} runs are there and reused.')
        context: Any = multiprocessing.get_context('fork')
        jobs = [(self.work, run, str(self.out), self.steps, keys[run.name]) for run in waiting]
        with context.Pool(self.jobs, maxtasksperchild=1) as pool:
            for count, (name, result) in enumerate(pool.imap_unordered(_child, jobs), start=1):
                found[name] = result
                self.say(f'[{what} {count}/{len(waiting)}] UAR {100 * result["uar"]:5.1f}  {result["seconds"]:5.1f} s  '
                         f'{name}')
        return {name: result for name, result in found.items() if result is not None}


def _child(job: tuple) -> tuple[str, dict[str, Any]]:
    work, run, out, steps, key = job
    path = file_of(Path(out), run)
    path.parent.mkdir(parents=True, exist_ok=True)
    log = os.open(path.with_suffix('.log'), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    sys.stdout = sys.stderr = os.fdopen(1, 'w', encoding='utf-8', buffering=1, closefd=False)
    result = work(run, str(Path(out) / 'clips'), steps)
    write_whole(path, json.dumps(dict(key=key, result=result)))
    path.with_suffix('.log').unlink(missing_ok=True)
    return run.name, result
