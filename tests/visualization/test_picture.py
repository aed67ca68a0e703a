"""The picture: its size, what it says, and what it leaves alone. How it looks was judged by eye."""
import subprocess
import sys

import cv2
import matplotlib
import numpy as np
import pytest
import torch

from lsef_plugins.nn import LSEF
from lsef_plugins.visualization import decompose_pixels, draw_decomposition, save_picture
from lsef_plugins.visualization.page import spread
from lsef_plugins.visualization.strips import operator_of, stable_pictures, transient_pictures


@pytest.fixture(scope='module')
def frames():
    """24 frames of 40 x 56: a textured ground that brightens slowly, and a square that appears in 9 to 12."""
    rng = np.random.default_rng(0)
    ground = rng.integers(60, 160, (40, 56, 3)).astype(float)
    clip = np.stack([ground * (1 + .01 * t) + rng.normal(0, 2, ground.shape) for t in range(24)])
    clip[9:13, 8:14, 20:26] += 16
    return clip.round().clip(0, 255).astype(np.uint8)


@pytest.fixture(scope='module')
def parts(frames):
    return decompose_pixels(frames, rank=1, blur=0)


def words(figure):
    return [text.get_text() for text in figure.findobj(matplotlib.text.Text) if text.get_text().strip()]


@pytest.mark.parametrize('width', [1200, 1600])
def test_the_png_has_the_size_that_was_asked_for(tmp_path, frames, parts, width):
    figure = draw_decomposition(frames, parts, np.arange(24) / 25, width=width)
    picture = cv2.imread(str(save_picture(figure, tmp_path / 'a.png')))
    assert picture.shape[1] == width and 600 < picture.shape[0] < width
    assert (picture[[0, -1]] == 255).all() and (picture[:, [0, -1]] == 255).all()      # nothing runs over the edge


def test_the_picture_names_the_planted_and_the_found_event(frames, parts):
    figure = draw_decomposition(frames, parts, np.arange(24) / 25, title='My clip', subtitle='sub', caption='cap',
                                truth_events=[(8, 10, 13, 'square_on')])
    said = words(figure)
    assert {'My clip', 'sub', 'cap', 'square on', 'events planted', 'events found', '1'} <= set(said)
    assert any('Events found: 1.' in each for each in said)
    assert 'events planted' not in words(draw_decomposition(frames, parts, np.arange(24) / 25))


def test_no_two_words_lie_over_each_other(frames, parts):
    figure = draw_decomposition(frames, parts, np.arange(24) / 25, title='A title ' * 40, subtitle='words ' * 90,
                                caption='caption ' * 60, truth_events=[(2, 3, 4, 'first'), (5, 6, 7, 'second_event'),
                                                                       (20, 22, 23, 'at_the_very_end')])
    figure.canvas.draw()
    boxes = [(text.get_text(), text.get_window_extent()) for text in figure.findobj(matplotlib.text.Text)
             if text.get_text().strip() and text.get_visible()]
    for k, (word, box) in enumerate(boxes):
        assert box.x0 >= 0 and box.x1 <= 1600 and box.y0 >= 0, word
        for other, further in boxes[k + 1:]:
            across = min(box.x1, further.x1) - max(box.x0, further.x0)
            down = min(box.y1, further.y1) - max(box.y0, further.y0)
            assert across <= 1 or down <= 3, f'{word!r} lies over {other!r}'


def test_names_of_planted_events_stand_beside_all_bars(frames, parts):
    events = [(1, 2, 3, 'too_long_for_its_place'), (4, 5, 6, 'next_to_it'), (10, 11, 11, 'a'),
              (21, 22, 23, 'at_the_very_end')]
    figure = draw_decomposition(frames, parts, np.arange(24) / 25, truth_events=events)
    figure.canvas.draw()
    bars = [bar.get_window_extent() for bar in figure.findobj(matplotlib.patches.Rectangle)
            if bar.get_linewidth() == 1.4 and bar.get_facecolor()[3] == 0]
    assert len(bars) == 4
    shown = [text for text in figure.findobj(matplotlib.text.Text)
             if text.get_text() in [name.replace('_', ' ') for *_, name in events]]
    assert [text.get_text() for text in shown] == ['next to it', 'a', 'at the very end']     # the first has no room
    for text in shown:
        assert not any(bar.overlaps(text.get_window_extent()) for bar in bars), text.get_text()


def test_the_users_matplotlib_is_left_alone_and_does_not_show(tmp_path, frames, parts):
    plain = save_picture(draw_decomposition(frames, parts, np.arange(24.)), tmp_path / 'a.png').read_bytes()
    with matplotlib.rc_context({'axes.facecolor': 'black', 'font.size': 31., 'lines.linewidth': 9, 'axes.grid': True}):
        before = dict(matplotlib.rcParams)
        styled = save_picture(draw_decomposition(frames, parts, np.arange(24.)), tmp_path / 'b.png').read_bytes()
        assert dict(matplotlib.rcParams) == before
    assert styled == plain


def test_pyplot_and_the_backend_are_not_touched():
    code = ('import os, sys; os.environ["LSEF_PLUGINS_REGISTER"] = "0"; import numpy as np\n'
            'from lsef_plugins.visualization import *\n'
            'assert "matplotlib" not in sys.modules\n'
            'import matplotlib; before = dict.__getitem__(matplotlib.rcParams, "backend")\n'
            'frames = np.random.default_rng(0).integers(0, 255, (8, 16, 16, 3), np.uint8)\n'
            'draw_decomposition(frames, decompose_pixels(frames), range(8))\n'
            'assert "matplotlib.pyplot" not in sys.modules and "mmengine" not in sys.modules\n'
            'assert dict.__getitem__(matplotlib.rcParams, "backend") is before')
    subprocess.run([sys.executable, '-c', code], check=True)


def test_every_kind_of_clip_can_be_drawn(tmp_path):
    rng = np.random.default_rng(0)
    for t, height, width, channels in ((4, 64, 64, 3), (5, 90, 30, 1), (16, 30, 90, 16), (200, 32, 32, 3)):
        frames = rng.integers(0, 255, (t, height, width, 3), np.uint8)
        x = torch.from_numpy(rng.standard_normal((1, channels, t, 5, 4), np.float32))
        with torch.no_grad():
            parts = LSEF(channels).decompose(x)
        times = np.arange(t) + .1 * np.sort(rng.random(t))
        save_picture(draw_decomposition(frames, parts, times), tmp_path / 'a.png')
    dark = np.zeros((6, 8, 8, 3), np.uint8)
    save_picture(draw_decomposition(dark, decompose_pixels(dark), range(6)), tmp_path / 'a.png')


def test_the_stable_row_is_the_operator_on_the_frames_and_agrees_with_the_stable_part(frames, parts):
    operator = operator_of(parts, 0)
    chosen, size = [0, 11, 23], (56, 40)
    sharp = stable_pictures(frames, chosen, size, parts.stable[0], operator, True)
    own = stable_pictures(frames, chosen, size, parts.stable[0], None, True)
    for mixed, stable in zip(sharp, own):       # here the features are the frames themselves, so both agree
        assert np.abs(mixed.astype(int) - stable).max() <= 2
    assert np.abs(sharp[0].astype(int) - sharp[2]).mean() > 5
    shift = torch.eye(24).roll(1, 0)            # row t reads frame t - 1
    assert np.array_equal(stable_pictures(frames, [5], size, parts.stable[0], shift, True)[0], frames[4])
    with torch.no_grad():
        again = LSEF(3, iterations=3).decompose(parts.stable + parts.transient + parts.residual)
    assert operator_of(again, 0) is None        # made from the clip without its transients: not from the frames alone


def test_the_transient_row_is_pale_where_nothing_happens_and_orange_or_blue_where_it_does(frames):
    transient = torch.zeros(3, 24, 40, 56)
    transient[:, 10, 8:14, 20:26], transient[:, 10, 30:36, 40:46] = .1, -.1
    quiet, loud = transient_pictures(transient, frames, [9, 10], (56, 40), pixels=True)
    assert np.ptp(quiet.astype(int), axis=-1).max() == 0
    red, _, blue = loud.astype(int)[11, 23]
    assert red - blue > 100
    red, _, blue = loud.astype(int)[33, 43]
    assert blue - red > 100
    assert np.ptp(loud[:5].astype(int), axis=-1).max() == 0


def test_labels_are_spread_in_their_order_around_their_places():
    placed = spread([.5, 0, .1], 1.)
    assert sorted(range(3), key=placed.__getitem__) == [1, 2, 0]
    assert np.diff(sorted(placed)).min() > .99 and np.mean(placed) == pytest.approx(.2)


def test_frames_times_and_decomposition_that_do_not_belong_together_are_refused(frames, parts):
    times = np.arange(24.)
    with pytest.raises(ValueError, match='has 24 frames, but 23 pictures'):
        draw_decomposition(frames[:-1], parts, times)
    with pytest.raises(ValueError, match=r'times of shape \(20,\)'):
        draw_decomposition(frames, parts, times[:20])
    with pytest.raises(ValueError, match='increasing, in seconds'):
        draw_decomposition(frames, parts, times[::-1])
    with pytest.raises(ValueError, match='readable from 1000 pixels'):
        draw_decomposition(frames, parts, times, width=500)
    with pytest.raises(ValueError, match='RGB pictures'):
        draw_decomposition(frames / 255, parts, times)
    with pytest.raises(ValueError, match=r"planted event 'x' at \(20, 22, 24\).*0 to 23"):
        draw_decomposition(frames, parts, times, truth_events=[(20, 22, 24, 'x')])
