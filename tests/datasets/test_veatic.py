"""VEATIC through the host: which frames, whose ratings, which part of the video."""
import os
import shutil

import cv2
import numpy as np
import pytest

pytest.importorskip('mmaction')

from mmengine.registry import DefaultScope

import lsef_plugins  # noqa: F401
from lsef_plugins.datasets.annotations import AnnotationError
from lsef_plugins.datasets.integrity import UnreadableClipError
from lsef_plugins.datasets.synthetic.layouts import write_layout
from lsef_plugins.datasets.synthetic.truth import load_truth
from lsef_plugins.registry import DATASETS

DECODE = [dict(type='DecordInit'), dict(type='DecordDecode')]


@pytest.fixture(autouse=True)
def host_scope():
    """Names of the host's transforms resolve as they do under its runner."""
    with DefaultScope.overwrite_default_scope('mmaction'):
        yield


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    return str(write_layout('veatic', tmp_path_factory.mktemp('veatic') / 'veatic', 3, size=32))


@pytest.fixture
def build(root):
    return lambda pipeline=DECODE, **options: DATASETS.build(
        dict(type='VEATICDataset', pipeline=pipeline, **{'data_root': root, 'serialize_data': False, **options}))


@pytest.fixture(scope='module')
def grey(tmp_path_factory):
    """Frame folders 0 and 10: frame t has grey 2 t, valence t/100, arousal -t/200; 100 and 37 frames."""
    base = tmp_path_factory.mktemp('grey')
    (base / 'rating_averaged').mkdir()
    for name, length in (('0', 100), ('10', 37)):
        folder = base / 'frames' / name
        folder.mkdir(parents=True)
        for t in range(length):
            cv2.imwrite(str(folder / f'{t}.png'), np.full((8, 8, 3), 2 * t, np.uint8))
        for kind, scale in (('valence', .01), ('arousal', -.005)):
            rows = ''.join(f'{t},{scale * t:.6f}\n' for t in range(length))
            (base / 'rating_averaged' / f'{name}_{kind}.csv').write_text(rows)
    return str(base)


FRAMES = [dict(type='ListedFrameDecode')]


def test_a_window_holds_its_frames_and_the_rating_of_its_last(build, grey):
    dataset = build(FRAMES, data_root=grey)
    for i in (0, 7, len(dataset) - 1):
        out = dataset[i]
        frames = [int(img[0, 0, 0]) // 2 for img in out['imgs']]
        last = out['frame_index']
        assert frames == [last - 20, last - 15, last - 10, last - 5, last] == out['frame_inds'].tolist()
        np.testing.assert_allclose(out['valence_arousal'], [.01 * last, -.005 * last], atol=1e-6)
        assert out['valence_arousal'].dtype == np.float32 and out['valence_arousal'].shape == (2,)
        assert 'label' not in out and out['video_id'] in ('0', '10') and (out['clip_len'], out['num_clips']) == (5, 1)


def test_every_frames_target_is_its_own(build, grey):
    dataset = build(FRAMES, data_root=grey, target='all', clip_len=4, frame_interval=3)
    out = dataset[11]
    assert out['valence_arousal'].shape == (4, 2) and out['valence_arousal'].dtype == np.float32
    frames = np.array([int(img[0, 0, 0]) // 2 for img in out['imgs']])
    np.testing.assert_array_equal(out['frame_index'], frames)
    np.testing.assert_allclose(out['valence_arousal'], np.stack([.01 * frames, -.005 * frames], 1), atol=1e-6)


def spans(dataset):
    """{video: (first frame read, first target, last target)}"""
    out = {}
    for i in range(len(dataset)):
        info = dataset.get_data_info(i)
        out.setdefault(info['video_id'], []).append((info['frame_inds'][0], info['frame_inds'][-1]))
    return {name: (min(a for a, _ in rows), min(b for _, b in rows), max(b for _, b in rows))
            for name, rows in out.items()}


def test_a_video_is_split_inside_itself_and_no_window_crosses(build, grey):
    options = dict(data_root=grey, pipeline=FRAMES, clip_len=3, frame_interval=2)
    assert spans(build(**options)) == {'0': (0, 4, 69), '10': (0, 4, 24)}       # int(37 * .7) = 25
    assert spans(build(split='test', **options)) == {'0': (70, 74, 99), '10': (25, 29, 36)}
    assert spans(build(split='val', **options)) == spans(build(split='test', **options))
    clean = dict(protocol='clean', val_ratio=.2, **options)
    assert spans(build(**clean)) == {'0': (0, 4, 55), '10': (0, 4, 19)}
    assert spans(build(split='val', **clean)) == {'0': (56, 60, 69), '10': (20, 24, 24)}
    assert spans(build(split='test', **clean)) == spans(build(split='test', **options))


def test_the_count_of_windows_is_the_authors(build, grey):
    """n_train - 20 and n - n_train - 20 targets of each video: 5 frames at stride 5."""
    assert len(build(FRAMES, data_root=grey)) == (70 - 20) + (25 - 20)
    assert len(build(FRAMES, data_root=grey, split='test')) == (30 - 20) + 0
    assert len(build(FRAMES, data_root=grey, sample_step=7)) == 8 + 1
    assert len(build(FRAMES, data_root=grey, videos=[10])) == 5


def test_videos_give_the_planted_curves(build, root):
    dataset = build(split='test')
    for i in (0, len(dataset) - 1):
        out = dataset[i]
        truth = load_truth(os.path.join(root, 'truth', f'{int(out["video_id"]) + 1:05d}.npz'))
        np.testing.assert_allclose(out['valence_arousal'], [truth.valence[out['frame_index']],
                                                            truth.arousal[out['frame_index']]], atol=1e-6)
        assert len(out['imgs']) == 5 and out['imgs'][0].shape == (32, 32, 3)
    assert dataset.metainfo['targets'] == ('valence', 'arousal')
    assert dataset.metainfo['annotation']['protocol'] == 'paper'


def test_the_hosts_layouts_take_a_window_as_one_clip(build, grey):
    three_d = build([*FRAMES, dict(type='FormatShape', input_format='NCTHW')], data_root=grey)[3]
    assert three_d['imgs'].shape == (1, 3, 5, 8, 8)
    two_d = build([*FRAMES, dict(type='FormatShape', input_format='NCHW')], data_root=grey)[3]
    assert two_d['imgs'].shape == (5, 3, 8, 8)


@pytest.mark.parametrize('target', ['last', 'all'])
def test_the_target_of_one_sample_is_not_shared_with_the_next(build, grey, target):
    dataset = build(FRAMES, data_root=grey, target=target)
    dataset[0]['valence_arousal'][:] = 9
    assert dataset[0]['valence_arousal'].max() < 1


@pytest.mark.parametrize('step', [dict(type='UniformSample', clip_len=5),
                                  dict(type='SampleFrames', clip_len=5, out_of_bound_opt='repeat_last')])
def test_a_sampler_would_part_frames_from_ratings_and_is_refused(build, grey, step):
    with pytest.raises(ValueError, match='would pick other frames than those whose ratings.*Remove it'):
        build([step, *FRAMES], data_root=grey)


@pytest.mark.parametrize('options, message', [
    (dict(target='first'), "target='first' must be 'last'"), (dict(clip_len=0), 'clip_len=0.*at least 1'),
    (dict(train_ratio=1.), 'train_ratio=1.0 must be'), (dict(split='dev'), "split='dev'"),
    (dict(videos=['77']), 'videos names 77, which .* does not rate'),
    (dict(clip_len=300), 'No window of 300 frames at stride 5 fits')])
def test_impossible_options_are_refused(build, options, message):
    with pytest.raises(ValueError, match=message):
        build(**options)


def test_lengths_that_differ_are_refused_or_cut_when_told(build, grey, tmp_path):
    shutil.copytree(grey, tmp_path / 'v')
    os.remove(tmp_path / 'v/frames/0/99.png')
    with pytest.raises(AnnotationError, match='Video 0 has 99 frames in .* and 100 ratings.*length_tolerance=1'):
        build(FRAMES, data_root=str(tmp_path / 'v'))
    dataset = build(FRAMES, data_root=str(tmp_path / 'v'), length_tolerance=1, split='test')
    assert spans(dataset)['0'][2] == 98


def test_missing_parts_are_named(build, root, grey, tmp_path):
    with pytest.raises(FileNotFoundError, match='holds none of videos/, video/, frames/, frame/'):
        build(data_root=str(tmp_path))
    shutil.copytree(grey, tmp_path / 'v')
    os.remove(tmp_path / 'v/rating_averaged/10_arousal.csv')
    with pytest.raises(FileNotFoundError, match='10_arousal.csv'):
        build(FRAMES, data_root=str(tmp_path / 'v'))
    shutil.rmtree(tmp_path / 'v/frames/0')
    with pytest.raises(FileNotFoundError, match='1 of 2 clips of .*rating_averaged cannot be used'):
        build(FRAMES, data_root=str(tmp_path / 'v'))
    shutil.rmtree(tmp_path / 'v/rating_averaged')
    with pytest.raises(FileNotFoundError, match='The folder of ratings .* does not exist'):
        build(FRAMES, data_root=str(tmp_path / 'v'))
    os.mkdir(tmp_path / 'v/rating_averaged')
    with pytest.raises(AnnotationError, match='holds no <video>_valence.csv'):
        build(FRAMES, data_root=str(tmp_path / 'v'))


def test_a_video_shorter_than_its_ratings_is_named_by_the_worker(build, root, tmp_path):
    shutil.copytree(root, tmp_path / 'v')
    for kind in ('valence', 'arousal'):
        path = tmp_path / f'v/rating_averaged/0_{kind}.csv'
        rows = path.read_text().splitlines()
        path.write_text('\n'.join(rows + [f'{len(rows) + i},0.0' for i in range(60)]) + '\n')
    dataset = build(data_root=str(tmp_path / 'v'), split='test', videos=['0'])
    with pytest.raises(UnreadableClipError, match='0.mp4'):
        dataset[len(dataset) - 1]
