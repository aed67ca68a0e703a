"""Every dialect file that circulates, by the rows it holds: the same clips, the same classes, whatever the dialect.

``lists/`` holds hand-made rows in the formats of the real releases (ids are invented).
"""
from pathlib import Path

import numpy as np
import pytest

from lsef_plugins.datasets.annotations import (
    CLASSES,
    AnnotationError,
    PathRules,
    read_aff_wild2,
    read_clips,
    read_rating_pair,
)

LISTS = Path(__file__).parent / 'lists'
DFEW = {f'{i:05d}': CLASSES[(0, 3, 6, 2, 5, 1, 4)[(i - 1) % 7]] for i in range(1, 15)}
FERV = {f'{scene}/{word}/{i:04d}': word for i, (scene, word) in enumerate(
    zip(('Action', 'Crime', 'Speech', 'War', 'DailyLife') * 3,
        ('Happy', 'Angry', 'Fear', 'Neutral', 'Disgust', 'Sad', 'Surprise') * 2), start=10)}
OFFICIAL = dict(zip(('00001', '00002', '00003', '00010', '00123', '04567', '16372'), CLASSES))
FERV_OFFICIAL = {'Action/Happy/0001': 'Happy', 'Crime/Angry/0002': 'Angry', 'Speech/Neutral/0003': 'Neutral',
                 'War/Fear/0004': 'Fear', 'Social/Disgust/0005': 'Disgust', 'School/Sad/0006': 'Sad',
                 'Talkshow/Surprise/0007': 'Surprise'}


def told(found):
    return {record.identity: CLASSES[record.label] for record in found.records}


@pytest.mark.parametrize('name, data_set, truth, form, base, order', [
    ('DFEW/set_1_padded_1based_crlf.csv', 'dfew', OFFICIAL, 'columns', 1, 'dfew'),
    ('DFEW/set_1_unpadded_1based.csv', 'dfew', OFFICIAL, 'columns', 1, 'dfew'),
    ('dialects/dfew_video_name_label_0based.csv', 'dfew', DFEW, 'columns', 0, 'dfew'),
    ('dialects/dfew_path_label_0based.csv', 'dfew', DFEW, 'path label', 0, 'dfew'),
    ('dialects/dfew_path_frames_label_0based.txt', 'dfew', DFEW, 'path n label', 0, 'dfew'),
    ('FERV39k/train_All.csv', 'ferv39k', FERV_OFFICIAL, 'path label', None, 'words'),
    ('dialects/ferv39k_path_label_happy0.csv', 'ferv39k', FERV, 'path label', 0, 'dfew'),
    ('dialects/ferv39k_path_frames_label_happy0.txt', 'ferv39k', FERV, 'path n label', 0, 'dfew'),
    ('dialects/ferv39k_path_id_alphabetical.csv', 'ferv39k', FERV, 'columns', 0, 'alphabetical')])
def test_each_dialect_says_the_same_classes(name, data_set, truth, form, base, order):
    found = read_clips(LISTS / name, data_set)
    assert told(found) == truth
    assert (found.form, found.class_map.base, found.class_map.order) == (form, base, order)
    assert found.class_map.evidence and found.repeated == ()


def test_the_annotation_sheet_says_its_classes_and_leaves_out_clips_without_a_single_label():
    found = read_clips(LISTS / 'DFEW/annotation_as_csv.csv', 'dfew')
    assert told(found) == {'00001': 'Happy', '00002': 'Sad'}
    assert (found.form, found.skipped, found.class_map.base) == ('votes', 1, 1)


def test_content_hash_is_of_what_a_list_says_not_of_its_dialect():
    names = ('dfew_video_name_label_0based.csv', 'dfew_path_label_0based.csv', 'dfew_path_frames_label_0based.txt')
    same = [read_clips(LISTS / 'dialects' / name, 'dfew') for name in names]
    assert len({each.content_sha256() for each in same}) == 1 and len({each.sha256 for each in same}) == 3
    other = read_clips(LISTS / 'DFEW/set_1_unpadded_1based.csv', 'dfew')
    assert other.content_sha256() != same[0].content_sha256()
    assert other.content_sha256() == read_clips(LISTS / 'DFEW/set_1_padded_1based_crlf.csv', 'dfew').content_sha256()


def test_listed_numbers_of_frames_scenes_and_lines_are_kept():
    found = read_clips(LISTS / 'dialects/ferv39k_path_frames_label_happy0.txt', 'ferv39k')
    assert [record.num_frames for record in found.records[:3]] == [8, 13, 18]
    assert [record.scene for record in found.records[:3]] == ['Action', 'Crime', 'Speech']
    assert found.records[4].line == 5
    assert read_clips(LISTS / 'dialects/ferv39k_path_id_alphabetical.csv', 'ferv39k').records[0].line == 2


def test_the_printed_summary_names_classes_base_order_and_evidence():
    text = str(read_clips(LISTS / 'dialects/ferv39k_path_id_alphabetical.csv', 'ferv39k'))
    for part in ('14 clips, 5 scenes', '0 = Angry, 1 = Disgust', 'order: alphabetical, counted from 0',
                 'the path names the emotion and agrees on 14 of 14 lines', 'Happy 2'):
        assert part in text


def test_somebodys_absolute_paths_are_cut_off():
    path = LISTS / 'dialects/dfew_path_label_0based.csv'
    with pytest.raises(AnnotationError, match="strip_prefix='/data/somewhere/DFEW/Clip/jpg_256/'"):
        read_clips(path, 'dfew', rules=PathRules(root='/home/me/data/dfew'))
    for prefix in ('/data/somewhere/DFEW/Clip/jpg_256/', '/data/somewhere/DFEW/Clip/jpg_256', 'auto'):
        found = read_clips(path, 'dfew', rules=PathRules(strip_prefix=prefix, root='/home/me/data/dfew'))
        assert [record.path for record in found.records[:2]] == ['00001', '00002']


def test_label_index_gives_the_order_where_neither_words_nor_paths_do(tmp_path):
    rows = (LISTS / 'dialects/ferv39k_path_id_alphabetical.csv').read_text()
    blind = tmp_path / 'list.csv'
    for word in CLASSES:
        rows = rows.replace(f'/{word}/', '/clips/')
    blind.write_text(rows)
    with pytest.raises(AnnotationError, match='nothing tells which class is which'):
        read_clips(blind, 'ferv39k')
    stated = read_clips(blind, 'ferv39k', label_index=LISTS / 'dialects/ferv39k_label_index.txt')
    assert [CLASSES[record.label] for record in stated.records] == list(FERV.values())
    (tmp_path / 'label_index.txt').write_bytes((LISTS / 'dialects/ferv39k_label_index.txt').read_bytes())
    assert read_clips(blind, 'ferv39k').class_map.order == 'alphabetical'


def test_a_veatic_pair_gives_valence_then_arousal():
    ratings = read_rating_pair(LISTS / 'VEATIC/0_valence.csv', LISTS / 'VEATIC/0_arousal.csv')
    assert ratings.values.shape == (60, 2) and ratings.values.dtype == np.float32 and ratings.valid.all()
    np.testing.assert_allclose(ratings.values[[0, 3]], [[.4, .107], [.440075, .110060]], rtol=1e-6)


def test_aff_wild2_marks_frames_without_rating():
    ratings = read_aff_wild2(LISTS / 'AffWild2/1.txt')
    assert ratings.valid.tolist() == [True, True, False, True]
    assert np.isnan(ratings.values[2]).all()
    np.testing.assert_allclose(ratings.values[3], [.12, .2], rtol=1e-6)
