"""Reading a video: the right frames at the right times, by either reader, or a sentence that helps."""
import struct

import cv2
import numpy as np
import pytest

from lsef_plugins.visualization import sample_video
from lsef_plugins.visualization.clip import still_stretch

READERS = ('decord', 'opencv')


def write_video(path, frames=50, size=(48, 64), fps=20, codec='mp4v', noise=False):
    """Frame k shows the grey level 4 k + 20, or noise, which compresses badly."""
    rng = np.random.default_rng(0)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), fps, size[::-1])
    assert writer.isOpened()
    for k in range(frames):
        writer.write(rng.integers(0, 255, (*size, 3), np.uint8) if noise else np.full((*size, 3), 4 * k + 20, np.uint8))
    writer.release()
    return path


def index_in_front(path):
    """Rewrites an .mp4 as the web does: moov before mdat. Cut, such a file opens and then breaks off."""
    data, at, atoms = path.read_bytes(), 0, []
    while at < len(data):
        size, kind = struct.unpack('>I4s', data[at:at + 8])
        atoms.append((kind, data[at:at + size]))
        at += size
    moov = bytearray(dict(atoms)[b'moov'])
    table = moov.find(b'stco')
    count = struct.unpack('>I', moov[table + 8:table + 12])[0]
    for k in range(count):
        place = table + 12 + 4 * k
        moov[place:place + 4] = struct.pack('>I', struct.unpack('>I', moov[place:place + 4])[0] + len(moov))
    head = [content for kind, content in atoms if kind == b'ftyp']
    rest = [content for kind, content in atoms if kind not in (b'ftyp', b'moov')]
    path.write_bytes(b''.join([*head, moov, *rest]))
    return path


@pytest.fixture(scope='module')
def video(tmp_path_factory):
    return write_video(tmp_path_factory.mktemp('video') / 'greys.avi', codec='MJPG')


@pytest.mark.parametrize('reader', READERS)
def test_sampled_frames_are_those_of_their_indices_and_times(video, reader):
    clip = sample_video(video, 8, reader=reader)
    assert clip.indices.tolist() == [0, 7, 14, 21, 28, 35, 42, 49]
    assert (clip.fps, clip.length, clip.frames.shape, clip.frames.dtype) == (20, 50, (8, 48, 64, 3), np.uint8)
    np.testing.assert_allclose(clip.times, clip.indices / 20)
    np.testing.assert_allclose(clip.frames.mean((1, 2, 3)), 4 * clip.indices + 20, atol=2)


@pytest.mark.parametrize('reader', READERS)
def test_a_stretch_is_what_was_asked_for_and_a_short_one_gives_all_it_has(video, reader):
    clip = sample_video(video, 32, start=.5, duration=.4, reader=reader)
    assert clip.indices.tolist() == [10, 11, 12, 13, 14, 15, 16, 17]
    np.testing.assert_allclose(clip.times, clip.indices / 20)
    np.testing.assert_allclose(clip.frames.mean((1, 2, 3)), 4 * clip.indices + 20, atol=2)


def test_colours_are_rgb_and_large_frames_are_shrunk_in_proportion(tmp_path):
    path = tmp_path / 'red.avi'
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'MJPG'), 10, (160, 120))
    for _ in range(6):
        writer.write(np.full((120, 160, 3), (0, 0, 200), np.uint8))
    writer.release()
    for reader in READERS:
        clip = sample_video(path, 4, short_side=60, reader=reader)
        assert clip.frames.shape == (4, 60, 80, 3)
        assert clip.frames[..., 0].min() > 180 and clip.frames[..., 1:].max() < 30


def test_a_frozen_stretch_is_named_in_a_clip_that_moves():
    frames = np.random.default_rng(0).integers(0, 255, (20, 8, 8, 3), np.uint8)
    assert still_stretch(frames) is None
    frames[6:11] = frames[6]
    frames[15:17] = frames[15]          # two equal frames are no stretch
    assert still_stretch(frames) == (6, 10)
    assert still_stretch(np.zeros((9, 4, 4, 3), np.uint8)) is None      # a clip that never moves


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match='nothing.mp4 does not exist. Check the spelling'):
        sample_video(tmp_path / 'nothing.mp4')
    with pytest.raises(ValueError, match='is a folder; give one video file'):
        sample_video(tmp_path)


@pytest.mark.parametrize('reader', READERS)
@pytest.mark.parametrize('content, words', [
    (b'', r'\(0 bytes\) cannot be read as a video.*export it again'),
    (b'no video at all' * 50, r"is text and no video \(it begins with 'no video at all.*Give a video file"),
    (b'no video at all\0' * 500, r'\(8000 bytes\) cannot be read as a video')], ids=['empty', 'text', 'anything'])
def test_a_file_that_is_no_video_is_told_so(tmp_path, reader, content, words):
    (tmp_path / 'x.mp4').write_bytes(content)
    with pytest.raises(ValueError, match=f'x.mp4 {words}'):
        sample_video(tmp_path / 'x.mp4', reader=reader)


@pytest.mark.parametrize('reader', READERS)
def test_a_file_cut_in_the_middle_never_becomes_a_picture_of_repeated_frames(tmp_path, reader):
    path = write_video(tmp_path / 'cut.mp4', noise=True)
    data = path.read_bytes()
    path.write_bytes(data[:len(data) // 2])
    with pytest.raises(ValueError, match='cannot be read as a video'):
        sample_video(path, reader=reader)


def test_a_file_that_breaks_off_says_where_and_its_sound_part_can_be_read(tmp_path):
    path = index_in_front(write_video(tmp_path / 'web.mp4', noise=True))
    assert sample_video(path, 50).length == 50
    data = path.read_bytes()
    path.write_bytes(data[:len(data) // 2])
    with pytest.raises(ValueError, match=r'breaks off: of its 50 frames, number \d+ .*--duration 0\.\d or less'):
        sample_video(path, 48)
    assert len(sample_video(path, 8, duration=.4).frames) == 8
    with pytest.raises(ValueError, match="reader is 'decord', 'opencv' or None"):
        sample_video(path, reader='eyes')


def test_too_few_frames_are_counted_out(video):
    with pytest.raises(ValueError, match='needs at least 4'):
        sample_video(video, 3)
    with pytest.raises(ValueError, match=r'has 50 frames \(2.50 s at 20 fps\), 2 of them.*--start and --duration'):
        sample_video(video, start=2.4)
    with pytest.raises(ValueError, match='0 of them'):
        sample_video(video, start=99)
    with pytest.raises(ValueError, match='duration is positive'):
        sample_video(video, duration=0)
