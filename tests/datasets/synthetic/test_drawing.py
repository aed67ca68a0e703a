"""Pictures: a small movement is a small change, wherever the pixel grid lies, and every event can be seen."""
import dataclasses
import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest

from lsef_plugins.datasets.synthetic import PRESETS, draw_clip
from lsef_plugins.datasets.synthetic.actions import ACTIONS, EVENT_ACTIONS, TONE_ACTIONS
from lsef_plugins.datasets.synthetic.drawing import draw_frames, looks_of, render
from lsef_plugins.datasets.synthetic.sheet import contact_sheet
from lsef_plugins.datasets.synthetic.signals import NUISANCE, draw_signals

STEPS = 121
STILL = {**dict.fromkeys(NUISANCE, 0.0), 'scale': 1.0, 'light': 1.0}


def quiet(frames, seed=2, index=0):
    """A face at rest under steady light, as a clip of ``frames`` frames."""
    preset = dataclasses.replace(PRESETS['default'], frames=frames)
    truth = draw_signals(preset, 'train', index, seed)
    truth.base[:], truth.transient[:] = 0, 0
    truth.nuisance[:] = [STILL[name] for name in NUISANCE]
    return preset, truth


def steps_of(picture):
    """Root mean square change from frame to frame, ``(t - 1,)``."""
    return np.sqrt((np.diff(picture, axis=0) ** 2).mean((1, 2, 3)))


RAMPS = {'corner': (-.8, .8), 'stretch': (-.4, .6), 'jaw': (.02, 1), 'upper_lip': (.02, .9), 'press': (.02, .9),
         'brow_inner': (-.5, 1), 'brow_outer': (-.5, 1), 'knit': (.1, 1), 'lid': (-.6, .6), 'squint': (.1, .9),
         'nose': (.1, .95)}


@pytest.mark.parametrize('index', [0, 3])
@pytest.mark.parametrize('action', ACTIONS)
def test_a_slow_movement_of_the_face_makes_no_jump(action, index):
    """A jump would be a false transient: along a slow ramp no step is far from its neighbours."""
    preset, truth = quiet(STEPS, index=index)
    truth.rest[:] = 0
    truth.base[:, ACTIONS.index(action)] = np.linspace(*RAMPS[action], STEPS)
    steps = steps_of(render(truth, preset, sensor=False))
    around = np.median(np.lib.stride_tricks.sliding_window_view(steps, 13), axis=1)
    assert steps.min() > 0
    assert (steps[6:-6] < 1.6 * around + .01).all(), (action, steps[6:-6] / around)


@pytest.mark.parametrize('name, reach', [('yaw', .4), ('pitch', .3), ('roll', .12), ('shift_x', .1),
                                         ('shift_y', .1), ('scale', .06), ('light', .2), ('light_x', .2)])
def test_a_slow_movement_of_head_and_light_makes_no_jump(name, reach):
    preset, truth = quiet(STEPS)
    truth.nuisance[:, NUISANCE.index(name)] += np.linspace(-reach, reach, STEPS)
    steps = steps_of(render(truth, preset, sensor=False))
    assert steps.min() > 0 and steps.max() < 1.6 * np.median(steps)


def test_half_the_movement_is_half_the_change():
    """Sub-pixel: a shift of 1/100 pixel is a hundredth of a shift of 1 pixel, to first order."""
    preset, truth = quiet(3)
    for pixels in (.01, .02, .2):
        truth.nuisance[:, NUISANCE.index('shift_x')] = np.array([0, pixels, 2 * pixels]) * 2 / preset.size
        picture = render(truth, preset, sensor=False)
        first, second = (np.abs(picture[k] - picture[0]).mean() for k in (1, 2))
        assert second == pytest.approx(2 * first, rel=.1)


def test_a_face_that_does_not_move_is_drawn_alike_in_every_frame():
    preset, truth = quiet(5)
    picture = render(truth, preset, sensor=False)
    assert (picture == picture[:1]).all()


@pytest.mark.parametrize('kind', [kind for kind in EVENT_ACTIONS if kind != 'still'])
def test_every_event_changes_the_picture_more_than_the_sensor_does(kind):
    preset, truth = quiet(2)
    truth.transient[1] = EVENT_ACTIONS[kind] * preset.event_gain[0]
    picture = render(truth, preset, sensor=False)
    change = np.abs(picture[1] - picture[0]).max(-1)
    assert (change > 6 * preset.noise).sum() >= 12      # pixels of 64 x 64


@pytest.mark.parametrize('tone', ['negative', 'positive'])
def test_every_tone_changes_the_picture_more_than_the_sensor_does(tone):
    preset, truth = quiet(2)
    truth.base[1] = TONE_ACTIONS[tone]
    picture = render(truth, preset, sensor=False)
    assert (np.abs(picture[1] - picture[0]).max(-1) > 6 * preset.noise).sum() >= 12


def test_the_sensor_makes_noise_of_the_preset_and_new_noise_in_every_frame():
    preset, truth = quiet(4)
    noise = render(truth, preset) - render(truth, preset, sensor=False)
    assert noise.std() == pytest.approx(preset.noise, rel=.02) and abs(noise.mean()) < .1
    assert abs((noise[0] * noise[1]).mean()) < .2


def test_persons_look_different_and_one_person_always_alike():
    looks = [looks_of(0, person) for person in range(40)]
    assert len({(look.width, look.skin, look.hair) for look in looks}) == 40
    assert looks_of(0, 7) == looks[7] and looks_of(1, 7) != looks[7]
    assert {look.long_hair for look in looks} == {look.glasses for look in looks} == {True, False}


@pytest.mark.parametrize('preset', PRESETS)
def test_a_clip_is_frames_of_eight_bit_colour(preset):
    frames, truth = draw_clip(preset, 'val', 1, seed=4)
    record = PRESETS[preset]
    assert frames.shape == (record.frames, record.size, record.size, 3) and frames.dtype == np.uint8
    assert len(truth.valence) == record.frames
    assert 40 < frames.mean() < 220 and ((frames == 255).mean() < .4)


def test_grey_levels_are_rounded_and_never_wrap_around():
    preset, truth = quiet(2)
    truth.nuisance[:, NUISANCE.index('light')] = 3.0
    picture = render(truth, preset, sensor=False)
    assert picture.max() > 300
    assert np.array_equal(draw_frames(truth, preset, sensor=False), np.floor(np.clip(picture, 0, 255) + .5))


def test_frames_and_signals_hash_equal_in_another_process():
    code = ('import hashlib; from lsef_plugins.datasets.synthetic import draw_clip;'
            'frames, truth = draw_clip("hard", "train", 3, 9);'
            'print(hashlib.sha256(frames.tobytes()).hexdigest(), truth.signals_sha256())')
    there = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True,
                           env={**os.environ, 'LSEF_PLUGINS_REGISTER': '0', 'PYTHONHASHSEED': '77'})
    frames, truth = draw_clip('hard', 'train', 3, 9)
    assert there.stdout.split() == [hashlib.sha256(frames.tobytes()).hexdigest(), truth.signals_sha256()]


def test_the_contact_sheet_shows_every_class_once(tmp_path):
    import cv2
    sheet = cv2.imread(str(contact_sheet('easy', tmp_path / 'new' / 'sheet.png', columns=4, size=48)))
    assert sheet.shape == (7 * (48 + 14), 132 + 4 * (48 + 4), 3)
    assert os.listdir(tmp_path / 'new') == ['sheet.png']
