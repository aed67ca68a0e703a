"""The rows as a table for readers (Markdown) and for programs (JSON)."""
from __future__ import annotations

import json
import platform
from collections import Counter
from pathlib import Path
from typing import Any, Dict, List, Sequence

from lsef_plugins.visualization.writing import whole_file, write_whole

from .catalogue import MatrixError
from .checks import COLUMNS
from .examine import BROKEN, FAILED, NEEDS, NOT_HERE, OK, PASSED

SIGNS = {OK: '✓', BROKEN: '✗', NOT_HERE: '–'}
SHOWN = ('predict', 'learns', 'optimizer')  # columns whose note stands beside the tick


def counts(rows: Sequence[Dict]) -> Dict[str, int]:
    found = Counter(row['status'] for row in rows)
    return {status: found.get(status, 0) for status in (PASSED, FAILED, NEEDS)}


def summary(rows: Sequence[Dict]) -> str:
    """One line: how many configs, families, and what became of them."""
    count = counts(rows)
    families = len({row['family'] for row in rows})
    text = (f'{len(rows)} configs of {families} families: {count[PASSED]} passed, {count[FAILED]} failed, '
            f'{count[NEEDS]} not examined')
    reasons = Counter(row['reason'] for row in rows if row['status'] == NEEDS)
    return text + (f' ({"; ".join(f"{reason}: {n}" for reason, n in reasons.items())})' if reasons else '')


def completed(rows: Sequence[Dict], versions: Dict[str, str], other: Any) -> List[Dict]:
    """Rows of a run in another environment in place of those that this one could not examine.

    Args:
        versions: of this environment.
        other: the JSON file of the other run, over the same neck.

    Raises:
        MatrixError: the file holds no rows.
    """
    try:
        saved = json.loads(Path(other).read_text(encoding='utf-8'))
        theirs = {(row['name'], row['neck']): row for row in saved['rows'] if row['status'] != NEEDS}
        changed = {name: version for name, version in saved['versions'].items() if versions.get(name) != version}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise MatrixError(f'{other} holds no rows of this tool ({type(error).__name__}: {error}). Give the JSON file '
                          'that it wrote in the other environment.') from error
    elsewhere = ', '.join(f'{name} {version}' for name, version in changed.items()) or 'the same versions'
    return [dict(theirs[row['name'], row['neck']], elsewhere=elsewhere, here=row['reason'])
            if row['status'] == NEEDS and (row['name'], row['neck']) in theirs else row for row in rows]


def markdown(rows: Sequence[Dict], versions: Dict[str, str], command: str) -> str:
    """The whole document."""
    neck = rows[0]['neck'] if rows else 'LSEFNeck'
    parts = [f"# `neck=dict(type='{neck}')` in the recognizer configs MMAction2 ships", '', f'**{summary(rows)}.**', '',
             f'Written by `{command}`.', '',
             f'Python {platform.python_version()} on {platform.system()} {platform.machine()}, one thread for each '
             f'config, no accelerator; {", ".join(f"{name} {version}" for name, version in versions.items())}.', '',
             'Each config is built twice, as it is shipped and with the one line merged in, with equal weights, '
             'without checkpoints, on small random inputs. Columns:', '']
    parts += [f'- **{name}**: {_first_line(check)}' for name, check in COLUMNS.items()]
    parts += ['', '✓ holds; ✗ does not; – is not asked: the stock recognizer cannot do it either (reasons below). '
              '`maps`: channels x frames x height x width where the neck acts. `predict`: clips x crops of a video. '
              '`learns`: how many parameters of the neck have a gradient in the first step, then after the second.', '']
    parts += _failures(rows) + _elsewhere(rows)
    for family in dict.fromkeys(row['family'] for row in rows):
        parts += _family(family, [row for row in rows if row['family'] == family])
    parts += _reasons(rows) + _shrunk(rows)
    return '\n'.join(parts).rstrip() + '\n'


def _first_line(check: Any) -> str:
    return (check.__doc__ or '').strip().splitlines()[0]


def _failures(rows: Sequence[Dict]) -> List[str]:
    failed = [row for row in rows if row['status'] != PASSED]
    if not failed:
        return []
    lines = [f'- `{row["name"]}`: {row["status"]}: {_plain(row["reason"])}' for row in failed]
    return ['## Not passed', '', *lines, '']


def _elsewhere(rows: Sequence[Dict]) -> List[str]:
    lines = [f'- `{row["name"]}`: {row["status"]} with {row["elsewhere"]}. Here it {_plain(row["here"])}.'
             for row in rows if 'elsewhere' in row]
    return ['## Examined in another environment', '', *lines, ''] if lines else []


def _family(family: str, rows: Sequence[Dict]) -> List[str]:
    passed = counts(rows)[PASSED]
    head = ['config', 'maps', *COLUMNS]
    lines = [f'## {family}: {passed} of {len(rows)}', '', '| ' + ' | '.join(head) + ' |', '|' + '---|' * len(head)]
    for row in rows:
        name = '`' + row['name'].rsplit('/', 1)[-1] + '`'
        maps = ', '.join(' x '.join(map(str, each)) for each in row.get('maps', []))
        cells = [_cell(column, row['cells'].get(column)) for column in COLUMNS]
        if not row['cells']:
            cells = [_plain(f'{row["status"]}: {row["reason"]}'), *[''] * (len(COLUMNS) - 1)]
        lines.append('| ' + ' | '.join([name, maps, *cells]) + ' |')
    return [*lines, '']


def _cell(column: str, cell: Any) -> str:
    if cell is None:
        return ''
    sign = SIGNS[cell['state']]
    shown = cell['note'] if cell['state'] == OK and column in SHOWN else ''
    return f'{sign} {_plain(shown)}'.strip()


def _plain(text: str) -> str:
    return text.replace('|', '/').replace('\n', ' ')


def _reasons(rows: Sequence[Dict]) -> List[str]:
    found = Counter((column, cell['note']) for row in rows for column, cell in row['cells'].items()
                    if cell['state'] == NOT_HERE)
    if not found:
        return []
    return ['## Not asked, and why', '',
            *(f'- {column}, {count} configs: {_plain(note)}'.rstrip()
              for (column, note), count in sorted(found.items())), '']


def _shrunk(rows: Sequence[Dict]) -> List[str]:
    lines = ['## What was made smaller', '',
             'Frames and edges of the inputs everywhere (frames of a training clip in the config, frames given, edge '
             'in pixels); classes, stages, streams, levels and the views of the test never. In addition:', '',
             '| family | configs | frames: config, given | edge | in the model |', '|---|---|---|---|---|']
    groups: Dict[Any, int] = Counter(
        (row['family'], row['geometry']['own_frames'], row['geometry']['t'], row['geometry']['s'],
         '; '.join(row.get('shrunk', [])) or 'nothing') for row in rows if row.get('geometry'))
    lines += [f'| {family} | {count} | {own}, {given} | {edge} | {_plain(notes)} |'
              for (family, own, given, edge, notes), count in groups.items()]
    return lines if groups else []


def write(rows: Sequence[Dict], versions: Dict[str, str], command: str, out: Any = None, data: Any = None) -> None:
    """Writes the document to ``out`` and the rows to ``data``, each whole or not at all."""
    if out is not None:
        write_whole(out, markdown(rows, versions, command))
    if data is not None:
        write_whole(data, json.dumps(dict(summary=summary(rows), counts=counts(rows), versions=versions,
                                          command=command, rows=list(rows)), indent=1))


def must_be_writable(path: Path) -> None:
    """Tries a file before an hour of work goes into it.

    Raises:
        OutputError: it cannot be written.
    """
    existed = path.exists()
    with whole_file(path) as unfinished:
        unfinished.write_bytes(path.read_bytes() if existed else b'')
    if not existed:
        path.unlink()
