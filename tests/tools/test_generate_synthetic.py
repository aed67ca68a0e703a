"""The command line: two lines of help in the README's words, an exit status, nothing of its own."""
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).resolve().parents[2] / 'tools' / 'generate_synthetic.py'


@pytest.fixture(scope='module')
def tool():
    before = os.environ.get('LSEF_PLUGINS_REGISTER')
    spec = importlib.util.spec_from_file_location('generate_synthetic', TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    if before is None:
        os.environ.pop('LSEF_PLUGINS_REGISTER', None)


def test_a_run_writes_what_was_asked_for_and_says_the_ceilings(tool, tmp_path, capsys):
    arguments = ['--preset', 'easy', '--out', str(tmp_path), '--clips-train', '3', '--clips-val', '2', '--seed', '5',
                 '--workers', '1']
    assert tool.main(arguments) == 0
    meta = json.loads((tmp_path / 'easy' / 'meta.json').read_text())
    assert (meta['clips'], meta['seed']) == ({'train': 3, 'val': 2}, 5)
    out = capsys.readouterr().out
    assert 'slow tone alone 37.9%' in out and 'events alone 66.4%' in out and 'both 100%' in out


def test_other_settings_end_with_an_error_line_and_status_one(tool, tmp_path, capsys):
    arguments = ['--preset', 'easy', '--out', str(tmp_path), '--clips-train', '1', '--clips-val', '1', '--workers', '1']
    assert tool.main(arguments) == 0
    assert tool.main([*arguments, '--seed', '2']) == 1
    assert 'error: ' in (text := capsys.readouterr().err) and '--overwrite' in text and 'Traceback' not in text
    assert tool.main([*arguments, '--seed', '2', '--overwrite']) == 0


def test_a_contact_sheet_alone_writes_no_data_set(tool, tmp_path, capsys):
    assert tool.main(['--preset', 'easy', '--contact-sheet', str(tmp_path / 'sheet.png')]) == 0
    assert os.listdir(tmp_path) == ['sheet.png']


@pytest.mark.parametrize('arguments, message', [([], 'nothing to do'), (['--preset', 'x'], 'invalid choice')])
def test_a_wrong_command_line_is_refused(tool, arguments, message, capsys):
    with pytest.raises(SystemExit) as info:
        tool.main(arguments)
    assert info.value.code == 2 and message in capsys.readouterr().err


def test_the_script_runs_as_a_process_with_workers(tmp_path):
    done = subprocess.run([sys.executable, str(TOOL), '--preset', 'easy', '--out', 'out', '--clips-train', '16',
                           '--clips-val', '2', '--workers', '2'], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert '18/18 clips' in done.stderr and (tmp_path / 'out' / 'easy' / 'meta.json').is_file()
