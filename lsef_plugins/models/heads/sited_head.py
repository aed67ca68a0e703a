"""A head that reads feature maps at a site of its recognizer, wherever the features still have a time axis.

A stock head reads what enters it; of TimeSformer, VideoMAE, UniFormerV2 or C3D that is a vector without time, and of
every other family it has another layout. So this head is *placed* as the necks are (:mod:`lsef_plugins.models.sites`):
at its own entrance it reads what enters it through the layout of the site, elsewhere it listens at the site and reads
what enters it as well. The hooks are bound methods: a deep copy of the recognizer listens for itself.
"""
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple, Union

import torch
from mmaction.models.heads.base import BaseHead
from torch import Tensor, nn

from lsef_plugins.ops.exporting import is_traced

from ..layouts import FeatureMaps, MapAndToken, Persons
from ..sites import Site, first_argument

Channels = Union[int, Sequence[int]]


class SitedHead(BaseHead):
    """Base of heads that read maps ``(b, c, t, h, w)`` at a site of their recognizer.

    A subclass implements ``build(channels, plain)``, which makes its layers for maps of these channels and a vector
    of ``plain`` numbers beside them (0: none), and ``score(maps, plain)``, which returns the scores ``(b, k)``. It
    calls :meth:`rebuild` at construction; :meth:`place` does so again, for the channels of the site.

    Args:
        in_channels: channels of what enters the head, as of any head; several for several maps.
        num_segments: segments of *one* clip, for Recognizer2D.
        site: a place of the user's own, as of a neck.
    """

    def __init__(self, num_classes: int, in_channels: Channels, num_segments: Optional[int] = None,
                 site: Optional[Mapping[str, Any]] = None, **kwargs: Any) -> None:
        super().__init__(num_classes, in_channels, **kwargs)
        self.site = None if site is None else dict(site)
        # The sites of Recognizer2D look for this attribute of a head, as of TSM's and TRN's.
        self.num_segments = num_segments
        self.layout: Any = FeatureMaps()
        self._listens = ''
        self._heard: List[List[Tensor]] = []
        self._inside = False
        self._learns = False
        # Kept: hooks of a recognizer that was pickled whole stay where they are only by their handles.
        self._handles: List[Any] = []
        self._built_for: Optional[Tuple[Tuple[int, ...], int]] = None

    def build(self, channels: Tuple[int, ...], plain: int) -> None:
        """Makes the layers for maps of ``channels`` and a vector of ``plain`` numbers."""
        raise NotImplementedError(f'{type(self).__name__} must implement build(channels, plain).')

    def score(self, maps: List[Tensor], plain: Optional[Tensor]) -> Tensor:
        """Maps ``(b, c, t, h, w)`` and perhaps a vector ``(b, c)`` -> scores ``(b, k)``."""
        raise NotImplementedError(f'{type(self).__name__} must implement score(maps, plain).')

    def reads_maps(self) -> bool:
        """Whether it reads the maps inside its backbone, and not only the vector that enters it."""
        return True

    def rebuild(self, channels: Tuple[int, ...], plain: int = 0) -> None:
        """Calls :meth:`build` unless the layers are those already."""
        if self._built_for != (channels, plain):
            self.build(channels, plain)
            self._built_for = (channels, plain)

    def place(self, recognizer: nn.Module, site: Site) -> None:
        """Takes the site's layout and channels, and listens there if it is not the head's own entrance.

        To be called once, before anything holds the head's parameters.
        """
        self.layout = site.layout
        own = (self.in_channels, ) if isinstance(self.in_channels, int) else tuple(self.in_channels)
        channels = site.channels or own
        entrance = (site.module, site.side) == ('cls_head', 'in')
        beside = 0 if entrance and not isinstance(site.layout, MapAndToken) else sum(own)
        with torch.random.fork_rng(devices=[]):     # what is built after it does not depend on it
            self.rebuild(channels, beside)
        if entrance:
            return
        self._listens = site.module
        if not self.reads_maps():
            return
        self._handles = [site.attach(recognizer, self._on_enter, self._on_leave),
                         recognizer.register_forward_pre_hook(self._on_recognizer_enter),
                         recognizer.register_forward_hook(self._on_recognizer_leave, always_call=True)]

    def forward(self, x: Any, num_segs: Optional[int] = None, **kwargs: Any) -> Tensor:
        """What enters the head -> scores ``(clips, k)``."""
        if self._listens:
            return self.score(self._what_was_heard() if self.reads_maps() else [], self._vector(x))
        maps = self.layout.to_maps(x, num_segs=num_segs, training=self.training)
        if not maps:                                # an image of RecognizerOmni is a clip of one frame
            maps = [x[:, :, None]]
        self._check_channels(maps)
        scores = self.score(maps, token_of(x) if isinstance(self.layout, MapAndToken) else None)
        if isinstance(self.layout, Persons):
            scores = scores.view(x.shape[0], x.shape[1], -1).mean(1)
        return scores

    def _vector(self, x: Any) -> Tensor:
        vector = plain_vector(x)
        expected = self._built_for[1] if self._built_for else 0
        if vector.shape[1] != expected:
            raise ValueError(f'{type(self).__name__} was built with in_channels={self.in_channels} and is handed a '
                             f'vector of {vector.shape[1]} numbers per clip. Set in_channels={vector.shape[1]}, as a '
                             'stock head of this recognizer has it.')
        return vector

    def _check_channels(self, maps: Sequence[Tensor]) -> None:
        came = tuple(each.shape[1] for each in maps)
        expected = self._built_for[0] if self._built_for else came
        if came != expected:
            raise ValueError(f'{type(self).__name__} was built for maps of {expected} channels and got {came} (shapes '
                             f'{[tuple(each.shape) for each in maps]}, axes b c t h w). Correct in_channels of the '
                             'head, or channels= of its site.')

    def _what_was_heard(self) -> List[Tensor]:
        heard, self._heard = self._heard, []
        if not heard:
            raise ValueError(f'{type(self).__name__} reads maps at {self._listens!r}, which was not called before it. '
                             'Call the whole recognizer, or the head right after its backbone.')
        # max_testing_views: the backbone was called for some views at a time.
        return [torch.cat(each) if len(each) > 1 else each[0] for each in zip(*heard)]

    def _hear(self, module: nn.Module, value: Any) -> None:
        if _is_recomputed():
            return
        if self._inside and self._learns and not torch.is_grad_enabled() and any(
                parameter.requires_grad for parameter in module.parameters()):
            raise ValueError(
                f'{type(self).__name__} reads maps at {self._listens!r}, which runs without gradients here although it '
                'trains: reentrant activation checkpointing would train it wrongly without a word. Checkpoint other '
                'modules, or this one with torch.utils.checkpoint.checkpoint(..., use_reentrant=False).')
        maps = self.layout.to_maps(value, training=self.training)
        self._check_channels(maps)
        # Outside of the recognizer's forward nobody would tell that a pass is over: only the last one counts.
        self._heard = [*(self._heard if self._inside else []), maps]

    def _on_enter(self, module: nn.Module, args: Tuple, kwargs: Dict[str, Any]) -> None:
        self._hear(module, first_argument(args, kwargs, self, self._listens))

    def _on_leave(self, module: nn.Module, args: Tuple, output: Any) -> None:
        self._hear(module, output)

    def _on_recognizer_enter(self, module: nn.Module, args: Tuple) -> None:
        self._inside, self._heard, self._learns = True, [], torch.is_grad_enabled()

    def _on_recognizer_leave(self, module: nn.Module, args: Tuple, output: Any) -> None:
        self._inside, self._heard = False, []

    def __getstate__(self) -> Dict[str, Any]:
        """What was heard belongs to one pass: copies and pickles begin without it."""
        return {**self.__dict__, '_heard': [], '_inside': False}


def _is_recomputed() -> bool:
    """Whether a backward pass runs: activation checkpointing calls modules again, which nobody reads."""
    graph_task = getattr(torch._C, '_current_graph_task_id', None)
    return not is_traced() and graph_task is not None and graph_task() != -1


def plain_vector(x: Any) -> Tensor:
    """What enters the head as one vector for each clip: a vector as it is, maps by their mean, ``(b, c)``.

    Several maps are put one after the other.
    """
    if isinstance(x, (tuple, list)):
        return torch.cat([plain_vector(each) for each in x], 1)
    return x if x.dim() == 2 else x.flatten(2).mean(2)


def token_of(stages: Sequence[Any]) -> Tensor:
    """MViT's class token ``(b, c)`` of the last stage, or the mean of its map where it has none."""
    last = stages[-1]
    return plain_vector(last) if isinstance(last, Tensor) else last[-1]
