"""The design of the embedded data set: which tone and which event make which class, and how often.

A clip has one slow TONE and at most one short EVENT; the class is a table of both with conflicts (a jaw drop
is Surprise on a neutral or positive tone and Fear on a negative one, a smile on a negative tone stays Sad).
With ``P(tone, event, class)`` known by construction, the best possible accuracy of an observer that sees only
the tone (the *stable* part) or only the event (the *transient* part) is a sum, not an estimate:

.. math::  \\text{base} = \\sum_{tone} \\max_k P(tone, k), \\qquad
           \\text{events} = \\sum_{event} \\max_k P(event, k).

Axes: ``k`` classes in DFEW's order, 0-based; :func:`joint` is ``(tone, event, k)``.

Source: ours. The abstract of arXiv:2511.11406 names slow and short-lived parts; this instrument is built so
that neither suffices alone.
"""
from collections.abc import Sequence
from typing import Optional

import numpy as np

CLASSES = ('Happy', 'Sad', 'Neutral', 'Angry', 'Surprise', 'Disgust', 'Fear')
TONES = ('negative', 'neutral', 'positive')
EVENTS = ('still', 'smile', 'jaw_drop', 'brow_raise', 'brow_lower', 'nose_wrinkle', 'lip_press')

# Class of every (event; tone): columns in the order of TONES.
LABEL_TABLE: dict[str, tuple[str, str, str]] = {
    'still': ('Sad', 'Neutral', 'Happy'),
    'smile': ('Sad', 'Happy', 'Happy'),
    'jaw_drop': ('Fear', 'Surprise', 'Surprise'),
    'brow_raise': ('Fear', 'Surprise', 'Surprise'),
    'brow_lower': ('Angry', 'Angry', 'Neutral'),
    'nose_wrinkle': ('Disgust', 'Disgust', 'Happy'),
    'lip_press': ('Angry', 'Neutral', 'Happy'),
}

# P(tone, event | class). Chosen so that one half alone stops near 38 % (tone) and 67 % (event) with equal
# classes.
CELLS: dict[str, dict[tuple[str, str], float]] = {
    'Happy': {('positive', 'smile'): .45, ('neutral', 'smile'): .15, ('positive', 'still'): .15,
              ('positive', 'nose_wrinkle'): .15, ('positive', 'lip_press'): .10},
    'Sad': {('negative', 'still'): .55, ('negative', 'smile'): .45},
    'Neutral': {('neutral', 'still'): .60, ('neutral', 'lip_press'): .20, ('positive', 'brow_lower'): .20},
    'Angry': {('negative', 'brow_lower'): .30, ('neutral', 'brow_lower'): .45,
              ('negative', 'lip_press'): .25},
    'Surprise': {('neutral', 'jaw_drop'): .30, ('positive', 'jaw_drop'): .40, ('neutral', 'brow_raise'): .10,
                 ('positive', 'brow_raise'): .20},
    'Disgust': {('negative', 'nose_wrinkle'): .30, ('neutral', 'nose_wrinkle'): .70},
    'Fear': {('negative', 'jaw_drop'): .25, ('negative', 'brow_raise'): .75},
}


def label_of(tone: str, event: str) -> int:
    """The 0-based class of a (tone, event) pair."""
    return CLASSES.index(LABEL_TABLE[event][TONES.index(tone)])


def joint(class_probabilities: Optional[Sequence[float]] = None) -> np.ndarray:
    """``P(tone, event, class)`` as a ``(3, 7, 7)`` array that sums to one.

    Args:
        class_probabilities: ``(k,)``, summing to one; None means equal classes.
    """
    prior = np.full(len(CLASSES), 1 / len(CLASSES)) if class_probabilities is None else np.asarray(
        class_probabilities, dtype=float)
    if prior.shape != (len(CLASSES),) or prior.min() < 0 or abs(prior.sum() - 1) > 1e-6:
        raise ValueError(f'class_probabilities {prior.tolist()} must be {len(CLASSES)} non-negative numbers '
                         f'that sum to 1, in the order {", ".join(CLASSES)}.')
    table = np.zeros((len(TONES), len(EVENTS), len(CLASSES)))
    for k, name in enumerate(CLASSES):
        for (tone, event), share in CELLS[name].items():
            table[TONES.index(tone), EVENTS.index(event), k] += prior[k] * share
    return table


def ceilings(class_probabilities: Optional[Sequence[float]] = None) -> dict[str, float]:
    """Best accuracy, in [0, 1], of an observer of nothing, the tone only, the event only, and both."""
    table = joint(class_probabilities)
    return {'chance': float(table.sum((0, 1)).max()),
            'base': float(table.sum(1).max(-1).sum()),
            'events': float(table.sum(0).max(-1).sum()),
            'both': float(table.max(-1).sum())}
