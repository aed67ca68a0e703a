"""nvcc takes the kernels for the GPUs they are meant for, and no kernel spills registers to memory; the fast ones move
features 16 bytes at a time."""
import importlib.util
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from lsef_plugins.ops import builder as build

# Kernels times dtypes; folding and the T x T stage know float and double only. The fast ones know three dtypes, three
# numbers of frames, and whether more than y is asked for.
KERNELS = {'22low_rank_sparse_kernel': 4, '27low_rank_sparse_back_kernel': 4, '11gram_kernel': 4,
           'residual_scale_kernel': 4, 'scale_shrink_kernel': 4, 'scale_shrink_back_kernel': 4, '11fold_kernel': 2,
           'primitive_kernel': 1, 'frame_norms_kernel': 4, 'frame_shrink_kernel': 4, 'frame_dots_kernel': 4,
           'frame_back_kernel': 4, 'frame_fold_kernel': 2, 'eigh_kernel': 2, 'frame_repair_kernel': 2,
           'isolation_kernel': 2}
FAST = {'fast_low_rank_sparse_kernel': 18, 'fast_low_rank_sparse_back_kernel': 18, 'fast_gram_kernel': 18}
# float64 is there to check gradients, not to be fast: except here.
FAST_IN_DOUBLE = ('eigh_kernel', 'frame_repair_kernel', 'isolation_kernel')


@pytest.fixture(scope='module', params=['8.0', '9.0'])
def compiled(request, tmp_path_factory):
    """What ptxas says of the kernels, and the object."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv('LSEF_BUILD_CUDA', raising=False)
        patch.setenv('LSEF_CUDA_ARCHS', request.param)
        try:
            compiler, nvcc = build.find_compiler(), build.find_nvcc()
        except build.BuildError as error:
            pytest.skip(str(error))
        if nvcc is None:
            pytest.skip('there is no nvcc here: the CUDA kernels are not compiled')
        target = tmp_path_factory.mktemp('cuda') / 'cuda.o'
        command = [*build.nvcc_command(nvcc, compiler), *build.architectures(), '-Xptxas', '-v',
                   str(build.SOURCES / 'cuda.cu'), '-o', str(target)]
        done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stderr, target


def test_no_kernel_spills(compiled):
    found = re.findall(r'Function properties for (\S+)\n.*?(\d+) bytes spill stores, (\d+) bytes spill loads',
                       compiled[0])
    assert len(found) == sum(KERNELS.values()) + sum(FAST.values())
    for name, count in {**KERNELS, **FAST}.items():
        assert sum(name in symbol for symbol, *_ in found) == count, name
        spills = {symbol: spilled for symbol, *spilled in found
                  if name in symbol and (name in FAST_IN_DOUBLE or f'{name}IdE' not in symbol)}
        assert all(spilled == ['0', '0'] for spilled in spills.values()), spills


def disassembler():
    """cuobjdump of the toolkit, or the one that comes with Triton."""
    home = os.environ.get('CUDA_HOME')
    places = ([os.path.join(home, 'bin')] if home else []) + [os.environ['PATH']]
    found = shutil.which('cuobjdump', path=os.pathsep.join(places))
    triton = importlib.util.find_spec('triton')
    if found or triton is None:
        return found
    inside = Path(next(iter(triton.submodule_search_locations))) / 'backends' / 'nvidia' / 'bin' / 'cuobjdump'
    return str(inside) if os.access(inside, os.X_OK) else None


def test_the_fast_kernels_move_features_16_bytes_at_a_time(compiled):
    tool = disassembler()
    if tool is None:
        pytest.skip('there is no cuobjdump here: the machine code is not looked at')
    text = subprocess.run([tool, '--dump-sass', str(compiled[1])], capture_output=True, text=True, check=True).stdout
    functions = [part.split('\n', 1) for part in text.split('Function : ')[1:]]
    code = {name.strip(): body for name, body in functions if 'fast_' in name}
    assert len(code) == sum(FAST.values())
    for name, body in code.items():
        assert re.search(r'LDGSTS\S*\.128', body) and 'HMMA' in body, name
        assert not re.search(r'\b(LDL|STL)\b', body), name                          # no local memory
        assert not re.search(r'LDGSTS(?!\S*\.128)', body), name                     # features come in by 16 bytes,
        stores = re.findall(r'STG\.E(\S*)', body)
        # ... and go out by 16; sums go out as single floats, of which no fast kernel has anything narrower.
        assert all(width in ('', '.128') for width in stores), (name, sorted(set(stores)))
        assert ('.128' in stores) == ('gram' not in name), name
