"""Frames in the order of time, and clips found whichever way their number is padded."""
import random

import pytest

from lsef_plugins.datasets.frames import ClipFolders, list_frames


def test_frames_come_in_the_order_of_their_numbers(tmp_path):
    names = [f'00123_{i}.jpg' for i in range(1, 17)]
    for name in random.Random(0).sample(names, 16):
        (tmp_path / name).touch()
    for stray in ('._00123_1.jpg', 'Thumbs.db', 'notes.txt', '.hidden.png'):
        (tmp_path / stray).touch()
    (tmp_path / 'sub').mkdir()
    assert list_frames(str(tmp_path)) == names


def test_a_clip_is_found_padded_or_not(tmp_path):
    for name in ('00001', '2', 'A'):
        (tmp_path / name).mkdir()
    (tmp_path / '00003').touch()    # a file is no folder of frames
    folders = ClipFolders(str(tmp_path))
    assert [folders.find(name) for name in ('1', '00001', '00002', 'A')] == [
        str(tmp_path / name) for name in ('00001', '00001', '2', 'A')]
    assert folders.find('3') is None and folders.find('sub/1') is None
    assert folders.names() == ['2', '00001', 'A'] or folders.names() == ['00001', '2', 'A']


def test_two_folders_of_one_number_are_refused_unless_one_is_named_exactly(tmp_path):
    for name in ('1', '00001'):
        (tmp_path / name).mkdir()
    folders = ClipFolders(str(tmp_path))
    assert folders.find('1') == str(tmp_path / '1') and folders.find('00001') == str(tmp_path / '00001')
    with pytest.raises(ValueError, match="'1' and '00001': both can be clip '001'|'00001' and '1': both can be clip"):
        folders.find('001')


def test_videos_are_found_by_stem_in_subfolders(tmp_path):
    (tmp_path / 'A').mkdir()
    for name in ('A/7.mp4', 'A/8.txt', '9.AVI'):
        (tmp_path / name).touch()
    folders = ClipFolders(str(tmp_path), videos=True)
    assert folders.find('A/00007') == str(tmp_path / 'A/7.mp4') == folders.find('A/7.mp4')
    assert folders.find('A/8') is None and folders.find('9') == str(tmp_path / '9.AVI')
