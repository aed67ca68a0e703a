"""Windows decide each position once, from the most central of them, and never hold more frames than one has."""
import numpy as np
import pytest

from lsef_plugins.visualization.sliding import FrameWindows, held, plan_windows

SIZES = [(32, 32, 16), (33, 32, 16), (100, 32, 16), (100, 32, 32), (101, 7, 3), (50, 8, 1), (64, 16, 12), (9, 1, 1)]


class Counting:
    """A source that writes down what is asked of it."""

    def __init__(self):
        self.asked = []

    def read(self, indices):
        self.asked += list(indices)
        return [np.full((2, 2, 3), index % 256, np.uint8) for index in indices]


@pytest.mark.parametrize('count, length, stride', SIZES)
def test_each_position_is_decided_once_by_a_window_that_saw_it(count, length, stride):
    windows = plan_windows(count, length, stride)
    decided = [g for window in windows for g in range(window.first, window.last)]
    assert decided == list(range(count))
    assert all(w.start <= w.first < w.last <= w.stop <= count and w.stop - w.start == length for w in windows)


@pytest.mark.parametrize('count, length, stride', SIZES)
def test_a_position_belongs_to_the_window_whose_centre_is_nearest(count, length, stride):
    windows = plan_windows(count, length, stride)
    centres = np.array([w.start + (length - 1) / 2 for w in windows])
    for number, window in enumerate(windows):
        for g in range(window.first, window.last):
            assert np.abs(centres - g).argmin() == number       # argmin: of equals the first


@pytest.mark.parametrize('count', [40, 400, 4000])
def test_frames_are_read_once_in_order_and_no_more_than_a_window_is_held(count):
    source, indices = Counting(), np.arange(count) * 3
    frames = FrameWindows(source, indices, plan_windows(count, 16, 6))
    for window, pictures in frames:
        assert [picture[0, 0, 0] for picture in pictures] == [i % 256 for i in indices[window.start:window.stop]]
    assert source.asked == indices.tolist()
    assert frames.most_held == 16


def test_what_is_held_is_what_prepare_made_of_the_frame_and_its_number():
    frames = FrameWindows(Counting(), np.array([4, 6, 8]), plan_windows(3, 2, 1), lambda frame, index: frame + index)
    assert [[int(picture.max()) for picture in pictures] for _, pictures in frames] == [[8, 12], [12, 16]]


def test_values_of_fewer_frames_are_held_for_those_they_stand_for():
    assert held(np.array([5, 6]), 6).tolist() == [5, 5, 5, 6, 6, 6]
    assert held(np.array([1, 2, 3]), 3).tolist() == [1, 2, 3]
    assert held(np.array([[1., 2.]]), 3).tolist() == [[1., 2.]] * 3


def test_gaps_between_windows_and_videos_shorter_than_one_are_refused():
    with pytest.raises(ValueError, match='larger stride would leave frames out'):
        plan_windows(100, 8, 9)
    with pytest.raises(ValueError, match='7 sampled frames are fewer than the 8 of one window'):
        plan_windows(7, 8)


def test_windows_of_a_stream_are_those_of_a_plan_that_knows_the_end():
    from lsef_plugins.visualization.sliding import windows_of_stream
    for count in range(1, 23):
        for length, stride in ((5, 2), (5, 5), (4, 1), (1, 1)):
            found = list(windows_of_stream(iter(range(count)), length, stride))
            planned = [] if count < length else plan_windows(count, length, stride)
            assert [(start, frames) for start, frames in found] == \
                [(window.start, list(range(window.start, window.stop))) for window in planned], (count, length, stride)
