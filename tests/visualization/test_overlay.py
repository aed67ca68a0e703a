"""The overlay has every frame once, shows what the timeline says, and is whole or not there."""
import cv2
import numpy as np
import pytest

from lsef_plugins.visualization import Event
from lsef_plugins.visualization.overlay import HEIGHT, PANEL, OverlayPanel, compose, write_overlay
from lsef_plugins.visualization.sliding import plan_windows
from lsef_plugins.visualization.timeline import Timeline

ORANGE, PURPLE = (0xd5, 0x5e, 0x00), (0x9b, 0x4f, 0x88)


class Source:
    """Frames of 40 x 60 pixels whose grey is three times their number; breaks off where it is told."""
    fps, length = 10., 20

    def __init__(self, ends=20):
        self.ends = ends

    def read(self, indices):
        if max(indices) >= self.ends:
            raise ValueError(f'number {max(indices)} cannot be decoded')
        return [np.full((40, 60, 3), 3 * index, np.uint8) for index in indices]


def timeline_of(**more):
    windows = plan_windows(10, 5, 5)
    rng = np.random.default_rng(0)
    squares = {name: rng.random(10) for name in ('base', 'transient', 'residual', 'frame')}
    gate = np.zeros(10)
    gate[8] = .9
    return Timeline(np.arange(10) * 2, np.arange(10) * .2, windows, np.repeat([0, 1], 5), squares, gate, **more)


EVENTS = [Event(2, 3, 4)]


def read_back(path):
    video, frames = cv2.VideoCapture(str(path)), []
    while True:
        good, frame = video.read()
        if not good:
            video.release()
            return frames
        frames.append(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB))


def test_every_frame_is_written_once_beside_its_panel(tmp_path):
    told = []
    path = write_overlay(tmp_path / 'new' / 'a.mp4', Source(), timeline_of(), EVENTS, 'a.mp4',
                         progress=lambda *each: told.append(each))
    frames = read_back(path)
    assert len(frames) == 19 and told[-1] == (19, 19)               # 0 to 18, the last sampled one
    assert all(frame.shape == (HEIGHT, 720 + PANEL, 3) for frame in frames)
    greys = [float(frame[200:280, 300:400].mean()) for frame in frames]
    np.testing.assert_allclose(greys, 3 * np.arange(19), atol=4)
    assert [path.name for path in path.parent.iterdir()] == ['a.mp4']


def test_events_and_bad_frames_are_framed_by_their_colour():
    panel = OverlayPanel(timeline_of(), EVENTS, 'a')
    frame = np.full((40, 60, 3), 100, np.uint8)
    corners = [tuple(compose(frame, panel, position, position * .2)[3, 3]) for position in range(10)]
    assert [corner == ORANGE for corner in corners] == [2 <= position <= 4 for position in range(10)]
    assert [corner == PURPLE for corner in corners] == [position == 8 for position in range(10)]


def test_the_panel_changes_with_time_and_the_bars_follow_the_window():
    probabilities = np.array([[.9, .1], [.2, .8]])
    panel = OverlayPanel(timeline_of(probabilities=probabilities, classes=('a', 'b')), EVENTS, 'x' * 99)
    early, late = panel.at(0, 0.), panel.at(9, 1.8)

    def width(picture, row):
        strip = picture[panel._bar_top(row) + 8, 150:500].astype(int)
        return int((np.abs(strip - 255).sum(1) > 60).sum()) / 350
    assert (width(early, 0), width(late, 0)) == pytest.approx((.9, .2), abs=.01)
    assert (width(early, 1), width(late, 1)) == pytest.approx((.1, .8), abs=.01)
    rated = OverlayPanel(timeline_of(ratings=np.zeros((10, 2))), [], 'a')
    assert [curve.name for curve in rated.curves][-2:] == ['valence', 'arousal']
    assert not np.array_equal(rated.at(0, 0.), rated.at(5, 1.))


def test_a_break_in_the_middle_leaves_no_half_file(tmp_path):
    (tmp_path / 'a.mp4').write_text('old')
    with pytest.raises(ValueError, match='number 9 cannot be decoded'):
        write_overlay(tmp_path / 'a.mp4', Source(ends=9), timeline_of(), EVENTS, 'a')
    assert [path.name for path in tmp_path.iterdir()] == ['a.mp4'] and (tmp_path / 'a.mp4').read_text() == 'old'


def test_frames_that_did_not_reach_the_disk_are_counted(tmp_path, monkeypatch):
    import lsef_plugins.visualization.overlay as overlay
    monkeypatch.setattr(overlay, '_count', lambda path: 7)
    with pytest.raises(OSError, match='of 19 frames 7 were written; no half file is left'):
        write_overlay(tmp_path / 'a.mp4', Source(), timeline_of(), EVENTS, 'a')
    assert not list(tmp_path.iterdir())


def test_another_container_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r'written as \.mp4'):
        write_overlay(tmp_path / 'a.avi', Source(), timeline_of(), EVENTS, 'a')
