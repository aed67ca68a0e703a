"""The rows as a table for readers (Markdown) and for programs (JSON)."""
from __future__ import annotations

import json
import platform
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

from lsef_plugins.visualization.writing import write_whole

from ..insertion_matrix.examine import PASSED
from .measure import NECK
from .pair import PLUGGED, STOCK
from .settings import Settings

STEP_BAR, PARAMETER_BAR = 0.03, 0.01
HEADS = ('config', 'clip', 'maps at the neck', 'parameters', 'GFLOPs', 'forward', 'training step', 'neck alone',
         'peak memory', f'parameters ≤ {100 * PARAMETER_BAR:.0f} %', f'step ≤ {100 * STEP_BAR:.0f} %',
         f'neck alone ≤ {100 * STEP_BAR:.0f} %')
MET, MISSED, UNSURE, UNKNOWN = 'yes', 'no', 'within noise', '–'


def more(found: Dict[str, float]) -> float:
    """By what share the recognizer with the neck has more."""
    return found[PLUGGED] / found[STOCK] - 1


def meets_parameters(row: Dict[str, Any]) -> str:
    stock, plugged = row['parameters'][STOCK], row['parameters'][PLUGGED]
    return MET if plugged - stock <= PARAMETER_BAR * stock else MISSED


def meets_step(row: Dict[str, Any]) -> str:
    """Whether all rounds meet the bar, all miss it, or neither."""
    ratio = row['step']['ratio']
    if ratio['highest'] <= 1 + STEP_BAR:
        return MET
    return MISSED if ratio['lowest'] > 1 + STEP_BAR else UNSURE


def share_alone(row: Dict[str, Any]) -> Optional[float]:
    """Of a step without the neck, what the neck's own forward and backward would take; None where not measured."""
    seconds = row['step']['seconds']
    return seconds[NECK] / seconds[STOCK] if NECK in seconds else None


def meets_alone(row: Dict[str, Any]) -> str:
    share = share_alone(row)
    if share is None:
        return UNKNOWN
    return MET if share <= STEP_BAR else MISSED


def cells(row: Dict[str, Any]) -> List[str]:
    """The cells of a measured row, in the order of :data:`HEADS`."""
    parameters, flops, peak = row['parameters'], row['flops'], row['peak_bytes']
    step, forward = row['step'], row['forward']
    alone = share_alone(row)
    return [
        short(row), clip(row), '; '.join('x'.join(map(str, shape)) for shape in dict.fromkeys(map(tuple, row['maps']))),
        f'{parameters[STOCK] / 1e6:.2f} M {_percent(more(parameters), 2)}',
        f'{flops[STOCK] / 1e9:.1f} {_percent(more(flops))}',
        f'{1e3 * forward["seconds"][STOCK]:.0f} ms {_spread(forward["ratio"])}',
        f'{1e3 * step["seconds"][STOCK]:.0f} ms {_spread(step["ratio"])}',
        UNKNOWN if alone is None else f'{1e3 * step["seconds"][NECK]:.0f} ms = {100 * alone:.1f} %',
        f'{peak[STOCK] / 1e9:.2f} GB {_percent(more(peak))}', meets_parameters(row), meets_step(row),
        meets_alone(row)]


def short(row: Dict[str, Any]) -> str:
    return f'`{row["name"].rsplit("/", 1)[-1].replace(".py", "")}`' + (' (its own neck)' if row.get('own_neck') else '')


def clip(row: Dict[str, Any]) -> str:
    t, s = row['geometry']['t'], row['geometry']['s']
    return f'{t} x {s}²' if s else f'{t} frames'


def _percent(value: float, digits: int = 1) -> str:
    return f'{100 * value:+.{digits}f} %'


def _spread(ratio: Dict[str, float]) -> str:
    lower, upper = (f'{100 * (ratio[name] - 1):+.1f}' for name in ('lowest', 'highest'))
    return f'{_percent(ratio["median"] - 1)} [{lower}, {upper}]'


def summary(rows: Sequence[Dict[str, Any]]) -> str:
    """One line: how many configs were measured, and how many meet each bar."""
    done = [row for row in rows if row['status'] == PASSED]
    verdicts = [meets_step(row) for row in done]
    return (f'{len(done)} of {len(rows)} configs measured; the step bar ({100 * STEP_BAR:.0f} %) is met by '
            f'{verdicts.count(MET)}, missed by {verdicts.count(MISSED)}, within noise of {verdicts.count(UNSURE)}; the '
            f'neck alone meets it in {sum(meets_alone(row) == MET for row in done)}; the parameter bar '
            f'({100 * PARAMETER_BAR:.0f} %) is met by {sum(meets_parameters(row) == MET for row in done)}')


def table(rows: Sequence[Dict[str, Any]]) -> str:
    lines = ['| ' + ' | '.join(HEADS) + ' |', '|---' * len(HEADS) + '|']
    for row in rows:
        found = cells(row) if row['status'] == PASSED else [
            short(row), f'not measured: {row["reason"]}'.replace('|', '/'), *[''] * (len(HEADS) - 2)]
        lines.append('| ' + ' | '.join(found) + ' |')
    return '\n'.join(lines)


def markdown(rows: Sequence[Dict[str, Any]], settings: Settings, versions: Dict[str, str], command: str) -> str:
    """The whole report."""
    ways = ['torch.compile' if settings.compiled else 'eager',
            'fp32' if settings.dtype == 'fp32' else 'bf16 (autocast, weights in fp32)',
            f'{settings.batch} video(s) a step', f'{settings.repeats} rounds', *(
                [f'neck options {dict(settings.neck)}'] if settings.neck else [])]
    compiled = {row['compiled_operators'] for row in rows if row['status'] == PASSED}
    operators = {frozenset({True}): 'with', frozenset({False}): 'without'}.get(frozenset(compiled), 'some rows with')
    return '\n'.join([
        f'{summary(rows)}.', '', f'    {command}', '',
        f'{machine(settings)}; {", ".join(ways)}; {operators} compiled operators. '
        f'{", ".join(f"{name} {version}" for name, version in versions.items())}.', '',
        'Without the neck, and by how much more with it. ' + _how(settings), '', table(rows), ''])


def _how(settings: Settings) -> str:
    where, memory = 'time between CUDA events', 'torch.cuda.max_memory_allocated'
    if settings.device == 'cpu':
        where = 'processor time of one thread'
        memory = ("what PyTorch's allocator holds at a time (its profiler counts every allocation; scratch memory of "
                  'oneDNN and the interpreter are not in it)')
    return (f'Times: {where}, all ways in turn, median over the rounds; ratios within a round, their median '
            'and [lowest, highest]. Forward without gradients; a training step is forward, backward and optimizer step '
            'on random clips of the config\'s own size. Neck alone: its forward and backward on the maps that enter '
            f'it, as a share of the step without it. Memory: {memory}, plus parameters, optimizer state and '
            'batch.')


def machine(settings: Settings) -> str:
    """The processor or the GPU, in words."""
    if settings.device == 'cuda':
        import torch
        return torch.cuda.get_device_name()
    return f'{_processor() or platform.processor() or platform.machine()}, one thread'


def _processor() -> Optional[str]:
    try:
        lines = Path('/proc/cpuinfo').read_text(encoding='utf-8').splitlines()
    except OSError:
        return None
    told = {key.strip(): value.strip() for key, _, value in (line.partition(':') for line in lines)}
    name = told.get('model name')
    return f'{name} (family {told.get("cpu family")}, model {told.get("model")})' if name else None


def write(rows: Sequence[Dict[str, Any]], settings: Settings, versions: Dict[str, str], command: str,
          markdown_file: Optional[str], json_file: Optional[str]) -> None:
    """Both files, each whole or not at all."""
    if markdown_file:
        write_whole(markdown_file, markdown(rows, settings, versions, command))
    if json_file:
        found = dict(command=command, machine=machine(settings), settings=settings._asdict(), versions=versions,
                     bars=dict(step=STEP_BAR, parameters=PARAMETER_BAR), rows=list(rows))
        write_whole(json_file, json.dumps(found, indent=1) + '\n')
