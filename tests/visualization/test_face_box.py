"""The face's box: smooth over time, robust against single wrong looks, and cut out where it says."""
import os

import cv2
import numpy as np
import pytest

from lsef_plugins.visualization import face_box
from lsef_plugins.visualization.face_box import MARGIN, at_working_size, running_median, smooth_track, track_face


class Moving:
    """300 frames at 10 fps of 80 x 60 pixels; a bright square of 20 pixels moves right by 1 pixel every 10 frames."""
    length, fps = 300, 10.

    def read(self, indices):
        frames = []
        for index in indices:
            frame = np.full((60, 80, 3), 20, np.uint8)
            left = 10 + index // 10
            frame[20:40, left:left + 20] = 200
            frames.append(frame)
        return frames


def bright(frame):
    ys, xs = np.nonzero(frame[..., 0] > 100)
    return [(float(xs.min()), float(ys.min()), float(np.ptp(xs) + 1), float(np.ptp(ys) + 1))] if len(xs) else []


def test_a_moving_face_is_followed_and_cut_out():
    track = track_face(Moving(), bright)
    assert track.looked == 30 and len(track.indices) == 30 and track.side == 28        # one look a second; 20 x MARGIN
    for index in (30, 155, 270):
        x, y, width, height = track.box(index)
        assert abs(x + width / 2 - (20 + index // 10)) <= 1.5 and y + height / 2 == 30 and width == height == 28
        crop = track.crop(Moving().read([index])[0], index)
        ys, xs = np.nonzero(crop[..., 0] > 100)
        assert crop.shape == (28, 28, 3) and abs(xs.mean() - 13.5) <= 1.5 and abs(ys.mean() - 13.5) <= .5
    assert track.words() == 'cropped to the face, found in 30 of 30 frames looked at'


def test_a_face_that_stands_still_has_a_box_that_does():
    track = smooth_track([0, 10, 20, 30], [(5, 6, 10, 12)] * 4, 4)
    assert {track.box(index) for index in range(31)} == {(10 - 6 * MARGIN, 12 - 6 * MARGIN, 12 * MARGIN, 12 * MARGIN)}


def test_single_wrong_looks_do_not_move_the_box_and_missing_ones_are_filled():
    boxes = [(10, 10, 20, 20)] * 9
    boxes[4] = (50, 0, 70, 70)
    track = smooth_track([0, 1, 2, 3, 4, 5, 6, 20, 21], boxes, 22)
    for index in (4, 12):
        assert track.box(index) == pytest.approx((6, 6, 28, 28))


def test_of_several_faces_the_largest_counts_and_without_any_there_is_no_track():
    track = track_face(Moving(), lambda frame: [(0., 0., 5., 5.), *bright(frame), (1., 1., 9., 9.)])
    assert track.side == 28
    assert track_face(Moving(), lambda frame: []) is None


def test_looks_are_few_in_a_long_video_and_inside_the_stretch():
    seen = []

    class Long(Moving):
        length = 100_000

        def read(self, indices):
            seen.extend(indices)
            return [np.zeros((4, 4, 3), np.uint8)]
    track_face(Long(), lambda frame: [], first=50, last=90_000)
    assert len(seen) == 240 and min(seen) == 50 and max(seen) == 89_999


def test_beyond_the_picture_its_border_goes_on():
    track = smooth_track([0], [(-10, -10, 20, 20)], 1)
    crop = track.crop(np.full((40, 40, 3), 77, np.uint8), 0)
    assert crop.shape == (28, 28, 3) and (crop == 77).all()


def test_the_running_median_keeps_length_and_monotone_curves():
    for count in range(1, 10):
        values = np.arange(count) * 2. + 5
        assert running_median(values).tolist() == values.tolist()       # a steady motion, its two ends too
    for wrong in range(7):
        values = np.zeros(7)
        values[wrong] = 9
        assert running_median(values).tolist() == [0] * 7


@pytest.mark.parametrize('scale', [.5, 4.])
def test_boxes_come_back_in_the_frames_own_pixels(scale):
    shown = []

    def detect(frame):
        shown.append(frame.shape)
        return bright(frame)
    frame = cv2.resize(Moving().read([0])[0], None, fx=scale, fy=scale, interpolation=cv2.INTER_NEAREST)
    box, = at_working_size(detect)(frame)
    assert min(shown[0][:2]) == 240
    np.testing.assert_allclose(np.array(box) / scale, (10, 20, 20, 20), atol=1.)


def test_without_any_detector_the_pip_lines_are_given(monkeypatch):
    monkeypatch.setattr(face_box.os.path, 'isfile', lambda path: False)
    monkeypatch.setattr(face_box.importlib.util, 'find_spec', lambda name: None)
    with pytest.raises(ValueError, match='holds no face detector.*pip install scikit-image.*"opencv-python<5"'):
        face_box.face_detector()


def test_opencvs_cascade_is_taken_where_it_is(monkeypatch, tmp_path):
    (tmp_path / face_box.CASCADE).write_text('')
    monkeypatch.setattr(face_box.cv2, 'data', type('data', (), {'haarcascades': str(tmp_path) + os.sep}), raising=False)
    made = []

    class Cascade:
        def __init__(self, path):
            made.append(path)

        def detectMultiScale(self, grey, *_, **__):
            assert grey.shape == (240, 320)
            return np.array([[4, 8, 40, 40]])
    monkeypatch.setattr(face_box.cv2, 'CascadeClassifier', Cascade, raising=False)
    assert face_box.face_detector()(np.zeros((60, 80, 3), np.uint8)) == [(1., 2., 10., 10.)]
    assert made == [str(tmp_path / face_box.CASCADE)]
