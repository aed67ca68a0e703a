"""The five difficulties of the embedded data set: one frozen record of numbers each.

Gains are in the units of the facial actions (1 is a full movement of that muscle, see ``actions.py``); angles
are in radians; lengths of the face in half image widths; noise in grey levels of 255.
"""
import dataclasses
from typing import Optional, Union

from .design import CLASSES, ceilings

#: Raised whenever a change makes other signals, frames or files from the same settings.
GENERATOR = 2
#: Shares of DFEW's single-labelled clips in the order of CLASSES (percent, as published: they sum to 100).
DFEW_SHARES = (20.9, 16.2, 22.8, 18.6, 12.6, 1.2, 7.7)


@dataclasses.dataclass(frozen=True)
class Preset:
    """Everything that shapes a clip except the seed.

    Attributes:
        name: folder name under the output folder.
        clips: number of (train, val) clips when the caller does not say.
        identities: number of different (train, val) persons; the two sets are disjoint.
        frames, size, fps: frames per clip, pixels per side, frames per second.
        tone_gain: strength of the slow tone; tone_start: the range its share of the strength starts from.
        event_gain: range of the amplitude of the short event.
        events: number of times the event of a clip occurs, at most.
        wander: amplitude of the tone's aimless slow drift.
        rest: spread of the persons' rest expressions (what makes a single frame ambiguous).
        pose, light: scales of the slow head movement and of the lighting.
        noise: standard deviation of the sensor noise.
        blinks: mean number of blinks in a clip; speech: amplitude of the mouth's speaking movement.
        class_probabilities: ``(k,)`` or None for equal classes.
        va_lists: whether annotation lists that pair each video with its valence and arousal are written too.
    """
    name: str
    clips: tuple[int, int] = (1260, 378)
    identities: tuple[int, int] = (240, 80)
    frames: int = 32
    size: int = 64
    fps: int = 25
    tone_gain: float = 1.0
    tone_start: tuple[float, float] = (0.0, 0.3)
    event_gain: tuple[float, float] = (0.8, 1.1)
    events: int = 1
    wander: float = 0.08
    rest: float = 0.5
    pose: float = 1.0
    light: float = 1.0
    noise: float = 3.0
    blinks: float = 0.7
    speech: float = 0.12
    class_probabilities: Optional[tuple[float, ...]] = None
    va_lists: bool = False


PRESETS: dict[str, Preset] = {preset.name: preset for preset in (
    Preset('easy', clips=(140, 70), identities=(70, 35), tone_gain=1.3, tone_start=(0.6, 0.9),
           event_gain=(1.1, 1.3), wander=0.03, rest=0.12, pose=0.3, light=0.4, noise=1.5,
           blinks=0.3, speech=0.05),
    Preset('default'),
    Preset('hard', frames=40, tone_gain=0.75, event_gain=(0.5, 0.8), rest=0.6, pose=1.8, light=1.6, noise=6.0,
           blinks=1.5, speech=0.2, wander=0.12),
    Preset('longtail', clips=(1400, 420), class_probabilities=tuple(share / 100 for share in DFEW_SHARES)),
    Preset('va', clips=(840, 252), frames=40, events=2, wander=0.2, tone_start=(0.0, 0.6), va_lists=True),
)}


def preset_of(preset: Union[str, Preset]) -> Preset:
    """The record behind a name; a record passes through, so dataclasses.replace makes one's own."""
    if isinstance(preset, Preset):
        return preset
    if preset not in PRESETS:
        raise ValueError(f'There is no preset {preset!r}; choose one of {", ".join(PRESETS)}.')
    return PRESETS[preset]


def label_ceilings(preset: Union[str, Preset] = 'default') -> dict[str, float]:
    """Exact best accuracies (0..1) on a preset, by enumeration of its own probabilities.

    Returns:
        'chance' (the majority class), 'base' (sees the slow tone only), 'events' (sees the short events only)
        and 'both' (sees the whole truth).
    """
    return ceilings(preset_of(preset).class_probabilities)


__all__ = ['CLASSES', 'DFEW_SHARES', 'GENERATOR', 'PRESETS', 'Preset', 'label_ceilings', 'preset_of']
