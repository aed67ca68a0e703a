"""Facial actions: the few muscles of the schematic face, and what each tone and each event does to them.

An expression is a vector over ACTIONS, 0 at rest and 1 at a full movement (negative where the opposite
exists). Axes: ``t`` frames, ``a`` actions.
"""

import numpy as np

ACTIONS = (
    'corner',      # lip corners: up +, down -
    'stretch',     # mouth: wide +, narrow -
    'jaw',         # jaw dropped
    'upper_lip',   # upper lip raised
    'press',       # lips pressed together
    'brow_inner',  # inner ends of the brows: up +, down -
    'brow_outer',  # outer ends of the brows: up +, down -
    'knit',        # brows drawn together and down
    'lid',         # upper lid: wide +, drooping -
    'squint',      # lower lid and cheek raised
    'nose',        # nose wrinkled
)


def _vector(**amounts: float) -> np.ndarray:
    unknown = set(amounts) - set(ACTIONS)
    if unknown:
        raise ValueError(f'No such facial action: {", ".join(sorted(unknown))}; '
                         f'there are {", ".join(ACTIONS)}.')
    return np.array([amounts.get(name, 0.0) for name in ACTIONS])


#: What a tone of strength 1 does to the face, (a,) each.
TONE_ACTIONS: dict[str, np.ndarray] = {
    'negative': _vector(corner=-.55, brow_inner=.35, brow_outer=-.25, lid=-.30),
    'neutral': _vector(),
    'positive': _vector(corner=.50, squint=.35, brow_outer=.12),
}

#: What an event of amplitude 1 does to the face at its apex, (a,) each.
EVENT_ACTIONS: dict[str, np.ndarray] = {
    'still': _vector(),
    'smile': _vector(corner=.95, stretch=.60, upper_lip=.40, squint=.45),
    'jaw_drop': _vector(jaw=1.0, stretch=-.35, lid=.20),
    'brow_raise': _vector(brow_inner=1.0, brow_outer=1.0, lid=.60),
    'brow_lower': _vector(knit=1.0, squint=.25, lid=-.10),
    'nose_wrinkle': _vector(nose=1.0, upper_lip=.85, squint=.50, knit=.25),
    'lip_press': _vector(press=1.0, stretch=-.30, corner=-.10),
}

#: How much a person's face at rest differs from the schematic one, relative to Preset.rest, (a,).
REST_SPREAD = _vector(corner=1.0, stretch=.5, upper_lip=.25, brow_inner=.6, brow_outer=.6, knit=.35, lid=.5,
                      squint=.3)

#: A blink at its deepest and a syllable at its widest, (a,).
BLINK = _vector(lid=-1.6)
SYLLABLE = _vector(jaw=1.0, stretch=.35, upper_lip=.30)
