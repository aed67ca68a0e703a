"""The threads of a process group end with a job's work, not with its process."""
import os
import subprocess
import sys
from pathlib import Path

import pytest

JOB = """
import os
from lsef_plugins.engine.process_group import leave_job
import torch
import torch.distributed as dist

def threads():
    names = (open(f'/proc/self/task/{thread}/comm').read() for thread in os.listdir('/proc/self/task'))
    return [name.strip() for name in names if 'gloo' in name]

def work():
    model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(3, 3))
    model.itself = model
    model(torch.ones(2, 3)).sum().backward()
    return threads()

leave_job()         # of no group: nothing to do
dist.init_process_group('gloo')
print(*work())
leave_job()
assert not dist.is_initialized() and not threads(), threads()
"""


@pytest.mark.skipif(not Path('/proc/self/task').is_dir(), reason='threads have names under Linux')
def test_no_thread_outlives_a_group_that_a_model_held(free_port):
    # Without OpenMMLab, which imports torch.distributed.nn by chance, and then before the group exists.
    environment = dict(os.environ, RANK='0', WORLD_SIZE='1', MASTER_ADDR='127.0.0.1', MASTER_PORT=free_port,
                       OMP_NUM_THREADS='1', LSEF_PLUGINS_REGISTER='0')
    done = subprocess.run([sys.executable, '-c', JOB], env=environment, timeout=120, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    if not done.stdout.split():
        pytest.skip('this PyTorch gives the threads of gloo no names: they cannot be counted')
