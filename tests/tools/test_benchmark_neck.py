"""The benchmark of the neck runs and fills each cell; what it says about speed is not tested."""
import runpy
import sys
from pathlib import Path

import torch

from lsef_plugins.ops import benchmark

TOOL = runpy.run_path(str(Path(__file__).parents[2] / 'tools' / 'benchmark_neck.py'))


def test_a_row_for_the_neck_and_one_for_a_whole_step(monkeypatch):
    small = {'SlowOnly-R50': ('slowonly_r50', (1, 3, 4, 32, 32))}
    monkeypatch.setitem(TOOL['step_row'].__globals__, 'RECOGNIZERS', small)
    row = TOOL['neck_row']((1, 8, 8, 2, 2), 'bfloat16', 'cpu', 1, False, 1)
    cells = [cell.strip() for cell in row.split('|')[1:-1]]
    assert cells[:2] == ['(1, 8, 8, 2, 2)', 'bfloat16'] and cells[4] == 'not run' and cells[6].endswith(' %')
    row = TOOL['merge_row']((1, 8, 8, 2, 2), 'bfloat16', 'cpu', 1, 1)
    assert row.count(' x |') == 4 and 'nan' not in row
    row = TOOL['step_row']('SlowOnly-R50', 'cpu', 1, 2)
    assert row.count('|') == 7 and 'nan' not in row and row.count(' %') == 2


def test_the_peak_is_what_is_held_at_a_time():
    def work():
        a = torch.empty(1000, dtype=torch.float64)
        b = torch.empty(500, dtype=torch.float64)
        del a
        return torch.empty(700, dtype=torch.float64), b

    assert 12000 <= benchmark.peak_bytes(work, 'cpu') < 14000


def test_the_tool_explains_itself(capsys, monkeypatch):
    monkeypatch.setattr(sys, 'argv', ['benchmark_neck.py', '--help'])
    try:
        TOOL['main']()
    except SystemExit as end:
        assert end.code == 0
    assert '--compile' in capsys.readouterr().out
