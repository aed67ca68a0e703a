"""Frames by name: what RawFrameDecode gives, without its template; and every unreadable frame named."""
import cv2
import numpy as np
import pytest

pytest.importorskip('mmaction')

import lsef_plugins  # noqa: F401
from lsef_plugins.datasets.integrity import UnreadableClipError
from lsef_plugins.registry import TRANSFORMS

STEP = TRANSFORMS.build(dict(type='ListedFrameDecode'))


@pytest.fixture
def sample(tmp_path):
    rng = np.random.default_rng(0)
    for t in range(5):
        cv2.imwrite(str(tmp_path / f'img_{t + 1:05d}.jpg'), rng.integers(0, 255, (12, 18, 3)).astype(np.uint8))
    return dict(frame_dir=str(tmp_path), frame_names=[f'img_{t + 1:05d}.jpg' for t in range(5)], total_frames=5,
                frame_inds=np.array([0, 3, 3, 4]), start_index=0, modality='RGB')


def test_the_result_is_rawframedecodes(sample):
    raw = TRANSFORMS.build(dict(type='RawFrameDecode'))(
        dict(sample, frame_inds=sample['frame_inds'] + 1, filename_tmpl='img_{:05}.jpg'))
    ours = STEP(dict(sample))
    assert len(ours['imgs']) == 4
    for one, other in zip(ours['imgs'], raw['imgs']):
        np.testing.assert_array_equal(one, other)
    assert ours['original_shape'] == raw['original_shape'] == (12, 18) == ours['img_shape'] == raw['img_shape']


def test_a_start_index_is_taken_off_and_two_clips_lie_behind_each_other(sample):
    shifted = STEP(dict(sample, frame_inds=np.array([[1, 4], [5, 2]]), start_index=1))
    plain = STEP(dict(sample, frame_inds=np.array([0, 3, 4, 1])))
    assert all((a == b).all() for a, b in zip(shifted['imgs'], plain['imgs'])) and shifted['frame_inds'].shape == (4,)


def test_a_repeated_frame_may_be_written_into_alone(sample):
    imgs = STEP(dict(sample))['imgs']
    imgs[1][:] = 0
    assert imgs[2].any()


@pytest.mark.parametrize('inds', [[5], [-1], []])
def test_numbers_outside_the_clip_are_refused(sample, inds):
    with pytest.raises(ValueError, match='holds 5 frames and frame_inds asks for'):
        STEP(dict(sample, frame_inds=np.array(inds, int)))


@pytest.mark.parametrize('key, message', [('frame_names', 'needs frame_dir and frame_names.*DFEWDataset'),
                                          ('frame_dir', 'needs frame_dir'), ('frame_inds', 'put a sampler before it')])
def test_a_sample_that_was_not_prepared_is_refused(sample, key, message):
    del sample[key]
    with pytest.raises(ValueError, match=message):
        STEP(sample)


@pytest.mark.parametrize('damage, message', [
    (lambda p: p.write_bytes(p.read_bytes()[:-30]), 'is cut off'), (lambda p: p.write_bytes(b''), 'is empty'),
    (lambda p: p.unlink(), 'does not exist any more'), (lambda p: p.write_bytes(b'<html>'), 'is no picture'),
    (lambda p: p.write_bytes(b'\xff\xd8junk\xff\xd9'), 'cannot be decoded'),
    (lambda p: cv2.imwrite(str(p), np.zeros((10, 18, 3), np.uint8)), r'is \(10, 18\) and img_00001.jpg is \(12, 18\)')])
def test_a_broken_frame_is_named(sample, tmp_path, damage, message):
    damage(tmp_path / 'img_00004.jpg')
    with pytest.raises(UnreadableClipError, match=f'img_00004.jpg.*{message}'):
        STEP(sample)


def test_backends_are_those_whose_pictures_can_be_checked(sample):
    whole = STEP(dict(sample))['imgs']
    for backend in ('cv2', 'pillow'):
        step = TRANSFORMS.build(dict(type='ListedFrameDecode', decoding_backend=backend))
        for one, other in zip(step(dict(sample))['imgs'], whole):
            assert np.abs(one.astype(int) - other).mean() < 4       # decoders round differently
    with pytest.raises(ValueError, match="decoding_backend='tifffile' must be one of 'cv2', 'turbojpeg', 'pillow'"):
        TRANSFORMS.build(dict(type='ListedFrameDecode', decoding_backend='tifffile'))
