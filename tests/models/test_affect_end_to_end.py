"""Ratings from files to the metric and to inference, through the host's own runner: for clips and for frames.

The planted truth: a clip's brightness over time is its valence, its redness its arousal.
"""
import pickle

import numpy as np
import pytest
import torch
from mmaction.apis import inference_recognizer, init_recognizer
from mmaction.datasets import VideoDataset
from mmcv.transforms import BaseTransform
from mmengine.config import Config

from lsef_plugins.engine import launch
from lsef_plugins.evaluation.functional import ccc, ccc_per_video
from lsef_plugins.registry import DATASETS, TRANSFORMS

LENGTH, CLIP, CLIPS = 16, 8, 4      # frames of a file, of a clip, files of a "video"
RATED = 'affect_end_to_end'         # the names' prefix in the registries


def curves(seed):
    """Smooth (valence, arousal) of one file, ``(t, 2)``."""
    rng = np.random.default_rng(seed)
    level, slope = rng.uniform(-.7, .7, 2), rng.uniform(-.8, .8, 2)
    return (level + slope * np.linspace(-.5, .5, LENGTH)[:, None]).clip(-.95, .95).astype(np.float32)


def write_file(path, ratings, seed):
    import cv2
    rng = np.random.default_rng(seed)
    ground = rng.integers(-15, 16, (64, 64, 1))
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'mp4v'), 25, (64, 64))
    for valence, arousal in ratings:
        colour = 120 + 80 * valence + np.array([-45, 0, 45]) * arousal        # BGR
        writer.write((ground + colour).clip(0, 255).astype(np.uint8))
    writer.release()


@DATASETS.register_module(name=f'{RATED}_set', force=True)
class RatedFiles(VideoDataset):
    """File k shows frames 16 (k mod 4) and on of video k // 4."""

    def __init__(self, first, last, **kwargs):
        self.first, self.last = first, last
        super().__init__(ann_file='', **kwargs)

    def load_data_list(self):
        root = self.data_prefix['video']
        return [dict(filename=f'{root}/{k}.mp4', ratings=curves(k), video_id=f'video {k // CLIPS}',
                     first_frame=LENGTH * (k % CLIPS)) for k in range(self.first, self.last)]


@TRANSFORMS.register_module(name=f'{RATED}_pick', force=True)
class PickRatings(BaseTransform):
    """The ratings of the sampled frames, or of the middle one; nothing for a file without any."""

    def __init__(self, each_frame):
        self.each_frame = each_frame

    def transform(self, results):
        if 'ratings' in results:
            frames = results['frame_inds'] if self.each_frame else results['frame_inds'][CLIP // 2]
            results['valence_arousal'] = results['ratings'][frames]
            results['frame_index'] = results['first_frame'] + frames
        return results


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    root = tmp_path_factory.mktemp('rated')
    for k in range(32):
        write_file(root / f'{k}.mp4', curves(k), k)
    return root


def settings_of(tiny_config, files, folder, each_frame, neck=None, head=None):
    settings = tiny_config(folder / 'run').to_dict()

    def pipeline(test):
        return [dict(type='DecordInit'),
                dict(type='SampleFrames', clip_len=CLIP, frame_interval=2, num_clips=1, test_mode=test),
                dict(type=f'{RATED}_pick', each_frame=each_frame), dict(type='DecordDecode'),
                dict(type='Resize', scale=(32, 32), keep_ratio=False), dict(type='FormatShape', input_format='NCTHW'),
                dict(type='PackAffectInputs')]

    for mode, first, last in (('train', 0, 24), ('val', 24, 31), ('test', 24, 31)):
        settings[f'{mode}_dataloader'].update(batch_size=6, dataset=dict(
            type=f'{RATED}_set', first=first, last=last, pipeline=pipeline(mode != 'train'),
            data_prefix=dict(video=str(files)), test_mode=mode != 'train'))
    settings['test_pipeline'] = pipeline(True)
    settings['model']['cls_head'] = dict(type='ValenceArousalHead', in_channels=64, dropout_ratio=0.,
                                         num_frames=CLIP if each_frame else None, **(head or {}))
    settings['model']['neck'] = neck
    evaluator = dict(type='ValenceArousalMetric', curves_dir=str(folder / 'curves'))
    settings.update(val_evaluator=evaluator, test_evaluator=evaluator)
    settings['train_cfg'].update(max_epochs=14, val_begin=14)
    settings['param_scheduler'] = []
    settings['optim_wrapper'] = dict(optimizer=dict(type='AdamW', lr=.005))
    settings['default_hooks']['checkpoint'] = dict(type='CheckpointHook', interval=14, save_best='va/ccc_global',
                                                   rule='greater')
    return settings


CASES = {'clips': dict(each_frame=False), 'frames': dict(each_frame=True),
         'frames, neck and readings': dict(each_frame=True, neck=dict(type='LSEFNeck'), head=dict(decomposition={}))}


@pytest.mark.slow
@pytest.mark.parametrize('case', list(CASES))
def test_what_is_trained_is_tested_and_inferred_as_floats(case, tiny_config, files, tmp_path):
    settings = settings_of(tiny_config, files, tmp_path, **CASES[case])
    Config(settings).dump(tmp_path / 'config.py')
    launch.train(str(tmp_path / 'config.py'), work_dir=str(tmp_path / 'run'), seed=0)
    checkpoint = str(next((tmp_path / 'run').glob('best_va_ccc_global_*.pth')))
    metrics = launch.test(str(tmp_path / 'config.py'), checkpoint, work_dir=str(tmp_path / 'test'),
                          dump=str(tmp_path / 'ratings.pkl'))
    tested = pickle.loads((tmp_path / 'ratings.pkl').read_bytes())      # written by this very test
    truth = np.concatenate([np.atleast_2d(sample['gt_valence_arousal']) for sample in tested])
    found = np.concatenate([np.atleast_2d(sample['pred_valence_arousal']) for sample in tested])
    each_frame = CASES[case]['each_frame']
    assert truth.shape == found.shape == (7 * (CLIP if each_frame else 1), 2) and truth.dtype == np.float32
    shown = [curves(k)[::2] if each_frame else curves(k)[CLIP:CLIP + 1] for k in range(24, 31)]
    np.testing.assert_array_equal(truth, np.concatenate(shown))         # no fraction has been lost on the way
    videos = [sample['video_id'] for sample in tested for _ in range(CLIP if each_frame else 1)]
    for column, name in enumerate(('valence', 'arousal')):
        assert metrics[f'va/ccc_global_{name}'] == pytest.approx(ccc(truth[:, column], found[:, column]))
        assert metrics[f'va/ccc_per_video_{name}'] == pytest.approx(
            ccc_per_video(truth[:, column], found[:, column], videos))
    assert metrics['va/ccc_global'] > .5, metrics   # 0.599 on one CPU, more on others
    assert {path.name for path in (tmp_path / 'curves').iterdir()} >= {'video 6.png', 'video 7.csv'}

    model = init_recognizer(str(tmp_path / 'config.py'), checkpoint, device='cpu')
    for k in (0, 6):                                                    # a file of the user's, without any truth
        result = inference_recognizer(model, str(files / f'{24 + k}.mp4'))
        # A batch rounds otherwise than a clip alone: a value next to zero may count for the noise scale or not.
        torch.testing.assert_close(result.pred_valence_arousal, tested[k]['pred_valence_arousal'], rtol=5e-3, atol=1e-3)
        assert 'gt_valence_arousal' not in result
