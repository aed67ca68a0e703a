"""Train, checkpoint, resume, test, inference: the host's own runner and pipelines, on files, in four families.

In one of them with our head, too, which listens in the backbone.
"""
import pickle

import numpy as np
import pytest
import torch
from mmaction.apis import inference_recognizer, init_recognizer
from mmengine.config import Config

from lsef_plugins.engine import launch

NAMES = ['tsn', 'slowonly', 'videomae', 'stgcn', 'videomae+head']
CLASSES = 2


@pytest.fixture(scope='module')
def poses(tmp_path_factory):
    """An annotation file as the host's PoseDataset reads it: eight persons who wave an arm or bend a knee."""
    rng = np.random.default_rng(0)
    annotations = []
    for index in range(8):
        label, frames = index % CLASSES, 24 + index
        keypoint = np.tile(rng.uniform(40, 60, (1, 1, 17, 2)), (1, frames, 1, 1))
        keypoint += rng.normal(0, 0.3, keypoint.shape)
        keypoint[0, :, 9 if label else 15] += 20 * np.sin(np.arange(frames) / 3)[:, None]
        annotations.append(dict(frame_dir=f'clip_{index}', total_frames=frames, img_shape=(100, 100),
                                original_shape=(100, 100), label=label, keypoint=keypoint.astype(np.float16),
                                keypoint_score=np.ones((1, frames, 17), np.float16)))
    names = [each['frame_dir'] for each in annotations]
    path = tmp_path_factory.mktemp('poses') / 'poses.pkl'
    path.write_bytes(pickle.dumps(dict(split=dict(train=names, val=names[:4]), annotations=annotations)))
    return path


@pytest.fixture(scope='module', params=NAMES)
def trained(request, tmp_path_factory, tiny_config, make_family, poses):
    """A configuration file of the family with the one line in it, and the folder of two epochs of training."""
    name, _, head = request.param.partition('+')
    folder = tmp_path_factory.mktemp(request.param)
    family = make_family(name)
    model = (family.with_head(type='LSEFHead') if head else family).config
    model.cls_head.num_classes = CLASSES
    model.neck = dict(type='LSEFNeck')
    settings = tiny_config(folder / 'straight').to_dict()
    settings['model'] = model.to_dict()
    change(settings, name, poses)
    Config(settings).dump(folder / 'config.py')
    launch.train(str(folder / 'config.py'), work_dir=str(folder / 'straight'), seed=0)
    return name, folder


def change(settings, name, poses):
    """The pipelines of the family, over those of tests/conftest.py."""
    loaders = [settings[f'{mode}_dataloader'] for mode in ('train', 'val', 'test')]
    if name == 'stgcn':
        for loader, split in zip(loaders, ('train', 'val', 'val')):
            pipeline = [dict(type='PreNormalize2D'), dict(type='GenSkeFeat', dataset='coco', feats=['j']),
                        dict(type='UniformSampleFrames', clip_len=16, num_clips=1, test_mode=split == 'val'),
                        dict(type='PoseDecode'), dict(type='FormatGCNInput', num_person=1),
                        dict(type='PackActionInputs')]
            loader['dataset'] = dict(type='PoseDataset', ann_file=str(poses), split=split, pipeline=pipeline,
                                     test_mode=split == 'val')
    for loader in loaders if name in ('tsn', 'videomae') else []:
        for step in loader['dataset']['pipeline']:
            if step['type'] == 'SampleFrames':
                step.update(dict(clip_len=1, frame_interval=1, num_clips=5) if name == 'tsn' else
                            dict(clip_len=16, frame_interval=1))
            if step['type'] == 'FormatShape' and name == 'tsn':
                step['input_format'] = 'NCHW'
    settings['train_pipeline'] = loaders[0]['dataset']['pipeline']
    settings['test_pipeline'] = loaders[2]['dataset']['pipeline']


def weights(path):
    return torch.load(path, weights_only=True)['state_dict']


@pytest.mark.slow
def test_a_resumed_training_ends_where_the_uninterrupted_one_did(trained):
    _, folder = trained
    launch.train(str(folder / 'config.py'), work_dir=str(folder / 'resumed'), seed=0,
                 resume=str(folder / 'straight' / 'epoch_1.pth'))
    first, straight, resumed = (weights(folder / path) for path in (
        'straight/epoch_1.pth', 'straight/epoch_2.pth', 'resumed/epoch_2.pth'))
    assert any(key.startswith('neck.') for key in straight)
    for key, value in straight.items():
        assert torch.equal(value, resumed[key]), key
    for key in (key for key in straight if key.startswith(('neck.', 'cls_head.')) and 'offset' not in key):
        assert not torch.equal(straight[key], first[key]), f'{key} stands still'


@pytest.mark.slow
def test_inference_scores_a_file_as_the_test_does(trained, tiny_videos, poses):
    name, folder = trained
    checkpoint = str(folder / 'straight' / 'epoch_2.pth')
    metrics = launch.test(str(folder / 'config.py'), checkpoint, work_dir=str(folder / 'test'),
                          dump=str(folder / 'scores.pkl'))
    assert 0 <= metrics['acc/top1'] <= 1
    tested = pickle.loads((folder / 'scores.pkl').read_bytes())     # written by this very test
    model = init_recognizer(str(folder / 'config.py'), checkpoint, device='cpu')
    scores = []
    for index in range(4):
        if name == 'stgcn':
            item = dict(pickle.loads(poses.read_bytes())['annotations'][index], modality='Pose', start_index=0)
        else:
            item = str(tiny_videos.root / f'clip_{index}.mp4')
        result = inference_recognizer(model, item)
        torch.testing.assert_close(result.pred_score, tested[index]['pred_score'], rtol=1e-4, atol=1e-5)
        scores.append(result.pred_score)
    assert torch.stack(scores).std(0).max() > 0
