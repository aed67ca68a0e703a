"""Nothing of the package or its tools unpickles, evaluates or hands a string to a shell, whatever a file says.

An AST walk, as in test_architecture. The few places that need what is forbidden are listed with their reason.
"""
import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted([*(ROOT / 'lsef_plugins').rglob('*.py'), *(ROOT / 'tools').rglob('*.py')])
#: (file, name): why it may.
ALLOWED = {
    ('lsef_plugins/compat/strict_unpickler.py', 'pickle._Unpickler'):
        'the reader that admits a list: its base class; find_class, REDUCE, NEWOBJ and BUILD are its own',
    ('lsef_plugins/compat/weights_only.py', 'torch.load'):
        'torch before 2.6 reads through that reader; tests/compat/test_weights_only.py',
}
PICKLES = ('pickle', '_pickle', 'dill', 'cloudpickle', 'joblib', 'marshal', 'shelve', 'pandas')
READERS = ('load', 'loads', 'Unpickler', '_Unpickler', 'open', 'read_pickle')
FORBIDDEN = {f'{module}.{name}' for module in PICKLES for name in READERS} | {
    'os.system', 'os.popen', 'pty.spawn', 'subprocess.getoutput', 'subprocess.getstatusoutput',
    'asyncio.create_subprocess_shell', 'eval', 'exec', 'compile', '__import__', 'builtins.eval', 'builtins.exec',
    'runpy.run_path', 'runpy.run_module', 'tempfile.mktemp', 'shutil.unpack_archive', 'torch.jit.load',
    'torch.hub.load', 'torch.hub.load_state_dict_from_url', 'mmengine.load', 'mmengine.fileio.load',
    'mmengine.Config.fromstring',
    'mmengine.config.Config.fromstring', 'yaml.unsafe_load', 'yaml.unsafe_load_all', 'yaml.full_load', 'yaml.Loader',
    'yaml.UnsafeLoader', 'yaml.FullLoader', 'yaml.CLoader', 'yaml.load_all',
    'ctypes.pythonapi', 'code.interact', 'numpy.fromregex'}
METHODS = ('extractall', 'extract', 'unpack_archive')     # of archives: members may be named '../x'
PROCESSES = ('run', 'Popen', 'call', 'check_call', 'check_output')
SWITCH = 'TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD'


def faults_of(source: str):
    """(line, name, what) of everything in a module that this test forbids."""
    tree = ast.parse(source)
    known = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                front = alias.name.split('.')[0]
                known[alias.asname or front] = alias.name if alias.asname else front
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            known.update((alias.asname or alias.name, f'{node.module}.{alias.name}') for alias in node.names)
            for alias in node.names:
                if f'{node.module}.{alias.name}' in FORBIDDEN or (node.module, alias.name) == ('xml', 'etree'):
                    yield node.lineno, f'{node.module}.{alias.name}', 'is imported'

    def name_of(node):
        if isinstance(node, ast.Name):
            return known.get(node.id, node.id)
        if isinstance(node, ast.Attribute):
            front = name_of(node.value)
            return front and f'{front}.{node.attr}'
        return None

    for node in ast.walk(tree):
        if isinstance(node, (ast.Name, ast.Attribute)):
            name = name_of(node)
            if name in FORBIDDEN:
                yield node.lineno, name, 'is used'
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or '']
            for module in modules:
                if module.split('.')[0] in ('xml', 'dill', 'cloudpickle', 'joblib', 'marshal', 'shelve'):
                    yield node.lineno, module, 'is imported'
        if isinstance(node, ast.Constant) and node.value == SWITCH:
            yield node.lineno, SWITCH, 'is named'
        if isinstance(node, ast.Call):
            yield from call_faults(node, name_of(node.func))


def call_faults(node, name):
    options = {keyword.arg: keyword.value for keyword in node.keywords}

    def says(option, value):
        return isinstance(options.get(option), ast.Constant) and options[option].value is value

    if name == 'torch.load' and not says('weights_only', True):
        yield node.lineno, name, 'lacks weights_only=True'
    if name == 'numpy.load' and not says('allow_pickle', False):
        yield node.lineno, name, 'lacks allow_pickle=False'
    if name == 'yaml.load':
        yield node.lineno, name, 'is used: take safe_load'
    if isinstance(node.func, ast.Attribute) and node.func.attr in METHODS and (name or '').split('.')[0] != 're':
        yield node.lineno, node.func.attr, 'unpacks an archive'
    if 'shell' in options and not says('shell', False):
        yield node.lineno, name, 'has shell='
    if (name or '').split('.')[0] == 'subprocess' and name.split('.')[-1] in PROCESSES and node.args and (
            isinstance(node.args[0], (ast.JoinedStr, ast.BinOp))
            or (isinstance(node.args[0], ast.Constant) and isinstance(node.args[0].value, str))):
        yield node.lineno, name, 'is given a string and no list'


@pytest.mark.parametrize('path', FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_nothing_unpickles_evaluates_or_asks_a_shell(path):
    where = path.relative_to(ROOT).as_posix()
    found = [fault for fault in faults_of(path.read_text(encoding='utf-8')) if (where, fault[1]) not in ALLOWED]
    assert not found, f'{where}: {found}'


def test_each_exception_is_still_needed():
    for (where, name), reason in ALLOWED.items():
        assert reason and name in [fault[1] for fault in faults_of((ROOT / where).read_text(encoding='utf-8'))], where


@pytest.mark.parametrize('line', [
    'import pickle\npickle.load(f)', 'import pickle as p\np.loads(b)', 'from pickle import loads', 'import pickle\n'
    'class U(pickle.Unpickler): pass', 'import dill', 'import shelve', 'from joblib import load', 'import marshal',
    'import torch\ntorch.load(p)', 'import torch\ntorch.load(p, weights_only=False)', 'import torch\n'
    'torch.load(p, weights_only=flag)', 'from torch import load\nload(p)', 'import torch as t\nt.load(p)',
    'import torch.hub\ntorch.hub.load_state_dict_from_url(u)', 'import numpy as np\nnp.load(p)',
    'import numpy as np\nnp.load(p, allow_pickle=True)', 'from numpy import load\nload(p, allow_pickle=a)',
    'import yaml\nyaml.load(f, Loader=yaml.Loader)', 'import yaml\nyaml.full_load(f)', 'import subprocess\n'
    "subprocess.run(['a'], shell=True)", "import subprocess\nsubprocess.run(f'rm {x}')", 'import subprocess\n'
    "subprocess.Popen('rm ' + x)", "from subprocess import run\nrun('ls')", 'import subprocess\n'
    'subprocess.run(c, shell=flag)', 'import os\nos.system(c)', 'from os import popen', 'eval(x)', 'exec(x)',
    'import builtins\nbuiltins.eval(x)', "compile(x, 'f', 'exec')", "__import__('os')", 'import tempfile\n'
    'tempfile.mktemp()', 'import tarfile\ntarfile.open(p).extractall(d)', 'archive.extract(m)', 'import mmengine\n'
    'mmengine.load(p)', 'from mmengine import load\nload(p)', 'from mmengine.config import Config\n'
    'Config.fromstring(s)', 'import xml.etree.ElementTree as ET', f'import os\nos.environ[{SWITCH!r}] = "1"',
    'load = __import__', 'import pickle\nreader = pickle.load'])
def test_each_forbidden_thing_is_seen_in_any_dress(line):
    assert list(faults_of(line)), line


@pytest.mark.parametrize('line', [
    'import torch\ntorch.load(p, weights_only=True)', 'import numpy as np\nnp.load(p, allow_pickle=False)',
    'import yaml\nyaml.safe_load(f)', "import subprocess\nsubprocess.run([a, f'{b}'], shell=False)", 'model.eval()',
    'import re\nre.compile(x)', 'import torch\ntorch.compile(m)', 'import pickle\npickle.UnpicklingError', 'load(p)',
    'import json\njson.load(f)', 'import ast\nast.literal_eval(s)', "state.load_state_dict(torch.zeros(1))"])
def test_what_is_harmless_passes(line):
    assert not list(faults_of(line)), line


@pytest.mark.skipif(os.name == 'nt', reason='bash scripts')
@pytest.mark.parametrize('script, before', [('dist_train.sh', 1), ('dist_test.sh', 2)])
def test_launch_scripts_hand_every_argument_over_as_it_came(tmp_path, script, before):
    stub = tmp_path / 'python'
    stub.write_text(f'#!{sys.executable}\nimport json, sys\njson.dump(sys.argv[1:], open("told.json", "w"))\n')
    stub.chmod(0o755)
    words = ['a b.py', '$(touch canary).pth', ';touch canary;', '`touch canary`', '*', 'name="x y"', '-rf', "it's"]
    words = [*words[:before], '2', *words[before:]]
    subprocess.run(['bash', str(ROOT / 'tools' / script), *words], cwd=tmp_path, check=True,
                   env={**os.environ, 'PYTHON': str(stub)})
    told = json.loads((tmp_path / 'told.json').read_text())
    assert told == [str(ROOT / 'tools' / 'launch_processes.py'), script[5:-3], *words]
    assert not (tmp_path / 'canary').exists()


def test_no_script_evaluates_a_string():
    for path in (ROOT / 'tools').glob('*.sh'):
        for line in path.read_text(encoding='utf-8').splitlines():
            assert not (line.strip().startswith('eval ') or 'sh -c' in line), f'{path}: {line}'
