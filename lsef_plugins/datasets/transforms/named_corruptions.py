"""Each corruption under a name of its own: ``dict(type='FrameDrop', severity=3)``."""
from __future__ import annotations

from typing import Optional

from lsef_plugins.registry import TRANSFORMS

from .video_corruption import VideoCorruption


class NamedCorruption(VideoCorruption):
    """Base of the corruptions that are known by their own names in configs.

    Args:
        severity: 1 (weak) to 5 (strong); 0 leaves the sample bit-identical.
        seed: See :class:`ClipCorruption`.
    """

    KIND = ''

    def __init__(self, severity: int, seed: Optional[int] = 0) -> None:
        super().__init__(kind=self.KIND, severity=severity, seed=seed)

    def __repr__(self) -> str:
        return f'{type(self).__name__}(severity={self.severity}, seed={self.seed})'


@TRANSFORMS.register_module()
class FrameDrop(NamedCorruption):
    """Frames are lost here and there and the last one is held; arguments of NamedCorruption."""

    KIND = 'frame_drop'


@TRANSFORMS.register_module()
class FrameFreeze(NamedCorruption):
    """The picture hangs for one contiguous stretch; arguments of NamedCorruption."""

    KIND = 'frame_freeze'


@TRANSFORMS.register_module()
class BlackFrames(NamedCorruption):
    """Some frames are black; arguments of NamedCorruption."""

    KIND = 'black_frames'


@TRANSFORMS.register_module()
class NoiseBurst(NamedCorruption):
    """Isolated frames drown in noise; arguments of NamedCorruption."""

    KIND = 'noise_burst'


@TRANSFORMS.register_module()
class Flicker(NamedCorruption):
    """The light of each frame has its own gain; arguments of NamedCorruption."""

    KIND = 'flicker'


@TRANSFORMS.register_module()
class FrameJumble(NamedCorruption):
    """Frames arrive out of order, within short windows; arguments of NamedCorruption."""

    KIND = 'frame_jumble'


@TRANSFORMS.register_module()
class FrameRate(NamedCorruption):
    """The camera takes fewer frames; each is held until the next one; arguments of NamedCorruption."""

    KIND = 'frame_rate'


@TRANSFORMS.register_module()
class LoopedTail(NamedCorruption):
    """The clip ends early and starts over; arguments of NamedCorruption."""

    KIND = 'looped_tail'


@TRANSFORMS.register_module()
class GaussianNoise(NamedCorruption):
    """Gaussian noise on every pixel of every frame; arguments of NamedCorruption."""

    KIND = 'gaussian_noise'


@TRANSFORMS.register_module()
class ShotNoise(NamedCorruption):
    """Poisson noise of few photons on every pixel of every frame; arguments of NamedCorruption."""

    KIND = 'shot_noise'


@TRANSFORMS.register_module()
class MotionBlur(NamedCorruption):
    """The picture is smeared along a straight line; arguments of NamedCorruption."""

    KIND = 'motion_blur'


@TRANSFORMS.register_module()
class Defocus(NamedCorruption):
    """The lens is out of focus; arguments of NamedCorruption."""

    KIND = 'defocus'


@TRANSFORMS.register_module()
class LowResolution(NamedCorruption):
    """The picture has fewer pixels, interpolated to its size; arguments of NamedCorruption."""

    KIND = 'low_resolution'


@TRANSFORMS.register_module()
class JPEGCompression(NamedCorruption):
    """Each frame is a JPEG of low quality; arguments of NamedCorruption."""

    KIND = 'jpeg'


@TRANSFORMS.register_module()
class LightDrift(NamedCorruption):
    """The light drifts slowly over the clip; arguments of NamedCorruption."""

    KIND = 'light_drift'


@TRANSFORMS.register_module()
class CameraShake(NamedCorruption):
    """The camera shifts and rolls from frame to frame; arguments of NamedCorruption."""

    KIND = 'camera_shake'


@TRANSFORMS.register_module()
class MouthOcclusion(NamedCorruption):
    """A patch hides the mouth; arguments of NamedCorruption."""

    KIND = 'mouth_occlusion'


@TRANSFORMS.register_module()
class EyesOcclusion(NamedCorruption):
    """A patch hides the eyes; arguments of NamedCorruption."""

    KIND = 'eyes_occlusion'


@TRANSFORMS.register_module()
class MovingOcclusion(NamedCorruption):
    """A patch passes the face; arguments of NamedCorruption."""

    KIND = 'moving_occlusion'


@TRANSFORMS.register_module()
class BriefOcclusion(NamedCorruption):
    """A patch hides mouth or eyes for a moment; arguments of NamedCorruption."""

    KIND = 'brief_occlusion'
