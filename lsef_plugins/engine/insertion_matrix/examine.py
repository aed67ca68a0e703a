"""One row of the table: every check on one config, whatever the others did."""
from __future__ import annotations

import importlib
import resource
import sys
import time
import traceback
from typing import Any, Callable, Dict, List, Optional

from .catalogue import Entry, type_name
from .checks import COLUMNS, ESSENTIAL, Broken, NotHere
from .subject import Subject

OK, BROKEN, NOT_HERE = 'ok', 'broken', 'not here'
PASSED, FAILED, NEEDS = 'passed', 'failed', 'needs'
CHECKING = '[check] '   # opens a line of the log, so that what died knows where


def needed_packages(model: Any) -> List[str]:
    """Packages beside MMAction2 that a recognizer's config asks for."""
    kind = type_name(model.backbone)
    if kind == 'MobileOneTSM':      # the host defines it only beside mmpretrain
        return ['mmpretrain']
    found = next((name for name in ('torchvision', 'timm', 'mmpretrain', 'mmcls') if kind.startswith(f'{name}.')), '')
    return [found] if found else []


def lacking(packages: List[str]) -> Optional[str]:
    """What has to be installed first, in words; None when all of them can be imported."""
    for name in packages:
        try:
            importlib.import_module(name if name in ('timm', 'torchvision') else f'{name}.models')
        except ModuleNotFoundError as error:
            return f'needs {name}' if error.name == name else f'needs a working {name} ({_told(error)})'
        except Exception as error:
            return f'needs a working {name} ({_told(error)})'
    return None


def examine(entry: Entry, neck: str = 'LSEFNeck') -> Dict[str, Any]:
    """Builds a config's recognizer stock and plugged and puts every check to them.

    Returns:
        a row: ``name``, ``family``, ``status`` (passed, failed, needs), ``reason``, ``cells`` (by column:
        ``state``, ``note`` and ``seconds``), ``shrunk``, ``geometry``, ``views``, ``maps``, ``seconds``, ``peak_mb``.
    """
    started = time.perf_counter()
    row: Dict[str, Any] = dict(name=entry.name, family=entry.family, neck=neck, status=FAILED, reason='', cells={})
    missing = lacking(needed_packages(entry.cfg.model))
    if missing:
        return {**row, 'status': NEEDS, 'reason': missing}
    try:
        _say('build')
        subject = Subject(entry.cfg, neck)
    except Exception as error:
        traceback.print_exc()
        return {**row, 'reason': f'build: {_told(error)}'}
    for column, check in COLUMNS.items():
        _say(column)
        began = time.perf_counter()
        cell = cell_of(check, subject)
        row['cells'][column] = dict(cell, seconds=round(time.perf_counter() - began, 2))
    wrong = [f'{column}: {cell["note"]}' for column, cell in row['cells'].items()
             if cell['state'] == BROKEN or (cell['state'] == NOT_HERE and column in ESSENTIAL)]
    row.update(
        status=FAILED if wrong else PASSED, reason='; '.join(wrong), shrunk=[*subject.shrunk, *subject.stand_ins],
        geometry=dict(subject.geometry._asdict(), own_frames=subject.own_frames), views=subject.test_views(),
        maps=[list(each) for each in dict.fromkeys(subject.maps)], seconds=round(time.perf_counter() - started, 1),
        peak_mb=round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))
    return row


def cell_of(check: Callable[[Subject], str], subject: Subject) -> Dict[str, Any]:
    """What a check says: its state and a note; anything it raises is a promise that was not kept."""
    try:
        return dict(state=OK, note=check(subject))
    except NotHere as reason:
        return dict(state=NOT_HERE, note=str(reason))
    except Broken as reason:
        return dict(state=BROKEN, note=str(reason))
    except Exception as error:
        traceback.print_exc()
        return dict(state=BROKEN, note=_told(error))


def _say(column: str) -> None:
    print(f'{CHECKING}{column}', flush=True)
    sys.stderr.flush()


def _told(error: BaseException) -> str:
    words = ' '.join(str(error).split())
    return f'{type(error).__name__}: {words[:200]}' if words else type(error).__name__
