"""What the runs say: means, spreads and paired differences from one arm, losing cells included.

That is the declared arm, and then there is a verdict; or one named afterwards (``minuend``), and the report says so.
"""
from __future__ import annotations

import math
import statistics
from typing import Any, Sequence

from lsef_plugins.evaluation.functional.pairs import holm, p_text, paired_difference, paired_t_p, sign_flip_p

from .conditions import CLEAN
from .design import DECLARED, OURS, Arm

EXPLAINED = (
    'UAR in per cent, mean and standard deviation over seeds; *corrupted* is the mean over kinds and severities. '
    'Differences are {against} minus the other, paired by seed (both have seen the same clips in the same '
    'order, mirrored and, where trained with corruption, corrupted by draws of their own), with the 95 % interval. p '
    'is that of Student\'s paired test on *corrupted*, then after Holm over all arms and cells of the '
    'report. {seeds} The test clips are the same for all.')
ONE_START = ('All runs begin from one pretrained backbone: spread and p are over seeds of training, and hold for this '
             'backbone.')
OWN_STARTS = 'Each seed begins from a pretrained backbone of its own: spread and p are over both.'
SOME_STARTS = ('The seeds begin from {starts} pretrained backbones in turn; p takes seeds that share one for '
               'independent, and is too small where the backbone matters.')
CHOSEN = '{against} was not declared beforehand ({declared} was): these p describe, they decide nothing.'
CORRUPTED = 'corrupted'
LEVEL = 0.01
OVER_CELLS = 'mean over the cells'
Results = dict[tuple[str, str], list[dict[str, Any]]]


def measures(run_results: Sequence[dict[str, Any]]) -> dict[str, list[float]]:
    """``clean``, ``corrupted`` and each kind (mean over its severities), a value in per cent for each seed."""
    conditions = [condition for condition in run_results[0]['uar'] if condition != CLEAN]
    of_kind: dict[str, list[str]] = {}
    for condition in conditions:
        of_kind.setdefault(condition.partition('/')[0], []).append(condition)

    def mean(names: Sequence[str]) -> list[float]:
        return [100 * statistics.fmean(result['uar'][name] for name in names) for result in run_results]

    found = {CLEAN: mean([CLEAN])}
    if conditions:
        found[CORRUPTED] = mean(conditions)
    return dict(found, **{kind: mean(names) for kind, names in of_kind.items()})


def comparisons(results: Results, minuend: str = DECLARED) -> dict[tuple[str, str], dict[str, Any]]:
    """Of each other arm by (cell, arm): differences, intervals and p-values; empty without the ``minuend``."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for (cell, arm), runs in results.items():
        if arm == minuend or (cell, minuend) not in results:
            continue
        theirs, ours = measures(runs), measures(results[cell, minuend])
        values: dict[str, Any] = {name: paired_difference(theirs[name], ours[name])._asdict() for name in ours}
        name = CORRUPTED if CORRUPTED in ours else CLEAN
        values['p'] = paired_t_p(theirs[name], ours[name])
        values['p_sign_flip'] = sign_flip_p(theirs[name], ours[name]) if len(runs) <= 20 else math.nan
        found[cell, arm] = values
    for values, p in zip(found.values(), holm([values['p'] for values in found.values()])):
        values['p_holm'] = p
    return found


def over_cells(results: Results) -> Results:
    """Each arm's runs of one seed in all cells as one run, whose scores are their means: ``(OVER_CELLS, arm)``.

    Arms that lack a cell are left out. With one cell, or seeds that are not the same for all, there is no mean.
    """
    cells = list(dict.fromkeys(cell for cell, _ in results))
    seeds = {tuple(result['seed'] for result in runs) for runs in results.values()}
    if len(cells) < 2 or len(seeds) > 1:
        return {}
    arms = [arm for arm in dict.fromkeys(arm for _, arm in results) if all((cell, arm) in results for cell in cells)]
    return {(OVER_CELLS, arm): [_mean_of(each) for each in zip(*(results[cell, arm] for cell in cells))]
            for arm in arms}


def _mean_of(of_cells: Sequence[dict[str, Any]]) -> dict[str, Any]:
    first = of_cells[0]
    uar = {name: statistics.fmean(result['uar'][name] for result in of_cells) for name in first['uar']}
    return dict(first, cell=OVER_CELLS, uar=uar, diverged=any(result.get('diverged') for result in of_cells))


def spread(values: Sequence[float]) -> str:
    tail = f' ± {statistics.stdev(values):.1f}' if len(values) > 1 else ''
    return f'{statistics.fmean(values):.1f}{tail}'


def interval(difference: dict[str, float]) -> str:
    mean, half = difference['mean'], difference['half']
    return f'{mean:+.1f}' if math.isnan(half) else f'{mean:+.1f} [{mean - half:+.1f}, {mean + half:+.1f}]'


def table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = ['| ' + ' | '.join(headers) + ' |', '|---|' + '---:|' * (len(headers) - 1)]
    return '\n'.join([*head, *('| ' + ' | '.join(row) + ' |' for row in rows)])


def label(arm: str, runs: Sequence[dict[str, Any]]) -> str:
    """The arm's name, and how many of its runs diverged."""
    lost = sum(result['diverged'] for result in runs)
    return f'{arm} ({lost} of {len(runs)} runs diverged: chance)' if lost else arm


def score_table(cell: str, arms: Sequence[Arm], results: Results, rates: dict, budget: int) -> str:
    """Parameters, learning rate and scores of each arm."""
    found = {arm.name: measures(results[cell, arm.name]) for arm in arms}
    names = list(next(iter(found.values())))
    rows = []
    for arm in arms:
        held, rate = results[cell, arm.name][0]['parameters'], rates[cell, arm.name]
        edge = '*' if len(arm.rates) > 1 and rate in (arm.rates[0], arm.rates[-1]) else ''
        rows.append([label(arm.name, results[cell, arm.name]), f'{held} ({held / budget:.2f})', f'{rate:g}{edge}',
                     *(spread(found[arm.name][name]) for name in names)])
    return table(['neck/head', 'parameters (of the budget)', 'rate', *names], rows)


def mean_table(arms: Sequence[Arm], together: Results) -> str:
    """Clean and corrupted of each arm that was run in all cells."""
    runs = {arm.name: together[OVER_CELLS, arm.name] for arm in arms if (OVER_CELLS, arm.name) in together}
    found = {name: measures(each) for name, each in runs.items()}
    names = [name for name in (CLEAN, CORRUPTED) if name in next(iter(found.values()))]
    return table(['neck/head', *names], [[label(arm, runs[arm]), *(spread(each[name]) for name in names)]
                                         for arm, each in found.items()])


def difference_table(cell: str, arms: Sequence[Arm], against: dict[tuple[str, str], dict[str, Any]],
                     minuend: str = DECLARED) -> str:
    """One arm minus each other one."""
    known = [arm.name for arm in arms if (cell, arm.name) in against]
    names = [name for name in (CLEAN, CORRUPTED) if known and name in against[cell, known[0]]]
    rows = [[name, *(interval(against[cell, name][measure]) for measure in names), p_text(against[cell, name]['p']),
             p_text(against[cell, name]['p_sign_flip']), p_text(against[cell, name]['p_holm'])] for name in known]
    return table([f'{minuend} minus', *names, 'p', 'p of signs', 'p after Holm'], rows)


def is_rival(arm: Arm) -> bool:
    """Nothing of LSEF in it."""
    return arm.head not in OURS and (arm.neck is None or arm.neck['type'] != 'LSEFNeck')


def verdict(cells: Sequence[str], arms: Sequence[Arm], results: Results,
            against: dict[tuple[str, str], dict[str, Any]]) -> str:
    """Whether the bars are met in each cell, and every measure on which the declared arm is behind a rival.

    A block that cannot be made as small as the budget counts for the second alone.
    """
    lines = []
    for cell in cells:
        known = {arm.name: against[cell, arm.name] for arm in arms if is_rival(arm) and (cell, arm.name) in against}
        matched = {arm.name: known[arm.name] for arm in arms if arm.name in known and not arm.fixed}
        if matched:
            lines.append(f'- {cell}: {_bars(matched)}')
        for name, values in known.items():
            lost = [f'{measure} {value["mean"]:+.1f}' for measure, value in values.items()
                    if isinstance(value, dict) and value['mean'] < 0]
            if lost:
                lines.append(f'  - behind {name}: {", ".join(lost)}')
    return '\n'.join(lines) or f'{DECLARED} or its rivals were not run.'


def _bars(matched: dict[str, dict[str, Any]]) -> str:
    unsure = [name for name, values in matched.items()
              if not (CORRUPTED in values and values[CORRUPTED]['mean'] > 0 and values['p_holm'] < LEVEL)]
    best = min(matched, key=lambda name: matched[name][CLEAN]['mean'])
    behind = round(-matched[best][CLEAN]['mean'], 6)
    ahead = 'yes' if not unsure else f'no (not of {", ".join(unsure)})'
    return (f'ahead of every rival of no larger budget on {CORRUPTED} with p < {LEVEL} after Holm: {ahead}; clean: '
            f'{behind:+.1f} points behind the best of them ({best}), {"within" if behind <= 1 else "more than"} one '
            'point.')


def starts_told(study: Any) -> str:
    """What chance the seeds stand for, and which backbones they began from."""
    starts = len(set(map(study.place.start_of, study.seeds)))
    told = ONE_START if starts == 1 else OWN_STARTS if starts == len(study.seeds) else SOME_STARTS.format(starts=starts)
    known = [study.starts[seed] for seed in sorted(study.starts)]
    return f'{told[:-1]} ({", ".join(known)}).' if known else told


def report(study: Any, results: Results, minuend: str = DECLARED) -> str:
    """Markdown: the verdict on the declared arm, then each cell; there is none on another ``minuend``."""
    arms, cells = study.arms, [cell.name for cell in study.cells]
    against = comparisons(results, minuend)
    where = f', tried on the {study.tune_on} preset for all' if study.tune_on else ''
    tuning = (f'{"/".join(map(str, sorted({len(arm.rates) for arm in arms})))} learning rates x '
              f'{len(study.tuning_seeds)} tuning seeds for each arm{where}' if study.tuning_seeds else
              'no tuning, a guess of the learning rate for each head')
    parts = [f'{tuning}, then {len(study.seeds)} seeds; {study.size.name} size, '
             f'{study.place.steps or study.size.steps} steps of {study.size.batch} clips; budget of neck and head '
             f'{study.size.budget} parameters. {EXPLAINED.format(against=minuend, seeds=starts_told(study))} '
             '* = at the edge of the grid.']
    if minuend == DECLARED:
        parts += ['## What is shown', verdict(cells, arms, results, against)]
    else:
        parts.append(CHOSEN.format(against=minuend, declared=DECLARED))
    together = over_cells(results)
    if together:
        parts += [f'## {OVER_CELLS.capitalize()}',
                  'Scores of a seed are averaged over the cells first; Holm over the arms. This mean was not declared '
                  'beforehand.', mean_table(arms, together),
                  difference_table(OVER_CELLS, arms, comparisons(together, minuend), minuend)]
    for cell in cells:
        parts += [f'## {cell}', score_table(cell, arms, results, study.rates, study.size.budget)]
        if any(key[0] == cell for key in against):
            parts.append(difference_table(cell, arms, against, minuend))
    return '\n\n'.join(parts) + '\n'


def as_data(study: Any, results: Results, minuend: str = DECLARED) -> dict[str, Any]:
    """Everything in the report and the single runs, for JSON; NaN is None."""
    against = comparisons(results, minuend)
    cells = {cell.name: {arm.name: dict(parameters=results[cell.name, arm.name][0]['parameters'],
                                        rate=study.rates[cell.name, arm.name],
                                        scores=measures(results[cell.name, arm.name]),
                                        against=against.get((cell.name, arm.name)), runs=results[cell.name, arm.name])
                         for arm in study.arms} for cell in study.cells}
    return _plain(dict(declared=DECLARED, against=minuend, size=study.size.name, budget=study.size.budget,
                       seeds=study.seeds, tuning_seeds=study.tuning_seeds, starts=study.place.starts,
                       weights={str(seed): digest for seed, digest in study.starts.items()}, conditions=study.tested,
                       cells=cells,
                       over_cells={arm: values for (_, arm), values in
                                   comparisons(over_cells(results), minuend).items()}))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    return None if isinstance(value, float) and math.isnan(value) else value
