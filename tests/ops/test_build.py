"""The builder says what is missing, never leaves half a library, and an install without it still works."""
import ctypes
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lsef_plugins.ops import builder as build

ROOT = Path(build.HERE).parents[1]
PRINT = 'from lsef_plugins import ops; print(ops.status()["library"])'


def environment(**changes):
    keep = {k: v for k, v in os.environ.items() if not k.startswith('LSEF_')}
    return {**keep, 'PYTHONPATH': str(ROOT), 'LSEF_PLUGINS_REGISTER': '0', 'LSEF_BUILD_CUDA': '0', **changes}


def write_small(csrc):
    visible = 'extern "C" __attribute__((visibility("default")))'
    (csrc / 'cpu.cpp').write_text(f'{visible} int lsef_answer() {{ return 42; }}\n')
    (csrc / 'binding.cpp').write_text(f'{visible} const char* lsef_hash() {{ return LSEF_SOURCE_HASH; }}\n')


@pytest.fixture
def small_sources(tmp_path, monkeypatch):
    """A library that compiles in a moment, through the real commands."""
    sources = tmp_path / 'csrc'
    sources.mkdir()
    write_small(sources)
    monkeypatch.setattr(build, 'SOURCES', sources)
    monkeypatch.setenv('LSEF_BUILD_CUDA', '0')
    return sources


@pytest.fixture
def compiler():
    try:
        build.find_compiler(), build.find_torch()
    except build.BuildError as error:
        pytest.skip(str(error))


def test_the_hash_names_contents_and_names_of_the_sources(small_sources):
    first = build.source_hash()
    (small_sources / 'cpu.cpp').rename(small_sources / 'other.cpp')
    second = build.source_hash()
    (small_sources / 'other.cpp').write_text('// changed\n')
    assert len({first, second, build.source_hash()}) == 3 and len(first) == 16


def test_what_an_editor_leaves_is_no_source(small_sources):
    first = build.source_hash()
    for name in ('.cpu.cpp.swp', '.#cpu.cpp', 'cpu.cpp~', 'cpu.cpp.orig'):
        (small_sources / name).write_text('a copy')
    (small_sources / '.ipynb_checkpoints').mkdir()
    assert build.source_hash() == first


def test_every_file_of_the_sources_counts():
    assert {path.suffix for path in build.SOURCES.iterdir() if path.name[0] != '.'} <= set(build.SUFFIXES)


@pytest.mark.parametrize('wanted', ['many', '0', '-1', '1.5'])
def test_a_number_of_compilers_that_is_none_is_refused(monkeypatch, wanted):
    monkeypatch.setenv('MAX_JOBS', wanted)
    with pytest.raises(build.BuildError, match=f'MAX_JOBS={wanted} is no number of compilers'):
        build.jobs()


def test_a_place_that_cannot_be_written_is_named(small_sources, compiler, tmp_path):
    (tmp_path / 'package').write_text('no folder')
    with pytest.raises(build.BuildError, match='_lib cannot be written .*LSEF_OPS_LIBRARY'):
        build.build(tmp_path / 'package')


def test_a_missing_compiler_is_named(monkeypatch):
    monkeypatch.setenv('CXX', 'no-such-compiler')
    with pytest.raises(build.BuildError, match="no C.. compiler 'no-such-compiler' on the PATH"):
        build.find_compiler()


@pytest.mark.parametrize('told, wanted, expected', [
    ('cuda: Optional[str] = None', 'auto', False), ("cuda: Optional[str] = '13.0'", 'auto', True),
    ('cuda: Optional[str] = None', '1', True)])
def test_cuda_kernels_are_compiled_for_a_torch_that_can_run_them(told, wanted, expected, monkeypatch, tmp_path):
    (tmp_path / 'version.py').write_text(f"__version__ = '2.13.0'\n{told}\nhip: Optional[str] = None\n")
    monkeypatch.setenv('LSEF_BUILD_CUDA', wanted)
    monkeypatch.setattr(build, 'find_compiler', lambda: 'g++')
    monkeypatch.setattr(build, 'find_nvcc', lambda: Path('nvcc'))
    monkeypatch.setattr(build, 'find_cuda_runtime', lambda nvcc: tmp_path)
    monkeypatch.setattr(build, 'find_torch', lambda: (tmp_path / 'include', tmp_path / 'lib'))
    compilations, link = build.commands(tmp_path)
    assert any(command[0] == 'nvcc' for command in compilations) == ('-lcudart_static' in link) == expected


def test_an_unseen_torch_is_named(monkeypatch):
    monkeypatch.setattr(build.importlib.util, 'find_spec', lambda name: None)
    monkeypatch.setattr(build, '_torch_behind_isolation', lambda: None)
    with pytest.raises(build.BuildError, match='add --no-build-isolation'):
        build.find_torch()


def test_a_torch_that_pip_hides_from_the_build_is_found(monkeypatch):
    # pip's build isolation is a PYTHONPATH whose sitecustomize takes the environment's packages away.
    seen = build.find_torch()
    monkeypatch.setattr(build.importlib.util, 'find_spec', lambda name: None)
    assert build.find_torch() == seen


@pytest.mark.parametrize('header, message', [
    (None, 'older than 2.10'),
    ('#define TORCH_VERSION_MAJOR 2\n#define TORCH_VERSION_MINOR 9\n', 'found 2.9')])
def test_an_old_torch_is_named(monkeypatch, tmp_path, header, message):
    if header:
        (tmp_path / 'include' / 'torch' / 'headeronly').mkdir(parents=True)
        (tmp_path / 'include' / 'torch' / 'headeronly' / 'version.h').write_text(header)
    spec = type('Spec', (), dict(submodule_search_locations=[str(tmp_path)]))()
    monkeypatch.setattr(build.importlib.util, 'find_spec', lambda name: spec)
    with pytest.raises(build.BuildError, match=message):
        build.find_torch()


def test_the_target_is_the_oldest_torch():
    major, minor = build.OLDEST_TORCH
    assert int(build.TARGET, 16) == (major << 56) + (minor << 48)


def test_a_failed_command_shows_itself_and_leaves_nothing(small_sources, compiler, tmp_path):
    (small_sources / 'cpu.cpp').write_text('this is no C++\n')
    with pytest.raises(build.BuildError, match='this command failed:\n.*cpu.cpp(.|\n)*error'):
        build.build(tmp_path / 'package')
    assert not (tmp_path / 'package').exists()


def test_a_library_does_not_tell_where_it_was_built(small_sources, compiler, tmp_path):
    visible = 'extern "C" __attribute__((visibility("default")))'
    (small_sources / 'binding.cpp').write_text(f'{visible} const char* lsef_file() {{ return __FILE__; }}\n')
    content = build.build(tmp_path).read_bytes()
    assert b'csrc/binding.cpp' in content and str(small_sources).encode() not in content


def test_a_new_library_replaces_the_old_one_whole(small_sources, compiler, tmp_path):
    first = build.build(tmp_path)
    assert first == tmp_path / '_lib' / 'lsef_ops.so' and ctypes.CDLL(str(first)).lsef_answer() == 42
    before = first.stat().st_ino
    assert build.build(tmp_path).stat().st_ino != before, 'those who have the old one open keep it'
    assert [p.name for p in first.parent.iterdir()] == ['lsef_ops.so'], 'and no scraps'


BUILD_SMALL = '''
import sys
from pathlib import Path
from lsef_plugins.ops import builder as build
build.SOURCES = Path(sys.argv[1])
build.build(Path(sys.argv[2]))
'''


def test_processes_that_build_at_once_do_not_disturb_each_other(small_sources, compiler, tmp_path):
    command = [sys.executable, '-c', BUILD_SMALL, str(small_sources), str(tmp_path)]
    processes = [subprocess.Popen(command, env=environment(LSEF_OPS='off')) for _ in range(3)]
    assert [p.wait() for p in processes] == [0, 0, 0]
    assert [p.name for p in (tmp_path / '_lib').iterdir()] == ['lsef_ops.so']


def test_processes_that_load_at_once_all_compute(library):
    code = PRINT + '; import torch; print(ops.gram(torch.ones(1, 1, 2, 3)).sum().item())'
    command = [sys.executable, '-c', code]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True,
                                  env=environment(LSEF_OPS_LIBRARY=library['library'], LSEF_OPS='required'))
                 for _ in range(3)]
    for process in processes:
        assert process.communicate()[0].split() == [library['library'], '12.0']


def test_the_command_says_what_is_missing():
    done = subprocess.run([sys.executable, '-m', 'lsef_plugins.ops.build'], stderr=subprocess.PIPE,
                          text=True, env=environment(CXX='no-such-compiler', LSEF_OPS='off'))
    assert done.returncode and "the operators were not built: there is no C++ compiler" in done.stderr


# ---- CUDA --------------------------------------------------------------------------------------------------------

def fake_nvcc(folder, runtime=True):
    (folder / 'bin').mkdir(parents=True)
    nvcc = folder / 'bin' / 'nvcc'
    nvcc.write_text(f'#!/bin/sh\necho "#$ TOP={folder}"\n')
    nvcc.chmod(0o755)
    if runtime:
        (folder / 'lib64').mkdir()
        (folder / 'lib64' / 'libcudart_static.a').touch()
    return nvcc


def test_nvcc_is_taken_from_cuda_home_before_the_path(monkeypatch, tmp_path):
    home, path = fake_nvcc(tmp_path / 'home'), fake_nvcc(tmp_path / 'path')
    monkeypatch.setenv('PATH', str(path.parent))
    monkeypatch.setenv('CUDA_HOME', str(tmp_path / 'home'))
    monkeypatch.delenv('LSEF_BUILD_CUDA', raising=False)
    assert build.find_nvcc() == home
    monkeypatch.setenv('LSEF_BUILD_CUDA', '0')
    assert build.find_nvcc() is None


def test_a_forced_cuda_build_without_nvcc_stops(monkeypatch, tmp_path):
    monkeypatch.setenv('PATH', str(tmp_path))
    monkeypatch.delenv('CUDA_HOME', raising=False)
    monkeypatch.setattr(build.os, 'access', lambda *args: False)
    monkeypatch.setenv('LSEF_BUILD_CUDA', '1')
    with pytest.raises(build.BuildError, match='no nvcc; set CUDA_HOME'):
        build.find_nvcc()
    monkeypatch.setenv('LSEF_BUILD_CUDA', 'auto')
    assert build.find_nvcc() is None
    monkeypatch.setenv('LSEF_BUILD_CUDA', 'yes')
    with pytest.raises(build.BuildError, match='LSEF_BUILD_CUDA=yes is unknown'):
        build.find_nvcc()


def test_the_runtime_lies_where_nvcc_says_even_if_nvcc_is_a_script_elsewhere(tmp_path):
    toolkit = fake_nvcc(tmp_path / 'toolkit')
    (tmp_path / 'bin').mkdir()
    script = tmp_path / 'bin' / 'nvcc'
    script.write_text(f'#!/bin/sh\nexec {toolkit} "$@"\n')
    script.chmod(0o755)
    assert build.find_cuda_runtime(script) == tmp_path / 'toolkit' / 'lib64'
    with pytest.raises(build.BuildError, match='set CUDA_HOME to a whole CUDA toolkit'):
        build.find_cuda_runtime(fake_nvcc(tmp_path / 'part', runtime=False))


def test_architectures_are_named_as_torch_names_them(monkeypatch):
    monkeypatch.delenv('LSEF_CUDA_ARCHS', raising=False)
    assert build.architectures()[1::2] == ['arch=compute_80,code=sm_80', 'arch=compute_90,code=sm_90',
                                           'arch=compute_90,code=compute_90']
    monkeypatch.setenv('LSEF_CUDA_ARCHS', '8.6;9.0a')
    assert build.architectures()[1::2] == ['arch=compute_86,code=sm_86', 'arch=compute_90a,code=sm_90a']
    monkeypatch.setenv('LSEF_CUDA_ARCHS', 'sm_90')
    with pytest.raises(build.BuildError, match='LSEF_CUDA_ARCHS=sm_90 is unreadable'):
        build.architectures()


# ---- installing --------------------------------------------------------------------------------------------------

@pytest.fixture
def checkout(tmp_path):
    """What a wheel is made of, with sources that compile in a moment."""
    root = tmp_path / 'checkout'
    shutil.copytree(ROOT / 'lsef_plugins', root / 'lsef_plugins', symlinks=True,
                    ignore=shutil.ignore_patterns('_lib', '__pycache__', 'csrc'))
    for name in ('setup.py', 'pyproject.toml', 'README.md'):
        shutil.copy(ROOT / name, root / name)
    for name in ('mmaction_configs', 'tools'):
        (root / name).mkdir()
    csrc = root / 'lsef_plugins' / 'ops' / 'csrc'
    csrc.mkdir()
    write_small(csrc)
    return root


def build_package(checkout, **changes):
    done = subprocess.run([sys.executable, 'setup.py', '-q', 'build', '--build-base', 'out'], cwd=str(checkout),
                          capture_output=True, text=True,
                          env={**environment(**changes), 'PYTHONPATH': ''})
    built = [p for p in (checkout / 'out').rglob('lsef_plugins') if (p / 'ops').is_dir()]
    return done, sorted(p.name for p in built[0].glob('ops/_lib/*')) if built else None


def test_an_install_builds_the_operators_where_it_can(checkout, compiler):
    done, libraries = build_package(checkout)
    assert done.returncode == 0 and libraries == ['lsef_ops.so'], done.stderr


def test_an_install_without_a_compiler_works_and_says_so(checkout):
    done, libraries = build_package(checkout, CXX='no-such-compiler')
    assert done.returncode == 0 and libraries == []
    assert 'installed without compiled operators: there is no C++ compiler' in done.stderr


def test_a_forced_build_without_a_compiler_stops(checkout):
    done, _ = build_package(checkout, CXX='no-such-compiler', LSEF_BUILD_OPS='1')
    assert done.returncode and 'LSEF_BUILD_OPS=1, but the operators of lsef_plugins cannot be built' in done.stderr


def test_a_build_that_is_not_wanted_is_not_tried(checkout):
    done, libraries = build_package(checkout, LSEF_BUILD_OPS='0')
    assert done.returncode == 0 and libraries == [] and 'compiled' not in done.stderr


@pytest.mark.parametrize('changes', [dict(LSEF_BUILD_OPS='0'), dict(CXX='no-such-compiler')], ids=str)
def test_a_library_that_lay_in_the_checkout_is_not_packed(checkout, changes):
    left = checkout / 'lsef_plugins' / 'ops' / '_lib' / 'lsef_ops.so'
    left.parent.mkdir()
    left.write_bytes(b'of another day')
    done, libraries = build_package(checkout, **changes)
    assert done.returncode == 0 and libraries == [], done.stderr
    assert left.read_bytes() == b'of another day', 'it is the checkout\'s own'


def test_an_unknown_wish_stops(checkout):
    done, _ = build_package(checkout, LSEF_BUILD_OPS='yes')
    assert done.returncode and 'LSEF_BUILD_OPS=yes is unknown; set it to auto, 1 or 0' in done.stderr
