"""All runs of the study. A finished run is a file; the next start takes it from there.

A file counts as long as nothing it rests on has changed: the run's settings, the weights of the backbone it begins
from, and the sources of RAO, of the recognizer, of its clips and of this study.
"""
from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Callable, Optional

from ..sources import hash_of_sources
from ..studies import clips, runs, start
from .design import PRESETS, SEEDS, STEPS, TUNING_SEEDS, Arm, Cell, Run, final_runs, tuning_runs
from .train import MODEL, train

SOURCES = ('optim', 'engine/optimizers', 'engine/optimizer_study', 'engine/studies', 'models', 'nn', 'functional',
           'ops', 'datasets/synthetic')
WITHOUT_EFFECT = ('run.py', 'report.py', 'design.py')   # what design.py says of a run is in the key


def source_hash() -> str:
    return hash_of_sources(SOURCES, 'optimizer_study', WITHOUT_EFFECT)


class Study:
    """Cells and arms, and where their runs lie.

    Args:
        out: folder of the runs and the cached clips.
        jobs: processes at a time, one thread each.
        steps: of each run; 0: as designed.
        tune_on: the preset on which learning rates are tried for all; None: each cell tries its own.
        say: receives lines of progress.
        work: makes one run, in a child process.
    """

    def __init__(self, cells: Sequence[Cell], arms: Sequence[Arm], out: Any, jobs: int = 1, steps: int = 0,
                 tuning_seeds: Iterable[int] = TUNING_SEEDS, seeds: Iterable[int] = SEEDS,
                 say: Callable[[str], None] = print, work: Callable[[Run, str, int], dict] = train,
                 tune_on: Optional[str] = None) -> None:
        self.cells, self.arms, self.out, self.jobs, self.steps = list(cells), list(arms), Path(out), jobs, steps
        self.tuning_seeds, self.seeds = list(tuning_seeds), list(seeds)
        self.say, self.work, self.sources, self.tune_on = say, work, source_hash(), tune_on
        self.tried_in = {cell: runs.tuning_cell(cell, tune_on, PRESETS) for cell in self.cells}
        self.rates: dict[tuple[str, str], float] = {}
        #: What the weights of the start are known by, once they are there.
        self.start: Optional[str] = None

    def run(self) -> dict[tuple[str, str], list[dict[str, Any]]]:
        """Results of the chosen learning rate by (cell, arm), in the order of the seeds."""
        self.prepare()
        self.rates = runs.tuned_rates(self.tried_in, self.arms, lambda cell, arm: tuning_runs(
            cell, arm, self.tuning_seeds), self.all_of)
        final = {(cell.name, arm.name): final_runs(cell, arm, self.rates[cell.name, arm.name], self.seeds)
                 for cell in self.cells for arm in self.arms}
        found = self.all_of([run for each in final.values() for run in each], 'comparing')
        return {key: [found[run.name] for run in each] for key, each in final.items()}

    def prepare(self) -> None:
        """Clips and the backbone's start, before any child asks for them."""
        if self.work is train:
            for preset in sorted({cell.preset for cell in (*self.tried_in.values(), *self.cells)}):
                for split in ('train', 'tune', 'test'):
                    self.say(f'clips: {clips.prepare(self.out / "clips", preset, split)}')
            path = start.prepare_start(self.out / 'clips', MODEL['backbone'])
            self.start = start.digest_of(path)
            self.say(f'start: {path} ({self.start})')

    def all_of(self, wanted: Sequence[Run], what: str) -> dict[str, dict[str, Any]]:
        work = functools.partial(_made, self.work, str(self.out / 'clips'), self.steps)
        return runs.results_of(wanted, self.key_of, work, self.out, self.jobs, self.say, what, _line)

    def key_of(self, run: Run) -> str:
        return runs.key_of(run.name, run.tuning, run.arm.optim_wrapper(run.rate), run.cell,
                           self.steps or STEPS[run.cell.batch], self.start, self.sources)


def _made(work: Callable[[Run, str, int], dict], folder: str, steps: int, run: Run) -> dict[str, Any]:
    return work(run, folder, steps)


def _line(result: dict[str, Any]) -> str:
    found = result['uar_tune'] if result['uar'] is None else result['uar']
    return f'UAR {100 * found:5.1f}  {result["seconds"]:5.1f} s'
