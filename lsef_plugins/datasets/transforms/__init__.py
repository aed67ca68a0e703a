"""Clips broken on purpose.

Whatever registers is imported where MMAction2 is used; what lies beside it works without OpenMMLab too.
"""
import importlib.util
import os

if os.environ.get('LSEF_PLUGINS_REGISTER', '1') != '0' and importlib.util.find_spec('mmaction'):
    from .listed_frames import ListedFrameDecode
    from .temporal_corruption import (
        BlackFrames,
        ClipCorruption,
        Flicker,
        FrameDrop,
        FrameFreeze,
        NoiseBurst,
        RandomTemporalCorruption,
        TemporalCorruption,
    )

    __all__ = ['BlackFrames', 'ClipCorruption', 'Flicker', 'FrameDrop', 'FrameFreeze', 'ListedFrameDecode',
               'NoiseBurst', 'RandomTemporalCorruption', 'TemporalCorruption']
