"""Where, in each recognizer, the features still have a time axis.

A site names a module of the recognizer, its side (what enters or what leaves it), the layout of the value there
and the channels of its maps, all known at construction: parameters exist before DDP, optimizer and EMA are built.
It should be the *last* place with a time axis: usually the entrance of the head.
"""
import re
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Tuple

from torch import nn

from .layouts import FeatureMaps, FramesOfClips, MapAndToken, PatternLayout, Persons, VideosAndImages

SIDES = ('in', 'out')
SITE_KEYS = {'module', 'side', 'layout', 'channels', 'sizes', 'class_tokens'}


class Site(NamedTuple):
    """``module``: dotted path; ``side``: ``in`` or ``out``; ``channels`` of each map, None if only a forward tells."""
    module: str
    side: str
    layout: Any
    channels: Optional[Tuple[int, ...]]

    def attach(self, recognizer: nn.Module, on_enter: Callable, on_leave: Callable) -> Any:
        """Hooks one of two bound methods to the module, by the side; whoever keeps the handle can be pickled.

        ``on_enter(module, args, kwargs)``, ``on_leave(module, args, output)``.
        """
        module = recognizer.get_submodule(self.module)
        if self.side == 'in':
            return module.register_forward_pre_hook(on_enter, with_kwargs=True)
        return module.register_forward_hook(on_leave)


def first_argument(args: Tuple, kwargs: Mapping[str, Any], who: nn.Module, module: str) -> Any:
    """What enters a module, as ``who`` reads or rewrites it there.

    Raises:
        ValueError: it was passed by name.
    """
    if not args:
        raise ValueError(f'{type(who).__name__} takes the first positional argument of {module}, but it was called '
                         f"with {', '.join(kwargs) or 'nothing'} by name only. Pass it by position, or name another "
                         "module with site=dict(module=..., side='out', layout=...).")
    return args[0]


def find_site(recognizer: nn.Module, site: Optional[Mapping[str, Any]] = None,
              num_segments: Optional[int] = None) -> Site:
    """The site of a neck in a recognizer: the user's own if given, else the one its family is known to have.

    Raises:
        ValueError: the recognizer has no known site (names the ways out), or the user's names no module of it.
    """
    if site is not None:
        return _own_site(recognizer, site, num_segments)
    for table, module in ((BY_BACKBONE, getattr(recognizer, 'backbone', None)), (BY_RECOGNIZER, recognizer)):
        for cls in type(module).__mro__:
            # The host's own: mmpretrain, timm and torchvision have a VisionTransformer and an MViT of images too.
            if cls.__name__ in table and cls.__module__.split('.')[0] == 'mmaction':
                return table[cls.__name__](recognizer, num_segments)
    raise _unknown(recognizer)


def _unknown(recognizer: nn.Module) -> ValueError:
    backbone = type(getattr(recognizer, 'backbone', None)).__name__
    return ValueError(
        f'lsef_plugins knows no place with a time axis in {type(recognizer).__name__} with backbone {backbone}. Ways '
        "out: (1) name one yourself: neck=dict(type='LSEFNeck', site=dict(module='backbone.<layer>', side='out', "
        "layout='b c t h w', channels=<channels>)), where layout is an einops pattern of b c t h w and module one of "
        f'the recognizer, such as {", ".join(_some_modules(recognizer))}; '
        '(2) use lsef_plugins.nn.LSEF inside your own backbone.')


def _some_modules(recognizer: nn.Module) -> List[str]:
    names = [name for name, _ in recognizer.named_modules() if name and name.count('.') <= 1]
    return names[:12]


def _own_site(recognizer: nn.Module, site: Mapping[str, Any], num_segments: Optional[int]) -> Site:
    if not isinstance(site, Mapping):
        raise ValueError(f"site is a dict such as dict(module='backbone.layer3', side='out', layout='b c t h w', "
                         f'channels=256), got {site!r}.')
    unknown = set(site) - SITE_KEYS
    if unknown or 'module' not in site:
        raise ValueError(f"site takes the keys {', '.join(sorted(SITE_KEYS))} (module is required), "
                         f'got {dict(site)}.')
    side = site.get('side', 'out')
    if side not in SIDES:
        raise ValueError(f"site side is 'in' (what enters the module) or 'out' (what leaves it), got {side!r}.")
    try:
        recognizer.get_submodule(site['module'])
    except AttributeError:
        raise ValueError(f"site module {site['module']!r} is no module of {type(recognizer).__name__}; some of its "
                         f"modules: {', '.join(_some_modules(recognizer))}.") from None
    channels = site.get('channels')
    if isinstance(channels, int):
        channels = (channels, )
    layout = site.get('layout', 'b c t h w')
    if not isinstance(layout, str):
        raise ValueError(f"site layout is an einops pattern of b c t h w such as 'b (t h w) c', got {layout!r}.")
    sizes = dict(site.get('sizes') or {})
    if num_segments and re.search(r'\([^)]*\bt\b[^)]*\)', layout):
        sizes.setdefault('t', num_segments)     # nothing else tells the length of an axis inside a group
    return Site(site['module'], side, PatternLayout(layout, sizes, site.get('class_tokens', 0)),
                tuple(channels) if channels else None)


def _head_channels(recognizer: nn.Module) -> Optional[Tuple[int, ...]]:
    channels = getattr(getattr(recognizer, 'cls_head', None), 'in_channels', None)
    if channels is None:
        return None
    return (channels, ) if isinstance(channels, int) else tuple(channels)


def _before_another_neck(recognizer: nn.Module) -> Site:
    channels = getattr(recognizer.neck, 'in_channels', None)
    return Site('neck', 'in', FeatureMaps(), tuple(channels) if channels else None)


def _no_segments(recognizer: nn.Module, num_segments: Optional[int]) -> None:
    if num_segments is not None:
        raise ValueError(f'num_segments={num_segments} is for Recognizer2D; the maps of this '
                         f'{type(recognizer).__name__} have a time axis of their own. Leave it out.')


def _maps(recognizer: nn.Module, num_segments: Optional[int]) -> Site:
    _no_segments(recognizer, num_segments)
    if getattr(recognizer, 'neck', None) is not None:
        return _before_another_neck(recognizer)
    return Site('cls_head', 'in', FeatureMaps(), _head_channels(recognizer))


def _slowfast(recognizer: nn.Module, num_segments: Optional[int]) -> Site:
    _no_segments(recognizer, num_segments)
    backbone: Any = recognizer.backbone
    channels = (backbone.slow_path.feat_dim, backbone.fast_path.feat_dim)
    return Site('cls_head', 'in', FeatureMaps(), channels)


def _frames(recognizer: nn.Module, num_segments: Optional[int]) -> Site:
    if getattr(recognizer, 'neck', None) is not None:
        return _before_another_neck(recognizer)
    head, backbone = getattr(recognizer, 'cls_head', None), recognizer.backbone
    told = num_segments or getattr(head, 'num_segments', None) or getattr(backbone, 'num_segments', None)
    if told and any(getattr(each, 'is_shift', False) and getattr(each, 'temporal_pool', False)
                    for each in (head, backbone)):
        told = told // 2                        # TSM's temporal pooling leaves half of the frames
    return Site('cls_head', 'in', FramesOfClips(told), _head_channels(recognizer))


def _persons(recognizer: nn.Module, num_segments: Optional[int]) -> Site:
    _no_segments(recognizer, num_segments)
    return Site('cls_head', 'in', Persons(), _head_channels(recognizer))


def _audio(recognizer: nn.Module, num_segments: Optional[int]) -> Site:
    _no_segments(recognizer, num_segments)
    return Site('cls_head', 'in', PatternLayout('b c t h'), _head_channels(recognizer))     # h: frequencies


def _omni(recognizer: nn.Module, num_segments: Optional[int]) -> Site:
    _no_segments(recognizer, num_segments)
    return Site('cls_head', 'in', VideosAndImages(), _head_channels(recognizer))


def _mvit(recognizer: nn.Module, num_segments: Optional[int]) -> Site:
    _no_segments(recognizer, num_segments)
    return Site('cls_head', 'in', MapAndToken(), _head_channels(recognizer))


def _c3d(recognizer: nn.Module, num_segments: Optional[int]) -> Site:
    """C3D flattens its last maps, of one frame: those before them that still have four of sixteen."""
    _no_segments(recognizer, num_segments)
    backbone: Any = recognizer.backbone
    return Site('backbone.conv4b', 'out', FeatureMaps(), (backbone.conv4b.out_channels, ))


def _vision_transformer(recognizer: nn.Module, num_segments: Optional[int]) -> Site:
    """VideoMAE averages its tokens: rewrite what leaves the last block, ``b (t h w) c``."""
    _no_segments(recognizer, num_segments)
    backbone: Any = recognizer.backbone
    if backbone.return_feat_map:
        return _maps(recognizer, num_segments)
    rows, columns = backbone.grid_size
    layout = PatternLayout('b (t h) c', dict(t=backbone.pos_embed.shape[1] // (rows * columns)))
    return Site(f'backbone.blocks.{len(backbone.blocks) - 1}', 'out', layout, (backbone.embed_dims, ))


def _uniformer_v2(recognizer: nn.Module, num_segments: Optional[int]) -> Site:
    """UniFormerV2 hands over a class token: rewrite the patches that its last global block attends to."""
    _no_segments(recognizer, num_segments)
    backbone: Any = recognizer.backbone
    transformer = backbone.transformer
    layout = PatternLayout('h (b t) c', dict(t=transformer.T), class_tokens=1)
    block = max(transformer.return_list)
    return Site(f'backbone.transformer.resblocks.{block}', 'out', layout, (transformer.norm.normalized_shape[0], ))


def _timesformer(recognizer: nn.Module, num_segments: Optional[int]) -> Site:
    """TimeSformer keeps the class token only: rewrite the patches that enter the last layer."""
    _no_segments(recognizer, num_segments)
    backbone: Any = recognizer.backbone
    pattern = '(b t) h c' if backbone.attention_type == 'space_only' else 'b (h t) c'
    layout = PatternLayout(pattern, dict(t=backbone.num_frames), class_tokens=1)
    last = len(backbone.transformer_layers.layers) - 1
    return Site(f'backbone.transformer_layers.layers.{last}', 'in', layout, (backbone.embed_dims, ))


# Looked up by the names of a class and its bases, so that a user's subclass keeps its parent's site.
BY_BACKBONE: Dict[str, Callable[[nn.Module, Optional[int]], Site]] = dict(
    ResNet3dSlowFast=_slowfast, C3D=_c3d, MViT=_mvit, TimeSformer=_timesformer, UniFormerV2=_uniformer_v2,
    VisionTransformer=_vision_transformer)
BY_RECOGNIZER: Dict[str, Callable[[nn.Module, Optional[int]], Site]] = dict(
    Recognizer2D=_frames, Recognizer3D=_maps, MMRecognizer3D=_maps, RecognizerGCN=_persons, RecognizerAudio=_audio,
    RecognizerOmni=_omni)
