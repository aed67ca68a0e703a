"""Runs as files: made once, made anew when anything they rest on is another."""
import functools
import json
import os
import signal
from collections import namedtuple

import pytest

from lsef_plugins.engine.studies import runs

Run = namedtuple('Run', 'name')


def test_names_that_are_not_there_are_told():
    with pytest.raises(ValueError, match='There is no arm adam; there are sgd'):
        runs.chosen('arm', dict(sgd=1, muon=2), ['adam', 'sgd'])
    assert runs.chosen('arm', dict(sgd=1, muon=2), ['muon']) == [2]
    assert runs.chosen('arm', dict(sgd=1, muon=2), None) == [1, 2]
    assert runs.chosen('arm', dict(sgd=1, muon=2), ['muon', 'sgd', 'muon']) == [2, 1]


def counted(folder, run):
    """Leaves a trace of each time it is called."""
    with open(folder / f'{run.name}.calls', 'a', encoding='utf-8') as file:
        file.write('x')
    if run.name == 'broken':
        raise ValueError('this one does not run')
    if run.name == 'killed':
        os.kill(os.getpid(), signal.SIGKILL)
    print('told to the log')
    return dict(value=len(run.name))


def results(tmp_path, names, salt=''):
    told = []
    found = runs.results_of([Run(name) for name in names], lambda run: runs.key_of(run.name, salt),
                            functools.partial(counted, tmp_path), tmp_path, 2, told.append, 'runs')
    return found, told


def calls(tmp_path, name):
    return len((tmp_path / f'{name}.calls').read_text(encoding='utf-8'))


def test_only_what_is_not_there_is_made(tmp_path):
    first, _ = results(tmp_path, ['a', 'bb'])
    second, told = results(tmp_path, ['a', 'bb', 'ccc'])
    assert first == dict(a=dict(value=1), bb=dict(value=2)) and second == dict(first, ccc=dict(value=3))
    assert [calls(tmp_path, name) for name in ('a', 'bb', 'ccc')] == [1, 1, 1]
    assert told[0] == 'runs: 2 of 3 runs are there and reused.' and told[1].endswith('ccc') and len(told) == 2
    results(tmp_path, ['a'], salt='other settings')
    assert calls(tmp_path, 'a') == 2
    assert not list((tmp_path / 'runs').glob('*.log'))


def test_a_half_written_file_is_no_result(tmp_path):
    results(tmp_path, ['a'])
    path = runs.file_of(tmp_path, Run('a'))
    path.write_text(path.read_text()[:-9], encoding='utf-8')
    assert runs.known(tmp_path, Run('a'), runs.key_of('a', '')) is None
    results(tmp_path, ['a'])
    assert calls(tmp_path, 'a') == 2 and json.loads(path.read_text())['result'] == dict(value=1)


def test_what_a_run_that_fails_has_said_stays(tmp_path):
    with pytest.raises(ValueError, match='run broken failed: ValueError: this one does not run.* in .*broken.log'):
        results(tmp_path, ['broken'])
    assert not runs.file_of(tmp_path, Run('broken')).exists()
    assert 'Traceback' in (tmp_path / 'runs' / 'broken.log').read_text(encoding='utf-8')


def test_a_run_that_is_killed_is_told_and_not_waited_for(tmp_path):
    with pytest.raises(ValueError, match='run killed failed: it was ended by signal 9'):
        results(tmp_path, ['a', 'killed', 'bb'])
    assert not runs.file_of(tmp_path, Run('killed')).exists()


def test_the_best_rate_has_the_best_mean():
    told = [dict(rate=0.1, uar_tune=0.9), dict(rate=0.1, uar_tune=0.1), dict(rate=0.2, uar_tune=0.6),
            dict(rate=0.2, uar_tune=0.6), dict(rate=0.05, uar_tune=0.6)]
    assert runs.best_rate(told) == 0.05
