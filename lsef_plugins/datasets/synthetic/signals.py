"""Signals of a clip: the planted truth, drawn before a single pixel is.

.. math::  face(t) = rest + base(t) + transient(t) + blinks(t) + speech(t), \\qquad
           base(t) = g(t)\\, u_{tone}, \\quad transient(t) = \\sum_e a_e\\, env_e(t)\\, v_{event}.

``g`` is a slow curve (rank one, a smooth drift), ``env`` an onset-apex-offset curve of several frames. Every
random stream has its own seed sequence, so that a person, a label and a disturbance know nothing of each
other, and clip ``i`` is the same clip however many are asked for.

Axes: ``t`` frames, ``a`` facial actions (``actions.ACTIONS``), ``m`` nuisance curves (NUISANCE).
"""
import numpy as np

from .actions import ACTIONS, BLINK, EVENT_ACTIONS, REST_SPREAD, SYLLABLE, TONE_ACTIONS
from .design import CELLS, CLASSES, joint
from .presets import Preset
from .truth import EVENT_DTYPE, Truth

SPLITS = ('train', 'val')
#: Curves that carry no label: head pose (radians, half image widths, a factor), light (factors) and two
#: facial movements.
NUISANCE = ('yaw', 'pitch', 'roll', 'shift_x', 'shift_y', 'scale', 'light', 'light_x', 'light_y', 'blink',
            'speech')
#: Valence and arousal, in [-1, 1], of a class at the apex and of a tone at full strength.
CLASS_AFFECT = {'Happy': (.8, .5), 'Sad': (-.7, -.4), 'Neutral': (0., 0.), 'Angry': (-.6, .7),
                'Surprise': (.2, .8), 'Disgust': (-.6, .3), 'Fear': (-.7, .8)}
TONE_AFFECT = {'negative': (-.5, -.1), 'neutral': (0., 0.), 'positive': (.5, .2)}
_STREAMS = ('label', 'cell', 'identity', 'tone', 'event', 'pose', 'light', 'face', 'noise')
_PERSON = 10**6     # a person's stream lies far from every clip's


def stream(seed: int, split: str, index: int, purpose: str) -> np.random.Generator:
    """A generator of its own for one purpose of one clip."""
    if split not in SPLITS:
        raise ValueError(f'There is no split {split!r}; choose one of {", ".join(SPLITS)}.')
    return np.random.default_rng(np.random.SeedSequence(
        [seed, SPLITS.index(split), index, _STREAMS.index(purpose)]))


def person_stream(seed: int, person: int) -> np.random.Generator:
    """The generator that makes a person's rest expression and looks."""
    return np.random.default_rng(np.random.SeedSequence([seed, _PERSON, person]))


def person_of(preset: Preset, split: str, index: int, seed: int) -> int:
    """Number of the person in a clip; validation's numbers begin where training's end."""
    train, val = preset.identities
    low, high = (0, train) if split == 'train' else (train, train + val)
    return int(stream(seed, split, index, 'identity').integers(low, high))


def label_tone_event(preset: Preset, split: str, index: int, seed: int) -> tuple[int, str, str]:
    """Class, tone and event of a clip.

    Classes follow a golden-ratio sequence, so that the first n clips of a split hold every class in its share
    to within a few clips for any n; the (tone, event) cell is drawn at random inside the class.
    """
    prior = joint(preset.class_probabilities).sum((0, 1))
    offset = stream(seed, split, 0, 'label').random()
    u = (offset + index * (5 ** .5 - 1) / 2) % 1.0
    label = min(int(np.searchsorted(np.cumsum(prior), u, side='right')), len(CLASSES) - 1)
    cells = CELLS[CLASSES[label]]
    cell = stream(seed, split, index, 'cell').choice(len(cells), p=list(cells.values()))
    tone, event = list(cells)[cell]
    return label, tone, event


def slow_curve(rng: np.random.Generator, frames: int) -> np.ndarray:
    """A smooth aimless curve ``(t,)`` of at most one period, mean square about one."""
    phase = np.linspace(0, 1, frames) if frames > 1 else np.zeros(1)
    waves = [rng.normal() / k * np.cos(np.pi * k * phase + rng.uniform(0, 2 * np.pi)) for k in (1, 2)]
    return np.sum(waves, axis=0)


def tone_curve(preset: Preset, tone: str, rng: np.random.Generator) -> np.ndarray:
    """Strength of the tone over the clip, ``(t,)``: grows from a part of itself to the whole, and wanders.

    A neutral tone wanders too, as a small positive or negative mood (its curve carries a sign).
    """
    frames = preset.frames
    start = rng.uniform(*preset.tone_start)
    middle, width = rng.uniform(.35, .65), rng.uniform(.5, .9)
    ramp = np.clip((np.linspace(0, 1, frames) - middle) / width + .5, 0, 1)
    grown = start + (1 - start) * ramp * ramp * (3 - 2 * ramp)
    strength = 0.0 if tone == 'neutral' else preset.tone_gain * rng.uniform(.85, 1.15)
    return strength * grown + preset.wander * slow_curve(rng, frames)


def base_actions(tone: str, curve: np.ndarray) -> np.ndarray:
    """The stable facial actions ``(t, a)`` of a tone whose strength is ``curve (t,)``."""
    if tone != 'neutral':
        return curve[:, None] * TONE_ACTIONS[tone]
    up, down = np.maximum(curve, 0), np.maximum(-curve, 0)
    return up[:, None] * TONE_ACTIONS['positive'] + down[:, None] * TONE_ACTIONS['negative']


def envelope(frames: int, onset: int, apex: int, hold: int, offset: int) -> np.ndarray:
    """Onset-apex-offset curve ``(t,)`` in [0, 1]: zero up to ``onset`` and from ``offset`` on, one on
    ``apex .. apex + hold``, raised cosines between."""
    t = np.arange(frames)
    rise = np.clip((t - onset) / (apex - onset), 0, 1)
    fall = np.clip((offset - t) / (offset - apex - hold), 0, 1)
    return (.5 - .5 * np.cos(np.pi * rise)) * (.5 - .5 * np.cos(np.pi * fall))


def draw_events(preset: Preset, event: str, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The events ``(n,)`` of EVENT_DTYPE and their summed envelopes ``(t,)``; none for 'still'."""
    frames, rows, total = preset.frames, [], np.zeros(preset.frames)
    count = 0 if event == 'still' else int(rng.integers(1, preset.events + 1))
    room = (frames - 2) // max(count, 1)
    for number in range(count):
        rise, hold, fall = (int(rng.integers(low, high)) for low, high in ((3, 5), (1, 4), (3, 6)))
        length = rise + hold + fall
        onset = 1 + number * room + int(rng.integers(0, room - length + 1))
        amplitude = rng.uniform(*preset.event_gain)
        rows.append((event, onset, onset + rise, onset + length, amplitude))
        total += amplitude * envelope(frames, onset, onset + rise, hold, onset + length)
    return np.array(rows, dtype=EVENT_DTYPE), total


def blink_curve(preset: Preset, rng: np.random.Generator) -> np.ndarray:
    """Closing of the eyes ``(t,)`` in [0, 1]: blinks of about five frames at random places."""
    curve = np.zeros(preset.frames)
    for _ in range(rng.poisson(preset.blinks)):
        onset = int(rng.integers(-2, preset.frames - 1))
        curve = np.maximum(curve, envelope(preset.frames, onset, onset + 2, 1, onset + 6))
    return curve


def speech_curve(preset: Preset, rng: np.random.Generator) -> np.ndarray:
    """Opening of the mouth by speech ``(t,)``, in [0, Preset.speech]: syllables at 2.5 to 4.5 per second in a
    phrase that fades in and out; half of the clips are silent."""
    t = np.arange(preset.frames) / preset.fps
    rate, phase = rng.uniform(2.5, 4.5), rng.uniform(0, 2 * np.pi)
    middle, width, silent = rng.uniform(0, t[-1]), rng.uniform(.3, .6), rng.random() < .5
    phrase = np.exp(-.5 * ((t - middle) / width) ** 2)
    syllables = .5 - .5 * np.cos(2 * np.pi * rate * t + phase)
    return np.zeros_like(t) if silent else preset.speech * phrase * syllables


def nuisance_curves(preset: Preset, split: str, index: int, seed: int) -> dict[str, np.ndarray]:
    """Name of NUISANCE -> curve ``(t,)``."""
    frames, p, l = preset.frames, preset.pose, preset.light
    rng = stream(seed, split, index, 'pose')
    spreads = {'yaw': (.25, .12), 'pitch': (.18, .10), 'roll': (.05, .03), 'shift_x': (.04, .025),
               'shift_y': (.04, .025), 'scale': (.04, .02)}
    curves = {name: p * (rng.normal() * still + slow_curve(rng, frames) * moving)
              for name, (still, moving) in spreads.items()}
    curves['scale'] = np.exp(curves['scale'])
    rng = stream(seed, split, index, 'light')
    curves['light'] = np.exp(l * (.12 * rng.normal() + .04 * slow_curve(rng, frames)))
    for axis in ('light_x', 'light_y'):
        curves[axis] = l * (.10 * rng.normal() + .04 * slow_curve(rng, frames))
    rng = stream(seed, split, index, 'face')
    curves['blink'] = blink_curve(preset, rng)
    curves['speech'] = speech_curve(preset, rng)
    return curves


def affect(tone: str, label: int, strength: np.ndarray, event: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Valence and arousal ``(t,)`` each, in [-1, 1].

    The tone sets where the face dwells, the event pulls it to the point of the clip's class and lets go
    again. ``strength`` (t,) is the tone's curve, ``event`` (t,) the events' envelope.
    """
    here = np.abs(strength)[:, None] * np.array(TONE_AFFECT[tone]) if tone != 'neutral' else (
        strength[:, None] * np.array(TONE_AFFECT['positive']))
    pull = np.clip(event, 0, 1)[:, None]
    both = np.clip(here + pull * (np.array(CLASS_AFFECT[CLASSES[label]]) - here), -1, 1)
    return both[:, 0], both[:, 1]


def draw_signals(preset: Preset, split: str, index: int, seed: int) -> Truth:
    """The planted truth of a clip: every curve that the picture is drawn from."""
    label, tone, event = label_tone_event(preset, split, index, seed)
    person = person_of(preset, split, index, seed)
    curve = tone_curve(preset, tone, stream(seed, split, index, 'tone'))
    events, pull = draw_events(preset, event, stream(seed, split, index, 'event'))
    valence, arousal = affect(tone, label, curve, pull)
    curves = nuisance_curves(preset, split, index, seed)
    rest = preset.rest * REST_SPREAD * person_stream(seed, person).uniform(-1, 1, len(ACTIONS))
    return Truth(
        preset=preset.name, split=split, index=index, seed=seed, label=label, tone=tone, event=event,
        identity=person, fps=preset.fps, rest=rest, tone_curve=curve, base=base_actions(tone, curve),
        transient=pull[:, None] * EVENT_ACTIONS[event], events=events, valence=valence, arousal=arousal,
        nuisance=np.stack([curves[name] for name in NUISANCE], axis=1))


def face_actions(truth: Truth) -> np.ndarray:
    """What the face does, ``(t, a)``: rest, stable and transient part, blinks and speech together."""
    blink, speech = (truth.nuisance[:, NUISANCE.index(name)] for name in ('blink', 'speech'))
    return (truth.rest + truth.base + truth.transient + blink[:, None] * BLINK + speech[:, None] * SYLLABLE)


def class_counts(preset: Preset, split: str, clips: int, seed: int) -> list[int]:
    """How many of the first ``clips`` clips of a split belong to each class."""
    labels = [label_tone_event(preset, split, i, seed)[0] for i in range(clips)]
    return np.bincount(labels, minlength=len(CLASSES)).tolist()
