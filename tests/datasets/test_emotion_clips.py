"""DFEW and FERV39k through the host: clips, labels, folds, protocols, and every refusal at construction."""
import logging
import os
import shutil

import cv2
import numpy as np
import pytest

pytest.importorskip('mmaction')

from mmengine.logging import MMLogger
from mmengine.registry import DefaultScope

import lsef_plugins  # noqa: F401
from lsef_plugins.datasets.annotations import CLASSES, AnnotationError
from lsef_plugins.datasets.integrity import UnreadableClipError
from lsef_plugins.datasets.synthetic.layouts import write_layout
from lsef_plugins.datasets.synthetic.truth import load_truth
from lsef_plugins.registry import DATASETS

SAMPLE = dict(type='UniformSample', clip_len=8, num_clips=1, test_mode=True)
PACK = [dict(type='FormatShape', input_format='NCTHW'),
        dict(type='PackActionInputs', meta_keys=('video_id', 'scene', 'filename'))]
FRAMES = [SAMPLE, dict(type='ListedFrameDecode'), *PACK]
VIDEOS = [dict(type='DecordInit'), SAMPLE, dict(type='DecordDecode'), *PACK]


@pytest.fixture(autouse=True)
def host_scope():
    """Names of the host's transforms resolve as they do under its runner."""
    with DefaultScope.overwrite_default_scope('mmaction'):
        yield


@pytest.fixture(scope='module')
def roots(tmp_path_factory):
    base = tmp_path_factory.mktemp('official')
    return {'dfew': str(write_layout('dfew', base / 'dfew', 70, size=32, videos=True)),
            'ferv39k': str(write_layout('ferv39k', base / 'ferv39k', 40, size=24))}


@pytest.fixture
def build(roots):

    def make(kind='DFEWDataset', pipeline=FRAMES, **options):
        name = 'dfew' if kind.startswith('DFEW') else 'ferv39k'
        options.setdefault('data_root', roots[name])
        options.setdefault('serialize_data', False)     # the host collects garbage for it, which takes half a second
        if name == 'dfew' and 'ann_file' not in options:
            options.setdefault('fold', 1)
        return DATASETS.build(dict(type=kind, pipeline=pipeline, **options))

    return make


def identities(dataset):
    return [dataset.get_data_info(i)['video_id'] for i in range(len(dataset))]


def write_list(tmp_path, text, name='mine.csv'):
    path = tmp_path / name
    path.write_text(text)
    return str(path)


def test_labels_are_the_planted_classes_from_frames_and_from_videos(build, roots):
    for pipeline, prefix in ((FRAMES, None), (VIDEOS, dict(video='Clip/original'))):
        dataset = build(pipeline=pipeline, data_prefix=prefix, split='test')
        assert dataset.metainfo['classes'] == list(CLASSES)
        for i in (0, 5, len(dataset) - 1):
            sample = dataset[i]['data_samples']
            truth = load_truth(os.path.join(roots['dfew'], 'truth', f'{sample.video_id}.npz'))
            assert int(sample.gt_label) == truth.label == dataset.get_cat_ids(i)[0]
        assert dataset[0]['inputs'].shape == (1, 3, 8, 32, 32)


def test_frames_arrive_in_the_order_of_their_numbers_though_they_are_not_padded(build, roots, tmp_path):
    """A clip of 16 frames named ..._1 to ..._16, each of its own grey: text order would play 1, 10, 11, ..."""
    folder = tmp_path / 'Clip/clip_224x224/00007'
    folder.mkdir(parents=True)
    for i in range(1, 17):
        cv2.imwrite(str(folder / f'00007_{i}.jpg'), np.full((8, 8, 3), 10 * i, np.uint8))
    dataset = build(data_root=str(tmp_path), ann_file=write_list(tmp_path, '00007 0\n'), split='test',
                    pipeline=[dict(type='SampleFrames', clip_len=16, out_of_bound_opt='repeat_last', test_mode=True),
                              dict(type='ListedFrameDecode'), *PACK])
    grey = dataset[0]['inputs'].float().mean((0, 1, 3, 4))
    assert [round(float(value) / 10) for value in grey] == list(range(1, 17))


def test_a_fold_trains_on_the_four_others(build):
    tested = [identities(build(fold=fold, split='test')) for fold in range(1, 6)]
    every = sum(tested, [])
    assert len(every) == len(set(every)) == 70
    train = identities(build(fold=2, split='train'))
    assert set(train) == {name for i, names in enumerate(tested) for name in names if i != 1}


def test_protocols_part_the_clips_and_say_so(build, monkeypatch):
    said = []
    monkeypatch.setattr('lsef_plugins.datasets.emotion_clips.print_log', lambda text, **_: said.append(text))
    splits = ('train', 'val', 'test')
    clean = {split: identities(build(split=split, protocol='clean', val_ratio=.2)) for split in splits}
    paper = {split: identities(build(split=split)) for split in splits}
    assert paper['val'] == paper['test'] == clean['test']
    assert sorted(clean['train'] + clean['val']) == sorted(paper['train']) and 7 <= len(clean['val']) <= 14
    assert not set(clean['val']) & set(clean['test'])
    assert "protocol 'clean', split 'val' is the 20% of the training list that are held out (seed 0)" in said[1]
    assert "protocol 'paper', split 'val' is the TEST list: an epoch picked on it" in said[4]
    for text in said:
        assert 'fold 1' in text and '1 = Happy' in text and 'counted from 1' in text and text.count('evidence:') == 1
    held = build(split='val', protocol='clean', val_ratio=.2, val_seed=1)
    assert sorted(identities(held)) != sorted(clean['val'])


def test_what_was_understood_goes_to_the_log_once_and_to_metainfo(build, caplog):
    logger = MMLogger.get_instance('doctor_test', log_level='INFO')
    with caplog.at_level(logging.INFO, logger.name):
        dataset = build(split='train', protocol='clean')
    meta = dataset.metainfo['annotation']
    assert (meta['data_set'], meta['protocol'], meta['split'], meta['fold'], meta['label_base']) == (
        'dfew', 'clean', 'train', 1, 1)
    assert len(meta['list_sha256']) == len(meta['list_content_sha256']) == 64 and dataset.test_mode is False
    assert build(split='val').test_mode is True


def test_data_sets_join_when_what_was_read_is_ignored(build):
    from mmengine.dataset import ConcatDataset
    both = ConcatDataset([build(split='train'), build('FERV39kDataset', split='train')], ignore_keys=['annotation'])
    assert len(both) == 56 + 32 and both.metainfo['classes'] == list(CLASSES)
    assert {int(both[i]['data_samples'].gt_label) for i in (0, 60)} <= set(range(7))


def test_every_dialect_of_a_list_gives_the_same_samples(build, roots, tmp_path):
    official = build(split='test')
    pairs = [(info['video_id'], info['label']) for info in map(official.get_data_info, range(len(official)))]
    lists = {'s2d.csv': 'video_name,label\n' + ''.join(f'{name},{label}\n' for name, label in pairs),
             'unpadded.csv': 'video_name,label\r\n' + ''.join(f'{int(name)},{label + 1}\r\n' for name, label in pairs),
             'mae.csv': ''.join(f'/data/somewhere/jpg_256/{name} {label}\n' for name, label in pairs),
             'former.txt': ''.join(f'/data/somewhere/jpg_256/{name} 99 {label}\n' for name, label in pairs)}
    for name, text in lists.items():
        mine = build(ann_file=write_list(tmp_path, text, name), split='test',
                     strip_prefix='/data/somewhere/jpg_256' if '/' in text else None)
        assert [(info['video_id'], info['label'], info['frame_dir']) for info in
                map(mine.get_data_info, range(len(mine)))] == [
                    (*pair, os.path.join(roots['dfew'], 'Clip/clip_224x224', pair[0])) for pair in pairs], name


def test_the_held_out_clips_do_not_depend_on_the_dialect(build, tmp_path):
    official = build(split='train')
    pairs = [(info['video_id'], info['label']) for info in map(official.get_data_info, range(len(official)))]
    mine = write_list(tmp_path, 'video_name,label\n' + ''.join(f'{int(n)},{label}\n' for n, label in reversed(pairs)))
    assert set(identities(build(ann_file=mine, split='val', protocol='clean'))) == set(
        identities(build(split='val', protocol='clean')))


def test_ferv39k_hands_its_scene_to_the_sample(build):
    dataset = build('FERV39kDataset', split='test')
    for i in range(len(dataset)):
        sample = dataset[i]['data_samples']
        scene, word, _ = sample.video_id.split('/')
        assert sample.scene == scene and CLASSES[int(sample.gt_label)] == word


def test_short_clips_never_play_their_first_frame_after_their_last(build, tmp_path):
    folder = tmp_path / '2_ClipsforFaceCrop/A/Happy/0001'
    folder.mkdir(parents=True)
    for i in range(8):
        cv2.imwrite(str(folder / f'{i:02d}.jpg'), np.full((8, 8, 3), 20 * i + 20, np.uint8))
    path = write_list(tmp_path, 'A/Happy/0001 Happy\n')
    for step in (dict(type='UniformSample', clip_len=16, test_mode=True), dict(type='UniformSample', clip_len=16),
                 dict(type='SampleFrames', clip_len=16, frame_interval=2, out_of_bound_opt='repeat_last')):
        dataset = build('FERV39kDataset', data_root=str(tmp_path), ann_file=path,
                        pipeline=[step, dict(type='ListedFrameDecode'), *PACK])
        grey = dataset[0]['inputs'].float().mean((0, 1, 3, 4))
        assert (np.diff(grey) > -5).all() and len(grey) == 16
    looping = [dict(type='SampleFrames', clip_len=16, frame_interval=2), dict(type='ListedFrameDecode'), *PACK]
    with pytest.raises(ValueError, match="SampleFrames loops clips that are too short.*out_of_bound_opt='repeat_last'"):
        build('FERV39kDataset', data_root=str(tmp_path), ann_file=path, pipeline=looping)
    with pytest.raises(ValueError, match='DenseSampleFrames loops'):
        build('FERV39kDataset', data_root=str(tmp_path), ann_file=path,
              pipeline=[dict(type='DenseSampleFrames', clip_len=4), *looping[1:]])
    dataset = build('FERV39kDataset', data_root=str(tmp_path), ann_file=path, pipeline=looping, allow_looping=True)
    assert (np.diff(dataset[0]['inputs'].float().mean((0, 1, 3, 4))) < -50).any()     # the trap itself


@pytest.mark.parametrize('prefix, pipeline, message', [
    (None, VIDEOS, 'DecordInit cannot read frame folders.*ListedFrameDecode'),
    (None, [SAMPLE, dict(type='RawFrameDecode'), *PACK], 'RawFrameDecode cannot read frame folders'),
    (dict(video='Clip/original'), FRAMES, 'ListedFrameDecode reads frame folders, and data_prefix names videos'),
    (dict(img='a', video='b'), FRAMES, r'data_prefix=.* must be dict\(img='),
    (dict(prefix=''), FRAMES, 'must be dict')])
def test_a_pipeline_that_cannot_read_the_source_is_refused(build, prefix, pipeline, message):
    with pytest.raises(ValueError, match=message):
        build(data_prefix=prefix, pipeline=pipeline)


@pytest.mark.parametrize('options, message', [
    (dict(fold=None), 'either fold=1..5'), (dict(fold=7), 'fold=7 must be 1..5'),
    (dict(split='dev'), "split='dev' must be"), (dict(protocol='fair'), "protocol='fair' must be"),
    (dict(classes=CLASSES[::-1]), 'labels of this data set always come in the order Happy')])
def test_impossible_options_are_refused(build, options, message):
    with pytest.raises(ValueError, match=message):
        build(**options)


def test_missing_clips_are_counted_and_named_when_the_list_is_read(build, tmp_path):
    path = write_list(tmp_path, 'video_name,label\n00001,1\n99998,7\n99999,7\n')
    with pytest.raises(FileNotFoundError, match=r'2 of 3 clips of .*mine.csv cannot be used \(2 missing[\s\S]*99998 '
                                                r'does not exist[\s\S]*check_dataset.py'):
        build(ann_file=path)
    assert len(build(ann_file=path, check_files='off')) == 3


def test_absolute_and_climbing_paths_are_refused_unless_allowed(build, roots, tmp_path, monkeypatch):
    outside = os.path.join(roots['dfew'], 'Clip/clip_224x224/00001')
    path = write_list(tmp_path, f'{outside} 0\n')
    root = str(tmp_path)
    os.makedirs(os.path.join(root, 'Clip/clip_224x224'))
    with pytest.raises(AnnotationError, match='absolute path outside the data folder'):
        build(ann_file=path, data_root=root)
    assert build(ann_file=path, data_root=root, allow_outside_root=True)[0]['data_samples'].filename == outside
    assert build(ann_file=path)[0]['data_samples'].filename == outside      # inside its own root
    monkeypatch.chdir(os.path.dirname(roots['dfew']))
    assert len(build(ann_file=path, data_root='dfew')) == 1     # inside, though the root is given relative
    climbing = write_list(tmp_path, '../../00001 0\n')
    with pytest.raises(AnnotationError, match='leads out of the data folder'):
        build(ann_file=climbing)


def test_the_official_lists_of_two_releases_mixed_are_refused(build, roots, tmp_path):
    root = tmp_path / 'mixed'
    shutil.copytree(os.path.join(roots['dfew'], 'EmoLabel_DataSplit'), root / 'EmoLabel_DataSplit')
    path = root / 'EmoLabel_DataSplit/test(single-labeled)/set_1.csv'
    rows = [line.split(',') for line in path.read_text().splitlines()[1:]]
    path.write_text('video_name,label\n' + ''.join(f'{name},{int(label) - 1}\n' for name, label in rows))
    with pytest.raises(AnnotationError, match='contradict.*official lists count from 1'):
        build(data_root=str(root), check_files='off')


def test_a_clip_that_breaks_later_is_named_by_the_worker(build, roots, tmp_path):
    root = tmp_path / 'root'
    shutil.copytree(os.path.join(roots['dfew'], 'Clip/clip_224x224/00001'), root / 'Clip/clip_224x224/00001')
    dataset = build(data_root=str(root), ann_file=write_list(tmp_path, '00001 0\n'), split='test')
    folder = root / 'Clip/clip_224x224/00001'
    for frame in folder.iterdir():
        frame.write_bytes(frame.read_bytes()[:-40])
    with pytest.raises(UnreadableClipError, match=r'00001_0000..jpg. is cut off .*check_dataset.py'):
        dataset[0]
    for frame in folder.iterdir():
        frame.unlink()
    with pytest.raises(UnreadableClipError, match="folder of frames .*00001' holds no frames"):
        dataset[0]
    folder.rmdir()
    with pytest.raises(UnreadableClipError, match="00001' cannot be opened"):
        dataset[0]


def test_a_cut_off_video_is_found_when_the_list_is_read(build, roots, tmp_path):
    root = tmp_path / 'root'
    shutil.copytree(os.path.join(roots['dfew'], 'Clip/original'), root / 'Clip/original')
    film = root / 'Clip/original/00003.mp4'
    film.write_bytes(film.read_bytes()[:-500])
    path = write_list(tmp_path, '00001 0\n00003 3\n')
    with pytest.raises(UnreadableClipError, match=r'1 of 2 clips .*\(0 missing, 1 empty, cut[\s\S]*00003.mp4'):
        build(data_root=str(root), ann_file=path, pipeline=VIDEOS, data_prefix=dict(video='Clip/original'))


def test_samples_travel_through_worker_processes_and_balanced_sampling(build):
    from mmengine.runner import Runner
    with DefaultScope.overwrite_default_scope('mmaction'):
        loader = Runner.build_dataloader(dict(
            batch_size=4, num_workers=1, sampler=dict(type='DefaultSampler', shuffle=False),
            dataset=dict(type='ClassBalancedDataset', oversample_thr=.3, dataset=dict(
                type='DFEWDataset', data_root=build().data_root, fold=1, split='train', pipeline=FRAMES))), seed=0)
        assert len(loader.dataset) > 56
        batch = next(iter(loader))
    assert len(batch['inputs']) == 4 and batch['inputs'][0].dtype.is_floating_point is False
