"""From measured conditions to numbers, Markdown and a picture; the formulas are in evaluation/functional/robustness.

The metric is UAR, for ratings CCC over all frames, else MMAction2's mean class accuracy or top-1 accuracy.
"""
from __future__ import annotations

import json
import math
import os.path as osp
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, Optional, Union

from lsef_plugins.datasets.transforms.corruptions import GROUPS, check_kinds
from lsef_plugins.evaluation.functional import (
    corruption_errors,
    corruption_means,
    mean_corrupted,
    mean_of,
    relative_errors,
    relative_performance,
)

from ...visualization.robustness_curves import draw_robustness
from ...visualization.writing import save_picture, write_whole
from ..launch import LaunchError
from .run import ALL_SEVERITIES, CLEAN, check_reference, name_of, read_results

METRICS = ('acc/uar', 'va/ccc_global', 'acc/mean1', 'acc/top1')
NAMES = {'acc/uar': 'UAR', 'acc/war': 'WAR', 'va/ccc_global': 'CCC (global)', 'va/ccc_per_video': 'CCC (per video)',
         'acc/mean1': 'mean class accuracy', 'acc/top1': 'top-1 accuracy'}
CAUTION = ('rPC alone crowns the weakest model: one that guesses keeps all it has (rPC 100 %). Read it beside clean '
           'and mPC.')


class Summary(NamedTuple):
    """Numbers of one metric: fractions (CCC as it is), NaN where undefined, None where there is no reference."""
    metric: str
    clean: float
    curves: dict[str, dict[int, float]]
    mpc: float
    rpc: float
    ce: Optional[dict[str, float]]
    mce: Optional[float]
    relative_mce: Optional[float]


def read_reference(path: str) -> dict:
    """Results of another model to compare with: a file that ``tools/robustness.py --out`` has written.

    Raises:
        LaunchError: there is no such file, or it is none of results.
    """
    if not osp.isfile(path):
        raise LaunchError(f'The reference {path} does not exist. It is the JSON file of another model: '
                          'tools/robustness.py CONFIG CHECKPOINT --out FILE.json.')
    return {**read_results(path), 'file': path}


def chosen_metric(result: dict, asked: Optional[str] = None, who: str = 'the test') -> str:
    """The metric to summarise.

    Raises:
        LaunchError: the evaluator of the config does not report it, or none that is known here.
    """
    found = result['conditions'][CLEAN]
    known = [name for name in ([asked] if asked else METRICS) if name in found]
    if not known:
        wanted = f'--metric {asked}' if asked else f'None of {", ".join(METRICS)}'
        raise LaunchError(f'{wanted} is among the metrics of {who} ({", ".join(found)}). Name one of these with '
                          '--metric.' if not asked else
                          f'{wanted} is not among the metrics of {who}: {", ".join(found)}.')
    return known[0]


def summarise(result: dict, metric: str, kinds: Union[str, Iterable[str], None] = None,
              severities: Iterable[int] = ALL_SEVERITIES, reference: Optional[dict] = None) -> Summary:
    """Numbers over the given corruptions and severities, whatever else the file holds.

    Args:
        result, reference: what :func:`measure` and :func:`read_reference` return.

    Raises:
        LaunchError: a condition is missing, in the reference above all, or it is of other clips.
    """
    kinds, severities = check_kinds(kinds), sorted(set(severities) - {0})
    if not severities:
        raise LaunchError('A summary needs at least one severity from 1 to 5.')
    clean, curves = values_of(result, metric, kinds, severities, 'The results')
    summary = Summary(metric, clean, curves, mean_corrupted(curves), relative_performance(curves, clean), None, None,
                      None)
    if reference is None:
        return summary
    check_reference(result, reference)
    other_clean, other = values_of(reference, metric, kinds, severities, f'The reference {reference.get("file", "")}')
    errors = corruption_errors(curves, other)
    relative = relative_errors(curves, clean, other, other_clean)
    return summary._replace(ce=errors, mce=mean_of(errors), relative_mce=mean_of(relative))


def values_of(result: dict, metric: str, kinds: Sequence[str], severities: Sequence[int],
              who: str) -> tuple[float, dict[str, dict[int, float]]]:
    """The clean value and the curves of a metric; LaunchError where a condition or the metric is missing."""
    conditions = result['conditions']
    names = [CLEAN, *(name_of((kind, severity)) for kind in kinds for severity in severities)]
    lacking = [name for name in names if metric not in conditions.get(name, {})]
    if lacking:
        shown = ', '.join(lacking[:5]) + (f' and {len(lacking) - 5} more' if len(lacking) > 5 else '')
        raise LaunchError(f'{who} lacks {metric} of {shown}. Measure it with the same --kinds, --severities and '
                          'evaluator first.')
    value = {name: conditions[name][metric] for name in names}
    number = {name: math.nan if found is None else float(found) for name, found in value.items()}
    return number[CLEAN], {kind: {s: number[name_of((kind, s))] for s in severities} for kind in kinds}


def flips(result: dict, summary: Summary) -> tuple[Optional[float], Optional[float], str]:
    """The flip rate clean and averaged as mPC, or (None, None, why there is none)."""
    windows = result.get('windows') or {'count': 1, 'left_out': 'these results are older than it'}
    names = {kind: {s: name_of((kind, s)) for s in curve} for kind, curve in summary.curves.items()}
    every = [CLEAN, *(name for curve in names.values() for name in curve.values())]
    if all('flip_rate' in result['conditions'][name] for name in every):
        rates = {kind: {s: result['conditions'][name]['flip_rate'] for s, name in curve.items()}
                 for kind, curve in names.items()}
        return result['conditions'][CLEAN]['flip_rate'], mean_corrupted(rates), ''
    why = windows['left_out'] or 'the head gave no scores of classes for each window'
    return None, None, why


def write_report(result: dict, summary: Summary, out: Optional[str] = None, reference: Optional[dict] = None) -> str:
    """Markdown of a summary; with ``out``, a JSON file, also that with the summary in it and a .md and .png beside it.
    """
    parts = [summarise(result, f'{summary.metric}_{name}', list(summary.curves), list(summary.curves.values())[0])
             for name in ('valence', 'arousal') if f'{summary.metric}_{name}' in result['conditions'][CLEAN]]
    text = markdown(result, summary, parts, reference)
    if out is None:
        return text
    stem = osp.splitext(out)[0]
    numbers = as_json(result, summary, parts, reference)
    write_whole(out, json.dumps({**result, 'summary': numbers}, indent=1, allow_nan=False) + '\n')
    write_whole(f'{stem}.md', text + '\n')
    factor, unit = (100, ', %') if in_percent(summary.metric) else (1, '')
    figure = draw_robustness(
        {kind: {s: factor * value for s, value in curve.items()} for kind, curve in summary.curves.items()},
        factor * summary.clean, GROUPS, f'{title_of(summary.metric)}{unit}', osp.basename(result['config']))
    save_picture(figure, f'{stem}.png')
    return text


def as_json(result: dict, summary: Summary, parts: Sequence[Summary], reference: Optional[dict]) -> dict:
    """The numbers, with None for NaN."""
    clean_flips, corrupted_flips, why = flips(result, summary)
    numbers: dict[str, Any] = {**summary._asdict(), 'by_kind': corruption_means(summary.curves),
                               'change': summary.mpc - summary.clean}
    for part in parts:
        numbers[part.metric] = dict(clean=part.clean, mpc=part.mpc, change=part.mpc - part.clean)
    numbers['flip_rate'] = dict(clean=clean_flips, corrupted=corrupted_flips, left_out=why)
    if reference is not None:
        numbers['reference'] = {key: reference.get(key) for key in ('file', 'config', 'checkpoint')}
    return without_nan(numbers)


def without_nan(value: Any) -> Any:
    """None in the place of NaN, which JSON does not know, at any depth."""
    if isinstance(value, dict):
        return {key: without_nan(each) for key, each in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def title_of(metric: str) -> str:
    return NAMES.get(metric, metric)


def in_percent(metric: str) -> bool:
    return not metric.startswith('va/')


def shown(value: Optional[float], metric: str, sign: str = '') -> str:
    """A value of a metric: per cent with one digit, or with three."""
    if value is None or math.isnan(value):
        return 'undefined'
    return f'{100 * value:{sign}.1f}' if in_percent(metric) else f'{value:{sign}.3f}'


def percent(value: Optional[float]) -> str:
    return '' if value is None else 'undefined' if math.isnan(value) else f'{100 * value:.1f} %'


def markdown(result: dict, summary: Summary, parts: Sequence[Summary] = (), reference: Optional[dict] = None) -> str:
    """Two tables: the summary, and every corruption by severity."""
    clean_flips, corrupted_flips, why = flips(result, summary)
    clips = (result.get('clips') or {}).get('count', 'an unknown number of')
    unit = 'per cent' if in_percent(summary.metric) else 'as it is, 1 at best'
    severities = sorted(next(iter(summary.curves.values())))
    lines = [f'# Robustness of {osp.basename(result["config"])}', '',
             f'{result["checkpoint"]} on {clips} clips; {title_of(summary.metric)}, {unit}. {len(summary.curves)} '
             f'corruptions at severities {", ".join(map(str, severities))}.', '',
             '| metric | clean | mPC | rPC | mPC - clean |' + (' mCE | relative mCE |' if reference else ''),
             '|---|---:|---:|---:|---:|' + ('---:|---:|' if reference else '')]
    for part in (summary, *parts):
        cells = [part.metric if part in parts else title_of(part.metric), shown(part.clean, part.metric),
                 shown(part.mpc, part.metric), percent(part.rpc), shown(part.mpc - part.clean, part.metric, '+')]
        cells += [percent(part.mce), percent(part.relative_mce)] if reference else []
        lines.append('| ' + ' | '.join(cells) + ' |')
    lines += ['', CAUTION]
    if reference:
        lines += ['', f'mCE against {reference.get("config")}, {reference.get("checkpoint")} '
                  f'({reference.get("file")}): 100 % is as many errors as it makes, less is better.']
    if clean_flips is None:
        lines += ['', f'Flip rate: left out, {why}.']
    else:
        lines += ['', f'Flip rate between neighbouring windows ({result["windows"]["count"]} of each video): '
                  f'{percent(clean_flips)} clean, {percent(corrupted_flips)} corrupted.']
    return '\n'.join([*lines, '', *table(summary, severities), ''])


def table(summary: Summary, severities: Sequence[int]) -> list[str]:
    """Every corruption by severity, its mean and the mean's change against clean, and the same of the groups."""
    metric, means = summary.metric, corruption_means(summary.curves)
    heads = ['corruption', *map(str, severities), 'mean', 'change', *(['CE'] if summary.ce else [])]
    lines = ['| ' + ' | '.join(heads) + ' |',
             '|---|' + '---:|' * (len(heads) - 1)]

    def row(name: str, values: Sequence[float], error: Optional[float]) -> str:
        cells = [name, *(shown(value, metric) for value in values),
                 shown(values[-1] - summary.clean, metric, '+'), *([] if error is None else [percent(error)])]
        return '| ' + ' | '.join(cells) + ' |'

    for group, members in GROUPS.items():
        kinds = [kind for kind in summary.curves if kind in members]
        for kind in kinds:
            lines.append(row(kind, [*(summary.curves[kind][s] for s in severities), means[kind]],
                             (summary.ce or {}).get(kind)))
        if len(kinds) > 1:
            every = [mean_of({kind: summary.curves[kind][s] for kind in kinds}) for s in severities]
            lines.append(row(f'**{group}, mean**', [*every, mean_of({kind: means[kind] for kind in kinds})],
                             mean_of({kind: summary.ce[kind] for kind in kinds}) if summary.ce else None))
    return lines
