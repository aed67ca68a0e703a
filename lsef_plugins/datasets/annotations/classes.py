"""The seven emotions: their words and the two orders in which lists number them.

Inside the package a label is always the place in :data:`CLASSES`, DFEW's official order counted from 0, whatever the
list says: models trained on different dialects of one data set then agree on what class 3 is.
"""
from collections.abc import Sequence
from typing import Any, Optional

CLASSES = ('Happy', 'Sad', 'Neutral', 'Angry', 'Surprise', 'Disgust', 'Fear')
#: Name of an order -> the classes in it. 'dfew' is Happy-first, 'alphabetical' is Angry-first.
ORDERS: dict[str, tuple[str, ...]] = {'dfew': CLASSES, 'alphabetical': tuple(sorted(CLASSES))}
_WORDS = {'happiness': 'Happy', 'sadness': 'Sad', 'anger': 'Angry', 'surprised': 'Surprise', 'disgusted': 'Disgust',
          'fearful': 'Fear', **{name.lower(): name for name in CLASSES}}


def emotion_word(text: str) -> Optional[str]:
    """The class that a word names ('happiness', 'HAPPY', 'Happy' -> 'Happy'), or None."""
    return _WORDS.get(text.strip().lower())


def order_of(class_order: Any) -> tuple[str, ...]:
    """The seven classes in a stated order.

    Args:
        class_order: 'dfew' (Happy = first), 'alphabetical' (Angry = first), or the seven words themselves.

    Raises:
        ValueError: not an order of the seven emotions.
    """
    if isinstance(class_order, str):
        if class_order in ORDERS:
            return ORDERS[class_order]
        raise ValueError(f'class_order={class_order!r} is unknown. Give {", ".join(map(repr, ORDERS))}, or the seven '
                         'class names in the order in which the list numbers them.')
    names = [emotion_word(str(word)) for word in class_order]
    if sorted(map(str, names)) != sorted(CLASSES):
        raise ValueError(f'class_order={list(class_order)!r} must name each of the seven emotions once '
                         f'({", ".join(CLASSES)}), in the order in which the list numbers them.')
    return tuple(name for name in names if name)


def order_name(order: Sequence[str]) -> str:
    """'dfew', 'alphabetical', or the names themselves."""
    return next((name for name, known in ORDERS.items() if tuple(order) == known), ' '.join(order))
