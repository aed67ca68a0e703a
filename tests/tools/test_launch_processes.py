"""tools/launch_processes.py: what is refused before anything starts, and how a job ends whose processes do."""
import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

TOOL = Path(__file__).resolve().parents[2] / 'tools' / 'launch_processes.py'
spec = importlib.util.spec_from_file_location('tool_launch_processes', TOOL)
launch = importlib.util.module_from_spec(spec)
sys.modules[spec.name] = launch
spec.loader.exec_module(launch)


@pytest.fixture
def config(tmp_path):
    (tmp_path / 'config.py').write_text('', encoding='utf-8')
    return str(tmp_path / 'config.py')


@pytest.mark.parametrize('arguments, variables, told', [
    (['CONFIG'], {}, r'^usage: bash tools/dist_train.sh CONFIG GPUS'),
    (['--help', '2'], {}, r'^usage: '),
    (['CONFIG', '--work-dir'], {}, r"GPUS.* must be a number, 1 or more; '--work-dir' came. usage: "),
    (['CONFIG', '0'], {}, r"GPUS.* 1 or more; '0' came"),
    (['CONFIG', '²'], {}, r"GPUS.* '²' came"),
    (['gone.py', '2'], {}, r'Config file gone.py does not exist \(looked from /'),
    (['CONFIG', '2'], {'NNODES': '1:4'}, r"NNODES.* '1:4' came"),
    (['CONFIG', '2'], {'NNODES': '2', 'NODE_RANK': '2'}, r'numbered from 0 to NNODES - 1'),
    (['CONFIG', '2'], {'NODE_RANK': '1'}, r'NODE_RANK=1 came with NNODES=1'),
    (['CONFIG', '2'], {'NNODES': '2', 'NODE_RANK': '1'}, r'NODE_RANK=1 needs MASTER_ADDR'),
    (['CONFIG', '2'], {'PORT': '70000'}, r"PORT must be a number, from 1 to 65535; '70000' came"),
    (['CONFIG', '2'], {'MAX_RESTARTS': '-1'}, r"MAX_RESTARTS.* '-1' came"),
    (['CONFIG', '2'], {'MAX_RESTARTS': '1'}, r'MAX_RESTARTS=1 needs --resume'),
    (['CONFIG', '2', '--resume', 'a.pth'], {'MAX_RESTARTS': '1'}, r'--resume without a path: with a.pth'),
    (['CONFIG', '2', '--resume=a.pth'], {'MAX_RESTARTS': '1'}, r'without a path: with a.pth'),
])
def test_what_cannot_work_is_told_before_anything_starts(arguments, variables, told, config):
    with pytest.raises(launch.UsageError, match=told):
        launch.job_of('train', [config if each == 'CONFIG' else each for each in arguments], variables)


def test_a_test_names_its_checkpoint(config):
    with pytest.raises(launch.UsageError, match=r'^usage: bash tools/dist_test.sh CONFIG CHECKPOINT GPUS'):
        launch.job_of('test', [config, '2'], {})
    with pytest.raises(launch.UsageError, match='Checkpoint gone.pth does not exist'):
        launch.job_of('test', [config, 'gone.pth', '2'], {})
    assert launch.job_of('test', [config, 'https://host/a.pth', '2'], {}).files[1] == 'https://host/a.pth'


def test_the_command_is_torchruns(config):
    alone = launch.job_of('train', [config, '2', '--seed', '1'], {}).command
    assert alone[:3] == ['--standalone', '--nproc_per_node=2', '--max_restarts=0']
    assert alone[-6:] == [str(TOOL.with_name('train.py')), config, '--launcher', 'pytorch', '--seed', '1']
    second = launch.job_of('train', [config, '8'], dict(NNODES='4', NODE_RANK='3', MASTER_ADDR='host')).command
    assert second[:4] == ['--nnodes=4', '--node_rank=3', '--master_addr=host', '--master_port=29500']
    elastic = dict(NNODES='2', NODE_RANK='1', MASTER_ADDR='host', PORT='1234', MAX_RESTARTS='3')
    command = launch.job_of('train', [config, '8', '--resume', '--amp'], elastic).command
    assert '--rdzv_endpoint=host:1234' in command and '--rdzv_conf=is_host=0' in command
    assert '--max_restarts=3' in command and not any('node_rank' in each for each in command)
    assert launch.job_of('test', [config, config, '2'], {'MAX_RESTARTS': '1'}).restarts == 1    # nothing to resume


def test_more_gpus_than_there_are_and_a_taken_port_are_told(config, monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 2)
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '0,1')
    with pytest.raises(launch.UsageError, match=r'GPUS=3 was asked for, but this machine shows 2 \(CUDA_VISIBLE_D'):
        launch.check_machine(launch.job_of('train', [config, '3'], {}))
    launch.check_machine(launch.job_of('train', [config, '2'], {}))
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    launch.check_machine(launch.job_of('train', [config, '3'], {}))     # on the CPU, as many as one likes
    with socket.socket() as other:
        other.bind(('', 0))
        other.listen()
        port = str(other.getsockname()[1])
        with pytest.raises(launch.UsageError, match=f'PORT={port} cannot be used .* leave PORT out'):
            launch.check_machine(launch.job_of('train', [config, '2'], {'PORT': port}))
        elsewhere = dict(PORT=port, NNODES='2', NODE_RANK='1', MASTER_ADDR='host')
        launch.check_machine(launch.job_of('train', [config, '2'], elsewhere))      # it is the first machine's
    launch.check_machine(launch.job_of('train', [config, '2'], {'PORT': port}))


def test_the_process_that_died_first_is_named_and_not_those_that_were_ended():
    def failure(exitcode, at):
        return SimpleNamespace(exitcode=exitcode, pid=100 - exitcode, timestamp=at,
                               signal_name=lambda: signal.Signals(-exitcode).name)
    ended, lost = failure(-signal.SIGTERM, 1), failure(1, 2)
    assert 'process 2 (pid 109) was killed by SIGKILL (kill -9, or' in launch._cause(
        {0: ended, 1: lost, 2: failure(-signal.SIGKILL, 2)})
    assert 'process 1 ended with status 1; what it said stands above' in launch._cause({0: ended, 1: lost})


WORKER = """
import os, signal, sys, time
rank, attempt = int(os.environ['RANK']), int(os.environ['TORCHELASTIC_RESTART_COUNT'])
if sys.argv[1].endswith('status.py'):
    sys.exit(3 if rank == 1 else 0)
if sys.argv[1].endswith('waits.py'):
    print('waiting', flush=True)
    time.sleep(100)
import torch, torch.distributed as dist
dist.init_process_group('gloo')
total = torch.tensor([rank + 1 + 10 * attempt])
dist.all_reduce(total)
if attempt == 0:
    if rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(100)
print(f'rank {rank} total {int(total)}', flush=True)
dist.destroy_process_group()
"""


@pytest.fixture
def start(tmp_path):
    """Starts the real tool beside a train.py that imports nothing of OpenMMLab."""
    (tmp_path / 'launch_processes.py').write_text(TOOL.read_text(encoding='utf-8'), encoding='utf-8')
    (tmp_path / 'train.py').write_text(WORKER, encoding='utf-8')
    started = []

    def run(case, gpus, *options, **variables):
        (tmp_path / case).write_text('', encoding='utf-8')
        environment = {key: value for key, value in os.environ.items() if key not in ('RANK', 'WORLD_SIZE')}
        started.append(subprocess.Popen(
            [sys.executable, str(tmp_path / 'launch_processes.py'), 'train', str(tmp_path / case), str(gpus), *options],
            env={**environment, 'CUDA_VISIBLE_DEVICES': '', 'OMP_NUM_THREADS': '1', **variables}, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE))
        return started[-1]

    yield run
    for job in started:
        if job.poll() is None:      # a failed test
            job.terminate()
            job.communicate()


def test_a_failed_process_gives_a_status_and_a_last_line(start):
    job = start('status.py', 2)
    _, err = job.communicate(timeout=120)
    assert job.returncode == 1
    assert err.splitlines()[-1] == ('error: process 1 ended with status 3; what it said stands above. To go on from '
                                    'the newest checkpoint: the same command with --resume.')


def test_a_signal_to_the_job_ends_its_processes(start):
    job = start('waits.py', 1)
    assert job.stdout.readline() == 'waiting\n'
    job.send_signal(signal.SIGTERM)
    began = time.monotonic()
    _, err = job.communicate(timeout=60)
    assert job.returncode == 128 + signal.SIGTERM and time.monotonic() - began < 45
    assert err.splitlines()[-1].startswith('error: SIGTERM came; the processes were ended. To go on')


@pytest.mark.slow
def test_two_machines_start_again_together_when_a_process_of_one_is_killed(start, free_port):
    """Two jobs on this machine stand for two machines; the processes of the second start find a fresh store."""
    shared = dict(NNODES='2', MASTER_ADDR='127.0.0.1', PORT=free_port, MAX_RESTARTS='1')
    jobs = [start('killed.py', 1, '--resume', NODE_RANK=str(rank), **shared) for rank in range(2)]
    said = [job.communicate(timeout=240) for job in jobs]
    assert [job.returncode for job in jobs] == [0, 0], said
    lines = sorted(line for out, _ in said for line in out.splitlines() if line.startswith('rank'))
    assert [line.split(' total')[0] for line in lines] == ['rank 0', 'rank 1'], lines
    assert len({line.split()[-1] for line in lines}) == 1 and int(lines[0].split()[-1]) > 3, lines
