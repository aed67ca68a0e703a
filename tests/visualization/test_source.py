"""Frames on request: both decoders and a folder of pictures agree, and say what is wrong."""
import cv2
import numpy as np
import pytest

from lsef_plugins.visualization.source import FrameFolder, clips_in, open_source


@pytest.fixture(scope='module')
def folder(tmp_path_factory, tiny_videos):
    """The frames of a clip, named without zeros in front."""
    root = tmp_path_factory.mktemp('frames')
    source = open_source(tiny_videos.root / 'clip_0.mp4')
    for index, frame in enumerate(source.read(range(12))):
        cv2.imwrite(str(root / f'f{index}.png'), cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    return root


def test_decoders_and_folder_give_the_same_frames_in_any_order(tiny_videos, folder):
    sources = [open_source(tiny_videos.root / 'clip_0.mp4', reader=reader) for reader in ('decord', 'opencv')]
    sources.append(open_source(folder, fps=10))
    for index in (11, 2, 2, 3, 10, 0):
        one, two, three = (source.read([index])[0].astype(int) for source in sources)
        assert np.abs(one - two).max() <= 3 and np.array_equal(one, three), index
    assert [source.length for source in sources] == [24, 24, 12] and sources[2].fps == 10
    assert sources[0].fps == sources[1].fps == 25
    for source in sources:
        source.close()


def test_a_frame_that_is_not_there_is_named(tiny_videos, tmp_path):
    for reader in ('decord', 'opencv'):
        with pytest.raises(ValueError, match=r'of its 24 frames, number 30 \(1.20 s\).*--duration 1.1 or less'):
            open_source(tiny_videos.root / 'clip_0.mp4', reader=reader).read([30])


def test_broken_pictures_and_other_sizes_in_a_folder_are_named(folder, tmp_path):
    picture = np.zeros((8, 8, 3), np.uint8)
    cv2.imwrite(str(tmp_path / '1.png'), picture)
    cv2.imwrite(str(tmp_path / '2.png'), picture[:4])
    (tmp_path / '10.png').write_bytes(b'no picture')
    source = FrameFolder(tmp_path)
    assert source.names == ['1.png', '2.png', '10.png']
    source.read([0])
    for index, name in ((1, '2.png'), (2, '10.png')):
        with pytest.raises(ValueError, match=f'{name} cannot be read as a picture of the size of those before it'):
            source.read([index])


def test_what_cannot_be_opened_is_told(tmp_path):
    (tmp_path / 'empty.mp4').write_text('')
    (tmp_path / 'nothing').mkdir()
    for path, kind, words in (('no.mp4', FileNotFoundError, 'does not exist'),
                              ('empty.mp4', ValueError, 'cannot be read as a video'),
                              ('nothing', ValueError, 'holds no pictures .* and no videos')):
        with pytest.raises(kind, match=words):
            open_source(tmp_path / path)
    with pytest.raises(ValueError, match='fps counts frames per second'):
        open_source(tmp_path, fps=0)
    with pytest.raises(ValueError, match="reader is 'decord', 'opencv' or None"):
        open_source(tmp_path, reader='other')


def test_a_folder_is_a_clip_of_frames_or_holds_clips(tmp_path, folder):
    assert clips_in(folder) == [folder]
    with pytest.raises(ValueError, match='holds no videos .* no pictures and no folders of pictures'):
        clips_in(tmp_path)
    for name in ('b10.mp4', 'b9.MP4', '.hidden.mp4', 'notes.txt'):
        (tmp_path / name).write_text('')
    (tmp_path / 'a').mkdir()
    (tmp_path / 'a' / '1.jpg').write_text('')
    (tmp_path / 'empty').mkdir()
    assert [path.name for path in clips_in(tmp_path)] == ['a', 'b9.MP4', 'b10.mp4']


def test_subfolders_are_searched_only_where_that_is_asked_for(tmp_path):
    for name in ('b/deep/2.mp4', 'b/deep/10.mp4', 'a.mp4', 'c/frames/1.png', 'd/1.jpg', '.hidden/x.mp4', 'b/.h/y.mp4'):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b'x')
    (tmp_path / 'loop').symlink_to(tmp_path)
    assert clips_in(tmp_path) == [tmp_path / 'a.mp4', tmp_path / 'd']
    assert clips_in(tmp_path, recursive=True) == [
        tmp_path / name for name in ('a.mp4', 'b/deep/2.mp4', 'b/deep/10.mp4', 'c/frames', 'd')]
