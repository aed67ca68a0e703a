"""Corruptions as steps of any pipeline: one kind at one severity for a test, drawn ones for augmentation.

``VideoCorruption`` and ``RandomVideoCorruption`` know all kinds, ``TemporalCorruption`` and
``RandomTemporalCorruption`` those in time. What a sample's draws depend on: :mod:`.clip_corruption`.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Optional, Union

from lsef_plugins.registry import TRANSFORMS

from .clip_corruption import ClipCorruption
from .corruptions import CORRUPTIONS, TEMPORAL_CORRUPTIONS, check_kind, check_kinds, check_severity


@TRANSFORMS.register_module()
class VideoCorruption(ClipCorruption):
    """One kind of corruption at one severity, for each sample: the instrument for robustness.

    Args:
        kind: A key of :data:`corruptions.CORRUPTIONS`, such as 'frame_drop' or 'gaussian_noise'.
        severity: 1 (weak) to 5 (strong); 0 leaves the sample bit-identical.
        seed: See :class:`ClipCorruption`.

    Example:
        ``dict(type='DecordDecode'), dict(type='VideoCorruption', kind='jpeg', severity=3)``
    """

    KNOWN, WHAT = tuple(CORRUPTIONS), 'corruption'

    def __init__(self, kind: str, severity: int, seed: Optional[int] = 0) -> None:
        super().__init__(seed=seed)
        self.kind = check_kind(kind, self.KNOWN, self.WHAT)
        self.severity = check_severity(severity)

    def choose(self, rng: Any) -> tuple[str, int]:
        return self.kind, self.severity

    def __repr__(self) -> str:
        return f'{type(self).__name__}(kind={self.kind!r}, severity={self.severity}, seed={self.seed})'


@TRANSFORMS.register_module()
class TemporalCorruption(VideoCorruption):
    """VideoCorruption of the kinds in time: 'frame_drop', 'frame_freeze', 'black_frames', 'noise_burst', 'flicker',
    'frame_jumble', 'frame_rate' or 'looped_tail'."""

    KNOWN, WHAT = tuple(TEMPORAL_CORRUPTIONS), 'temporal corruption'


@TRANSFORMS.register_module()
class RandomVideoCorruption(ClipCorruption):
    """With a probability, one of several corruptions at one of several severities: augmentation.

    Args:
        kinds: Kinds to draw from, evenly; 'temporal', 'spatial' and 'occlusion' stand for all of theirs. None stands
            for all there are.
        severities: Severities to draw from, evenly.
        prob: Share of the samples that are corrupted, in [0, 1].
        seed: See :class:`ClipCorruption`.
    """

    KNOWN, WHAT = tuple(CORRUPTIONS), 'corruption'

    def __init__(self, kinds: Union[str, Sequence[str], None] = None, severities: Sequence[int] = (1, 2, 3, 4, 5),
                 prob: float = 0.5, seed: Optional[int] = None) -> None:
        super().__init__(seed=seed)
        severities = [severities] if isinstance(severities, int) else severities
        self.kinds = check_kinds(kinds, self.KNOWN, self.WHAT)
        self.severities = tuple(check_severity(severity) for severity in severities)
        self.prob = prob
        if not self.kinds or not self.severities:
            raise ValueError(f'kinds={self.kinds} and severities={self.severities} must name at least one '
                             'each; prob=0 switches the step off.')
        if not 0 <= prob <= 1:
            raise ValueError(f'prob={prob} must be a share of the samples, from 0 to 1.')

    def choose(self, rng: Any) -> tuple[str, int]:
        # Always three draws: changing prob does not change what is done to the samples it still covers.
        chance = rng.uniform()
        kind = self.kinds[rng.randint(len(self.kinds))]
        severity = self.severities[rng.randint(len(self.severities))]
        return kind, severity if chance < self.prob else 0

    def __repr__(self) -> str:
        return (f'{type(self).__name__}(kinds={self.kinds}, severities={self.severities}, '
                f'prob={self.prob}, seed={self.seed})')


@TRANSFORMS.register_module()
class RandomTemporalCorruption(RandomVideoCorruption):
    """RandomVideoCorruption that knows the kinds in time; None stands for all of these."""

    KNOWN, WHAT = tuple(TEMPORAL_CORRUPTIONS), 'temporal corruption'
