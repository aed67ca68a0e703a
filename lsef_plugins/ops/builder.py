"""Builds the compiled operators: ``python -m lsef_plugins.ops.build``.

One shared library, bound to PyTorch's stable ABI and to no Python: built once, it serves every Python and every torch
from 2.10 on. The compiler is called directly, so that nothing but a compiler and torch's headers is needed. This file
runs on its own (setup.py executes it before the package is importable) and never imports torch.

Environment: ``CXX`` the C++ compiler (g++), ``CUDA_HOME`` where nvcc is, ``LSEF_BUILD_CUDA`` ``auto`` (default: CUDA
kernels where there are nvcc and a torch for CUDA), ``1`` or ``0``,
``LSEF_CUDA_ARCHS`` (``8.0 9.0+PTX``), ``MAX_JOBS`` compilers at a time.
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
from typing import List, Optional, Sequence, Tuple

HERE = Path(__file__).resolve().parent
SOURCES = HERE / 'csrc'
LIBRARY = Path('_lib') / 'lsef_ops.so'
SUFFIXES = ('.cpp', '.cu', '.cuh', '.h')
COMMAND = 'python -m lsef_plugins.ops.build'
# The oldest torch whose stable ABI has what the binding uses, as its headers want it told.
OLDEST_TORCH, TARGET = (2, 10), '0x020a000000000000'
ARCHITECTURES = '8.0 9.0+PTX'
# Without -fno-math-errno no loop over square roots becomes one of vectors.
FLAGS = ('-std=c++17', '-fPIC', '-fvisibility=hidden', '-Wno-psabi', '-fno-math-errno')


class BuildError(RuntimeError):
    """The operators cannot be built here; the message says what is missing."""


def source_hash() -> str:
    """Names the sources a library was built from."""
    digest = hashlib.sha256()
    # An editor's copies and folders are no sources.
    for path in sorted(path for path in SOURCES.iterdir() if path.suffix in SUFFIXES and path.name[0] != '.'):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def find_compiler() -> str:
    wanted = os.environ.get('CXX') or 'g++'
    found = shutil.which(wanted)
    if found is None:
        raise BuildError(f'there is no C++ compiler {wanted!r} on the PATH; install g++ or name yours in CXX')
    return found


def find_nvcc() -> Optional[Path]:
    """nvcc, or None where it is not there or not wanted. CUDA_HOME first: the one on the PATH may be a mere script."""
    wanted = os.environ.get('LSEF_BUILD_CUDA', 'auto')
    if wanted not in ('auto', '1', '0'):
        raise BuildError(f'LSEF_BUILD_CUDA={wanted} is unknown; set it to auto, 1 or 0')
    if wanted == '0':
        return None
    for home in (os.environ.get('CUDA_HOME'), '/usr/local/cuda'):
        if home and os.access(os.path.join(home, 'bin', 'nvcc'), os.X_OK):
            return Path(home) / 'bin' / 'nvcc'
    found = shutil.which('nvcc')
    if found is None and wanted == '1':
        raise BuildError('LSEF_BUILD_CUDA=1, but there is no nvcc; set CUDA_HOME')
    return None if found is None else Path(found)


def find_cuda_runtime(nvcc: Path) -> Path:
    """The folder of the static runtime of this nvcc, which its dry run names even where nvcc is a script."""
    told = subprocess.run([str(nvcc), '-dryrun', '-o', 'out', 'in.o'], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True).stdout
    roots = [Path(root) for root in re.findall(r'^#\$ (?:TOP|CUDA_PATH|_TARGET_DIR_ROOT_)=(.+)$', told, re.M)]
    for root in (*roots, nvcc.resolve().parents[1]):
        for folder in ('lib64', 'targets/x86_64-linux/lib', 'lib'):
            if (root / folder / 'libcudart_static.a').exists():
                return root / folder
    raise BuildError(f'libcudart_static.a is not beside {nvcc}; set CUDA_HOME to a whole CUDA toolkit')


def architectures() -> List[str]:
    """nvcc's flags for ``LSEF_CUDA_ARCHS``, for example ``8.0 9.0+PTX``: the last one also as PTX for later GPUs."""
    flags: List[str] = []
    wanted = os.environ.get('LSEF_CUDA_ARCHS') or ARCHITECTURES
    for name in re.split(r'[ ,;]+', wanted.strip()):
        if not re.fullmatch(r'\d+\.\d+a?(\+PTX)?', name):
            raise BuildError(f'LSEF_CUDA_ARCHS={wanted} is unreadable; write for example "{ARCHITECTURES}"')
        number = name.replace('+PTX', '').replace('.', '')
        flags += ['-gencode', f'arch=compute_{number},code=sm_{number}']
        if name.endswith('+PTX'):
            flags += ['-gencode', f'arch=compute_{number},code=compute_{number}']
    return flags


def find_torch() -> Tuple[Path, Path]:
    """Headers and libraries of the installed torch."""
    root = _torch_here() or _torch_behind_isolation()
    if root is None:
        raise BuildError('this build cannot see torch, whose headers it needs; install torch 2.10 or later first, and '
                         f'add --no-build-isolation where your installer builds elsewhere, or run later: {COMMAND}')
    try:
        header = (root / 'include' / 'torch' / 'headeronly' / 'version.h').read_text(encoding='utf-8')
    except OSError:
        raise BuildError(f'the torch at {root} is older than 2.10, the first with a stable ABI wide enough') from None
    found = tuple(int(number) for number in re.findall(r'#define TORCH_VERSION_(?:MAJOR|MINOR) (\d+)', header))
    if found < OLDEST_TORCH:
        raise BuildError(f'torch 2.10 or later is needed to build the operators, found {".".join(map(str, found))}')
    return root / 'include', root / 'lib'


def is_for_cuda(torch: Path) -> bool:
    """Whether the torch in this folder was built with CUDA; CUDA kernels take a minute, and no other runs them."""
    told = (torch / 'version.py').read_text(encoding='utf-8')
    return not re.search(r'^cuda\b.*= None$', told, re.M)


def _torch_here() -> Optional[Path]:
    spec = importlib.util.find_spec('torch')
    places = list(spec.submodule_search_locations or ()) if spec else []
    return Path(places[0]) if places else None


def _torch_behind_isolation() -> Optional[Path]:
    """torch of the environment that pip installs into, which it hides from the build through PYTHONPATH."""
    code = ('from importlib.util import find_spec; found = find_spec("torch"); '
            'print(*(found.submodule_search_locations or ()) if found else ())')
    told = subprocess.run([sys.executable, '-I', '-c', code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                          text=True)
    return Path(told.stdout.strip()) if told.stdout.strip() else None


def commands(work: Path) -> Tuple[List[List[str]], List[str]]:
    """The compilations, which are independent, and the link after them."""
    compiler, nvcc = find_compiler(), find_nvcc()
    include, lib = find_torch()
    if os.environ.get('LSEF_BUILD_CUDA', 'auto') == 'auto' and not is_for_cuda(include.parent):
        nvcc = None
    # What a check says of itself names the file, not the machine it was compiled on.
    base = [compiler, *FLAGS, f'-ffile-prefix-map={SOURCES}=csrc']
    kernels = sorted(path.stem for path in SOURCES.glob('*.cpp') if path.stem != 'binding')
    objects = {name: str(work / f'{name}.o') for name in (*kernels, 'binding')}
    compilations = [
        *([*base, '-O3', '-c', str(SOURCES / f'{name}.cpp'), '-o', objects[name]] for name in kernels),
        [*base, '-O2', f'-DTORCH_TARGET_VERSION={TARGET}', f'-DLSEF_SOURCE_HASH="{source_hash()}"',
         *(['-DLSEF_WITH_CUDA'] if nvcc else []), f'-I{include}', '-c', str(SOURCES / 'binding.cpp'), '-o',
         objects['binding']]]
    libraries = [f'-L{lib}', '-ltorch_cpu', '-ldl']
    if nvcc is not None:
        objects['cuda'] = str(work / 'cuda.o')
        compilations.append([*nvcc_command(nvcc, compiler), '--threads', str(jobs()), *architectures(),
                             str(SOURCES / 'cuda.cu'), '-o', objects['cuda']])
        # Static, so that the library does not ask for the runtime of one CUDA release.
        libraries += [f'-L{find_cuda_runtime(nvcc)}', '-lcudart_static', '-lrt', '-lpthread']
    link = [compiler, '-shared', '-s', '-Wl,--exclude-libs,ALL', '-o', str(work / LIBRARY.name), *objects.values(),
            *libraries]
    return compilations, link


def nvcc_command(nvcc: Path, compiler: str) -> List[str]:
    return [str(nvcc), '-std=c++17', '-O3', '-ccbin', compiler, '-Xcompiler', '-fPIC,-fvisibility=hidden', '-c']


def jobs() -> int:
    """Compilers at a time."""
    wanted = os.environ.get('MAX_JOBS') or str(os.cpu_count() or 1)
    if not re.fullmatch(r'0*[1-9]\d*', wanted):
        raise BuildError(f'MAX_JOBS={wanted} is no number of compilers at a time; set it to 1 or more, or unset it')
    return int(wanted)


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
        with concurrent.futures.ThreadPoolExecutor(jobs()) as pool:
            list(pool.map(run, compilations))
        run(link)
        try:
            _place(work / LIBRARY.name, target)
        except OSError as error:
            raise BuildError(f'{target.parent} cannot be written ({error}); build in a checkout that can, and name its '
                             'library in LSEF_OPS_LIBRARY') from None
    return target


def _place(built: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, part = tempfile.mkstemp(dir=str(target.parent), prefix='.', suffix='.part')
    os.close(handle)
    shutil.copyfile(str(built), part)
    os.chmod(part, 0o755)
    os.replace(part, str(target))


def main() -> None:
    argparse.ArgumentParser(prog=COMMAND, description='Builds the compiled operators of lsef_plugins.').parse_args()
    try:
        print(f'lsef_plugins: built {build()}')
    except BuildError as error:
        sys.exit(f'lsef_plugins: the operators were not built: {error}')


if __name__ == '__main__':
    main()
