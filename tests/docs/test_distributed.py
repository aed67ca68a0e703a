"""The commands of docs/distributed.md are ones the tools take, and its strategies ones that are not refused."""
import importlib.util
import os
import re
import shlex
import sys
from pathlib import Path

import pytest
from mmengine.config import Config

import lsef_plugins  # noqa: F401
from lsef_plugins.engine.strategies import check_strategy

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / 'docs' / 'distributed.md').read_text(encoding='utf-8')
COMMANDS = [line for block in re.findall(r'```bash\n(.*?)```', PAGE, re.S) for line in block.splitlines() if line]


@pytest.fixture
def launch():
    spec = importlib.util.spec_from_file_location('launch_of_the_page', ROOT / 'tools' / 'launch_processes.py')
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_each_command_is_one_the_scripts_take(launch, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    jobs = []
    for command in COMMANDS:
        words = shlex.split(command.replace('CONFIG', 'config.py'))
        variables = dict(word.split('=', 1) for word in words[:words.index('bash')])
        script, *arguments = words[words.index('bash') + 1:]
        assert (ROOT / script).is_file(), command
        for word in arguments:
            if word.endswith(('.py', '.pth')):
                os.makedirs(os.path.dirname(word) or '.', exist_ok=True)
                Path(word).write_text('')
        if 'dist_' in script:
            jobs.append(launch.job_of(re.search('dist_(train|test)', script)[1], arguments, variables))
    assert len(jobs) == 5 and len(COMMANDS) == 7
    assert [job.restarts for job in jobs] == [0, 0, 3, 0, 0] and jobs[-1].node_rank == 1


def test_each_strategy_of_the_page_is_accepted_by_several_processes():
    blocks = re.findall(r'```python\n(.*?)```', PAGE, re.S)
    assert len(blocks) == 2
    for block in blocks:
        check_strategy(Config.fromstring(f"{block}\nlauncher = 'pytorch'\n", '.py'))


def test_the_files_it_names_exist():
    for link in re.findall(r'\]\((?!http)([^)]+)\)', PAGE):
        assert (ROOT / 'docs' / link).is_file(), link
    for path in re.findall(r'`(?:python -m pytest )?((?:tests|compat)/\S+\.py)`', PAGE):
        assert (ROOT / path).is_file() or (ROOT / 'lsef_plugins' / path).is_file(), path
