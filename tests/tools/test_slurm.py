"""tools/slurm_train.sh and slurm_test.sh under a stand-in for Slurm that starts the tasks as srun does."""
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import lsef_plugins  # noqa: F401 - what a checkpoint may hold

TOOLS = Path(__file__).resolve().parents[2] / 'tools'
SRUN = r"""#!/usr/bin/env bash
# The options into a file; the command once for each task with the variables srun sets.
for ((i = 1; i <= $#; i++)); do
    case ${!i} in
        --ntasks=*) tasks=${!i#*=};;
        python*|/*) break;;
    esac
    printf '%s\n' "${!i}" >> "$SEEN"
done
printf '%s\n' "${@:i}" > "$SEEN.command"
pids=()
for ((rank = 0; rank < tasks; rank++)); do
    SLURM_PROCID=$rank SLURM_LOCALID=$rank SLURM_NTASKS=$tasks SLURM_NODELIST=localhost "${@:i}" &
    pids+=($!)
done
for pid in "${pids[@]}"; do wait "$pid" || exit 1; done
"""


@pytest.fixture
def slurm(tmp_path):
    folder = tmp_path / 'bin'
    folder.mkdir()
    for name, text in (('srun', SRUN), ('scontrol', '#!/bin/sh\necho localhost\n')):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)

    def run(script, *arguments, path=None, **variables):
        return subprocess.run(
            ['/bin/bash', str(TOOLS / script), *map(str, arguments)], text=True, capture_output=True, timeout=600,
            cwd=tmp_path, env={**os.environ, 'PATH': path or f'{folder}:{os.environ["PATH"]}', 'PYTHON': sys.executable,
                               'SEEN': str(tmp_path / 'seen'), 'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': '',
                               'PYTHONWARNINGS': 'ignore', **variables})

    return run


@pytest.mark.slow
def test_two_tasks_of_slurm_train_one_model(slurm, tiny_config, tmp_path):
    cfg = tiny_config(tmp_path / 'unused', log_level='ERROR', train_cfg=dict(max_epochs=1), val_cfg=None,
                      val_dataloader=None, val_evaluator=None, model=dict(neck=dict(type='LSEFNeck')))
    cfg.dump(tmp_path / 'config.py')
    done = slurm('slurm_train.sh', 'part', 'name', 'config.py', 'work dir', '--seed', 3, GPUS='2',
                 CPUS_PER_TASK='4', SRUN_ARGS='--gres=none --time=1')
    assert done.returncode == 0, done.stderr[-3000:]
    saved = torch.load(tmp_path / 'work dir' / 'epoch_1.pth')
    assert saved['meta']['iter'] == 2 and saved['meta']['seed'] == 3, 'two processes share the four batches'
    assert len(saved['random_state']['ranks']) == 2
    options = (tmp_path / 'seen').read_text().splitlines()
    assert options == ['-p', 'part', '--job-name=name', '--gres=gpu:2', '--ntasks=2', '--ntasks-per-node=2',
                       '--cpus-per-task=4', '--kill-on-bad-exit=1', '--gres=none', '--time=1']


def command_of(slurm, tmp_path, script, *arguments):
    """What the tasks would run: with no interpreter but echo."""
    done = slurm(script, *arguments, GPUS='1', PYTHON='/bin/echo')
    assert done.returncode == 0, done.stderr
    return (tmp_path / 'seen.command').read_text().splitlines()[1:]


def test_arguments_arrive_as_they_were_given(slurm, tmp_path):
    for name in ('config.py', 'a b.pth'):
        (tmp_path / name).write_text('')
    assert command_of(slurm, tmp_path, 'slurm_train.sh', 'p', 'j', 'config.py', '--resume', 'a b.pth') == [
        '-u', str(TOOLS / 'train.py'), 'config.py', '--launcher', 'slurm', '--resume', 'a b.pth']
    assert command_of(slurm, tmp_path, 'slurm_train.sh', 'p', 'j', 'config.py')[-2:] == ['--launcher', 'slurm']
    assert command_of(slurm, tmp_path, 'slurm_test.sh', 'p', 'j', 'config.py', 'a b.pth', '--out', 'x y.json') == [
        '-u', str(TOOLS / 'test.py'), 'config.py', 'a b.pth', '--launcher', 'slurm', '--out', 'x y.json']


def test_what_cannot_work_is_told(slurm, tmp_path):
    (tmp_path / 'config.py').write_text('')

    def told(*arguments, **variables):
        done = slurm(*arguments, **variables)
        assert done.returncode == 2
        return done.stderr

    assert told('slurm_train.sh', 'p', 'j').startswith('usage: bash tools/slurm_train.sh PARTITION JOB_NAME CONFIG')
    assert told('slurm_test.sh', 'p', 'j', 'config.py').startswith('usage: bash tools/slurm_test.sh PARTITION')
    assert 'error: gone.py does not exist (looked from /' in told('slurm_train.sh', 'p', 'j', 'gone.py')
    assert 'error: gone.pth does not exist' in told('slurm_test.sh', 'p', 'j', 'config.py', 'gone.pth')
    assert "GPUS must be a number, 1 or more; 'all' came" in told('slurm_train.sh', 'p', 'j', 'config.py', GPUS='all')
    assert "CPUS_PER_TASK must be a number" in told('slurm_train.sh', 'p', 'j', 'config.py', CPUS_PER_TASK='0')
    assert 'srun was not found: this machine belongs to no Slurm cluster' in told(
        'slurm_train.sh', 'p', 'j', 'config.py', path=os.pathsep.join(['/usr/bin', '/bin']))
