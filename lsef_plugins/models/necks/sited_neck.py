"""A neck that is placed at a site instead of being called by its recognizer.

Stock recognizers reject a neck (RecognizerOmni), ignore it (GCN, audio) or hand it something without a time axis
(Recognizer2D). So this neck is built *with* the recognizer and hooked to a module of it. The hooks are bound
methods: a deep copy of the recognizer (EMA's) has hooks of its own, bound to its own neck.
"""
from typing import Any, Dict, List, Mapping, Optional, Tuple

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from ..sites import Site, first_argument

Losses = Dict[str, Tensor]


class SitedNeck(BaseModule):
    """Base of necks that rewrite feature maps ``(b, c, t, h, w)`` at a site of a recognizer.

    A subclass implements ``rewrite(maps) -> (maps, loss_aux)`` and has ``in_channels``.
    """

    def __init__(self, in_channels: Tuple[int, ...], init_cfg: Optional[Mapping] = None) -> None:
        super().__init__(init_cfg)
        self.in_channels = in_channels
        self.layout: Any = None
        self._module_name = ''
        self._collecting = False
        self._collected: List[Losses] = []
        self._reached = True
        self._learns = False
        # Kept: hooks of a recognizer that was pickled whole stay where they are only by their handles.
        self._handles: List[Any] = []

    def rewrite(self, maps: List[Tensor]) -> Tuple[List[Tensor], Losses]:
        """Changed maps, one for each that came, and the losses and figures to log."""
        raise NotImplementedError(f'{type(self).__name__} must implement rewrite(maps).')

    def forward(self, x: Any, data_samples: Any = None) -> Tuple[Any, Losses]:
        """The host's neck convention: ``(b, c, t, h, w)`` or a tuple of such maps -> the same, and ``loss_aux``."""
        single = isinstance(x, Tensor)
        maps = [x] if single else list(x)
        self._check_channels(maps)
        maps, losses = self.rewrite(maps)
        return (maps[0] if single else tuple(maps)), losses

    def place(self, recognizer: nn.Module, site: Site) -> None:
        """Hooks the neck to its site; ``self`` must be a module of the recognizer already."""
        self.layout, self._module_name = site.layout, site.module
        self._handles = [site.attach(recognizer, self._on_enter, self._on_leave),
                         recognizer.register_forward_pre_hook(self._on_recognizer_enter, with_kwargs=True),
                         recognizer.register_forward_hook(self._on_recognizer_leave, with_kwargs=True)]

    def _check_channels(self, maps: List[Tensor]) -> None:
        came = tuple(each.shape[1] for each in maps)
        if came != tuple(self.in_channels):
            where = f' at {self._module_name}' if self._module_name else ''
            raise ValueError(
                f'{type(self).__name__}{where} was built for maps of {self.in_channels} channels and got {came} '
                f'(shapes {[tuple(each.shape) for each in maps]}, axes b c t h w). Correct the number where it comes '
                'from: the site in the neck\'s config (channels=), else in_channels given by hand, else in_channels of '
                f'the head, which should be {came[0] if len(came) == 1 else came} then.')

    def _at_site(self, value: Any, **context: Any) -> Any:
        maps = self.layout.to_maps(value, training=self.training, **context)
        self._reached = True
        if not maps:                            # an image of RecognizerOmni: no time, nothing to separate
            return value
        # A lone map goes in as a tensor: reentrant activation checkpointing tracks no tensor inside a tuple.
        changed, losses = self(maps[0] if len(maps) == 1 else tuple(maps))
        maps = [changed] if len(maps) == 1 else changed
        if self._collecting:
            self._must_learn(losses)
            self._collected.append(losses)
        return self.layout.from_maps(value, maps)

    def _must_learn(self, losses: Losses) -> None:
        if self._learns and not torch.is_grad_enabled() and any('loss' in name for name in losses):
            raise ValueError(
                f'{type(self).__name__} has auxiliary losses with a weight, but {self._module_name!r} runs without '
                'gradients here, so they would train nothing: reentrant activation checkpointing. Checkpoint other '
                'modules, this one with torch.utils.checkpoint.checkpoint(..., use_reentrant=False), or leave '
                'aux_loss out.')

    def _on_enter(self, module: nn.Module, args: Tuple, kwargs: Dict[str, Any]):
        entering = first_argument(args, kwargs, self, self._module_name)
        value = self._at_site(entering, num_segs=kwargs.get('num_segs'))
        return (value, *args[1:]), kwargs

    def _on_leave(self, module: nn.Module, args: Tuple, output: Any) -> Any:
        return self._at_site(output)

    def _on_recognizer_enter(self, module: nn.Module, args: Tuple, kwargs: Dict[str, Any]) -> None:
        mode = kwargs.get('mode', args[2] if len(args) > 2 else 'tensor')
        self._collecting, self._collected = mode == 'loss', []
        self._learns = torch.is_grad_enabled()
        self._reached = mode not in ('loss', 'predict')     # features of an early stage need not come by

    def _on_recognizer_leave(self, module: nn.Module, args: Tuple, kwargs: Dict[str, Any], output: Any) -> Any:
        collected, self._collected, self._collecting = self._collected, [], False
        if not self._reached:
            raise ValueError(
                f'{type(self).__name__} was not reached: this {type(module).__name__} made its output without calling '
                f'{self._module_name!r}. A head that calls self.forward(x) instead of self(x) goes past every hook: '
                "call the module, or name one that is called with site=dict(module=..., side='out', layout=...).")
        if isinstance(output, dict) and any(collected):
            return {**output, **_joined(collected)}
        return None


def _joined(collected: List[Losses]) -> Losses:
    """Losses of several sources in one step (RecognizerOmni) add up, as the host's do; plain figures are averaged."""
    names = dict.fromkeys(name for losses in collected for name in losses)
    values = {name: torch.stack([losses[name] for losses in collected if name in losses]) for name in names}
    return {name: each.sum(0) if 'loss' in name else each.mean(0) for name, each in values.items()}
