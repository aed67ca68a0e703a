"""Frames that come once are checked, bounded, and their source is given back."""
import numpy as np
import pytest
import torch

from lsef_plugins.visualization.frame_stream import FrameArray, FrameStream


def test_a_stream_ends_at_its_bound_and_closes_what_it_reads():
    closed, taken = [], []

    def frames():
        for k in range(9):
            taken.append(k)
            yield np.full((4, 6, 3), k, np.uint8)
    stream = FrameStream(frames(), limit=3, close=lambda: closed.append(1))
    assert [int(frame[0, 0, 0]) for frame in stream] == [0, 1, 2] and taken == [0, 1, 2] and closed == [1]
    tensors = FrameStream([torch.zeros(4, 6, 3, dtype=torch.uint8)])
    assert [frame.shape for frame in tensors] == [(4, 6, 3)] and tensors.fps == 25.


def test_frames_that_are_none_are_told_by_their_number():
    good = np.zeros((4, 6, 3), np.uint8)
    for bad, words in ((np.zeros((4, 6), np.uint8), r'uint8 \(4, 6\)'), (good.astype(float), r'float64 \(4, 6, 3\)'),
                       (good[:3], r'uint8 \(3, 6, 3\).*all of one size')):
        with pytest.raises(ValueError, match=f'webcam: frame 1 is {words}'):
            list(FrameStream([good, bad], 'webcam'))
    with pytest.raises(ValueError, match='frames counts what is read of webcam and is at least 1, got 0'):
        FrameStream([], 'webcam', limit=0)
    with pytest.raises(ValueError, match='fps counts frames per second and is positive, got -1'):
        FrameStream([], fps=-1)


def test_an_array_reads_any_frame_and_refuses_what_is_none():
    frames = np.arange(5 * 4 * 6 * 3, dtype=np.uint8).reshape(5, 4, 6, 3)
    for each in (frames, torch.from_numpy(frames)):
        source = FrameArray(each, fps=50.)
        assert source.length == 5 and source.fps == 50. and np.array_equal(source.read([3, 1]), frames[[3, 1]])
    with pytest.raises(ValueError, match=r'frames are RGB pictures \(t, h, w, 3\) of uint8, got float64'):
        FrameArray(frames / 255)
