"""The examination as text that can be pasted in public: no user, no home, no host name in it."""
import contextlib
import functools
import getpass
import os
import re
import socket
import sys
import sysconfig
import time
import warnings
from pathlib import Path
from typing import Dict, List, Tuple

from . import environment, host, kernels, selftest
from .findings import FAULT, NOTE, Finding, guarded

Sections = Dict[str, List[Finding]]


def examine() -> Sections:
    """Everything the doctor looks at, section by section; nothing is raised. What is warned of becomes a note."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('default')
        found = {
            'versions': guarded('versions', environment.versions),
            'MMAction2 and the repairs': guarded('MMAction2', host.host),
            'compiled operators': guarded('operators', kernels.kernels),
            'hardware': guarded('hardware', environment.hardware),
            'reading videos': guarded('readers', environment.readers),
            'self-test': _self_test(),
        }
    ours = {' '.join(str(w.message).split()) for w in caught if 'lsef_plugins' in str(w.message)}
    if ours:
        found['warnings'] = [Finding('warned', text, NOTE) for text in sorted(ours)]
    return found


def _self_test() -> List[Finding]:
    start = time.perf_counter()
    tests = [('planted truth', selftest.planted), ('compiled operators', selftest.compiled)]
    with contextlib.suppress(Exception):
        if host.is_usable():
            tests.append(('recognizer', selftest.recognizers))
    found = [finding for name, test in tests for finding in guarded(name, functools.partial(selftest.timed, test))]
    return [*found, Finding('took', f'{time.perf_counter() - start:.1f} s')]


def render(sections: Sections) -> Tuple[str, bool]:
    """The report, free of names of persons, folders and machines, and whether nothing in it is broken."""
    faults = [finding for found in sections.values() for finding in found if finding.state == FAULT]
    lines = []
    for title, found in sections.items():
        lines.append(f'[{title}]')
        for finding in found:
            mark = '' if finding.state == 'ok' else f'{finding.state}: '
            lines.append(f'  {finding.name}: {mark}{finding.value}')
    lines.append(f'[result] {len(faults)} faults' if faults else '[result] no fault')
    return anonymous('\n'.join(lines)), not faults


def anonymous(text: str) -> str:
    """``text`` without the folders of this environment, the home folder, the user's name and the machine's."""
    places = {sysconfig.get_paths()['purelib']: '<site-packages>', sysconfig.get_paths()['platlib']: '<site-packages>',
              str(Path(__file__).resolve().parents[1]): '<lsef_plugins>', sys.prefix: '<environment>',
              sys.base_prefix: '<python>', os.getcwd(): '<here>', os.path.expanduser('~'): '~'}
    for place in sorted(places, key=len, reverse=True):     # the longest first: one lies in another
        for spelling in {place, os.path.realpath(place)} - {'', os.sep}:
            text = text.replace(spelling, places[place])
    # Any other folder of a person, and names that stand alone.
    text = re.sub(r'/(home|Users|root)(/[^/\s\'",;:)]+)?', '<home>', text)
    for name, shown in [*((name, '<host>') for name in _hosts()), *((name, '<user>') for name in _users())]:
        text = re.sub(rf'(?<![\w.-]){re.escape(name)}(?![\w-])', shown, text)
    return text


def _hosts() -> List[str]:
    name = socket.gethostname()
    return sorted({each for each in (name, name.split('.')[0], os.environ.get('HOSTNAME', '')) if len(each) > 1},
                  key=len, reverse=True)


def _users() -> List[str]:
    found = {os.path.basename(os.path.expanduser('~')), *(os.environ.get(key, '') for key in ('USER', 'LOGNAME'))}
    with contextlib.suppress(Exception):    # no entry for this user, as in many containers
        found.add(getpass.getuser())
    return sorted((name for name in found if len(name) > 1), key=len, reverse=True)
