"""What is installed is what lies in the checkout: nothing is left behind, nothing slips in, and mim finds its way."""
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ('lsef_plugins', 'mmaction_configs', 'tools', 'requirements')
FILES = ('setup.py', 'pyproject.toml', 'MANIFEST.in', 'README.md', 'LICENSE', 'CHANGELOG.md', 'CONTRIBUTING.md',
         'CITATION.cff', 'model-index.yml')
MIM = 'lsef_plugins/.mim/'


def environment(**changes):
    keep = {k: v for k, v in os.environ.items() if not k.startswith('LSEF_')}
    return {**keep, 'PYTHONPATH': '', 'LSEF_BUILD_OPS': '0', 'OMP_NUM_THREADS': '1', **changes}


def setup(folder, *arguments):
    done = subprocess.run([sys.executable, 'setup.py', '-q', *arguments], cwd=folder, env=environment(),
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


def contents(wheel):
    """Name to hash of all that a wheel installs."""
    with zipfile.ZipFile(wheel) as file:
        return {name: hashlib.sha256(file.read(name)).hexdigest() for name in file.namelist()
                if not name.endswith('.dist-info/RECORD')}


@pytest.fixture(scope='module')
def built(tmp_path_factory):
    """(wheel of the checkout, folder of the unpacked sdist, wheel of the sdist)"""
    folder = tmp_path_factory.mktemp('packaging')
    checkout = folder / 'checkout'
    checkout.mkdir()
    for name in FOLDERS:
        shutil.copytree(ROOT / name, checkout / name, symlinks=True,
                        ignore=shutil.ignore_patterns('__pycache__', '_lib'))
    for name in FILES:
        shutil.copy(ROOT / name, checkout / name)
    # what must not slip in
    (checkout / 'tools' / '__pycache__').mkdir()
    (checkout / 'tools' / '__pycache__' / 'train.cpython-311.pyc').write_bytes(b'old')
    setup(checkout, 'sdist', 'bdist_wheel')
    sdist, = (checkout / 'dist').glob('*.tar.gz')
    with tarfile.open(sdist) as file:
        file.extractall(folder / 'sdist')
    unpacked, = (folder / 'sdist').iterdir()
    setup(unpacked, 'bdist_wheel')
    return next((checkout / 'dist').glob('*.whl')), unpacked, next((unpacked / 'dist').glob('*.whl'))


@pytest.fixture(scope='module')
def installed(built, tmp_path_factory):
    """The folder of a wheel as pip would lay it down."""
    folder = tmp_path_factory.mktemp('installed')
    with zipfile.ZipFile(built[0]) as wheel:
        wheel.extractall(folder)
    return folder


def test_a_wheel_of_the_sdist_is_the_wheel_of_the_checkout(built):
    assert contents(built[0]) == contents(built[2])


def test_without_operators_a_wheel_fits_every_python_and_platform(built):
    assert built[0].name.endswith('-py3-none-any.whl')


def test_a_wheel_has_every_module_source_and_config_and_nothing_else(built):
    names = set(contents(built[0]))
    files = {path.relative_to(ROOT).as_posix() for path in (ROOT / 'lsef_plugins').rglob('*.py')
             if '.mim' not in path.parts}
    files |= {path.relative_to(ROOT).as_posix() for path in (ROOT / 'lsef_plugins' / 'ops' / 'csrc').iterdir()
              if path.suffix in ('.cpp', '.cu', '.cuh', '.h')}
    files |= {f'{MIM}configs/{path.relative_to(ROOT / "mmaction_configs").as_posix()}'
              for path in (ROOT / 'mmaction_configs').rglob('*') if path.is_file() and '__pycache__' not in path.parts}
    files |= {f'{MIM}model-index.yml'}
    tools = {name for name in names if name.startswith(f'{MIM}tools/')}
    others = {name for name in names if '.dist-info/' in name}
    assert names - tools - others == files
    assert {f'{MIM}tools/train.py', f'{MIM}tools/test.py', f'{MIM}tools/dist_train.sh',
            f'{MIM}tools/launch_processes.py', f'{MIM}tools/slurm_train.sh', f'{MIM}tools/slurm_launch.sh',
            f'{MIM}tools/data/check_dataset.py'} <= tools
    assert not any('quickstart' in name or 'run_tests' in name or name.endswith('.pyc') for name in tools)


def test_a_shell_script_that_is_shipped_has_what_it_sources(built):
    with zipfile.ZipFile(built[0]) as wheel:
        names = set(wheel.namelist())
        scripts = [name for name in names if name.endswith('.sh')]
        assert scripts
        for name in scripts:
            for line in wheel.read(name).decode().splitlines():
                if line.strip().startswith('source '):
                    assert f'{MIM}tools/{line.split("/")[-1].strip(chr(34))}' in names, (name, line)


def test_an_sdist_is_a_checkout_one_can_work_in(built):
    for name in ('requirements/quickstart.txt', 'mmaction_configs/_base_/lsef_neck.py', 'tools/quickstart.sh',
                 'lsef_plugins/ops/csrc/cpu.cpp', 'model-index.yml', 'CITATION.cff'):
        assert (built[1] / name).is_file(), name


def test_an_editable_install_of_an_sdist_gets_the_links_the_checkout_has(built, tmp_path):
    code = f'from setuptools.build_meta import build_editable as build; build({str(tmp_path)!r})'
    done = subprocess.run([sys.executable, '-c', code], cwd=built[1], env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    for root in (built[1], ROOT):
        for name, source in (('configs', 'mmaction_configs'), ('tools', 'tools')):
            link = root / 'lsef_plugins' / '.mim' / name
            assert link.is_symlink() and link.resolve() == (root / source).resolve(), link
            assert not os.path.isabs(os.readlink(link))


# ---- the model index -------------------------------------------------------------------------------------------------
def index(folder, path='model-index.yml'):
    return yaml.safe_load((folder / path).read_text(encoding='utf-8'))['Import']


def test_both_indices_name_all_metafiles(installed):
    wanted = {path.relative_to(ROOT).as_posix() for path in (ROOT / 'mmaction_configs').glob('*/metafile.yml')}
    assert set(index(ROOT)) == wanted and len(wanted) >= 4
    inside = [name.replace('mmaction_configs/', 'configs/') for name in index(ROOT)]
    assert index(ROOT, MIM + 'model-index.yml') == index(installed, MIM + 'model-index.yml') == inside


def test_the_index_of_an_installed_package_leads_to_its_files(installed):
    """As openmim and MMEngine read it: paths count from .mim, names are unique, each model has its collection."""
    names = []
    for metafile in index(installed, MIM + 'model-index.yml'):
        meta = yaml.safe_load((installed / MIM / metafile).read_text(encoding='utf-8'))
        collections = {each['Name'] for each in meta['Collections']}
        assert all((installed / MIM / each['README']).is_file() for each in meta['Collections'])
        for model in meta['Models']:
            names.append(model['Name'])
            assert (installed / MIM / model['Config']).is_file() and model['In Collection'] in collections
            assert Path(model['Config']).stem == model['Name'] and isinstance(model['Metadata'], dict)
            assert all({'Task', 'Dataset', 'Metrics'} <= set(result) for result in model['Results'])
    assert len(names) == len(set(names)) >= 72
    # mim looks a config up by its bare name
    files = [path.name for path in (installed / MIM / 'configs').rglob('*.py') if '_base_' not in path.parts]
    assert len(files) == len(set(files))


# ---- from a folder of one's own --------------------------------------------------------------------------------------
USE = """
import json, runpy, sys
from pathlib import Path
sys.argv = ['import_every_module.py', '--json', 'imported.json']
try:
    runpy.run_path({script!r}, run_name='__main__')
except SystemExit as done:
    assert not done.code, 'a module does not import'
import lsef_plugins
from mmengine.config import Config
from mmengine.hub import get_config
Path('child.py').write_text(
    "_base_ = ['lsef_plugins::dfew/tsn-r50_8xb8-u8-50e_dfew-fd1-rgb.py', 'lsef_plugins::_base_/lsef_neck.py']\\n"
    "model = dict(neck=_base_.lsef_neck)\\n", encoding='utf-8')
child = Config.fromfile('child.py')
twin = get_config('lsef_plugins::dfew/lsef_tsn-r50_8xb8-u8-50e_dfew-fd1-rgb.py')
from mmaction.registry import MODELS
from mmengine.registry import DefaultScope
child.model.backbone.update(pretrained=None)
with DefaultScope.overwrite_default_scope('mmaction'):
    neck = type(MODELS.build(child.model).neck).__name__
print('RESULT', json.dumps(dict(file=lsef_plugins.__file__, neck=neck, equal=child.model.neck == twin.model.neck,
                                scoped='_scope_' in child.pretty_text)))
"""


def test_every_module_imports_and_configs_are_inherited_from_an_installed_wheel(installed, tmp_path):
    code = USE.format(script=str(ROOT / 'tests' / 'import_every_module.py'))
    done = subprocess.run([sys.executable, '-W', 'ignore', '-c', code], cwd=tmp_path, capture_output=True, text=True,
                          env=environment(PYTHONPATH=str(installed), LSEF_OPS='off'))
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads(next(line for line in done.stdout.splitlines() if line.startswith('RESULT'))[7:])
    assert Path(result['file']).is_relative_to(installed)
    assert result['neck'] == 'LSEFNeck' and result['equal'] and not result['scoped']
    imported = json.loads((tmp_path / 'imported.json').read_text(encoding='utf-8'))
    modules = {'.'.join(path.relative_to(ROOT).with_suffix('').parts) for path in (ROOT / 'lsef_plugins').rglob('*.py')
               if '.mim' not in path.parts and path.name not in ('__init__.py', '__main__.py')}
    assert modules <= set(imported) and set(imported.values()) == {''}


def test_a_module_that_does_not_import_is_told(tmp_path):
    package = tmp_path / 'lsef_plugins'
    package.mkdir()
    for name, text in (('__init__', ''), ('good', ''), ('asks', 'import mmengine.nothing_of_that_name'),
                       ('broken', 'import no_such_package'), ('worse', '1 / 0')):
        (package / f'{name}.py').write_text(text, encoding='utf-8')
    done = subprocess.run([sys.executable, '-S', str(ROOT / 'tests' / 'import_every_module.py')], cwd=tmp_path,
                          env=environment(PYTHONPATH=str(tmp_path)), capture_output=True, text=True)
    assert done.returncode == 1 and '4 modules, 1 imported, 2 broken; the others: needs mmengine' in done.stdout
    assert 'no_such_package' in done.stderr and 'ZeroDivisionError' in done.stderr
