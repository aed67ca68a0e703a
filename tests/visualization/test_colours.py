"""Colours that mean something survive in a small picture."""
import io

import numpy as np
from PIL import Image

from lsef_plugins.visualization.colours import few_colours, fixed_colours


def test_rare_colours_of_the_page_stay_and_the_file_shrinks(tmp_path):
    rng = np.random.default_rng(0)
    picture = rng.normal([190, 140, 110], 25, (200, 300, 3)).clip(0, 255).astype(np.uint8)
    picture[100:] = rng.integers(244, 255, (100, 300, 3))   # nearly white, beside white
    fixed = np.array(fixed_colours(), np.uint8)
    picture[0, :len(fixed)] = fixed                         # one pixel of each
    Image.fromarray(picture).save(tmp_path / 'a.png')
    small = few_colours(tmp_path / 'a.png')
    back = np.asarray(Image.open(io.BytesIO(small)).convert('RGB')).astype(int)
    assert back.shape == picture.shape and len(small) < .5 * (tmp_path / 'a.png').stat().st_size
    assert np.array_equal(back[0, :len(fixed)], fixed)
    assert np.abs(back[1:] - picture[1:]).mean() < 12
    assert len(np.unique(back.reshape(-1, 3), axis=0)) <= 256
