"""What the runs say: means, spreads and paired differences over seeds, losing cells included.

- steps to the loss: the first step at which the mean of the last ``WINDOW`` clips' losses is not above the one at
  which the plain optimizer of the same kind ended (mean over its seeds); runs that never get there count as all their
  steps.
- loss variance: of the steps around their running mean, in the last half of the training, over that mean squared.
- effective rank: of the hidden matrices' movement, in the first and in the last quarter.
"""
from __future__ import annotations

import math
import statistics
from collections.abc import Iterable
from typing import Any, Optional

from lsef_plugins.evaluation.functional.pairs import paired_difference

WINDOW = 400    # clips
Results = dict[tuple[str, str], list[dict[str, Any]]]


def plain_of(arm: str) -> str:
    """The arm an arm is compared with."""
    return {'muon': 'adamw', 'muon-sgd': 'sgd'}.get(arm, arm.partition('+')[0])


def muon_of(arm: str, arms: Iterable[str]) -> Optional[str]:
    """The Muon among ``arms`` that an arm is compared with: beside the same optimizer, else the one there is."""
    if arm.startswith('muon'):
        return None
    order = ['muon-sgd', 'muon'] if plain_of(arm) == 'sgd' else ['muon', 'muon-sgd']
    return next((name for name in order if name in arms), None)


def running_mean(values: list[float], width: int) -> list[float]:
    """Mean of the last ``width`` values, from the first full window on."""
    width = max(1, min(width, len(values)))
    total, means = sum(values[:width]), []
    for index in range(width, len(values) + 1):
        means.append(total / width)
        if index < len(values):
            total += values[index] - values[index - width]
    return means


def steps_to(losses: list[float], goal: float, width: int) -> int:
    for index, mean in enumerate(running_mean(losses, width)):
        if mean <= goal:
            return index + min(width, len(losses))
    return len(losses)


def loss_variance(losses: list[float], width: int) -> float:
    """Relative variance of single steps around their running mean, in the last half."""
    means = running_mean(losses, width)
    aligned = losses[len(losses) - len(means):]
    half = len(means) // 2
    pairs = list(zip(aligned, means))[half:]
    level = statistics.fmean(mean for _, mean in pairs)
    return statistics.fmean((loss - mean) ** 2 for loss, mean in pairs) / level ** 2


def measures(results: Results, cell: str, arm: str, batch: int) -> dict[str, list[float]]:
    """Each measure of an arm in a cell, a value for each seed."""
    width = max(WINDOW // batch, 1)
    runs = results[cell, arm]
    plain = results.get((cell, plain_of(arm)), runs)
    goal = statistics.fmean([running_mean(run['losses'], width)[-1] for run in plain if not run['diverged']]
                            or [-math.inf])
    all_steps = max(len(run['losses']) for run in [*runs, *plain])
    quarter = max(1, len(runs[0]['ranks']) // 4)
    return dict(
        uar=[100 * run['uar'] for run in runs], war=[100 * run['war'] for run in runs],
        steps=[float(all_steps if run['diverged'] else steps_to(run['losses'], goal, width)) for run in runs],
        variance=[loss_variance(run['losses'], width) for run in runs if not run['diverged']] or [math.nan],
        early=[statistics.fmean(run['ranks'][:quarter] or [math.nan]) for run in runs],
        late=[statistics.fmean(run['ranks'][-quarter:] or [math.nan]) for run in runs])


def spread(values: list[float], digits: int = 1, sign: str = '') -> str:
    tail = f' ± {statistics.stdev(values):.{digits}f}' if len(values) > 1 else ''
    return f'{statistics.fmean(values):{sign}.{digits}f}{tail}'


def difference(ours: list[float], theirs: list[float], digits: int = 1) -> str:
    """Paired by seed: mean and standard error."""
    found = paired_difference(theirs, ours)
    error = f' ± {found.deviation / len(ours) ** 0.5:.{digits}f}' if len(ours) > 1 else ''
    return f'{found.mean:+.{digits}f}{error}'


def cell_table(results: Results, cell: str, arms: list[str], batch: int, rates: dict[tuple[str, str], float],
               grids: dict[str, tuple[float, ...]]) -> str:
    found = {arm: measures(results, cell, arm, batch) for arm in arms}
    lines = ['| | learning rate | UAR | against plain | against Muon | WAR | steps to the loss | loss variance | '
             'rank early, late |', '|---|---:|---:|---:|---:|---:|---:|---:|---:|']
    for arm in arms:
        mine, plain = found[arm], plain_of(arm)
        rate = rates[cell, arm]
        edge = '*' if rate in (grids[arm][0], grids[arm][-1]) else ''
        against = difference(mine['uar'], found[plain]['uar']) if plain in found and plain != arm else ''
        other = muon_of(arm, arms)
        rival = difference(mine['uar'], found[other]['uar']) if other else ''
        lines.append(f'| {arm} | {rate:g}{edge} | {spread(mine["uar"])} | {against} | {rival} | '
                     f'{spread(mine["war"])} | {spread(mine["steps"], 0)} | {statistics.fmean(mine["variance"]):.3f} | '
                     f'{statistics.fmean(mine["early"]):.2f}, {statistics.fmean(mine["late"]):.2f} |')
    return '\n'.join(lines)


def overall_table(results: Results, cells: list[str], arms: list[str]) -> str:
    """Over all cells: mean UAR, mean paired differences, and in how many cells an arm wins and loses."""
    lines = ['| | UAR, mean of cells | against plain | cells won, lost against plain | against Muon |',
             '|---|---:|---:|---:|---:|']
    mean = {(cell, arm): 100 * statistics.fmean(run['uar'] for run in results[cell, arm])
            for cell in cells for arm in arms}
    for arm in arms:
        plain, row = plain_of(arm), statistics.fmean(mean[cell, arm] for cell in cells)
        text, counts = '', ''
        if plain in arms and plain != arm:
            apart = [mean[cell, arm] - mean[cell, plain] for cell in cells]
            text = difference([mean[cell, arm] for cell in cells], [mean[cell, plain] for cell in cells])
            counts = f'{sum(a > 0 for a in apart)}, {sum(a < 0 for a in apart)}'
        other, rival = muon_of(arm, arms), ''
        if other:
            rival = difference([mean[cell, arm] for cell in cells], [mean[cell, other] for cell in cells])
        lines.append(f'| {arm} | {row:.1f} | {text} | {counts} | {rival} |')
    return '\n'.join(lines)


def report(study: Any, results: Results) -> str:
    """Markdown: all cells together, then each."""
    arms, grids = [arm.name for arm in study.arms], {arm.name: arm.rates for arm in study.arms}
    cells = [cell.name for cell in study.cells]
    rates = '/'.join(map(str, sorted({len(arm.rates) for arm in study.arms})))
    where = f', tried on the {study.tune_on} preset for all' if study.tune_on else ''
    parts = [f'{rates} learning rates x {len(study.tuning_seeds)} tuning seeds for each arm{where}, then '
             f'{len(study.seeds)} seeds of the best. UAR and WAR in per cent on the test clips, mean ± s.d. over '
             'seeds; differences paired by seed (over all cells: paired by cell), mean ± standard error; Muon is the '
             'one beside the same optimizer. * = at the edge of the grid.']
    parts += ['## All cells', overall_table(results, cells, arms)]
    for cell in study.cells:
        parts += [f'## {cell.preset}, {round(100 * cell.wrong)} % wrong labels, batch {cell.batch}',
                  cell_table(results, cell.name, arms, cell.batch, study.rates, grids)]
    return '\n\n'.join(parts) + '\n'
