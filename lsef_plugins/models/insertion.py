"""Lets recognizers of MMAction2 take ``neck=dict(type='LSEFNeck')``.

The constructor of the host's recognizer base learns one thing: when the config's neck is one of ours, build the
recognizer without it, find its site, build the neck with the channels of the site, and hook it in. Everything
else, and every recognizer without the line, is the host's own, object for object.
"""
import copy
import functools
import inspect
from typing import Any, Dict, Mapping, Optional, Tuple

import torch
from mmaction.models.recognizers import RecognizerOmni
from mmaction.models.recognizers.base import BaseRecognizer
from mmengine.logging import MMLogger
from torch import nn

from lsef_plugins.registry import MODELS

from .heads.sited_head import SitedHead
from .necks.lsef_neck import neck_options
from .necks.options import check_options
from .necks.sited_neck import SitedNeck
from .sites import Site, find_site

ENTRANCE = {'in': 'entrance', 'out': 'exit'}
MARK = '_lsef_plugins_accepts_sited_necks'


def install() -> None:
    """Teach the host's recognizers, once."""
    for cls in (BaseRecognizer, RecognizerOmni):
        if MARK in vars(cls):
            continue
        cls.__init__ = _accepting(cls.__init__)
        setattr(cls, MARK, True)
    if not getattr(BaseRecognizer.with_neck.fget, MARK, False):
        BaseRecognizer.with_neck = _calls_a_neck(BaseRecognizer.with_neck)
    if not getattr(BaseRecognizer.init_weights, MARK, False):
        BaseRecognizer.init_weights = _ours_last(BaseRecognizer.init_weights)


def _accepting(init):
    names = list(inspect.signature(init).parameters)[1:]

    @functools.wraps(init)
    def __init__(self, *args, **kwargs):
        arguments = {**dict(zip(names, args)), **kwargs}
        if not _is_ours(arguments.get('neck')):
            init(self, *args, **kwargs)
            place_head(self, head_site(self))
            return
        ours, other = _separate(arguments.pop('neck'))
        if other is not None:
            arguments['neck'] = other
        init(self, **arguments)
        # Found before there is a neck of ours, placed after: it hears what that made.
        read_at = head_site(self, ours.get('num_segments'))
        insert_neck(self, ours)
        place_head(self, read_at)

    return __init__


def head_site(recognizer: Any, num_segments: Optional[int] = None) -> Optional[Site]:
    """Where a head of ours reads the maps of its recognizer; None for a head of the host's.

    ``num_segments``: what the neck beside it was told, if the head was told nothing.

    Raises:
        ValueError: no known site, or one of the user's own where a score would not be that of a clip.
    """
    head = getattr(recognizer, 'cls_head', None)
    if not isinstance(head, SitedHead):
        return None
    kinds = {cls.__name__ for cls in type(recognizer).__mro__} & {'Recognizer2D', 'RecognizerGCN'}
    if head.site is not None and kinds:
        raise ValueError(f'{type(head).__name__} takes no site of its own in {kinds.pop()}, whose frames or persons '
                         'enter the head one by one. Leave site= out of cls_head: there it reads what enters it.')
    return find_site(recognizer, head.site, head.num_segments or num_segments)


def place_head(recognizer: Any, site: Optional[Site]) -> None:
    """Tells a head of ours where to read."""
    if site is not None:
        recognizer.cls_head.place(recognizer, site)


def _calls_a_neck(stock: property) -> property:
    fget: Any = stock.fget

    def with_neck(self) -> bool:
        """Whether the recognizer has a neck that it calls itself."""
        return bool(fget(self)) and not isinstance(self.neck, SitedNeck)

    setattr(with_neck, MARK, True)
    return property(with_neck)


def _ours_last(stock):

    @functools.wraps(stock)
    def init_weights(self) -> None:
        other: Any = getattr(self, 'neck', None)
        ours = getattr(other, 'lsef', None)
        if not isinstance(ours, SitedNeck):
            stock(self)
            return
        # TPN.init_weights draws every convolution below it anew: ours too, and then all after it another way.
        del other.lsef
        try:
            stock(self)
        finally:
            other.lsef = ours
        ours.init_weights()

    setattr(init_weights, MARK, True)
    return init_weights


def _is_ours(neck: Any) -> bool:
    if not isinstance(neck, Mapping) or 'type' not in neck:
        return False
    cls = _class_of(neck)
    return inspect.isclass(cls) and issubclass(cls, SitedNeck)


def without_ours(model: Mapping[str, Any]) -> Tuple[Any, Optional[Dict[str, Any]]]:
    """A recognizer's config as it would be without a neck of ours, and that neck's config; None if it has none.

    Another neck that ours was merged over stays; the config that came is left alone.
    """
    stock: Any = copy.deepcopy(model)
    if not _is_ours(stock.get('neck')):
        return stock, None
    ours, other = _separate(stock['neck'])
    if other is None:
        del stock['neck']
    else:
        stock['neck'] = other
    return stock, ours


def _class_of(neck: Mapping[str, Any]) -> Any:
    return MODELS.get(neck['type']) if isinstance(neck['type'], str) else neck['type']


def _separate(neck: Mapping[str, Any]) -> Tuple[Dict[str, Any], Optional[Dict[str, Any]]]:
    """Our neck's config and that of another neck it was merged over.

    MMEngine merges a child config's ``neck=dict(type='LSEFNeck')`` into the neck of its base config, whose other
    keys stay. Among the host's recognizers that can only be TPN, known by ``level_fusion_cfg``. Both act.
    """
    if 'level_fusion_cfg' not in neck:
        return dict(neck), None
    own = set(neck_options(_class_of(neck))) - {'in_channels'}
    tpn = set(inspect.signature(MODELS.get('TPN').__init__).parameters)
    # What TPN does not know is ours as well: an option that nobody knows is told where ours are checked.
    ours = {key: value for key, value in neck.items() if key in own or key not in tpn}
    return ours, {**{key: value for key, value in neck.items() if key not in ours}, 'type': 'TPN'}


def insert_neck(recognizer: Any, config: Mapping[str, Any]) -> SitedNeck:
    """Builds a neck of ours for a built recognizer and hooks it to its site.

    Raises:
        ValueError: an unknown option, no known site in the recognizer, or ``in_channels`` given by hand that are not
            those of the site.
    """
    config = dict(config)
    check_options(_class_of(config), config)
    site = find_site(recognizer, config.get('site'), config.get('num_segments'))
    given = config.get('in_channels')
    if given is None:
        config['in_channels'] = site.channels
    elif site.channels is not None:
        came = (given, ) if isinstance(given, int) else tuple(given)
        if came != site.channels:
            raise ValueError(
                f'{_class_of(config).__name__} was given in_channels={given} by hand, but the maps at '
                f'{site.module!r} of this {type(recognizer).__name__} have {site.channels} channels. Leave in_channels '
                'out: the bare line takes them from the recognizer.')
    with torch.random.fork_rng(devices=[]):     # the same seed makes the same backbone with and without the neck
        neck = MODELS.build(config)
    if getattr(recognizer, 'neck', None) is not None:
        recognizer.neck.lsef = neck
    else:
        recognizer.neck = neck
        _move_behind(recognizer, 'cls_head')
    neck.place(recognizer, site)
    MMLogger.get_current_instance().info(f'{type(neck).__name__} sits at the {ENTRANCE[site.side]} of {site.module} in '
                                         f'{type(recognizer).__name__}: maps of {neck.in_channels} channels.')
    return neck


def _move_behind(recognizer: nn.Module, name: str) -> None:
    """Registers a module last: TSMOptimWrapperConstructor takes the last linear layer for the classifier."""
    if name in recognizer._modules:
        recognizer._modules[name] = recognizer._modules.pop(name)
