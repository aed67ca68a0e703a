"""Files of a clip: what comes back is what was drawn, no frame is coded through another, nothing half is left."""
import errno
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lsef_plugins.datasets.synthetic import PRESETS, draw_clip, load_truth, video
from lsef_plugins.datasets.synthetic.drawing import draw_frames
from lsef_plugins.datasets.synthetic.signals import draw_signals

LUMA = np.array([.299, .587, .114])


@pytest.fixture
def clip():
    return draw_clip('default', 'train', 0, seed=1)


def paths(folder: Path):
    return folder / 'clip.mp4', folder / 'clip.npz'


def test_the_decoded_clip_is_the_drawn_clip_but_for_coding_noise(tmp_path, clip):
    movie, truth_file = paths(tmp_path)
    video.write_clip(movie, truth_file, *clip)
    back = video.decode(movie)
    assert back.shape == clip[0].shape
    error = (back.astype(float) - clip[0]) @ LUMA
    psnr = 10 * np.log10(255 ** 2 / (error ** 2).mean((1, 2)))
    assert psnr.min() > 37
    offset = error.mean((1, 2))     # the conversion of colours rounds down: a shift, the same in every frame
    assert np.abs(offset).max() < 1.2 and np.ptp(offset) < .2


def test_compression_neither_pulses_nor_leaks_from_frame_to_frame(tmp_path):
    """All-intra: the coding error changes as much between any two neighbours, and a clip coded without its first
    half decodes to the very same second half."""
    changes = []
    for index in range(6):
        frames = draw_frames(draw_signals(PRESETS['easy'], 'train', index, 0), PRESETS['easy'], sensor=False)
        whole, half = tmp_path / f'{index}.mp4', tmp_path / f'{index}half.mp4'
        video.encode(whole, frames, 25)
        video.encode(half, frames[16:], 25)
        back = video.decode(whole)
        error = (back.astype(float) - frames) @ LUMA
        changes.append(np.sqrt((np.diff(error, axis=0) ** 2).mean((1, 2))))
        # The quantiser adapts a little over a clip, so equal up to that.
        assert np.abs(back[16:].astype(float) - video.decode(half)).mean() < 1.5
    steps = np.mean(changes, axis=0)
    assert steps.max() < 1.3 * np.median(steps)


def test_the_same_clip_makes_the_same_files(tmp_path, clip):
    contents = []
    for name in ('one', 'two'):
        (tmp_path / name).mkdir()
        video.write_clip(*paths(tmp_path / name), *clip)
        contents.append([path.read_bytes() for path in paths(tmp_path / name)])
    assert contents[0] == contents[1]


def test_truth_comes_back_as_it_was_planted(tmp_path, clip):
    written = video.write_clip(*paths(tmp_path), *clip)
    back = load_truth(tmp_path / 'clip.npz')
    assert back.signals_sha256() == written.signals_sha256() and back.frames_sha256 == written.frames_sha256 != ''
    assert back.video_bytes == (tmp_path / 'clip.mp4').stat().st_size
    assert type(back.label) is int and type(back.tone) is str and back.events.dtype.names[0] == 'kind'
    assert np.array_equal(back.transient, clip[1].transient)


def test_every_signal_counts_in_the_hash(clip):
    truth = clip[1]
    before = truth.signals_sha256()
    for name in ('base', 'transient', 'nuisance', 'valence', 'rest'):
        value = getattr(truth, name)
        value.flat[0] += 1e-9
        assert truth.signals_sha256() != before
        value.flat[0] -= 1e-9
        setattr(truth, name, value)
        before = truth.signals_sha256()
    truth.label += 1
    assert truth.signals_sha256() != before


def test_nothing_prints_while_a_clip_is_written(tmp_path, clip, capfd):
    video.write_clip(*paths(tmp_path), *clip)
    captured = capfd.readouterr()
    assert captured.out == captured.err == ''


@pytest.mark.parametrize('victim', ['clip.mp4', 'clip.npz'])
def test_a_damaged_clip_is_not_complete(tmp_path, clip, victim):
    movie, truth_file = paths(tmp_path)
    assert not video.complete_clip(movie, truth_file)
    video.write_clip(movie, truth_file, *clip)
    assert video.complete_clip(movie, truth_file)
    path = tmp_path / victim
    path.write_bytes(path.read_bytes()[:-10])
    assert not video.complete_clip(movie, truth_file)


def test_a_damaged_truth_file_says_what_to_do(tmp_path):
    (tmp_path / 'clip.npz').write_bytes(b'PK no zip')
    with pytest.raises(ValueError, match='no readable truth file.*Delete it and run tools/generate_synthetic.py'):
        load_truth(tmp_path / 'clip.npz')
    with pytest.raises(FileNotFoundError):
        load_truth(tmp_path / 'absent.npz')


def test_a_video_that_does_not_read_back_is_refused_and_removed(tmp_path, clip, monkeypatch):
    """OpenCV reports no full disk: the file is simply short."""
    encode = video.encode
    monkeypatch.setattr(video, 'encode', lambda path, frames, fps: encode(path, frames[:20], fps))
    message = r'wrote frames of shape \(32, .*\(20, .*disk is probably full.*same command'
    with pytest.raises(OSError, match=message) as info:
        video.write_clip(*paths(tmp_path), *clip)
    assert info.value.errno == errno.ENOSPC and os.listdir(tmp_path) == []


def test_a_full_disk_while_writing_truth_leaves_no_clip_to_trust(tmp_path, clip, monkeypatch):
    def full(self):
        raise OSError(errno.ENOSPC, 'No space left on device')
    monkeypatch.setattr(type(clip[1]), 'to_bytes', full)
    with pytest.raises(OSError, match='No space left on device.*No half file is left'):
        video.write_clip(*paths(tmp_path), *clip)
    assert os.listdir(tmp_path) == ['clip.mp4'] and not video.complete_clip(*paths(tmp_path))


@pytest.mark.parametrize('limit', [0, 9000])
def test_a_limit_on_file_size_leaves_no_half_file(tmp_path, limit):
    """A real write error of the system, below Python, in a process of its own."""
    code = ('import resource, sys; from pathlib import Path;'
            'from lsef_plugins.datasets.synthetic import draw_clip, video;'
            'clip = draw_clip("easy", "train", 0);'
            f'resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}));'
            'video.write_clip(Path("clip.mp4"), Path("clip.npz"), *clip)')
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, cwd=tmp_path,
                          env={**os.environ, 'LSEF_PLUGINS_REGISTER': '0'})
    assert done.returncode != 0 and 'No half file is left' in done.stderr
    assert os.listdir(tmp_path) == []


def test_a_folder_that_is_not_there_is_named(tmp_path, clip):
    with pytest.raises(OSError, match='absent'):
        video.write_clip(tmp_path / 'absent' / 'clip.mp4', tmp_path / 'absent' / 'clip.npz', *clip)


def test_an_opencv_without_a_writer_is_told_apart_from_a_full_disk(tmp_path, clip, monkeypatch):
    class Closed:
        def __init__(self, *args):
            pass

        @staticmethod
        def fourcc(*letters):
            return 0

        def isOpened(self):
            return False

        def release(self):
            pass
    monkeypatch.setattr(video.cv2, 'VideoWriter', Closed)
    with pytest.raises(OSError, match='could not open a Motion JPEG writer.*opencv-python'):
        video.write_clip(*paths(tmp_path), *clip)
    assert os.listdir(tmp_path) == []
