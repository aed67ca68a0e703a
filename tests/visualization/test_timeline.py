"""A video read window by window is what it would be read whole; one window is a clip."""
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from lsef_plugins.visualization import decompose_pixels, energy_table
from lsef_plugins.visualization.pixel_reader import PixelReader
from lsef_plugins.visualization.sliding import FrameWindows, plan_windows
from lsef_plugins.visualization.source import open_source
from lsef_plugins.visualization.timeline import Reading, read_timeline


@pytest.fixture(scope='module')
def source(tiny_videos):
    return open_source(tiny_videos.root / 'clip_0.mp4')


def test_streamed_curves_are_those_of_the_whole_video_in_memory(source):
    reader, windows = PixelReader(), plan_windows(24, 9, 4)
    timeline = read_timeline(FrameWindows(source, np.arange(24), windows), reader, 25.)
    whole = np.stack(source.read(range(24)))                        # everything at once
    centres = np.array([w.start + 4 for w in windows])
    parts = [decompose_pixels(whole[w.start:w.stop]) for w in windows]
    for g in range(24):
        number = int(np.abs(centres - g).argmin())
        place = g - windows[number].start
        assert timeline.window[g] == number
        for name, field in (('base', 'stable'), ('transient', 'transient'), ('residual', 'residual')):
            expected = getattr(parts[number], field)[0, :, place].double().square().mean()
            assert timeline.squares[name][g] == pytest.approx(float(expected), rel=1e-12), (name, g)
        assert timeline.frame_gate[g] == float(parts[number].frame_gate[0, place])
    assert timeline.times.tolist() == (np.arange(24) / 25).tolist()


def test_a_video_of_one_window_has_the_table_of_its_clip(source):
    frames = FrameWindows(source, np.arange(24), plan_windows(24, 24))
    found = read_timeline(frames, PixelReader(), 25.).table()
    expected = energy_table(decompose_pixels(np.stack(source.read(range(24)))))
    assert set(found) == set(expected)
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-12, atol=1e-15)


def made_up(t, level=1., **more):
    """Parts of t frames, all of one level."""
    part = torch.full((1, 2, t, 1, 1), level)
    parts = SimpleNamespace(stable=part, transient=part / 10, residual=part / 100, frame_gate=torch.zeros(1, t))
    return Reading(parts, np.zeros((t, 4, 4, 3), np.uint8), **more)


class Blank:
    def read(self, indices):
        return [np.zeros((4, 4, 3), np.uint8) for _ in indices]


def test_probabilities_stay_with_their_window_and_ratings_with_their_frame():
    windows = plan_windows(8, 4, 2)                                 # centres 1.5, 3.5, 5.5
    calls = iter(range(9))

    def reader(frames, indices):
        number = next(calls)
        return made_up(2, number + 1., probabilities=np.array([number, 1.]), ratings=np.stack([indices / 10,
                                                                                              -indices / 10], 1))
    timeline = read_timeline(FrameWindows(Blank(), np.arange(8), windows), reader, 2., ('a', 'b'))
    assert timeline.probabilities.tolist() == [[0, 1], [1, 1], [2, 1]]
    np.testing.assert_allclose(timeline.ratings[:, 0], np.arange(8) / 10)
    assert timeline.squares['base'].tolist() == [1] * 3 + [4] * 2 + [9] * 3
    assert timeline.window_times().tolist() == [[0, 1.5], [1, 2.5], [2, 3.5]]
    assert timeline.window_borders().tolist() == [-.25, 1.25, 2.25, 3.75]


def test_one_rating_of_a_window_counts_for_each_frame_it_decides():
    timeline = read_timeline(FrameWindows(Blank(), np.arange(4), plan_windows(4, 4)),
                             lambda *_: made_up(4, ratings=np.array([.5, -.5])), 2.)
    assert timeline.ratings.tolist() == [[.5, -.5]] * 4


def test_progress_counts_windows():
    told = []
    read_timeline(FrameWindows(Blank(), np.arange(8), plan_windows(8, 4, 2)), lambda *_: made_up(4), 2.,
                  progress=lambda *each: told.append(each))
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_what_is_not_finite_names_its_window():
    bad = made_up(4, probabilities=np.array([np.nan, 1]))
    with pytest.raises(ValueError, match='the window from 0.00 s: probabilities is not finite there. Look at the weig'):
        read_timeline(FrameWindows(Blank(), np.arange(4), plan_windows(4, 4)), lambda *_: bad, 2.)


def test_the_pixel_reader_fits_its_windows_to_the_video():
    assert PixelReader().sampling(1000, 25) == (32, 1) and PixelReader().sampling(1000, 60) == (32, 2)
    assert PixelReader().sampling(10, 25) == (10, 1) and PixelReader(window=8, interval=3).sampling(99, 25) == (8, 3)
    with pytest.raises(ValueError, match='10 frames give 2 at an interval of 5; .* Choose a smaller --interval'):
        PixelReader(interval=5).sampling(10, 25)
    with pytest.raises(ValueError, match='window is 3; it is at least 4'):
        PixelReader(window=3)
