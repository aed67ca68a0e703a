"""From a clip to its files: constant memory, whole files, and one bad clip does not stop the others."""
import csv
import json
import os
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest

from lsef_plugins.visualization.face_box import smooth_track
from lsef_plugins.visualization.pixel_reader import PixelReader
from lsef_plugins.visualization.read_clip import Settings, face_words, read_clip, stretch
from lsef_plugins.visualization.source import open_source
from lsef_plugins.visualization.video_report import report_clip, report_clips, stems_of

SMALL = Settings(width=1000)


def test_a_clip_becomes_a_page_pictures_and_tables(tiny_videos, tmp_path):
    told = []
    outcome = report_clip(tiny_videos.root / 'clip_0.mp4', tmp_path / 'a', PixelReader(window=8), SMALL,
                          lambda *each: told.append(each))
    assert outcome.report == tmp_path / 'a.html' and outcome.error is None and told[-1] == (5, 5)
    assert sorted(path.name for path in tmp_path.iterdir()) == ['a.csv', 'a.html', 'a.json', 'a.png', 'a_surfaces.png']
    assert cv2.imread(str(tmp_path / 'a.png')).shape[1] == 1000
    page = (tmp_path / 'a.html').read_text(encoding='utf-8')
    assert page.count('data:image/png;base64,') == 2 and 'http' not in page.replace('http-equiv', '')
    HTMLParser().feed(page)
    told = json.loads((tmp_path / 'a.json').read_text())
    assert told['clip'] == 'clip_0.mp4' and '5 windows of 8, one every 4' in told['sampling']
    assert told['sampling'].startswith('24 of 24 frames, 0.00 to 0.92 s, at 25 fps')
    with open(tmp_path / 'a.csv', newline='') as file:
        assert [int(row['frame']) for row in csv.DictReader(file)] == list(range(24))


def test_the_stretch_the_interval_and_the_stride_arrive(tiny_videos, tmp_path):
    source = open_source(tiny_videos.root / 'clip_0.mp4')
    settings = Settings(start=.2, duration=.6, stride=1)
    assert stretch(source, settings) == (5, 20)
    clip = read_clip(source.path, source, PixelReader(window=4, interval=2), settings)
    assert clip.timeline.indices.tolist() == list(range(5, 20, 2)) and len(clip.timeline.windows) == 5
    for more, words in ((dict(start=9.), 'has 24 frames .* 0 of them between 9 s'), (dict(start=-1.), 'not negative')):
        with pytest.raises(ValueError, match=words):
            stretch(source, Settings(**more))
    with pytest.raises(ValueError, match='24 sampled frames are fewer than the 30 .* Choose --window'):
        read_clip(source.path, source, PixelReader(window=30), Settings())


@pytest.mark.parametrize('frames', [64, 640])
def test_no_more_frames_are_held_however_long_the_video_is(frames):
    class Long:
        path, fps, length, alive, most = 'long', 25., frames, 0, 0

        def read(self, indices):
            return [_Frame.of(self) for _ in indices]
    source = Long()
    clip = read_clip(source.path, source, PixelReader(window=16), Settings())
    assert clip.frames.most_held == 16 and len(clip.timeline.indices) == frames
    assert source.most <= 2 * 16        # the window, and what the reader holds of the one before


class _Frame(np.ndarray):
    """A frame that is counted while it lives."""
    counts = None

    @classmethod
    def of(cls, source):
        frame = np.random.default_rng(0).integers(0, 255, (8, 8, 3), dtype=np.uint8).view(cls)
        frame.counts = source
        source.alive += 1
        source.most = max(source.most, source.alive)
        return frame

    def __del__(self):
        if self.counts is not None:
            self.counts.alive -= 1


def test_one_bad_clip_is_told_and_the_others_are_done(tiny_videos, tmp_path):
    clips = tmp_path / 'clips'
    clips.mkdir()
    for name in ('<b>1.mp4', '2.mp4'):
        (clips / name).write_bytes((tiny_videos.root / 'clip_0.mp4').read_bytes())
    (clips / 'cut.mp4').write_bytes((tiny_videos.root / 'clip_0.mp4').read_bytes()[:1500])
    (clips / 'empty.mp4').write_text('')
    (clips / 'frames').mkdir()
    for k in range(3):
        cv2.imwrite(str(clips / 'frames' / f'{k}.png'), np.zeros((8, 8, 3), np.uint8))
    paths = sorted(clips.iterdir())
    outcomes = list(report_clips(paths, tmp_path / 'out', PixelReader(window=8), SMALL,
                                 fault_of=lambda path: 'is cut off' if 'cut' in path else None))
    assert [outcome.path.name for outcome in outcomes if outcome.error is None] == ['2.mp4', '<b>1.mp4']
    errors = {outcome.path.name: outcome.error for outcome in outcomes if outcome.error}
    assert 'cannot be read as a video: it is cut off' in errors['cut.mp4']
    assert 'cannot be read as a video' in errors['empty.mp4'] and '3 frames' in errors['frames']
    index = (tmp_path / 'out' / 'index.html').read_text(encoding='utf-8')
    assert '2 of 5 clips decomposed' in index and '&lt;b&gt;1.mp4' in index and '<b>' not in index
    assert all(error.split(':')[0].split('/')[-1].split(' ')[0] in index for error in errors.values())


def test_names_that_would_meet_are_told_apart(tmp_path):
    (tmp_path / 'a.b').mkdir()
    paths = [tmp_path / name for name in ('x.mp4', 'X.avi', 'y.mp4', 'index.mp4', 'a.b')]
    stems = stems_of(paths)
    assert stems[2] == 'y' and stems[4] == 'a.b' and len({stem.lower() for stem in stems} | {'index'}) == 6
    # The pictures of one clip are not those of another, and a name made up is not one that is there.
    paths = [tmp_path / name for name in ('q.mp4', 'Q_surfaces.mp4', 'q_overlay.avi', 'z.mp4', 'z.avi', 'z_avi_5.mp4')]
    stems = stems_of(paths)
    files = [f'{stem.lower()}{ending}' for stem in stems for ending in ('', '_surfaces', '_overlay')]
    assert stems[0] == 'q' and stems[5] == 'z_avi_5' and len(set(files)) == len(files)


def test_hostile_names_are_text_and_one_that_is_no_utf8_does_not_end_the_others(tiny_videos, tmp_path):
    clips = tmp_path / 'clips'
    clips.mkdir()
    for name in (b'1\xff.mp4', rb'2$\frac$.mp4'):
        path = os.path.join(os.fsencode(clips), name)
        try:
            with open(path, 'wb') as file:
                file.write((tiny_videos.root / 'clip_0.mp4').read_bytes())
        except OSError:             # this file system has no such names
            pytest.skip('the file system takes only names in UTF-8')
    bad, formula = report_clips(sorted(clips.iterdir()), tmp_path / 'out', PixelReader(window=8), SMALL)
    assert bad.error and bad.error.endswith('Rename it.') and bad.error.isascii()
    assert formula.error is None and formula.report
    index = (tmp_path / 'out' / 'index.html').read_text(encoding='utf-8')
    assert '1 of 2 clips decomposed' in index and '1?.mp4' in index and r'2$\frac$.mp4' in index


def test_a_fault_while_writing_leaves_no_half_report(tiny_videos, tmp_path, monkeypatch):
    from lsef_plugins.visualization import video_report
    monkeypatch.setattr(video_report, 'write_curves', lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        report_clip(tiny_videos.root / 'clip_0.mp4', tmp_path / 'a', PixelReader(window=8), SMALL)
    assert not [path.name for path in tmp_path.iterdir() if 'tmp' in path.name or path.suffix == '.html']


def test_the_face_is_cropped_or_its_absence_is_said(tiny_videos, tmp_path):
    found = report_clip(tiny_videos.root / 'clip_0.mp4', tmp_path / 'a', PixelReader(window=24),
                        Settings(width=1000, face=lambda frame: [(8., 8., 24., 24.)], overlay=True))
    assert 'found in 16 of 16 frames' in found.words
    assert 'found in 16 of 16 frames' in (tmp_path / 'a.html').read_text(encoding='utf-8')
    assert cv2.VideoCapture(str(tmp_path / 'a_overlay.mp4')).get(cv2.CAP_PROP_FRAME_COUNT) == 24
    source, clips = open_source(tiny_videos.root / 'clip_0.mp4'), []
    for face in (lambda frame: [(8., 8., 24., 24.)], lambda frame: [], None):
        settings = Settings(face=face)
        clips.append(read_clip(source.path, source, PixelReader(window=24), settings))
        assert ('no face was found: the whole frame is used' in face_words(clips[-1], settings)) == (len(clips) == 2)
    base = [clip.timeline.squares['base'].tolist() for clip in clips]
    assert base[1] == base[2] != base[0] and face_words(clips[2], Settings()) == ''


def test_the_crop_that_is_decomposed_is_that_of_the_track(tiny_videos):
    source = open_source(tiny_videos.root / 'clip_0.mp4')
    seen = []

    class Reader(PixelReader):
        def __call__(self, frames, indices):
            seen.extend(zip(indices, frames))
            return super().__call__(frames, indices)
    read_clip(source.path, source, Reader(window=24), Settings(face=lambda frame: [(8., 8., 24., 24.)]))
    track = smooth_track([0, 23], [(8., 8., 24., 24.)] * 2, 2)
    for index, frame in seen:
        assert np.array_equal(frame, track.crop(source.read([index])[0], int(index)))
