"""The face: facial actions in, frames out.

Everything is a region or a line between curves ``y = f(x)`` in the face's own coordinates, painted by
:mod:`canvas` without integer rounding. A person (:func:`looks_of`) has a geometry, a hair cut and colours.

Axes: ``t h w`` frames, rows, columns; ``a`` actions; curves enter as ``(t, 1, 1)``.
"""
import colorsys
import dataclasses
from typing import Optional

import numpy as np

from .actions import ACTIONS
from .canvas import Canvas, Colour, Scalar, Window
from .presets import Preset
from .signals import NUISANCE, face_actions, person_stream, stream
from .truth import Truth

_SKINS = ((.98, .85, .73), (.95, .78, .64), (.90, .70, .54), (.79, .58, .42), (.64, .45, .32),
          (.48, .33, .24))
_HAIRS = ((.13, .10, .09), (.30, .18, .11), (.50, .31, .16), (.80, .62, .33), (.62, .26, .13),
          (.62, .61, .62))
_DARK = (.22, .10, .10)
_INK = (.12, .07, .07)
_WHITE = (.98, .97, .95)
Curves = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Looks:
    """A person's geometry (in half image widths) and colours (RGB in [0, 1])."""
    width: float
    height: float
    eye_gap: float
    eye_y: float
    eye_size: float
    brow_y: float
    brow_thick: float
    mouth_y: float
    mouth_width: float
    lip: float
    nose_y: float
    hair_line: float
    parting: float
    long_hair: bool
    glasses: bool
    skin: Colour
    hair: Colour
    iris: Colour
    lips: Colour
    shirt: Colour
    background: Colour


def looks_of(seed: int, person: int) -> Looks:
    """The looks of a person, from the person's own stream (behind the draw of the rest expression)."""
    rng = person_stream(seed, person)
    rng.uniform(-1, 1, len(ACTIONS))
    about = lambda middle, spread: float(middle + spread * rng.uniform(-1, 1))  # noqa: E731
    blend = np.sort(rng.random(2))
    tone = rng.uniform(0, len(_SKINS) - 1)
    low, part = int(tone), tone - int(tone)
    skin = np.array(_SKINS[low]) * (1 - part) + np.array(_SKINS[min(low + 1, len(_SKINS) - 1)]) * part
    hair = np.array(_HAIRS[rng.integers(len(_HAIRS))]) * about(1, .12)
    lips = skin * np.array([.88, .58, .58]) + np.array([.04, 0, .01])
    return Looks(
        width=about(.55, .05), height=about(.68, .05), eye_gap=about(.245, .025), eye_y=about(-.09, .03),
        eye_size=about(.135, .015), brow_y=about(-.305, .02), brow_thick=about(.030, .008),
        mouth_y=about(.41, .03), mouth_width=about(.23, .03), lip=about(.040, .012), nose_y=about(.17, .03),
        hair_line=about(-.52, .04), parting=about(0, .25), long_hair=bool(rng.random() < .4),
        glasses=bool(rng.random() < .15), skin=_rgb(skin), hair=_rgb(hair),
        iris=colorsys.hsv_to_rgb(about(.3, .28), about(.55, .2), about(.42, .15)), lips=_rgb(lips),
        shirt=colorsys.hsv_to_rgb(rng.random(), about(.5, .25), about(.6, .2)),
        background=colorsys.hsv_to_rgb(rng.random(), .08 + .3 * blend[0], .55 + .4 * blend[1]))


def _rgb(values: np.ndarray) -> Colour:
    red, green, blue = np.clip(values, 0, 1).tolist()
    return red, green, blue


def _mix(one: Colour, other: Colour, share: float) -> Colour:
    return _rgb(np.array(one) * (1 - share) + np.array(other) * share)


def draw_frames(truth: Truth, preset: Preset, size: Optional[int] = None, sensor: bool = True) -> np.ndarray:
    """Draws a clip: :func:`render` in whole grey levels, uint8 ``(t, h, w, 3)``, RGB; same arguments."""
    return np.clip(render(truth, preset, size, sensor) + .5, 0, 255.5).astype(np.uint8)


def render(truth: Truth, preset: Preset, size: Optional[int] = None, sensor: bool = True) -> np.ndarray:
    """The picture before it is cut into whole grey levels: continuous in every curve of the truth.

    Args:
        truth: signals of the clip.
        preset: where the picture's size and noise come from.
        size: pixels per side instead of the preset's (a larger contact sheet).
        sensor: with the noise of the sensor.

    Returns:
        float32 ``(t, h, w, 3)``, RGB, in grey levels (may leave 0..255).
    """
    pose = {name: truth.nuisance[:, i] for i, name in enumerate(NUISANCE)}
    looks, edge = looks_of(truth.seed, truth.identity), size or preset.size
    face = dict(zip(ACTIONS, (_curve(action) for action in face_actions(truth).T)))
    turn = {name: _curve(pose[name]) for name in ('yaw', 'pitch')}
    canvas = Canvas(edge, pose['roll'], pose['shift_x'], pose['shift_y'] + .04, pose['scale'] * 1.1,
                    looks.background)
    _draw_head(canvas, looks, face)
    _draw_cheeks(canvas, looks, face, turn)
    _draw_mouth(canvas, looks, face, turn)
    _draw_nose(canvas, looks, face, turn)
    for side in (-1, 1):
        _draw_eye(canvas, looks, face, turn, side)
        _draw_brow(canvas, looks, face, turn, side)
    _draw_frown(canvas, looks, face, turn)
    if looks.glasses:
        _draw_glasses(canvas, looks, turn)
    picture = _expose(canvas.rgb, pose)
    if sensor and preset.noise:
        rng = stream(truth.seed, truth.split, truth.index, 'noise')
        picture += preset.noise * rng.standard_normal(picture.shape, dtype=np.float32)
    return picture.transpose(1, 2, 3, 0)


def _expose(rgb: np.ndarray, pose: Curves) -> np.ndarray:
    """Colour planes ``(3, t, h, w)`` under the clip's light, in grey levels."""
    light, light_x, light_y = (_curve(pose[name]) for name in ('light', 'light_x', 'light_y'))
    size = rgb.shape[-1]
    centres = (np.arange(size, dtype=np.float32) + .5) / size * 2 - 1
    return rgb * (235 * light * (1 + light_x * centres[None, None, :] + light_y * centres[None, :, None]))


def _curve(values: np.ndarray) -> np.ndarray:
    return values.astype(np.float32)[:, None, None]     # (t,) -> (t, 1, 1)


def _draw_head(canvas: Canvas, looks: Looks, face: Curves) -> None:
    everywhere = canvas.window(-2, 2, -2, 2)
    cap = everywhere.ellipse(0, -.10, looks.width + .07, looks.height * .92)
    # Behind the head: hair, neck and shoulders.
    if looks.long_hair:
        back = everywhere.ellipse(0, .02, looks.width + .17, looks.height + .16)
        everywhere.paint(everywhere.fill(back), looks.hair)
    shade = _mix(looks.skin, _DARK, .22)
    neck = np.maximum(np.abs(everywhere.x) - .22, .3 - everywhere.y)
    everywhere.paint(everywhere.fill(neck), shade)
    everywhere.paint(everywhere.fill(everywhere.ellipse(0, 1.28, .85, .46)), looks.shirt)
    if not looks.long_hair:
        everywhere.paint(everywhere.fill(np.maximum(cap, everywhere.y)), looks.hair)
        for side in (-1, 1):
            ear = canvas.window(side * looks.width - .15, side * looks.width + .15, -.2, .25)
            ear.paint(ear.fill(ear.ellipse(side * looks.width, .02, .085, .13)), shade)
    # The head: narrower towards the chin, longer when the jaw drops.
    opened = np.maximum(face['jaw'], 0)
    below = np.clip(everywhere.y, 0, None)
    y = everywhere.y - below * (.13 * opened) / (1 + .13 * opened)
    x = everywhere.x * (1 + .22 * below * below / looks.height ** 2)
    u, v = x / looks.width, y / looks.height
    norm = np.sqrt(u * u + v * v)
    head = norm * (norm - 1) / (np.sqrt((u / looks.width) ** 2 + (v / looks.height) ** 2) + 1e-6)
    everywhere.paint(everywhere.fill(head), looks.skin)
    # Hair in front: whatever of the head lies above the hair line.
    line = looks.hair_line + .55 * (everywhere.x - .3 * looks.parting) ** 2
    everywhere.paint(everywhere.fill(np.maximum(everywhere.y - line, cap)), looks.hair)


def _draw_cheeks(canvas: Canvas, looks: Looks, face: Curves, turn: Curves) -> None:
    squint = face['squint']
    for side in (-1, 1):
        x, y = side * .33 + .16 * turn['yaw'], .18 - .05 * squint + .14 * turn['pitch']
        cheek = canvas.window(x - .28, x + .28, y - .25, y + .25)
        blush = np.exp(-(((cheek.x - x) / .12) ** 2 + ((cheek.y - y) / .09) ** 2))
        cheek.paint(blush, _mix(looks.skin, (.95, .35, .35), .55), np.clip(.30 + .45 * squint, 0, 1))


def _lips(mouth: Window, half: Scalar, x: Scalar, y: Scalar, corner: Scalar) -> tuple:
    """Place along the mouth ``u`` ([-1, 1] between the corners), the line where the lips meet, and the
    distance past the corners."""
    u = (mouth.x - x) / half
    bow = np.clip(u * u, 0, 1.2)
    return u, y - .16 * corner * (bow - .45), (np.abs(u) - 1) * half


def _draw_mouth(canvas: Canvas, looks: Looks, face: Curves, turn: Curves) -> None:
    corner, jaw, raised = face['corner'], np.maximum(face['jaw'], 0), np.maximum(face['upper_lip'], 0)
    pressed = np.clip(face['press'], 0, 1.2)
    x, y = .20 * turn['yaw'], looks.mouth_y + .18 * turn['pitch'] + .03 * jaw
    half = looks.mouth_width * np.exp(.28 * face['stretch'])
    mouth = canvas.window(x - .42, x + .42, y - .30, y + .48)
    u, middle, past = _lips(mouth, half, x, y, corner)
    bulge = np.clip(1 - u * u, 0, 1)
    top = middle - (.05 * jaw + .07 * raised) * bulge
    bottom = middle + (.27 * jaw + .02 * raised) * np.sqrt(bulge + 1e-3) * (bulge > 0)
    thick = looks.lip * (1 - .75 * np.clip(pressed, 0, 1))
    above, beneath = top - .8 * thick * bulge, bottom + 1.3 * thick * bulge
    outer = np.maximum(np.maximum(above - mouth.y, mouth.y - beneath), past)
    mouth.paint(mouth.fill(outer), looks.lips)
    inner = np.maximum(np.maximum(top - mouth.y, mouth.y - bottom), past)
    inside = mouth.fill(inner) * np.clip((bottom - top) / mouth.pixel, 0, 1)
    mouth.paint(inside, (.30, .07, .08))
    teeth = mouth.fill(np.maximum(inner, mouth.y - top - .055))
    mouth.paint(np.minimum(inside, teeth), _WHITE)
    tongue = mouth.fill(mouth.ellipse(x, y + .27 * jaw, .6 * half, .09 + 0 * jaw))
    mouth.paint(np.minimum(inside, tongue) * np.clip(2 * jaw - .4, 0, 1), (.80, .33, .35))
    seam = mouth.stroke(np.maximum(np.abs(mouth.y - middle), past), .014 + .012 * pressed)
    closed = np.clip(1 - (bottom - top) / (.5 * mouth.pixel), 0, 1)
    mouth.paint(seam * closed, _mix(looks.lips, _DARK, .75))
    # Pressed lips leave dimples beside the corners and a crease above the chin.
    for side in (-1, 1):
        dimple = np.hypot((mouth.x - x - side * (half + .035)), (mouth.y - y + .05 * corner) * .6) - .028
        mouth.paint(mouth.fill(dimple), _mix(looks.skin, _DARK, .55), .8 * np.clip(pressed, 0, 1))
    crease = np.maximum(np.abs(mouth.y - y - .13 - .25 * (mouth.x - x) ** 2), np.abs(mouth.x - x) - .11)
    mouth.paint(mouth.stroke(crease, .014), _mix(looks.skin, _DARK, .55), .8 * np.clip(pressed, 0, 1))


def _draw_nose(canvas: Canvas, looks: Looks, face: Curves, turn: Curves) -> None:
    wrinkled = np.clip(face['nose'], 0, 1.3)
    x, y = .26 * turn['yaw'], looks.nose_y + .22 * turn['pitch'] - .05 * wrinkled
    nose = canvas.window(x - .45, x + .45, y - .40, y + .35)
    shade, line = _mix(looks.skin, _DARK, .16), _mix(looks.skin, _DARK, .50)
    nose.paint(nose.fill(nose.ellipse(x, y, .075 + .025 * wrinkled, .055)), shade)
    aside = np.abs(nose.x - x)
    tip = np.maximum(np.abs(nose.y - y - .045 + 2.2 * aside ** 2), aside - .085 - .02 * wrinkled)
    nose.paint(nose.stroke(tip, .012), line)
    # Wrinkles over the bridge, and the folds from the wings of the nose to the corners of the mouth.
    for step in range(3):
        row = np.abs(nose.y - y + .11 + .065 * step - 2.0 * aside ** 2)
        nose.paint(nose.stroke(np.maximum(row, aside - .085), .012), line, .9 * np.clip(wrinkled, 0, 1))
    folded = np.clip(.85 * wrinkled + .30 * face['corner'], 0, 1)
    for side in (-1, 1):
        run = (nose.y - y) / .22
        fold = np.abs((nose.x - x) * side - .10 - .13 * np.clip(run, 0, 1.2))
        nose.paint(nose.stroke(np.maximum(fold, np.abs(nose.y - y - .12) - .11), .012), line, .8 * folded)


def _draw_eye(canvas: Canvas, looks: Looks, face: Curves, turn: Curves, side: int) -> None:
    x, y = side * looks.eye_gap + .16 * turn['yaw'], looks.eye_y + .15 * turn['pitch']
    half = looks.eye_size
    opened = np.clip(1 + .60 * face['lid'], 0, 1.7)
    eye = canvas.window(x - .25, x + .25, y - .25, y + .22)
    u = (eye.x - x) / half
    bulge, past = np.clip(1 - u * u, 0, 1), (np.abs(u) - 1) * half
    floor = half * (.48 - .30 * np.clip(face['squint'], -.5, 1.2))
    lower = y + floor * bulge
    upper = y + (floor - (floor + .62 * half) * opened) * bulge
    white = eye.fill(np.maximum(np.maximum(upper - eye.y, eye.y - lower), past))
    white = white * np.clip((lower - upper) / eye.pixel, 0, 1)
    eye.paint(white, _WHITE)
    look_x, look_y = x + .04 * turn['yaw'], y - .005 + .04 * turn['pitch']
    for radius, colour in ((.62 * half, looks.iris), (.30 * half, (.05, .04, .05))):
        eye.paint(np.minimum(white, eye.fill(eye.ellipse(look_x, look_y, radius, radius))), colour)
    glint = eye.fill(eye.ellipse(look_x + .2 * half, look_y - .22 * half, .17 * half, .17 * half))
    eye.paint(np.minimum(white, glint), (1., 1., 1.))
    lash = eye.stroke(np.maximum(np.abs(eye.y - upper), past - .01), .020)
    eye.paint(lash, _mix(looks.hair, _DARK, .6))
    pouch = eye.stroke(np.maximum(np.abs(eye.y - lower - .035), past + .03), .010)
    eye.paint(pouch, _mix(looks.skin, _DARK, .45), np.clip(.2 + .8 * face['squint'], 0, 1))


def _draw_brow(canvas: Canvas, looks: Looks, face: Curves, turn: Curves, side: int) -> None:
    knit, half = face['knit'], .135
    x = side * (looks.eye_gap + .012 - .035 * knit) + .17 * turn['yaw']
    y = looks.brow_y + .16 * turn['pitch']
    brow = canvas.window(x - .27, x + .27, y - .30, y + .30)
    along = (brow.x - x) * side / half      # -1 at the inner end, 1 at the outer end
    s = np.clip(along, -1, 1)
    inner, outer = .14 * face['brow_inner'] - .20 * knit, .13 * face['brow_outer'] - .03 * knit
    middle = y - inner * (1 - s) / 2 - outer * (1 + s) / 2 - .035 * (1 - s * s)
    slope = (inner - outer) / (2 * half)
    away = np.maximum(np.abs(brow.y - middle) / np.sqrt(1 + slope * slope), (np.abs(along) - .85) * half)
    brow.paint(brow.stroke(away, looks.brow_thick * (1 - .3 * s)), _mix(looks.hair, _INK, .65))


def _draw_frown(canvas: Canvas, looks: Looks, face: Curves, turn: Curves) -> None:
    x, y = .18 * turn['yaw'], looks.brow_y + .06 + .16 * turn['pitch']
    frown = canvas.window(x - .12, x + .12, y - .15, y + .15)
    for side in (-1, 1):
        line = np.maximum(np.abs(frown.x - x - side * .035), np.abs(frown.y - y) - .065)
        frown.paint(frown.stroke(line, .013), _mix(looks.skin, _DARK, .6), np.clip(face['knit'], 0, 1))


def _draw_glasses(canvas: Canvas, looks: Looks, turn: Curves) -> None:
    middle, y = .17 * turn['yaw'], looks.eye_y + .16 * turn['pitch']
    band = canvas.window(middle - .60, middle + .60, y - .28, y + .28)
    for side in (-1, 1):
        ring = band.ellipse(middle + side * looks.eye_gap, y, looks.eye_size + .06, looks.eye_size + .045)
        band.paint(band.stroke(ring, .016), (.12, .12, .14))
    bridge = np.maximum(np.abs(band.y - y), np.abs(band.x - middle) - looks.eye_gap + looks.eye_size + .06)
    band.paint(band.stroke(bridge, .014), (.12, .12, .14))
