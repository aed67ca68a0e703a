"""Shared fixtures: a few real .mp4 files and a recognizer small enough to train in a second or two.

``tiny_videos``
    Session-scoped, makes eight 64 x 64 clips of 24 frames, two classes, with OpenCV, and the annotation files
    MMAction2's ``VideoDataset`` reads. Returns a :class:`TinyVideos`.
``tiny_config``
    Session-scoped factory ``tiny_config(work_dir, **changes) -> mmengine.Config``: a Recognizer3D
    (ResNet3dSlowOnly-18 with 8 base channels, I3DHead with dropout) over ``tiny_videos``. Epochs take about a
    second on one core. ``changes`` are merged over the configuration as a child config would be, so
    ``tiny_config(tmp_path, model=dict(neck=dict(type='LSEFNeck')), train_cfg=dict(max_epochs=2))`` works.
    ``cfg.dump(path)`` gives a file for the command lines.
``compiled``
    The operators have their compiled bodies, built here if need be.
``two_processes``
    ``two_processes(worker, *arguments)`` runs a script as both ranks of a job and gives what each prints after RESULT.
``ends_its_gloo_threads``
    ``check(script, *arguments)`` runs a script as a job of one process, no thread of which may outlive its group.
``computed_by``
    Both ways in turn: ``reference`` and ``compiled``.

Nothing here imports an OpenMMLab package before a test asks for ``tiny_config``.
"""
import os
from dataclasses import dataclass
from pathlib import Path

import pytest

REGISTER = 'LSEF_PLUGINS_REGISTER'
GIVEN = os.environ.get(REGISTER)


def pytest_collection_finish():
    restore_registration()


def pytest_runtest_teardown():
    restore_registration()


def restore_registration():
    """Tools that need no MMAction2 keep it out of their process; one that a test runs in ours must not for good."""
    if GIVEN is None:
        os.environ.pop(REGISTER, None)
    else:
        os.environ[REGISTER] = GIVEN


@dataclass(frozen=True)
class TinyVideos:
    """Where the clips lie. ``ann_train`` and ``ann_val`` list ``name label`` lines relative to ``root``."""
    root: Path
    ann_train: Path
    ann_val: Path
    num_classes: int = 2
    num_frames: int = 24


def write_clip(path, label, seed, num_frames=24, size=64):
    """Write one .mp4: a square that drifts right (label 0) or down (label 1) over a noisy ground.

    ``num_frames`` frames of ``size`` x ``size`` pixels at 25 fps.
    """
    import cv2
    import numpy as np
    rng = np.random.default_rng(seed)
    ground = rng.integers(30, 90, (size, size, 3), dtype=np.uint8)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'mp4v'), 25, (size, size))
    if not writer.isOpened():
        raise RuntimeError('OpenCV cannot write mp4v here, so no test that needs a video file can run.')
    for t in range(num_frames):
        frame = ground.copy()
        step, rest = 4 + t, int(rng.integers(20, 24))
        y, x = (rest, step) if label == 0 else (step, rest)
        frame[y:y + 16, x:x + 16] = (220, 200, 120)
        writer.write(frame)
    writer.release()


@pytest.fixture(scope='session')
def tiny_videos(tmp_path_factory) -> TinyVideos:
    root = tmp_path_factory.mktemp('tiny_videos')
    lines = []
    for index in range(8):
        write_clip(root / f'clip_{index}.mp4', label=index % 2, seed=index)
        lines.append(f'clip_{index}.mp4 {index % 2}\n')
    ann_train, ann_val = root / 'train.txt', root / 'val.txt'
    ann_train.write_text(''.join(lines), encoding='utf-8')
    ann_val.write_text(''.join(lines[:4]), encoding='utf-8')
    return TinyVideos(root, ann_train, ann_val)


def tiny_settings(videos: TinyVideos, work_dir, num_workers=0) -> dict:
    decode = [dict(type='DecordInit'), dict(type='SampleFrames', clip_len=8, frame_interval=2, num_clips=1),
              dict(type='DecordDecode')]
    pack = [dict(type='FormatShape', input_format='NCTHW'), dict(type='PackActionInputs')]
    train_pipeline = [*decode, dict(type='RandomResizedCrop', area_range=(0.5, 1.0)),
                      dict(type='Resize', scale=(32, 32), keep_ratio=False),
                      dict(type='Flip', flip_ratio=0.5), *pack]
    test_pipeline = [decode[0], dict(decode[1], test_mode=True), decode[2],
                     dict(type='Resize', scale=(32, 32), keep_ratio=False), *pack]

    def loader(ann_file, pipeline, shuffle, **dataset):
        return dict(
            batch_size=2, num_workers=num_workers, persistent_workers=num_workers > 0,
            sampler=dict(type='DefaultSampler', shuffle=shuffle),
            dataset=dict(type='VideoDataset', ann_file=str(ann_file), pipeline=pipeline,
                         data_prefix=dict(video=str(videos.root)), **dataset))

    val = loader(videos.ann_val, test_pipeline, False, test_mode=True)
    return dict(
        default_scope='mmaction', work_dir=str(work_dir), log_level='WARNING', load_from=None, resume=False,
        custom_imports=dict(imports=['lsef_plugins'], allow_failed_imports=False),
        model=dict(
            type='Recognizer3D',
            backbone=dict(type='ResNet3dSlowOnly', depth=18, pretrained=None, lateral=False, base_channels=8,
                          conv1_kernel=(1, 7, 7), conv1_stride_t=1, pool1_stride_t=1, inflate=(0, 0, 1, 1),
                          norm_eval=False, with_cp=False),
            cls_head=dict(type='I3DHead', in_channels=64, num_classes=videos.num_classes, dropout_ratio=0.5,
                          spatial_type='avg', topk=(1,), average_clips='prob'),
            data_preprocessor=dict(type='ActionDataPreprocessor', mean=[114.75] * 3, std=[57.375] * 3,
                                   format_shape='NCTHW')),
        train_pipeline=train_pipeline, test_pipeline=test_pipeline,
        train_dataloader=loader(videos.ann_train, train_pipeline, True),
        val_dataloader=val, test_dataloader=val,
        val_evaluator=dict(type='AccMetric', metric_list=('top_k_accuracy',),
                           metric_options=dict(top_k_accuracy=dict(topk=(1,)))),
        test_evaluator=dict(type='AccMetric', metric_list=('top_k_accuracy',),
                            metric_options=dict(top_k_accuracy=dict(topk=(1,)))),
        train_cfg=dict(type='EpochBasedTrainLoop', max_epochs=2, val_begin=1, val_interval=1),
        val_cfg=dict(type='ValLoop'), test_cfg=dict(type='TestLoop'),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=1e-4)),
        param_scheduler=[dict(type='CosineAnnealingLR', T_max=4, eta_min=0, by_epoch=True)],
        default_hooks=dict(
            runtime_info=dict(type='RuntimeInfoHook'), timer=dict(type='IterTimerHook'),
            logger=dict(type='LoggerHook', interval=2, ignore_last=False),
            param_scheduler=dict(type='ParamSchedulerHook'),
            checkpoint=dict(type='CheckpointHook', interval=1),
            sampler_seed=dict(type='DistSamplerSeedHook'), sync_buffers=dict(type='SyncBuffersHook')),
        env_cfg=dict(cudnn_benchmark=False, mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
                     dist_cfg=dict(backend='nccl')),
        vis_backends=[dict(type='LocalVisBackend')],
        visualizer=dict(type='ActionVisualizer', vis_backends=[dict(type='LocalVisBackend')]),
        randomness=dict(seed=0))


@pytest.fixture(scope='session')
def tiny_config(tiny_videos):

    def build(work_dir, num_workers=0, **changes):
        from mmengine.config import Config
        cfg = Config(tiny_settings(tiny_videos, work_dir, num_workers))
        cfg.merge_from_dict(changes)
        return cfg

    return build


@pytest.fixture(scope='session')
def library(tmp_path_factory):
    """The status of the loaded library."""
    from lsef_plugins import ops
    from lsef_plugins.ops import builder as build
    if os.environ.get('LSEF_OPS') == 'off':
        pytest.skip('the compiled operators are switched off by LSEF_OPS=off')
    if ops.status()['library'] is None:
        try:
            path = build.build(tmp_path_factory.mktemp('ops'))
        except build.BuildError as error:
            pytest.skip(f'the compiled operators cannot be built here: {error}')
        ops.load(str(path))
    status = ops.status()
    assert status['library'], status['reason']
    return status


@pytest.fixture
def compiled(library):
    from lsef_plugins import ops
    with ops.backend('compiled'):
        yield library


@pytest.fixture(params=['reference', 'compiled'])
def computed_by(request):
    from lsef_plugins import ops
    if request.param == 'compiled':
        request.getfixturevalue('library')
    with ops.backend(request.param):
        yield request.param


def a_free_port():
    import socket
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return str(probe.getsockname()[1])


@pytest.fixture
def free_port():
    return a_free_port()


#: Before and after a script: ``gloo_threads()``, whose findings while there is a group it puts into ``seen``.
COUNTED = '''
import os, sys
import torch.distributed as dist
seen = []

def gloo_threads():
    names = (open(f'/proc/self/task/{thread}/comm').read() for thread in os.listdir('/proc/self/task'))
    return [name.strip() for name in names if 'gloo' in name]
'''
NONE_LEFT = '''
assert not dist.is_initialized() and not gloo_threads(), gloo_threads()
sys.exit(0 if seen else 'unnamed')
'''


@pytest.fixture
def ends_its_gloo_threads(tmp_path):
    """``check(script, *arguments, **environment)``: runs the script as the one process of a job and fails if the job's
    group, or a thread of it, is left at the end. The script counts them while they run: ``seen += gloo_threads()``."""
    import subprocess
    import sys
    if not Path('/proc/self/task').is_dir():
        pytest.skip('threads have names under Linux')

    def check(script, *arguments, **environment):
        done = subprocess.run(
            [sys.executable, '-c', COUNTED + script + NONE_LEFT, *arguments], cwd=tmp_path, timeout=300,
            stderr=subprocess.PIPE, text=True,
            env=dict(os.environ, RANK='0', LOCAL_RANK='0', WORLD_SIZE='1', MASTER_ADDR='127.0.0.1',
                     MASTER_PORT=a_free_port(), OMP_NUM_THREADS='1', **environment))
        if done.stderr.strip().endswith('unnamed'):
            pytest.skip('this PyTorch gives the threads of gloo no names: they cannot be counted')
        assert done.returncode == 0, done.stderr[-3000:]

    return check


#: Not by the end of the interpreter, at which a thread of gloo may abort the process (engine/process_group.py): what a
#: script still holds of its group is its own affair.
LEAVE = '''
import os, sys
sys.stdout.flush()
os._exit(0)
'''


@pytest.fixture
def two_processes(tmp_path):
    """``run(worker, *arguments)``: the source of a script that joins a process group by its environment and prints
    ``RESULT`` and JSON. Returns what rank 0 and rank 1 printed."""
    import json
    import subprocess
    import sys

    def run(worker, *arguments):
        script, port = tmp_path / 'worker.py', a_free_port()
        script.write_text(worker + LEAVE)
        jobs = [subprocess.Popen(
            [sys.executable, str(script), *map(str, arguments)], cwd=tmp_path, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True,
            env=dict(os.environ, RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE='2', MASTER_ADDR='127.0.0.1',
                     MASTER_PORT=port, OMP_NUM_THREADS='1')) for rank in range(2)]
        found = []
        for job in jobs:
            out, err = job.communicate(timeout=120)
            assert job.returncode == 0, err
            line = next(line for line in out.splitlines() if line.startswith('RESULT'))
            found.append(json.loads(line[len('RESULT'):]))
        return found

    return run
