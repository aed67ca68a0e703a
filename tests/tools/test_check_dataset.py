"""The doctor's command line: exit status, the two reports, and no MMAction2 behind it."""
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TOOLS = Path(__file__).resolve().parents[2] / 'tools' / 'data'


@pytest.fixture(scope='module')
def tools():
    before = os.environ.get('LSEF_PLUGINS_REGISTER')
    modules = []
    for name in ('check_dataset', 'write_synthetic_layout'):
        spec = importlib.util.spec_from_file_location(name, TOOLS / f'{name}.py')
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        modules.append(module)
    yield modules
    if before is None:
        os.environ.pop('LSEF_PLUGINS_REGISTER', None)


@pytest.fixture(scope='module')
def root(tools, tmp_path_factory):
    out = tmp_path_factory.mktemp('tool') / 'ferv'
    assert tools[1].main(['ferv39k', str(out), '--clips', '12', '--size', '16', '--seed', '3']) == 0
    return out


def test_healthy_is_0_not_healthy_is_1_and_a_wrong_line_is_2(tools, root, tmp_path, capsys):
    line = ['ferv39k', str(root), '--expect', 'any', '--workers', '1', '--quiet']
    assert tools[0].main(line) == 0
    assert 'HEALTHY: 0 faults' in capsys.readouterr().out
    assert tools[0].main(['ferv39k', str(root), '--workers', '1', '--quiet']) == 1      # 12 clips are not 38,935
    assert 'NOT HEALTHY' in capsys.readouterr().out
    assert tools[0].main(['ferv39k', str(tmp_path / 'nowhere')]) == 2
    assert 'error: ' in (text := capsys.readouterr().err) and 'is not a folder' in text
    for wrong in ([], ['afew', 'x'], ['dfew', 'x', '--label-base', '2'], ['dfew', 'x', '--img', 'a', '--video', 'b']):
        with pytest.raises(SystemExit) as info:
            tools[0].main(wrong)
        assert info.value.code == 2


def test_the_report_for_machines_is_written_whole(tools, root, tmp_path, capsys):
    out = tmp_path / 'report.json'
    line = ['ferv39k', str(root), '--expect', 'any', '--workers', '1', '--quiet']
    assert tools[0].main([*line, '--json', str(out)]) == 0
    assert json.loads(out.read_text())['healthy'] is True and os.listdir(tmp_path) == ['report.json']
    assert tools[0].main([*line, '--json', str(tmp_path / 'new' / 'x.json')]) == 0
    capsys.readouterr()
    assert tools[0].main([*line, '--json', str(out / 'x.json')]) == 2     # its folder is a file: the report is kept
    assert 'HEALTHY' in capsys.readouterr().out


def test_every_option_reaches_the_examination(tools, monkeypatch):
    seen = []
    monkeypatch.setattr(tools[0], 'examine', lambda request: seen.append(request) or sys.exit(9))
    with pytest.raises(SystemExit):
        tools[0].main(['dfew', 'r', '--train', 'a', '--test', 'b', '--folds', '2', '3', '--img', 'i', '--strip-prefix',
                       'p', '--label-base', '1', '--class-order', 'alphabetical', '--label-index', 'x',
                       '--allow-outside-root', '--expect', 'any', '--min-frames', '4', '--decode', '--workers', '3'])
    request = seen[0]
    assert (request.data_set, request.root, request.train, request.test, request.folds, request.img) == (
        'dfew', 'r', 'a', 'b', (2, 3), 'i')
    assert (request.strip_prefix, request.label_base, request.class_order, request.label_index) == (
        'p', 1, 'alphabetical', 'x')
    assert (request.allow_outside, request.expect, request.min_frames, request.decode, request.workers,
            request.progress) == (True, 'any', 4, True, 3, True)
    for flag, ends in (('--ends', 'all'), ('--names-only', 'none')):
        with pytest.raises(SystemExit):
            tools[0].main(['dfew', 'r', flag, '--video', 'v', '--quiet', '--class-order', *'abcdefg'])
        assert (seen[-1].ends, seen[-1].video, seen[-1].progress, seen[-1].class_order) == (
            ends, 'v', False, list('abcdefg'))


def test_the_script_runs_alone_without_mmaction2(root, tmp_path):
    broken = shutil.copytree(root, tmp_path / 'ferv')
    frame = sorted((broken / '2_ClipsforFaceCrop').rglob('*.jpg'))[0]
    frame.write_bytes(b'')
    code = (f'import sys, runpy; sys.argv = ["x", "ferv39k", {str(broken)!r}, "--expect", "any", "--workers", "1"]\n'
            f'try: runpy.run_path({str(TOOLS / "check_dataset.py")!r}, run_name="__main__")\n'
            'except SystemExit as end: print("status", end.code, "mmaction" in sys.modules, "torch" in sys.modules)')
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True,
                          env={**os.environ, 'LSEF_PLUGINS_REGISTER': '0'})
    assert 'status 1 False False' in done.stdout and 'FAULT truncated: 1.' in done.stdout, done.stderr
    assert '12/12 clips' in done.stderr


def test_a_layout_of_other_settings_is_refused_with_status_one(tools, root, capsys):
    assert tools[1].main(['ferv39k', str(root), '--clips', '13']) == 1
    assert 'clips: 12 there, 13 asked for' in capsys.readouterr().err
