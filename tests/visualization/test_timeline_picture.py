"""The picture of a whole video: its strips come from the windows that decided them, long curves keep their peaks."""
import dataclasses

import numpy as np
import pytest

from lsef_plugins.visualization.moments import read_moments, window_reader
from lsef_plugins.visualization.pixel_reader import PixelReader
from lsef_plugins.visualization.sliding import FrameWindows, plan_windows
from lsef_plugins.visualization.source import open_source
from lsef_plugins.visualization.timeline import read_timeline
from lsef_plugins.visualization.timeline_picture import clock, draw_timeline, envelope


@pytest.fixture(scope='module')
def video(tiny_videos):
    """Timeline of 24 frames in 3 windows of 12, and what reads a window again."""
    frames = FrameWindows(open_source(tiny_videos.root / 'clip_0.mp4'), np.arange(24), plan_windows(24, 12, 6))
    reader = PixelReader()
    return read_timeline(frames, reader, 25.), window_reader(frames, reader), frames


def test_moments_are_the_chosen_frames_from_their_own_windows(video):
    timeline, read, frames = video
    asked = []

    def counting(window):
        asked.append(window)
        return read(window)
    chosen = [1, 2, 11, 20]
    found = read_moments(timeline, counting, chosen, (64, 64), True)
    assert asked == [timeline.windows[k] for k in sorted({int(timeline.window[g]) for g in chosen})]     # each once
    for picture, g in zip(found.film, chosen):
        assert np.array_equal(picture, frames.source.read([g])[0])
    assert [len(row) for row in found] == [4, 4, 4] and found.stable[0].shape == (64, 64, 3)
    assert not np.array_equal(found.stable[0], found.film[0])


def drawn(video, **more):
    timeline, read, _ = video
    timeline = dataclasses.replace(timeline, **more)
    figure = draw_timeline(timeline, timeline.events(), 1., lambda chosen, size: read_moments(
        timeline, read, chosen, size, True), 'A <b>title</b>', ('one', 'two'), 'a caption', width=1000)
    figure.canvas.draw()
    return figure


def words(figure):
    return [text.get_text() for text in figure.texts] + [
        text.get_text() for axes in figure.axes for text in (*axes.texts, *axes.get_yticklabels(),
                                                             *axes.get_xticklabels())]


def test_classes_and_ratings_are_drawn_where_there_are_any(video):
    plain = words(drawn(video))
    assert {'Clip', 'Stable', 'Transient', 'Frame gate', 'one', 'two', 'a caption', 'A <b>title</b>'} <= set(plain)
    assert not {'Classes', 'Ratings'} & set(plain) and '0.2 s' in plain
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(12), 3)
    full = words(drawn(video, probabilities=probabilities, ratings=rng.uniform(-1, 1, (24, 2)),
                       classes=tuple(f'class_{k}' for k in range(12))))
    assert {'Classes', 'Ratings', 'valence, solid line'} <= set(full)
    strongest = {f'class_{k}' for k in np.argsort(-probabilities.max(0))[:8]}
    assert {word for word in full if word.startswith('class_')} == strongest


def test_no_two_words_of_the_page_lie_over_each_other(video):
    rng = np.random.default_rng(0)
    figure = drawn(video, probabilities=rng.dirichlet(np.ones(7), 3), ratings=rng.uniform(-1, 1, (24, 2)))
    boxes = [text.get_window_extent() for text in figure.texts if text.get_text().strip()]
    assert not [(k, n) for k in range(len(boxes)) for n in range(k) if boxes[k].overlaps(boxes[n])]


def test_an_envelope_keeps_every_peak_and_short_curves_as_they_are():
    values = np.random.default_rng(0).random(5000)
    values[[17, 4321]] = 9., -9.
    x, low, high = envelope(np.arange(5000.), values, 100)
    assert len(x) == len(low) == len(high) == 100 and high.max() == 9 and low.min() == -9
    for k, (left, right) in enumerate(zip(x, [*x[1:], 5000])):
        part = values[int(left):int(right)]
        assert (low[k], high[k]) == (part.min(), part.max())
    same = envelope(np.arange(50.), values[:50], 100)
    assert same[1] is same[2] and len(same[1]) == 50


def test_times_are_told_as_people_do():
    assert [clock(x, 60) for x in (2.5, 10)] == ['2.5 s', '10 s']
    assert clock(185.2, 600) == '3:05' and clock(7265, 8000) == '2:01 h'


def test_a_narrow_picture_is_refused(video):
    with pytest.raises(ValueError, match='readable from 1000 pixels on'):
        draw_timeline(video[0], [], 1., None, '', width=900)
