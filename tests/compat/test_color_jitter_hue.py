"""Hue is an angle: it turns by the offset and comes round at 180."""
import cv2
import numpy as np
import pytest

from lsef_plugins.compat.color_jitter_hue import adjust_hue


@pytest.mark.parametrize('factor', [-0.5, -0.1, -0.004, 0.0, 0.1, 0.29, 0.5])
def test_every_hue_turns_by_the_offset_modulo_180(factor):
    hsv = np.full((1, 180, 3), 255, np.uint8)
    hsv[0, :, 0] = np.arange(180)
    image = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
    before = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
    expected = before.copy()
    expected[0, :, 0] = [(int(hue) + int(factor * 255)) % 180 for hue in before[0, :, 0]]
    turned = adjust_hue(image.astype(np.float32), factor)
    assert turned.dtype == np.float32
    np.testing.assert_array_equal(turned, cv2.cvtColor(expected, cv2.COLOR_HSV2RGB))
