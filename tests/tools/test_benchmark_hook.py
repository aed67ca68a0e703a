"""The benchmark measures what it says: a hook that is there on measured iterations only. No time is judged here."""
import importlib.util
import json
from pathlib import Path

import pytest

TOOL = Path(__file__).resolve().parents[2] / 'tools' / 'benchmark_hook.py'
SMALL = ['--depth', '18', '--width', '8', '--frames', '4', '--size', '32', '--batch', '2', '--repeats', '2', '--device',
         'cpu']


@pytest.fixture(scope='module')
def tool():
    spec = importlib.util.spec_from_file_location('tool_benchmark_hook', TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_figures_are_of_a_hook_that_logs(tool, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(tool, 'BAR', float('inf'))
    assert tool.main([*SMALL, '--out', str(tmp_path / 'found.json')]) == 0
    found = json.loads((tmp_path / 'found.json').read_text())
    assert found['logged'] == 10 and found['interval'] == 50 and sorted(map(int, found['overhead'])) == [1, 20, 50]
    assert '| 50 (set) |' in capsys.readouterr().out
    monkeypatch.setattr(tool, 'BAR', 0)
    assert tool.main(SMALL) == 1, 'a missed bar is the exit status'


def test_the_clock_adds_up_what_it_wraps(tool):
    clock, seen = tool.Clock('cpu'), []
    clock.now = iter(range(0, 100, 3)).__next__
    wrapped = clock.adding(seen.append)
    wrapped('a')
    wrapped('b')
    assert seen == ['a', 'b'] and clock.spent == 6 and clock(lambda: None) == 3


def test_impossible_sizes_are_told(tool, capsys):
    with pytest.raises(SystemExit):
        tool.main(['--size', '8'])
    assert '--size from 32' in capsys.readouterr().err
