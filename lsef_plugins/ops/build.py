"""Builds the compiled operators: ``python -m lsef_plugins.ops.build``.

One shared library, bound to PyTorch's stable ABI and to no Python: built once, it serves every Python and every torch
from 2.10 on. The compiler is called directly, so that nothing but a compiler and torch's headers is needed. This file
runs on its own (setup.py executes it before the package is importable) and never imports torch.

Environment: ``CXX`` the C++ compiler (g++), ``MAX_JOBS`` compilers at a time.
"""
import argparse
import concurrent.futures
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import List, Sequence, Tuple

HERE = Path(__file__).resolve().parent
SOURCES = HERE / 'csrc'
LIBRARY = Path('_lib') / 'lsef_ops.so'
COMMAND = 'python -m lsef_plugins.ops.build'
# The oldest torch whose stable ABI has what the binding uses, as its headers want it told.
OLDEST_TORCH, TARGET = (2, 10), '0x020a000000000000'
FLAGS = ('-std=c++17', '-fPIC', '-fvisibility=hidden', '-Wno-psabi')


class BuildError(RuntimeError):
    """The operators cannot be built here; the message says what is missing."""


def source_hash() -> str:
    """Names the sources a library was built from."""
    digest = hashlib.sha256()
    for path in sorted(SOURCES.iterdir()):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def find_compiler() -> str:
    wanted = os.environ.get('CXX') or 'g++'
    found = shutil.which(wanted)
    if found is None:
        raise BuildError(f'there is no C++ compiler {wanted!r} on the PATH; install g++ or name yours in CXX')
    return found


def find_torch() -> Tuple[Path, Path]:
    """Headers and libraries of the installed torch."""
    spec = importlib.util.find_spec('torch')
    if spec is None or not spec.submodule_search_locations:
        raise BuildError('this build cannot see torch, whose headers it needs; with pip, add --no-build-isolation')
    root = Path(next(iter(spec.submodule_search_locations)))
    try:
        header = (root / 'include' / 'torch' / 'headeronly' / 'version.h').read_text(encoding='utf-8')
    except OSError:
        raise BuildError(f'the torch at {root} is older than 2.10, the first with a stable ABI wide enough') from None
    found = tuple(int(number) for number in re.findall(r'#define TORCH_VERSION_(?:MAJOR|MINOR) (\d+)', header))
    if found < OLDEST_TORCH:
        raise BuildError(f'torch 2.10 or later is needed to build the operators, found {".".join(map(str, found))}')
    return root / 'include', root / 'lib'


def commands(work: Path) -> Tuple[List[List[str]], List[str]]:
    """The compilations, which are independent, and the link after them."""
    compiler = find_compiler()
    include, lib = find_torch()
    base = [compiler, *FLAGS]
    kernels, binding = str(work / 'cpu.o'), str(work / 'binding.o')
    compile_kernels = [*base, '-O3', '-c', str(SOURCES / 'cpu.cpp'), '-o', kernels]
    compile_binding = [*base, '-O2', f'-DTORCH_TARGET_VERSION={TARGET}', f'-DLSEF_SOURCE_HASH="{source_hash()}"',
                       f'-I{include}', '-c', str(SOURCES / 'binding.cpp'), '-o', binding]
    link = [compiler, '-shared', '-s', '-Wl,--exclude-libs,ALL', '-o', str(work / LIBRARY.name), kernels, binding,
            f'-L{lib}', '-ltorch_cpu']
    return [compile_kernels, compile_binding], link


def run(command: Sequence[str]) -> None:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise BuildError(f'this command failed:\n{" ".join(command)}\n{done.stdout}')


def build(package: Path = HERE) -> Path:
    """Builds into ``package/_lib`` and returns the library. Processes that build at once do not disturb each other.

    Raises:
        BuildError: the compiler or torch is missing, or a command failed.
    """
    target = Path(package) / LIBRARY
    with tempfile.TemporaryDirectory(prefix='lsef_build_') as folder:
        work = Path(folder)
        compilations, link = commands(work)
        with concurrent.futures.ThreadPoolExecutor(int(os.environ.get('MAX_JOBS') or os.cpu_count() or 1)) as pool:
            list(pool.map(run, compilations))
        run(link)
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, part = tempfile.mkstemp(dir=str(target.parent), prefix='.', suffix='.part')
        os.close(handle)
        shutil.copyfile(str(work / LIBRARY.name), part)
        os.chmod(part, 0o755)
        os.replace(part, str(target))
    return target


def main() -> None:
    argparse.ArgumentParser(prog=COMMAND, description='Builds the compiled operators of lsef_plugins.').parse_args()
    try:
        print(f'lsef_plugins: built {build()}')
    except BuildError as error:
        sys.exit(f'lsef_plugins: the operators were not built: {error}')


if __name__ == '__main__':
    main()
