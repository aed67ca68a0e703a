"""The stairs of the house: imports go only downward."""
import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1] / 'lsef_plugins'
HOST = {'mmaction', 'mmengine', 'mmcv', 'mmcls', 'mmpretrain', 'mmdet', 'mmpose'}
# A room may import from rooms on lower steps, and from itself.
STEPS = {
    'version': 0, 'files': 1,
    'ops': 1, 'functional': 2, 'nn': 3, 'optim': 3,
    'visualization': 4, 'registry': 10,
    'models': 12, 'engine': 13, 'datasets': 11, 'evaluation': 11,
    'compat': 20, 'register_all': 21, '__init__': 22, 'components': 22, 'apis': 23, 'doctor': 23, '__main__': 24,
}
# Reading annotations, drawing and the numpy formulas of evaluation need no OpenMMLab either.
HOST_FREE = ('files', 'ops', 'functional', 'nn', 'optim', 'version', 'evaluation/functional', 'visualization',
             'datasets/synthetic', 'datasets/transforms/corruptions/', 'datasets/annotations', 'datasets/doctor',
             'datasets/file_list.py', 'datasets/frames.py', 'datasets/integrity.py', 'datasets/splits.py')
MODULES = sorted(ROOT.rglob('*.py'))


def imports_of(path: Path):
    """Yields (absolute module name, is at module level) for every import statement of a file."""
    package = ('lsef_plugins', *path.relative_to(ROOT).parts[:-1])
    tree = ast.parse(path.read_text(encoding='utf-8'))
    top_level = set(map(id, tree.body))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, id(node) in top_level
        elif isinstance(node, ast.ImportFrom):
            parts = list(package[:len(package) - node.level + 1]) if node.level else []
            base = '.'.join(parts + ([node.module] if node.module else []))
            if node.module and base != 'lsef_plugins':
                yield base, id(node) in top_level
            else:
                for alias in node.names:
                    yield f'{base}.{alias.name}', id(node) in top_level


def test_every_way_to_write_an_import_is_seen(tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), 'ROOT', tmp_path)
    (tmp_path / 'functional').mkdir()
    for text, name in (('import lsef_plugins.models', 'lsef_plugins.models'),
                       ('from .. import models', 'lsef_plugins.models'),
                       ('from lsef_plugins import models', 'lsef_plugins.models'),
                       ('from ..models.sites import Site', 'lsef_plugins.models.sites'),
                       ('from . import rank', 'lsef_plugins.functional.rank')):
        (tmp_path / 'functional' / 'new.py').write_text(f'def f():\n    {text}\n')
        assert [found for found, _ in imports_of(tmp_path / 'functional' / 'new.py')][0] == name, text


def room(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix('').parts
    return parts[0]


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize('path', MODULES, ids=relative)
def test_every_module_lives_in_a_named_room(path):
    assert room(path) in STEPS, f'{relative(path)}: add its room to the stairs or move it'


@pytest.mark.parametrize('path', MODULES, ids=relative)
def test_imports_go_only_downward(path):
    here = room(path)
    for name, _ in imports_of(path):
        parts = name.split('.')
        if parts[0] != 'lsef_plugins' or len(parts) == 1 or parts[1] in (here, '__version__'):
            continue
        if here == '__init__':
            continue
        assert STEPS[parts[1]] < STEPS[here], f'{relative(path)} imports {name}: upward or sideways'


@pytest.mark.parametrize('path', [p for p in MODULES if relative(p).startswith(HOST_FREE)], ids=relative)
def test_the_lower_half_knows_no_openmmlab_package(path):
    for name, _ in imports_of(path):
        assert name.split('.')[0] not in HOST, f'{relative(path)} imports {name}'


@pytest.mark.parametrize('path', MODULES, ids=relative)
def test_only_compat_asks_for_versions_of_other_packages(path):
    if room(path) in ('compat', '__init__', 'version'):
        return
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
        if isinstance(node, ast.Attribute) and node.attr == '__version__':
            raise AssertionError(f'{relative(path)}:{node.lineno} looks at a version; that belongs in compat/')
