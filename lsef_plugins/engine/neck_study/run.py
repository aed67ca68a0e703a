"""All runs of the study. A finished run is a file; the next start takes it from there.

A file counts as long as nothing it rests on has changed: the run's settings and conditions, and the sources of the
models, of the optimizers, of the corruptions and of this study.
"""
from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Callable, Optional

from lsef_plugins.datasets.transforms.corruptions import CORRUPTIONS

from ..sources import hash_of_sources
from ..studies import clips, runs, start
from . import conditions
from .design import (
    COMPARED_ON,
    CORRUPTED_CLIPS,
    PRESETS,
    SEEDS,
    SIZES,
    TUNING_SEEDS,
    Arm,
    Cell,
    Run,
    final_runs,
    tuning_runs,
)
from .train import Place, prepared_starts, train

SOURCES = ('models', 'nn', 'functional', 'ops', 'optim', 'engine/optimizers', 'engine/studies', 'engine/neck_study',
           'datasets/synthetic', 'datasets/transforms', 'evaluation')
WITHOUT_EFFECT = ('run.py', 'report.py', 'design.py')   # what design.py says of a run is in the key


def source_hash() -> str:
    return hash_of_sources(SOURCES, 'neck_study', WITHOUT_EFFECT)


class Study:
    """Cells and arms, and where their runs lie.

    Args:
        out: folder of the runs and the cached clips.
        tested: conditions of the comparison.
        size: name of a size.
        device: ``cpu`` or ``cuda``.
        jobs: processes at a time, one thread each.
        steps: of each run; 0: as designed.
        tuning_seeds: none: nothing is tuned, every arm takes its guess.
        tune_on: the preset on which learning rates are tried for all; None: each cell tries its own.
        starts: pretrained backbones that the seeds begin from in turn; with as many as seeds, spread and p are over
            pretraining and training, with one over training alone.
        say: receives lines of progress.
        work: makes one run, in a child process.
    """

    def __init__(self, cells: Sequence[Cell], arms: Sequence[Arm], out: Any, tested: Sequence[str],
                 size: str = 'small', device: str = 'cpu', jobs: int = 1, steps: int = 0,
                 tuning_seeds: Iterable[int] = TUNING_SEEDS, seeds: Iterable[int] = SEEDS,
                 corrupted_clips: int = CORRUPTED_CLIPS, say: Callable[[str], None] = print,
                 work: Callable[[Place, Run], dict] = train, tune_on: Optional[str] = None,
                 starts: int = 1) -> None:
        self.cells, self.arms, self.out, self.tested = list(cells), list(arms), Path(out), list(tested)
        self.size, self.device, self.jobs = SIZES[size], device, jobs
        self.place = Place(str(self.out / 'clips'), size, steps, corrupted_clips, starts)
        self.tuning_seeds, self.seeds = list(tuning_seeds), list(seeds)
        self.say, self.work, self.sources, self.tune_on = say, work, source_hash(), tune_on
        self.tried_in = {cell: runs.tuning_cell(cell, tune_on, PRESETS) for cell in self.cells}
        self.rates: dict[tuple[str, str], float] = {}
        #: What the weights of each start are known by, once they are there.
        self.starts: dict[int, str] = {}

    def run(self) -> dict[tuple[str, str], list[dict[str, Any]]]:
        """Results of the chosen learning rate by (cell, arm), in the order of the seeds."""
        if self.work is train:
            self.prepare()
        self.rates = {(cell.name, arm.name): arm.guess for cell in self.cells for arm in self.arms}
        if self.tuning_seeds:
            self.rates = runs.tuned_rates(self.tried_in, self.arms, lambda cell, arm: tuning_runs(
                cell, arm, self.tuning_seeds), self.all_of)
        final = {(cell.name, arm.name): final_runs(cell, arm, self.rates[cell.name, arm.name], self.seeds, self.tested)
                 for cell in self.cells for arm in self.arms}
        found = self.all_of(interleaved(list(final.values())), 'comparing')
        return {key: [found[run.name] for run in each] for key, each in final.items()}

    def prepare(self) -> None:
        """Clips and the backbones to start from, before any child asks for them."""
        folder, view = self.place.folder, self.size.view
        for cell in dict.fromkeys([*(self.tried_in.values() if self.tuning_seeds else ()), *self.cells]):
            if cell.regime == 'augmented':
                self.say(f'clips: {conditions.prepare_mixtures(folder, cell.preset, view=view)[0]}, ...')
            for preset, split in ((cell.preset, 'train'), (cell.tested_on, 'tune'), (cell.tested_on, COMPARED_ON)):
                self.say(f'clips: {clips.prepare(folder, preset, split, view)}')
        for tested_on in dict.fromkeys(cell.tested_on for cell in self.cells):
            for path in conditions.prepare(folder, tested_on, COMPARED_ON, self.tested, self.place.corrupted_clips,
                                           view):
                self.say(f'clips: {path}')
        needed = sorted(set(map(self.place.start_of, (*self.tuning_seeds, *self.seeds))))
        for seed, path in zip(needed, prepared_starts(self.place, needed, self.device)):
            self.starts[seed] = start.digest_of(path)
            self.say(f'start: {path} ({self.starts[seed]})')

    def all_of(self, wanted: Sequence[Run], what: str) -> dict[str, dict[str, Any]]:
        # A process that has used a GPU cannot be forked.
        method = 'fork' if self.device == 'cpu' else 'spawn'
        return runs.results_of(wanted, self.key_of, functools.partial(self.work, self.place), self.out, self.jobs,
                               self.say, what, line_of, method)

    def key_of(self, run: Run) -> str:
        arm, begins = run.arm, self.place.start_of(run.seed)
        return runs.key_of(run.name, arm.optim_wrapper(run.rate), arm.model(self.size), run.cell, run.cell.tested_on,
                           COMPARED_ON, run.conditions,
                           self.place.steps or self.size.steps, self.size, self.place.corrupted_clips, self.device,
                           begins, self.starts.get(begins), self.sources,
                           sorted((name, each.levels) for name, each in CORRUPTIONS.items()))


def interleaved(lists: Sequence[Sequence[Run]]) -> list[Run]:
    """Seed by seed: a comparison that is interrupted has as much of each arm."""
    return [each[index] for index in range(max(map(len, lists), default=0)) for each in lists if index < len(each)]


def line_of(result: dict[str, Any]) -> str:
    scores = result['uar']
    broken = [uar for condition, uar in scores.items() if condition != conditions.CLEAN]
    told = f'tune {100 * result["uar_tune"]:5.1f}'
    if scores:
        told = f'clean {100 * scores[conditions.CLEAN]:5.1f}'
    if broken:
        told += f'  corrupted {100 * sum(broken) / len(broken):5.1f}'
    if result['diverged']:
        told = 'diverged, counts as chance'
    return f'{told}  {result["seconds"]:.0f} + {result["seconds_test"]:.0f} s'
