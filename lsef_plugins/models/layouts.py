"""What a recognizer hands over at a site, and what it wants back.

A layout turns the value that enters (or leaves) a module into feature maps ``(b, c, t, h, w)`` and puts changed
maps back. It holds numbers only, never a module, so that copies of a recognizer share nothing by accident.

Axes: ``b`` clips, ``c`` channels, ``t`` frames of one clip, ``h w`` space.
"""
import re
import warnings
from typing import Any, Dict, List, Mapping, Optional, Sequence

import torch
from einops import EinopsError, rearrange
from torch import Tensor

AXES = ('b', 'c', 't', 'h', 'w')


class FeatureMaps:
    """A map ``(b, c, t, h, w)``, or a tuple of them: what Recognizer3D hands to its head, or to TPN."""

    def to_maps(self, value: Any, **context: Any) -> List[Tensor]:
        maps = [value] if isinstance(value, Tensor) else list(value)
        for each in maps:
            if not isinstance(each, Tensor) or each.dim() != 5:
                raise ValueError(
                    f'lsef_plugins expected feature maps (b, c, t, h, w) here, got {_came(each)}: this backbone has '
                    'given up its time axis before this site. Name a module that still has one, in the manner of '
                    "neck=dict(type='LSEFNeck', site=dict(module='backbone.<layer>', side='out', "
                    "layout='b c t h w', channels=<channels>)).")
        return maps

    def from_maps(self, value: Any, maps: Sequence[Tensor]) -> Any:
        return maps[0] if isinstance(value, Tensor) else type(value)(maps)


class MapAndToken:
    """``(..., [map, class token])``, as MViT hands to its head, which reads the token of the last stage alone.

    The token ``(b, c)`` takes the map's mean change. Without a class token the last stage is a map.
    """

    def to_maps(self, value: Any, **context: Any) -> List[Tensor]:
        if not isinstance(value, (tuple, list)) or not value:
            raise ValueError('lsef_plugins expected the stages (..., [map, class token]) of MViT, got '
                             f'{type(value).__name__}. Name a module with site=dict(module=..., side=..., layout=...).')
        last = value[-1]
        return [last if isinstance(last, Tensor) else last[0]]

    def from_maps(self, value: Any, maps: Sequence[Tensor]) -> Any:
        last = value[-1]
        if isinstance(last, Tensor):
            return (*value[:-1], maps[0])
        old, token = last
        return (*value[:-1], [maps[0], token + (maps[0] - old).mean((2, 3, 4)).to(token.dtype)])


class Persons:
    """``(b, m, c, t, v)``, as a graph network hands to its head: each person is a clip whose joints are positions."""

    def to_maps(self, value: Tensor, **context: Any) -> List[Tensor]:
        if not isinstance(value, Tensor) or value.dim() != 5:
            raise ValueError(f'lsef_plugins expected the joints (b, m, c, t, v) of m persons, got {_came(value)}. Name '
                             'a module with site=dict(module=..., side=..., layout=...).')
        return [rearrange(value, 'b m c t v -> (b m) c t v 1')]

    def from_maps(self, value: Tensor, maps: Sequence[Tensor]) -> Tensor:
        return maps[0].reshape(value.shape)


class VideosAndImages:
    """Videos ``(b, c, t, h, w)`` or images ``(b, c, h, w)`` of RecognizerOmni; an image has no time and passes."""

    def to_maps(self, value: Any, **context: Any) -> List[Tensor]:
        if not isinstance(value, Tensor) or value.dim() not in (4, 5):
            raise ValueError('lsef_plugins expected videos (b, c, t, h, w) or images (b, c, h, w) of RecognizerOmni, '
                             f'got {_came(value)}. Name a module with site=dict(module=..., side=..., layout=...).')
        return [value] if value.dim() == 5 else []

    def from_maps(self, value: Tensor, maps: Sequence[Tensor]) -> Tensor:
        return maps[0] if maps else value


class FramesOfClips:
    """``((b t), c, h, w)``, as Recognizer2D hands to its head; ``t`` is the number of segments of *one* clip.

    Recognizer2D counts crops x segments as segments. A head that was built for a number of segments (TSM, TRN)
    tells the true one, else the neck's ``num_segments``, else what the recognizer counts. With ``fcn_test`` the
    value is a map ``(b, c, t, h, w)`` already.
    """

    def __init__(self, segments: Optional[int] = None, certain: bool = False) -> None:
        self.segments = segments
        self.certain = certain or segments is not None
        self.trained_segments: Optional[int] = None
        self._told = False

    def to_maps(self, value: Any, num_segs: Optional[int] = None, training: bool = False,
                **context: Any) -> List[Tensor]:
        if not isinstance(value, Tensor) or value.dim() not in (4, 5):
            raise ValueError(f'lsef_plugins expected the frames ((b t), c, h, w) that Recognizer2D hands to its head, '
                             f"got {_came(value)}. Name a module with site=dict(module=..., side=..., layout=...).")
        if value.dim() == 5:
            return [value]
        frames = self.segments or num_segs
        if not frames:
            raise ValueError("lsef_plugins cannot tell how many of the frames belong to one clip: set "
                             "neck=dict(type='LSEFNeck', num_segments=...) to the segments of one clip.")
        if not self.certain:
            self._watch(frames, training)
        # Not len(): it would tie an exported graph to one number of clips.
        if value.shape[0] % frames or (num_segs or frames) % frames:
            came = f'{num_segs} came for each video' if num_segs else f'{len(value)} frames came'
            raise ValueError(f'lsef_plugins was told that a clip has {frames} segments, but {came}, '
                             'which is no multiple. Correct num_segments in its config (the segments of one clip, '
                             'without crops).')
        return [rearrange(value, '(b t) c h w -> b c t h w', t=frames)]

    def from_maps(self, value: Tensor, maps: Sequence[Tensor]) -> Tensor:
        return maps[0] if value.dim() == 5 else rearrange(maps[0], 'b c t h w -> (b t) c h w')

    def _watch(self, frames: int, training: bool) -> None:
        if training:
            self.trained_segments = frames
        elif not self._told and (frames != self.trained_segments if self.trained_segments
                                 else frames % 10 == 0 or frames % 3 == 0):
            # Without a training in this process only the usual numbers of crops, 3 and 10, raise a suspicion.
            self._told = True
            before = (f'was trained with {self.trained_segments} segments per clip and now' if self.trained_segments
                      else 'does not know the segments of one clip and')
            warnings.warn(
                f'lsef_plugins {before} gets {frames}, which it takes for one clip. If these are several crops or '
                "clips of a video (TenCrop, ThreeCrop, twice_sample), set neck=dict(type='LSEFNeck', "
                'num_segments=<segments of one clip>). (Said once.)',
                stacklevel=2)


class PatternLayout:
    """An einops pattern of the user's, such as ``'(b t) c h w'`` or ``'b (t h w) c'``.

    The axes are ``b c t h w``; ``h`` and ``w`` may be absent, ``b``, ``c`` and ``t`` may not. ``sizes`` gives the
    lengths einops cannot infer, for example ``dict(t=8, h=14)``. ``class_tokens`` tokens stand before the patches,
    on the axis that holds ``h`` (or ``t``): they pass unchanged.
    """

    def __init__(self, pattern: str, sizes: Optional[Mapping[str, int]] = None, class_tokens: int = 0) -> None:
        names = re.findall(r'[a-z]+', pattern)
        if sorted(set(names)) != sorted(names) or not {'b', 'c', 't'} <= set(names) <= set(AXES):
            raise ValueError(f'layout {pattern!r} must name the axes b, c and t, and h and w where they exist, once '
                             "each, as an einops pattern: '(b t) c h w', 'b (t h w) c', 'b c t h w'.")
        if isinstance(class_tokens, bool) or not isinstance(class_tokens, int) or class_tokens < 0:
            raise ValueError(f'class_tokens counts the tokens before the patches, an integer >= 0, '
                             f'got {class_tokens!r}.')
        self.pattern = pattern
        self.target = ' '.join(name if name in names else '1' for name in AXES)
        self.sizes: Dict[str, int] = dict(sizes or {})
        self.class_tokens = class_tokens
        inner = 'h' if 'h' in names else 't'
        groups = re.findall(r'\([^)]*\)|[a-z]+', pattern)
        self.token_axis = next(axis for axis, group in enumerate(groups) if inner in re.findall('[a-z]+', group))

    def to_maps(self, value: Any, **context: Any) -> List[Tensor]:
        self._check(value)
        patches = value
        if self.class_tokens:
            patches = value.narrow(self.token_axis, self.class_tokens,
                                   max(value.shape[self.token_axis] - self.class_tokens, 0))
        try:
            return [rearrange(patches, f'{self.pattern} -> {self.target}', **self.sizes)]
        except EinopsError as error:
            raise ValueError(f'lsef_plugins cannot read {tuple(patches.shape)} as layout {self.pattern!r} with sizes '
                             f'{self.sizes}. Correct layout= or sizes= in its site, for example '
                             f"layout='(b t) c h w', sizes=dict(t=<frames of one clip>).") from error

    def from_maps(self, value: Tensor, maps: Sequence[Tensor]) -> Tensor:
        shape = dict(zip(AXES, maps[0].shape))
        # einops infers one length of each group; the others it is told.
        sizes = {name: shape[name] for name in re.findall(r'[a-z]+', self.pattern)}
        patches = rearrange(maps[0], f'{self.target} -> {self.pattern}', **sizes)
        if not self.class_tokens:
            return patches
        return torch.cat([value.narrow(self.token_axis, 0, self.class_tokens), patches], self.token_axis)

    def _check(self, value: Any) -> None:
        if not isinstance(value, Tensor):
            raise ValueError(f'lsef_plugins expected a tensor of layout {self.pattern!r} at its site, got '
                             f'{type(value).__name__}. Name a module that takes or returns one tensor.')
        axes = len(re.findall(r'\([^)]*\)|[a-z]+', self.pattern))
        if value.dim() != axes:
            raise ValueError(f'lsef_plugins cannot read {tuple(value.shape)} as layout {self.pattern!r}, which has '
                             f'{axes} axes. Correct layout= in its site.')


def _came(value: Any) -> Any:
    """What came instead, in an error: the shape of a tensor, else the type."""
    return tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
