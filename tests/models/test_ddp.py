"""Two real processes train a plugged recognizer as one would."""
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

WORKER = Path(__file__).with_name('ddp_worker.py')


@pytest.mark.slow
def test_two_processes_end_where_one_does_on_the_same_batch(tmp_path):
    """find_unused_parameters=False: every neck parameter takes part; without batch statistics the sum is the same."""
    environment = {key: value for key, value in os.environ.items() if key not in ('RANK', 'WORLD_SIZE', 'LOCAL_RANK')}
    environment['OMP_NUM_THREADS'] = '1'
    launch = [sys.executable, '-W', 'ignore', '-m', 'torch.distributed.run', '--standalone', '--nproc_per_node=2']
    alone = [sys.executable, '-W', 'ignore', str(WORKER), str(tmp_path)]
    for command in ([*launch, str(WORKER), str(tmp_path)], alone):
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr[-3000:]
    one, first, second = (torch.load(tmp_path / name, weights_only=True)
                          for name in ('1_0.pth', '2_0.pth', '2_1.pth'))
    start = {key: value for key, value in one.items() if key.startswith('neck.')}
    assert start
    for key in one:
        assert torch.equal(first[key], second[key]), key
        torch.testing.assert_close(first[key], one[key], rtol=1e-4, atol=1e-6, msg=lambda m, key=key: f'{key}: {m}')
    assert one['neck.streams.0.ddm.offset.weight'].abs().max() > 0
