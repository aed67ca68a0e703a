"""The doctor's benchmark on a small tree: healthy, timed at each level, and gone afterwards."""
import os
import subprocess
import sys
from pathlib import Path

TOOL = Path(__file__).resolve().parents[2] / 'tools' / 'benchmark_doctor.py'


def test_every_level_is_timed_and_the_tree_is_removed(tmp_path):
    done = subprocess.run(
        [sys.executable, str(TOOL), '--clips', '21', '--out', 'tree', '--repeats', '1', '--workers', '1', '--levels',
         'names', 'scan', 'ends', 'decode'], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for row in ('21 clip folders', 'os.scandir alone', 'names, 1 process', 'scan, 1 process', 'ends, 1', 'decode, 1'):
        assert row in done.stdout
    assert os.listdir(tmp_path) == []
