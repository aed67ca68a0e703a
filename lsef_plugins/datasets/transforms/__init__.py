"""Clips broken on purpose.

Whatever registers is imported where MMAction2 is used; what lies beside it works without OpenMMLab too.
"""
import importlib.util
import os

if os.environ.get('LSEF_PLUGINS_REGISTER', '1') != '0' and importlib.util.find_spec('mmaction'):
    from .clip_corruption import ClipCorruption
    from .listed_frames import ListedFrameDecode
    from .named_corruptions import (
        BlackFrames,
        BriefOcclusion,
        CameraShake,
        Defocus,
        EyesOcclusion,
        Flicker,
        FrameDrop,
        FrameFreeze,
        FrameJumble,
        FrameRate,
        GaussianNoise,
        JPEGCompression,
        LightDrift,
        LoopedTail,
        LowResolution,
        MotionBlur,
        MouthOcclusion,
        MovingOcclusion,
        NoiseBurst,
        ShotNoise,
    )
    from .video_corruption import (
        RandomTemporalCorruption,
        RandomVideoCorruption,
        TemporalCorruption,
        VideoCorruption,
    )

    __all__ = ['BlackFrames', 'BriefOcclusion', 'CameraShake', 'ClipCorruption', 'Defocus', 'EyesOcclusion', 'Flicker',
               'FrameDrop', 'FrameFreeze', 'FrameJumble', 'FrameRate', 'GaussianNoise', 'JPEGCompression',
               'LightDrift', 'ListedFrameDecode', 'LoopedTail', 'LowResolution', 'MotionBlur', 'MouthOcclusion',
               'MovingOcclusion', 'NoiseBurst', 'RandomTemporalCorruption', 'RandomVideoCorruption', 'ShotNoise',
               'TemporalCorruption', 'VideoCorruption']
