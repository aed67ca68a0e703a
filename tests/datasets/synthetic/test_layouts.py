"""The embedded data set in official layouts: readable as such, the same from the same seed, whole or refused."""
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from lsef_plugins.datasets.annotations import CLASSES, read_clips, read_rating_pair
from lsef_plugins.datasets.frames import list_frames
from lsef_plugins.datasets.splits import dfew_list, ferv39k_list
from lsef_plugins.datasets.synthetic.layouts import LENGTHS, write_layout
from lsef_plugins.datasets.synthetic.truth import load_truth


def files(root):
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in sorted(Path(root).rglob('*'))
            if path.is_file()}


@pytest.fixture(scope='module')
def dfew(tmp_path_factory):
    return write_layout('dfew', tmp_path_factory.mktemp('layouts') / 'dfew', 35, size=24, videos=True)


def test_dfew_has_five_disjoint_test_folds_that_the_reader_understands(dfew):
    tested = []
    for fold in range(1, 6):
        train, test = (read_clips(dfew_list(str(dfew), split, fold), 'dfew') for split in ('train', 'test'))
        names = [{record.identity for record in found.records} for found in (train, test)]
        assert not names[0] & names[1] and len(names[0] | names[1]) == 35 and train.class_map.base == 1
        tested += sorted(names[1])
        for record in test.records:
            truth = load_truth(dfew / 'truth' / f'{record.identity}.npz')
            assert truth.label == record.label
    assert sorted(tested) == [f'{i:05d}' for i in range(1, 36)]


def test_dfews_frames_are_named_after_their_clip_and_its_video_has_as_many(dfew):
    names = list_frames(str(dfew / 'Clip/clip_224x224/00004'))
    truth = load_truth(dfew / 'truth/00004.npz')
    assert names == [f'00004_{t:05d}.jpg' for t in range(1, len(truth.valence) + 1)]
    assert cv2.imread(str(dfew / 'Clip/clip_224x224/00004' / names[0])).shape == (24, 24, 3)
    video = cv2.VideoCapture(str(dfew / 'Clip/original/00004.mp4'))
    assert sum(iter(video.grab, False)) == len(names)


def test_persons_of_a_fold_are_in_no_other(dfew):
    people = {}
    for path in (dfew / 'truth').iterdir():
        truth = load_truth(path)
        people.setdefault((int(path.stem) - 1) % 5, set()).add((truth.seed, truth.identity))
    assert not any(people[a] & people[b] for a in people for b in people if a < b)


def test_ferv39k_names_scene_and_emotion_in_the_path_and_has_short_clips(tmp_path):
    root = write_layout('ferv39k', tmp_path / 'ferv', 30, size=16)
    lists = [read_clips(ferv39k_list(str(root), split), 'ferv39k') for split in ('train', 'test')]
    assert [len(found.records) for found in lists] == [24, 6]
    lengths = []
    for record in lists[0].records + lists[1].records:
        folder = root / '2_ClipsforFaceCrop' / record.path
        assert record.path.split('/')[1] == CLASSES[record.label] and record.scene
        lengths.append(len(list_frames(str(folder))))
    assert min(lengths) >= 8 and min(lengths) < 14 and max(lengths) <= LENGTHS['ferv39k'][1]


def test_veatics_ratings_are_the_planted_curves(tmp_path):
    root = write_layout('veatic', tmp_path / 'veatic', 2, size=16)
    for number in (0, 1):
        pair = read_rating_pair(*(root / 'rating_averaged' / f'{number}_{kind}.csv' for kind in ('valence', 'arousal')))
        truth = load_truth(root / 'truth' / f'{number + 1:05d}.npz')
        np.testing.assert_allclose(pair.values, np.stack([truth.valence, truth.arousal], 1), atol=1e-6)
        assert np.abs(np.diff(pair.values, axis=0)).max() < .7 and pair.values.std(0).min() > .01
        video = cv2.VideoCapture(str(root / f'videos/{number}.mp4'))
        assert sum(iter(video.grab, False)) == len(pair.values) >= 120


def test_the_same_seed_gives_the_same_bytes_with_any_number_of_workers(dfew, tmp_path):
    again = write_layout('dfew', tmp_path / 'again', 35, size=24, videos=True, workers=2)
    assert files(again) == files(dfew)
    other = write_layout('dfew', tmp_path / 'other', 10, seed=1, size=24)
    name = 'Clip/clip_224x224/00001/00001_00001.jpg'
    assert files(other)[name] != files(dfew)[name]


def test_an_interrupted_run_is_finished_and_a_complete_one_reused(tmp_path, monkeypatch):
    from lsef_plugins.datasets.synthetic import layouts
    whole = files(write_layout('dfew', tmp_path / 'whole', 10, size=16))
    write, done = layouts._write_frames, []

    def stop(folder, *rest):
        if len(done) == 4:
            raise KeyboardInterrupt
        done.append(folder)
        return write(folder, *rest)

    monkeypatch.setattr(layouts, '_write_frames', stop)
    with pytest.raises(KeyboardInterrupt):
        write_layout('dfew', tmp_path / 'half', 10, size=16)
    assert not (tmp_path / 'half/meta.json').exists() and not list((tmp_path / 'half').rglob('.*tmp*'))
    monkeypatch.setattr(layouts, '_write_frames', write)
    assert files(write_layout('dfew', tmp_path / 'half', 10, size=16)) == whole
    monkeypatch.setattr(layouts, '_write_clip', lambda *_: pytest.fail('a complete data set is drawn again'))
    write_layout('dfew', tmp_path / 'half', 10, size=16)


def test_other_settings_and_foreign_folders_are_refused(dfew, tmp_path):
    with pytest.raises(FileExistsError, match=r'other settings \(clips: 35 there, 40 asked for\)'):
        write_layout('dfew', dfew, 40, size=24, videos=True)
    (tmp_path / 'mine.txt').touch()
    with pytest.raises(FileExistsError, match='did not leave there'):
        write_layout('dfew', tmp_path, 10)
    with pytest.raises(ValueError, match="layout='afew' must be one of"):
        write_layout('afew', tmp_path / 'x')
    with pytest.raises(ValueError, match='clips=3: the layout of dfew needs at least 10'):
        write_layout('dfew', tmp_path / 'x', 3)


def test_settings_are_kept(dfew):
    meta = json.loads((dfew / 'meta.json').read_text())
    assert meta['complete'] and (meta['layout'], meta['clips'], meta['seed']) == ('dfew', 35, 0)
