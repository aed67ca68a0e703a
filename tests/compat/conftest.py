"""``stock`` and ``repaired``: what happened where the host is faulty, without and with our repairs.

Both are one run of probe.py in a process of its own: a dict from fault to the result, or to ``'Error: message'``.
"""
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROBE = Path(__file__).with_name('probe.py')


def meet(mode, folder):
    environment = dict(os.environ, LSEF_PLUGINS_REGISTER='0', CUDA_VISIBLE_DEVICES='', OMP_NUM_THREADS='1')
    done = subprocess.run([sys.executable, '-W', 'ignore', str(PROBE), mode, str(folder)], env=environment,
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope='session')
def stock(tmp_path_factory):
    return meet('stock', tmp_path_factory.mktemp('stock'))


@pytest.fixture(scope='session')
def repaired(tmp_path_factory):
    return meet('repaired', tmp_path_factory.mktemp('repaired'))
