"""Two real processes train a plugged recognizer as one would."""
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

WORKER = Path(__file__).with_name('ddp_worker.py')
NAMES = ['tsm', 'slowonly', 'videomae', 'stgcn']     # frames, volumes, tokens, a graph


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Weights after three steps, of one process and of each of two."""
    folder = tmp_path_factory.mktemp('ddp')
    environment = {key: value for key, value in os.environ.items() if key not in ('RANK', 'WORLD_SIZE', 'LOCAL_RANK')}
    environment['OMP_NUM_THREADS'] = '1'
    launch = [sys.executable, '-W', 'ignore', '-m', 'torch.distributed.run', '--standalone', '--nproc_per_node=2']
    for command in (launch, [sys.executable, '-W', 'ignore']):
        done = subprocess.run([*command, str(WORKER), str(folder), *NAMES], env=environment, capture_output=True,
                              text=True, timeout=600)
        assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.mark.slow
@pytest.mark.parametrize('name', NAMES)
def test_two_processes_end_where_one_does_on_the_same_batch(name, folder, make_family):
    """find_unused_parameters=False: every neck parameter takes part; without batch statistics the sum is the same."""
    one, first, second = (torch.load(folder / f'{name}_{end}.pth', weights_only=True)
                          for end in ('1_0', '2_0', '2_1'))
    start = make_family(name).build(dict(type='LSEFNeck')).state_dict()
    for key in one:
        assert torch.equal(first[key], second[key]), key
        way, apart = (one[key].double() - start[key]).norm(), (one[key].double() - first[key]).norm()
        # Sums in another order tip a few ReLUs and maxima; losses not averaged over processes would tip the half.
        assert apart <= 1e-2 * way + 1e-6 * one[key].double().norm(), f'{key}: {apart} apart after {way}'
        if key.startswith('neck.'):
            assert way > 0, f'{key} has not learned'
