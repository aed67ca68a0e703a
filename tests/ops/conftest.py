"""``emulated_library``: the CUDA kernels for the CPU. ``primitives``: what each of their instructions must do."""
import subprocess
from pathlib import Path

import pytest
import torch

from lsef_plugins.ops import builder as build


@pytest.fixture(scope='session')
def emulated_library(tmp_path_factory):
    try:
        compiler = build.find_compiler()
    except build.BuildError as error:
        pytest.skip(str(error))
    here, target = Path(__file__).parent / 'emulation', tmp_path_factory.mktemp('emulation') / 'emulated.so'
    subprocess.run([compiler, '-std=c++17', '-O1', '-fPIC', '-shared', '-Wno-subobject-linkage', f'-I{build.SOURCES}',
                    f'-I{here}', str(here / 'emulated.cpp'), '-o', str(target)], check=True)
    return target


def _words(x):
    """Neighbouring 16-bit values as 32-bit words, the first in the low half."""
    return x.contiguous().view(torch.int32)


@pytest.fixture(scope='session')
def primitives():
    """(name, number, words in, words out) of csrc/cuda_primitives.cuh, written down from the tables of the PTX manual:
    lane 4 g + q of the warp holds rows g and g + 8 and columns 2 q and 2 q + 1. Small integers, so sums are exact."""
    generator = torch.Generator().manual_seed(0)

    def integers(*shape):
        return torch.randint(-8, 9, shape, generator=generator).float()

    lane = torch.arange(32)
    g, q, cases = lane // 4, lane % 4, []
    for name, number, depth in (('m16n8k8', 0, 8), ('m16n8k16', 1, 16)):
        a, b, c = integers(16, depth), integers(depth, 8), integers(16, 8)

        def quarters(m, g=g, q=q):
            return torch.stack([m[g + 8 * (i // 2), 2 * q + i % 2] for i in range(4)], 1)

        half = a.bfloat16()
        rows = [_words(torch.stack([half[g + 8 * (r % 2), 2 * q + 8 * (r // 2) + i] for i in (0, 1)], 1))
                for r in range(depth // 4)]
        half = b.bfloat16()
        columns = [_words(torch.stack([half[2 * q + 8 * r + i, g] for i in (0, 1)], 1)) for r in range(depth // 8)]
        cases.append((name, number, torch.cat([_words(quarters(c)), *rows, *columns], 1), _words(quarters(c + a @ b))))
    m = integers(8, 8).bfloat16()
    cases.append(('movmatrix', 2, *(_words(torch.stack([x[g, 2 * q], x[g, 2 * q + 1]], 1)) for x in (m, m.T))))
    words = torch.randint(-2 ** 31, 2 ** 31, (32, 4), generator=generator).int()
    cases.append(('cp.async', 3, words, words.flip(0)))
    values = torch.randn(32, 2, generator=generator)
    values[0, 0], values[1, 1], values[2, 0] = float('inf'), 3e-41, -0.0
    cases.append(('cvt', 4, _words(values), torch.cat([_words(values.bfloat16()), _words(values.half())], 1)))
    return [(name, number, given.contiguous(), expected.contiguous()) for name, number, given, expected in cases]
