"""Fault: ``ColorJitter`` stops with *OverflowError: Python integer -20 out of bounds for uint8* under numpy
>= 2.

``adjust_hue`` adds a possibly negative Python int to a uint8 image; numpy 1 promoted to int16, numpy 2
refuses.

Mend: the same function in int16 arithmetic modulo 180. That is what numpy 1 computed, to the bit, for factors up
to 0.3 (the default is 0.1); beyond, a positive offset overflowed uint8 and gave a wrong hue, which ours does not.

Delete when: the oldest supported mmaction2 has that fixed.
"""


def reason() -> str:
    import numpy as np
    from mmaction.datasets.transforms.processing import ColorJitter
    if ColorJitter.adjust_hue is not adjust_hue:
        try:
            ColorJitter.adjust_hue(np.full((1, 1, 3), 128, np.float32), -0.1)
            return ''
        except OverflowError:
            pass
    return 'ColorJitter adds a negative number to uint8, which this numpy refuses'


def apply() -> None:
    if reason():
        from mmaction.datasets.transforms.processing import ColorJitter
        ColorJitter.adjust_hue = staticmethod(adjust_hue)


def adjust_hue(img, factor):
    """Turn the hue of an RGB image ``(h, w, 3)`` in 0..255 by ``factor * 255`` of OpenCV's 180 steps."""
    import cv2
    import numpy as np
    hsv = cv2.cvtColor(np.clip(img, 0, 255).astype(np.uint8), cv2.COLOR_RGB2HSV)
    hue = (hsv[..., 0].astype(np.int16) + int(factor * 255)) % 180
    hsv[..., 0] = hue.astype(np.uint8)
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB).astype(np.float32)
