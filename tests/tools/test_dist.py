"""dist_train.sh and dist_test.sh: processes that are killed, what the next ones make of it, and numbers that agree."""
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from differences import differing

import lsef_plugins  # noqa: F401 - what a checkpoint may hold

TOOLS = Path(__file__).resolve().parents[2] / 'tools'
CLIPS = 7       # not a multiple of two: one process is given a clip twice
PLUGIN = '''
import os, signal, zlib
from pathlib import Path
import torch
from mmaction.models.heads import I3DHead
from mmaction.registry import HOOKS, MODELS
from mmengine.hooks import Hook

@HOOKS.register_module()
class Killer(Hook):
    """Process 1 gets SIGKILL after the iterations in KILL_AT, in each of them once."""

    def after_train_iter(self, runner, *args, **kwargs):
        done = Path(runner.work_dir, f'killed_at_{runner.iter}')
        if runner.rank == 1 and str(runner.iter) in os.environ.get('KILL_AT', '').split(',') and not done.exists():
            done.touch()
            os.kill(os.getpid(), signal.SIGKILL)

@MODELS.register_module()
class RatingI3DHead(I3DHead):
    """Its scores, read as a rating as well, beside a true one that the name of the file decides."""

    def predict(self, feats, data_samples, **kwargs):
        for sample in super().predict(feats, data_samples, **kwargs):
            a, b = sample.pred_score
            seed = zlib.crc32(Path(sample.filename).name.encode())
            sample.set_field(torch.stack([a - b, a * b]), 'pred_valence_arousal')
            sample.set_field(torch.tensor([seed % 201 / 100 - 1, seed // 201 % 201 / 100 - 1]), 'gt_valence_arousal')
        return data_samples
'''


def loader_of(tiny_videos, ann_file):
    return dict(
        batch_size=1, num_workers=0, persistent_workers=False, sampler=dict(type='DefaultSampler', shuffle=False),
        dataset=dict(type='VideoDataset', ann_file=str(ann_file), data_prefix=dict(video=str(tiny_videos.root)),
                     test_mode=True, pipeline=[
                         dict(type='DecordInit'),
                         dict(type='SampleFrames', clip_len=8, frame_interval=2, num_clips=1, test_mode=True),
                         dict(type='DecordDecode'), dict(type='Resize', scale=(32, 32), keep_ratio=False),
                         dict(type='FormatShape', input_format='NCTHW'),
                         dict(type='PackActionInputs', meta_keys=('img_shape', 'filename'))]))


@pytest.fixture(scope='module')
def job(tiny_config, tiny_videos, tmp_path_factory):
    """``job(script, arguments, **variables)`` in a folder with config.py and everything it needs; ``job.folder``."""
    folder = tmp_path_factory.mktemp('dist')
    (folder / 'plugin.py').write_text(PLUGIN, encoding='utf-8')
    ann_file = folder / 'test.txt'
    ann_file.write_text(''.join(tiny_videos.ann_train.read_text().splitlines(keepends=True)[:CLIPS]))
    loader = loader_of(tiny_videos, ann_file)
    metrics = [dict(type='AverageRecallMetric', per_class=True), dict(type='ValenceArousalMetric', bootstrap=100)]
    tiny_config(
        folder / 'unused', num_workers=1, log_level='ERROR', train_cfg=dict(max_epochs=3),
        custom_imports=dict(imports=['lsef_plugins', 'plugin']), custom_hooks=[dict(type='Killer')],
        model=dict(neck=dict(type='LSEFNeck', aux_loss=dict(rank=0.1)), cls_head=dict(type='RatingI3DHead')),
        val_cfg=None, val_dataloader=None, val_evaluator=None,
        test_dataloader=dict(_delete_=True, **loader), test_evaluator=metrics).dump(folder / 'config.py')

    def run(script, *arguments, **variables):
        path = os.pathsep.join([str(folder), *filter(None, [os.environ.get('PYTHONPATH')])])
        return subprocess.run(
            ['bash', str(TOOLS / script), 'config.py', *map(str, arguments)], cwd=folder, text=True, timeout=600,
            capture_output=True, env=dict(os.environ, OMP_NUM_THREADS='1', PYTHONWARNINGS='ignore', PYTHONPATH=path,
                                          PYTHON=sys.executable, CUDA_VISIBLE_DEVICES='', **variables))

    run.folder = folder
    return run


@pytest.fixture(scope='module')
def straight(job):
    """The work_dir of two processes that nobody stopped."""
    done = job('dist_train.sh', 2, '--work-dir', 'straight')
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.splitlines()[-1].startswith('Training finished')
    return job.folder / 'straight'


@pytest.mark.slow
def test_killed_restarted_killed_and_resumed_is_uninterrupted_bit_for_bit(job, straight):
    """An epoch has two iterations. The first kill is in the second epoch, the next one in the third."""
    folder = job.folder / 'killed'
    options = (2, '--work-dir', 'killed', '--resume')
    done = job('dist_train.sh', *options, KILL_AT='2,4', MAX_RESTARTS='1')
    told, last = done.stdout, done.stderr.splitlines()[-1]
    assert done.returncode == 1
    assert 'no checkpoint in killed, training starts from the beginning' in told
    assert told.count(f'going on from {folder / "epoch_1.pth"}') == 1, 'by itself, from the last whole epoch'
    assert last.startswith('error: process 1 (pid ') and 'was killed by SIGKILL' in last
    assert 'after MAX_RESTARTS=1 starts from the newest checkpoint. To go on' in last
    assert (folder / 'last_checkpoint').read_text() == str(folder / 'epoch_2.pth')
    done = job('dist_train.sh', *options, KILL_AT='2,4')
    assert done.returncode == 0, done.stderr[-3000:]
    assert f'going on from {folder / "epoch_2.pth"}' in done.stdout
    ends = [torch.load(path / 'epoch_3.pth') for path in (straight, folder)]
    for key in ('state_dict', 'optimizer', 'random_state'):
        assert differing(ends[0][key], ends[1][key]) == []
    middle = torch.load(straight / 'epoch_2.pth')
    assert differing(ends[0]['state_dict'], middle['state_dict']) != [], 'it did learn in between'
    assert len(ends[0]['random_state']['ranks']) == 2


@pytest.mark.slow
def test_two_processes_report_the_numbers_of_one_digit_for_digit(job, straight, monkeypatch):
    done = job('dist_test.sh', straight / 'epoch_3.pth', 2, '--work-dir', 'tested', '--out', 'two.json')
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count('acc/war: ') == 1
    spec = importlib.util.spec_from_file_location('tool_test', TOOLS / 'test.py')
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    monkeypatch.chdir(job.folder)
    monkeypatch.syspath_prepend(str(job.folder))
    tool.main(['config.py', str(straight / 'epoch_3.pth'), '--work-dir', 'alone', '--out', 'one.json'])
    one, two = (Path(job.folder, name).read_text() for name in ('one.json', 'two.json'))
    assert one == two
    numbers = json.loads(one)
    assert numbers['va/frames'] == CLIPS and 0 < numbers['acc/war'] < 1 and 'va/ccc_global_valence_low' in numbers


def test_the_scripts_tell_how_they_are_used(job):
    for script in ('dist_train.sh', 'dist_test.sh'):
        done = job(script)
        assert done.returncode == 2 and done.stderr.startswith('usage: bash tools/'), done.stderr
