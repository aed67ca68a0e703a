"""Laws of blur, resolution, codec and shake: light is kept, detail is lost, lengths are shares of the frame."""
import cv2
import numpy as np
import pytest

from lsef_plugins.datasets.transforms.corruptions import CORRUPTIONS, corrupt_clip, sample_rng
from lsef_plugins.datasets.transforms.corruptions.optics import disc, line

BLURS = ('motion_blur', 'defocus', 'low_resolution')


def picture(size=112, seed=0):
    """A smooth random picture (size, size, 3) with some detail."""
    rng = np.random.RandomState(seed)
    small = rng.randint(30, 226, (size // 4, size // 4, 3)).astype(np.uint8)
    return cv2.resize(small, (size, size), interpolation=cv2.INTER_CUBIC)


def one(frame, kind, severity, seed=0):
    return corrupt_clip([frame], kind, severity, sample_rng(seed))[0]


def detail(frame):
    return np.abs(np.diff(frame.astype(float), axis=0)).mean() + np.abs(np.diff(frame.astype(float), axis=1)).mean()


@pytest.mark.parametrize('kind', BLURS)
def test_blur_takes_detail_and_no_light(kind):
    frame = picture()
    found = [detail(frame)] + [detail(one(frame, kind, s)) for s in range(1, 6)]
    assert all(a > b for a, b in zip(found, found[1:])), found
    assert all(one(frame, kind, s).mean() == pytest.approx(frame.mean(), abs=1.) for s in range(1, 6))
    even = np.full((40, 50, 3), 77, np.uint8)
    assert all((one(even, kind, s) == 77).all() for s in range(1, 6))


@pytest.mark.parametrize('kind', ('motion_blur', 'defocus', 'camera_shake'))
def test_a_level_looks_the_same_at_every_size(kind):
    small = picture(112)
    large = cv2.resize(small, (448, 448), interpolation=cv2.INTER_CUBIC)
    for severity in (1, 3, 5):
        shrunk = cv2.resize(one(large, kind, severity), (112, 112), interpolation=cv2.INTER_AREA).astype(float)
        changed = np.abs(one(small, kind, severity).astype(float) - small).mean()
        assert np.abs(shrunk - one(small, kind, severity)).mean() < 0.35 * changed + 1


@pytest.mark.parametrize('size', (64, 224, 500))
@pytest.mark.parametrize('severity', (1, 3, 5))
def test_the_wide_kernel_taken_apart_is_the_kernel(size, severity):
    """Motion: the same picture as the whole line in one filter."""
    frame, rng = picture(size), sample_rng(3)
    angle = np.radians(rng.uniform(-45, 45))
    length = CORRUPTIONS['motion_blur'].levels[severity - 1] * size
    kernel = line(length * np.sin(angle), length * np.cos(angle))
    whole = cv2.filter2D(frame, -1, kernel, borderType=cv2.BORDER_REFLECT).astype(float)
    assert np.abs(one(frame, 'motion_blur', severity, 3) - whole).max() <= 2


@pytest.mark.parametrize('size', (64, 224, 500))
@pytest.mark.parametrize('severity', (1, 3, 5))
def test_the_small_disc_is_the_disc(size, severity):
    frame = picture(size)
    kernel = disc(max(0.6, CORRUPTIONS['defocus'].levels[severity - 1] * size))
    whole = cv2.filter2D(frame, -1, kernel, borderType=cv2.BORDER_REFLECT).astype(float)
    assert np.abs(one(frame, 'defocus', severity).astype(float) - whole).mean() < 1.2


def test_a_point_becomes_a_disc_or_a_line():
    for kernel in (disc(4.3), line(3., 9.), line(-5., 5.)):
        assert kernel.sum() == pytest.approx(1, abs=1e-6) and (kernel >= 0).all()
        (down, right) = (n // 2 for n in kernel.shape)
        y, x = np.mgrid[-down:down + 1, -right:right + 1]
        assert abs((kernel * y).sum()) < 1e-4 and abs((kernel * x).sum()) < 1e-4, 'nothing is moved'
    y, x = np.mgrid[-5:6, -5:6]
    assert (disc(4.3)[np.hypot(y, x) > 5.1] == 0).all() and (disc(4.3)[np.hypot(y, x) < 3.5] > 0.01).all()
    k = line(0., 8.)
    assert (k.sum(1) > 0.01).sum() == 1, 'a level line is one row'
    x = np.arange(k.shape[1]) - k.shape[1] // 2
    # even exposure: variance length^2 / 12, and 1/6 of the spreading over neighbouring pixels
    assert (k.sum(0) * x ** 2).sum() == pytest.approx(64 / 12 + 1 / 6, rel=0.02)


def test_the_motion_keeps_its_direction_within_a_clip_and_changes_between_clips():
    clip = [picture()] * 3
    out = corrupt_clip(clip, 'motion_blur', 4, sample_rng(0))
    assert np.array_equal(out[0], out[1]) and np.array_equal(out[0], out[2])
    assert not np.array_equal(out[0], corrupt_clip(clip, 'motion_blur', 4, sample_rng(1))[0])


def test_a_low_resolution_has_no_more_than_its_pixels():
    frame = np.random.RandomState(0).randint(0, 256, (120, 120, 1)).astype(np.uint8)

    def fine(picture, ratio):
        """Share of the energy at more than 1.5 times the highest frequency that so few pixels hold."""
        spectrum = np.abs(np.fft.fft2(picture[..., 0] - picture.mean())) ** 2
        high = np.abs(np.fft.fftfreq(120)) > 0.75 * ratio
        return spectrum[high[:, None] | high[None, :]].sum() / spectrum.sum()

    for severity, ratio in enumerate((0.6, 0.5, 0.4, 0.3, 0.25), start=1):
        assert fine(one(frame, 'low_resolution', severity), ratio) < 0.1 * fine(frame, ratio) + 0.05


def test_jpeg_keeps_the_colours_where_they_are():
    frame = np.zeros((32, 32, 3), np.uint8)
    frame[:] = (200, 40, 90)
    assert np.abs(one(frame, 'jpeg', 1).astype(int) - frame).max() <= 6
    red = picture()
    red[..., 1:] //= 8
    out = one(red, 'jpeg', 3).astype(float).mean((0, 1))
    assert out[0] > 3 * out[1] and out[0] > 3 * out[2]


def test_jpeg_refuses_two_channels():
    with pytest.raises(ValueError, match='frames of 2 channels'):
        one(np.zeros((8, 8, 2), np.uint8), 'jpeg', 1)


def test_a_shake_moves_each_frame_on_its_own_within_its_reach():
    size = 200
    y, x = np.mgrid[:size, :size]
    spot = (255 * np.exp(-((y - 99.5) ** 2 + (x - 99.5) ** 2) / 200)).astype(np.uint8)[..., None]
    for severity, (reach, _) in enumerate(CORRUPTIONS['camera_shake'].levels, start=1):
        out = np.stack(corrupt_clip([spot] * 40, 'camera_shake', severity, sample_rng(0)))[..., 0].astype(float)
        centres = np.stack([(out * y).sum((1, 2)), (out * x).sum((1, 2))], 1) / out.sum((1, 2))[:, None] - 99.5
        assert np.abs(centres).max() <= reach * size + 0.6
        assert np.abs(centres).max(0).min() > 0.7 * reach * size, 'both directions use their reach'
        assert len(np.unique(centres.round(3), axis=0)) == 40
