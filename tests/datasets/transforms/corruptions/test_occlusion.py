"""Laws of occlusion: a patch of one colour, in its region and its frames and nowhere else."""
import numpy as np
import pytest

from lsef_plugins.datasets.transforms.corruptions import CORRUPTIONS, OCCLUSIONS, corrupt_clip, sample_rng
from lsef_plugins.datasets.transforms.corruptions.occlusion import (
    EYES,
    EYES_SIZES,
    MOUTH,
    MOUTH_SIZES,
    region,
)

H, W = 80, 100


def clip(t=16, seed=0):
    rng = np.random.RandomState(seed)
    return [rng.randint(0, 256, (H, W, 3)).astype(np.uint8) for _ in range(t)]


def changed(frames, out):
    """(t, h, w) bool: pixels that are another array's and another colour."""
    return np.stack([(a != b).any(-1) for a, b in zip(frames, out)])


def rectangle(mask):
    """Rows and columns (y0, y1, x0, x1) of the smallest rectangle around a mask."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return rows[0], rows[-1] + 1, columns[0], columns[-1] + 1


@pytest.mark.parametrize('kind, centre, sizes', [
    ('mouth_occlusion', MOUTH, MOUTH_SIZES), ('eyes_occlusion', EYES, EYES_SIZES)])
def test_a_static_patch_hides_its_region_in_all_frames_and_nothing_else(kind, centre, sizes):
    frames = clip()
    for severity, (width, height) in enumerate(sizes, start=1):
        out = corrupt_clip(frames, kind, severity, sample_rng(0))
        y0, y1, x0, x1 = rectangle(changed(frames, out).any(0))
        assert ((y0 + y1) / 2 / H, (x0 + x1) / 2 / W) == pytest.approx((centre[1], centre[0]), abs=0.011)
        assert ((y1 - y0) / H, (x1 - x0) / W) == pytest.approx((height, width), abs=0.021)
        painted = np.stack(out)[:, y0:y1, x0:x1]
        assert (painted == painted[0, 0, 0]).all(), 'one colour, all frames'


@pytest.mark.parametrize('kind', OCCLUSIONS)
def test_a_stronger_patch_covers_a_weaker_one(kind):
    frames = clip()
    for seed in range(8):
        masks = [changed(frames, corrupt_clip(frames, kind, s, sample_rng(seed))) for s in range(1, 6)]
        painted = [np.stack(corrupt_clip(frames, kind, s, sample_rng(seed)))[mask][0]
                   for s, mask in zip(range(1, 6), masks)]
        assert all((weak <= strong).all() and weak.sum() < strong.sum() for weak, strong in zip(masks, masks[1:]))
        assert all(np.array_equal(paint, painted[0]) for paint in painted)


def test_a_moving_patch_crosses_the_face_at_an_even_speed():
    frames, directions = clip(), set()
    for seed in range(20):
        for severity in (1, 3, 5):
            out = corrupt_clip(frames, 'moving_occlusion', severity, sample_rng(seed))
            size = CORRUPTIONS['moving_occlusion'].levels[severity - 1]
            boxes = np.array([rectangle(mask) for mask in changed(frames, out)])
            assert ((boxes[:, 1] - boxes[:, 0]) <= size * H + 1).all()
            assert ((boxes[:, 3] - boxes[:, 2]) <= size * W + 1).all()
            if severity == 1:       # wider ones are cut at the border
                middle = boxes[:, 2:].mean(1) / W
                assert sorted((middle[0], middle[-1])) == pytest.approx([0.15, 0.85], abs=0.02)
                assert np.diff(middle).std() < 0.01
                directions.add(bool(middle[0] < middle[-1]))
    assert directions == {True, False}


def test_a_brief_patch_touches_one_run_of_frames_and_the_mouth_or_the_eyes():
    frames, parts, starts = clip(), set(), set()
    for seed in range(40):
        for severity, count in enumerate((1, 2, 3, 4, 6), start=1):
            out = corrupt_clip(frames, 'brief_occlusion', severity, sample_rng(seed))
            hit = np.array([new is not old for new, old in zip(out, frames)])
            places = np.flatnonzero(hit)
            assert len(places) == count and places[-1] - places[0] == count - 1
            box = rectangle(changed(frames, out).any(0))
            for name, centre, sizes in (('mouth', MOUTH, MOUTH_SIZES), ('eyes', EYES, EYES_SIZES)):
                rows, columns = region((H, W, 3), centre, sizes[3])
                if box == (rows.start, rows.stop, columns.start, columns.stop):
                    parts.add(name)
                    break
            else:
                raise AssertionError(f'{box} is neither')
            starts.add(places[0])
    assert parts == {'mouth', 'eyes'} and 0 in starts and max(starts) == 15


def test_colours_differ_between_clips():
    colours = {tuple(corrupt_clip(clip(2), 'mouth_occlusion', 5, sample_rng(i))[0][int(.73 * H), W // 2])
               for i in range(10)}
    assert len(colours) == 10


@pytest.mark.parametrize('shape', ((1, 1, 3), (2, 3, 3), (5, 400, 1)))
def test_a_region_is_never_empty_and_never_outside(shape):
    for centre, size in ((MOUTH, (0.01, 0.01)), ((0.99, 0.99), (0.5, 0.5)), ((0., 0.), (0.3, 0.3))):
        rows, columns = region(shape, centre, size)
        assert 0 <= rows.start < rows.stop <= shape[0] and 0 <= columns.start < columns.stop <= shape[1]


@pytest.mark.parametrize('severity', (3, 4, 5))
def test_from_severity_three_on_the_parts_of_aligned_faces_are_covered(severity):
    """Centres of the eyes and corners of the mouth (x, y), shares of the crop: ArcFace's template of 112 pixels, and
    the embedded faces."""
    eyes = [(38.3 / 112, 51.7 / 112), (73.5 / 112, 51.5 / 112), (0.29, 0.42), (0.56, 0.40)]
    mouth = [(41.5 / 112, 92.4 / 112), (70.7 / 112, 92.2 / 112), (0.31, 0.68), (0.58, 0.65)]
    for points, centre, sizes in ((eyes, EYES, EYES_SIZES), (mouth, MOUTH, MOUTH_SIZES)):
        rows, columns = region((1000, 1000, 3), centre, sizes[severity - 1])
        for x, y in points:
            assert rows.start <= 1000 * y < rows.stop and columns.start <= 1000 * x < columns.stop, (x, y)
