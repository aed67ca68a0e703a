"""The table of the quick start: of one severity, whatever earlier starts have measured."""
import importlib.util
from pathlib import Path

TOOL = Path(__file__).resolve().parents[2] / 'tools' / 'quickstart.py'


def test_the_table_never_mixes_severities():
    spec = importlib.util.spec_from_file_location('tool_quickstart', TOOL)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    known = {'clean': 0.9, 'flicker/3': 0.8, 'black_frames/3': 0.6, 'flicker/5': 0.1}
    known = {name: {'acc/war': value, 'acc/uar': value / 2} for name, value in known.items()}
    found = tool.of_severity(known, 3)
    assert list(found) == ['clean', 'flicker/3', 'black_frames/3']
    table = tool.table_of({'a': [found], 'b': [found]})
    assert '| **corrupted, mean** | 70.0 | 35.0 | 70.0 | 35.0 | +0.0 | +0.0 |' in table and 'severity 5' not in table
