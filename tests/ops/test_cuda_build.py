"""nvcc takes the kernels for the GPUs they are meant for, and no kernel spills registers to memory."""
import re
import subprocess

import pytest

from lsef_plugins.ops import build

# Kernels times dtypes; folding and the T x T stage know float and double only.
KERNELS = {'low_rank_sparse_kernel': 4, 'low_rank_sparse_back_kernel': 4, 'gram_kernel': 4, 'residual_scale_kernel': 4,
           'scale_shrink_kernel': 4, 'scale_shrink_back_kernel': 4, '11fold_kernel': 2, 'frame_norms_kernel': 4,
           'frame_shrink_kernel': 4, 'frame_dots_kernel': 4, 'frame_back_kernel': 4, 'frame_fold_kernel': 2,
           'eigh_kernel': 2, 'frame_repair_kernel': 2, 'isolation_kernel': 2}
# float64 is there to check gradients, not to be fast: except here.
FAST_IN_DOUBLE = ('eigh_kernel', 'frame_repair_kernel', 'isolation_kernel')


@pytest.mark.parametrize('architecture', ['8.0', '9.0'])
def test_compiles_without_spills(architecture, tmp_path, monkeypatch):
    monkeypatch.delenv('LSEF_BUILD_CUDA', raising=False)
    monkeypatch.setenv('LSEF_CUDA_ARCHS', architecture)
    try:
        compiler, nvcc = build.find_compiler(), build.find_nvcc()
    except build.BuildError as error:
        pytest.skip(str(error))
    if nvcc is None:
        pytest.skip('there is no nvcc here: the CUDA kernels are not compiled')
    command = [*build.nvcc_command(nvcc, compiler), *build.architectures(), '-Xptxas', '-v',
               str(build.SOURCES / 'cuda.cu'), '-o', str(tmp_path / 'cuda.o')]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = re.findall(r'Function properties for (\S+)\n.*?(\d+) bytes spill stores, (\d+) bytes spill loads',
                       done.stderr)
    assert len(found) == sum(KERNELS.values())
    for name, count in KERNELS.items():
        assert sum(name in symbol for symbol, *_ in found) == count, name
        spills = {symbol: spilled for symbol, *spilled in found
                  if name in symbol and (name in FAST_IN_DOUBLE or f'{name}IdE' not in symbol)}
        assert all(spilled == ['0', '0'] for spilled in spills.values()), spills
