"""Makes a recognizer config small enough for a CPU, by rule, and says what was changed.

Never a class, never the number of stages, streams or levels, never the widths of a convolutional network: frames
are fewer (at least 4 are left where a neck acts, if the family permits), pictures smaller, and of models with more
than about 40 million parameters the repetitions of equal blocks, of transformers the width too (heads keep theirs).
Nothing is downloaded: ``pretrained`` and ``init_cfg`` of checkpoints go.

Axes: t frames of one clip, s edge of a frame in pixels.
"""
from __future__ import annotations

import copy
import math
from typing import Any, Callable, Dict, List, NamedTuple, Tuple

from torch import nn

from .catalogue import type_name
from .views import Sampling

PARAMETERS = 40e6       # a transformer with more is made smaller
WIDTH, LAYERS = 192, 4  # ... to these
FRAMES_LEFT = 4         # where the neck acts
EDGE, TRANSFORMER_EDGE = 32, 64
# Their init_weights loads a 2-D checkpoint even when there is none, unless told not to.
LOADS_2D = ('ResNetTSM', 'ResNetTIN', 'MobileNetV2TSM', 'MobileOneTSM')


class Small(NamedTuple):
    """``model``: the shrunken config; ``notes``: what was shrunken, for a reader."""
    model: Any
    notes: List[str]


def shrunken(model: Any) -> Small:
    """A small version of a recognizer's config; the original is left alone."""
    model = without_checkpoints(model)
    notes: List[str] = []
    rule = RULES.get(type_name(model.backbone).replace('timm.swin_base_patch4_window7_224', 'timm.swin'))
    if rule is not None:
        rule(model, notes)
    _fewer_blocks(model, notes)
    _mend_blending(model, notes)
    return Small(model, notes)


def without_checkpoints(model: Any) -> Any:
    """A copy of a recognizer's config that asks for no checkpoint, neither by a word of its own nor by default."""
    model = copy.deepcopy(model)
    without_downloads(model)
    if type_name(model.backbone) in LOADS_2D:
        model.backbone.pretrained2d = False
    if type_name(model.backbone) == 'UniFormerV2':
        model.backbone.clip_pretrained = False
    return model


def without_downloads(config: Any) -> None:
    """Drops every request for a checkpoint from a config, in place."""
    if isinstance(config, dict):
        for key, value in list(config.items()):
            if key in ('pretrained', 'pretrained_type'):
                config[key] = False if isinstance(value, bool) else None
            elif key == 'pretrained2d':
                config[key] = False
            elif key == 'init_cfg' and type_name(value if isinstance(value, dict) else {}) == 'Pretrained':
                del config[key]
            else:
                without_downloads(value)
    elif isinstance(config, (list, tuple)):
        for each in config:
            without_downloads(each)


def _fewer_blocks(model: Any, notes: List[str]) -> None:
    backbone = model.backbone
    for name, part in (('', backbone), *((key, backbone.get(key)) for key in ('slow_pathway', 'fast_pathway'))):
        if isinstance(part, dict) and isinstance(part.get('depth'), int) and part['depth'] > 50:
            notes.append(f'{name + " " if name else ""}depth {part["depth"]} -> 50')
            part['depth'] = 50


def _mend_blending(model: Any, notes: List[str]) -> None:
    """One shipped config mixes labels of 400 classes for a head of 174, so that the stock recognizer cannot train."""
    blending = (model.get('data_preprocessor') or {}).get('blending') or {}
    classes = model.cls_head.get('num_classes')
    for augment in blending.get('augments', ()):
        if augment.get('num_classes', classes) != classes:
            note = f'blending num_classes {augment.num_classes} -> {classes}: as shipped, the stock fails to train'
            notes.extend([note] if note not in notes else [])
            augment.num_classes = classes


def _token_transformer(layers: str, width: str, heads: str, default: Tuple[int, int, int]) -> Callable:
    """A rule for models of equal blocks, whose parameters are about 12 x layers x width^2."""

    def rule(model: Any, notes: List[str]) -> None:
        backbone = model.backbone
        was = (backbone.get(layers, default[0]), backbone.get(width, default[1]), backbone.get(heads, default[2]))
        if 12 * was[0] * was[1]**2 <= PARAMETERS:
            return
        backbone[layers], backbone[width] = LAYERS, WIDTH
        backbone[heads] = WIDTH * was[2] // was[1]
        model.cls_head.in_channels = WIDTH
        notes.append(f'layers {was[0]} -> {LAYERS}, width {was[1]} -> {WIDTH}')

    return rule


def _few_patches(model: Any, notes: List[str]) -> None:
    was = model.backbone.get('img_size', 224)
    model.backbone.img_size = 2 * model.backbone.get('patch_size', 16)
    notes.append(f'img_size {was} -> {model.backbone.img_size}')


def _timesformer(model: Any, notes: List[str]) -> None:
    _token_transformer('num_transformer_layers', 'embed_dims', 'num_heads', (12, 768, 12))(model, notes)
    _few_patches(model, notes)


def _vision_transformer(model: Any, notes: List[str]) -> None:
    _token_transformer('depth', 'embed_dims', 'num_heads', (12, 768, 12))(model, notes)
    _few_patches(model, notes)
    _frames_of_model(model, notes, 'num_frames', 16, 2 * FRAMES_LEFT)


def _uniformerv2(model: Any, notes: List[str]) -> None:
    backbone = model.backbone
    deep = backbone.get('n_layers', 4)
    was = backbone.get('layers', 12)
    _token_transformer('layers', 'width', 'heads', (12, 768, 12))(model, notes)
    if backbone.get('layers', 12) < was:
        backbone.layers = max(LAYERS, deep + 1)
        backbone.return_list = list(range(backbone.layers))[-deep:]
        backbone.n_dim, backbone.n_head = backbone.width, backbone.heads
        notes[-1] = notes[-1].replace(f'-> {LAYERS},', f'-> {backbone.layers},')
    notes.append(f'input_resolution {backbone.get("input_resolution", 224)} -> {2 * backbone.get("patch_size", 16)}')
    backbone.input_resolution = 2 * backbone.get('patch_size', 16)
    _frames_of_model(model, notes, 't_size', 8, 2 * FRAMES_LEFT)


def _frames_of_model(model: Any, notes: List[str], key: str, default: int, frames: int) -> None:
    was = model.backbone.get(key, default)
    if was > frames:
        model.backbone[key] = frames
        notes.append(f'{key} {was} -> {frames}')


def _mvit(model: Any, notes: List[str]) -> None:
    backbone = model.backbone
    if backbone.get('arch', 'base') != 'small':
        notes.append(f"arch {backbone.get('arch', 'base')} -> small")
        backbone.arch, model.cls_head.in_channels = 'small', 768
    notes.append(f'spatial_size {backbone.get("spatial_size", 224)} -> {TRANSFORMER_EDGE}')
    backbone.spatial_size = TRANSFORMER_EDGE
    _frames_of_model(model, notes, 'temporal_size', 16, 2 * FRAMES_LEFT)


def _swin(model: Any, notes: List[str]) -> None:
    if model.backbone.arch not in ('tiny', 't'):
        notes.append(f'arch {model.backbone.arch} -> tiny')
        model.backbone.arch, model.cls_head.in_channels = 'tiny', 768


def _uniformer(model: Any, notes: List[str]) -> None:
    was = list(model.backbone.get('depth', [5, 8, 20, 7]))
    if sum(was) > 18:
        model.backbone.depth = [3, 4, 8, 3]
        notes.append(f'depth {was} -> [3, 4, 8, 3]')


def _c3d(model: Any, notes: List[str]) -> None:
    # Five poolings leave 2 x 2 of 32 x 32 pixels (of 112 x 112 they leave 4 x 4).
    model.backbone.out_dim = 512 * 2 * 2
    notes.append('out_dim 8192 -> 2048')


def _timm_swin(model: Any, notes: List[str]) -> None:
    if 'feature_shape' not in model.backbone:
        model.backbone.feature_shape = 'NHWC'
        notes.append('feature_shape=NHWC added: without it the stock recognizer fails with timm >= 0.9')
    model.backbone.update(img_size=TRANSFORMER_EDGE, depths=(2, 2, 2, 2), embed_dim=96, num_heads=(3, 6, 12, 24))
    model.cls_head.in_channels = 768
    notes.append(f'img_size 224 -> {TRANSFORMER_EDGE}, depths (2, 2, 18, 2) -> (2, 2, 2, 2), embed_dim 128 -> 96')


RULES: Dict[str, Callable[[Any, List[str]], None]] = {
    'C3D': _c3d, 'MViT': _mvit, 'SwinTransformer3D': _swin, 'TimeSformer': _timesformer, 'UniFormer': _uniformer,
    'UniFormerV2': _uniformerv2, 'VisionTransformer': _vision_transformer, 'timm.swin': _timm_swin}


class Geometry(NamedTuple):
    """``t``: frames of one clip; ``s``: edge of a frame."""
    t: int
    s: int


def own_frames(model: Any, sampling: Sampling) -> int:
    """Frames of one training clip as the config's pipeline has them; of a Recognizer2D, its segments."""
    if type_name(model) == 'Recognizer2D':
        return stacked_views(model, sampling)
    return min(sampling.clip_len.values()) if isinstance(sampling.clip_len, dict) else int(sampling.clip_len)


def stacked_views(model: Any, sampling: Sampling) -> int:
    """How much one video fills of the axis of views, where a Recognizer2D of RGB has single frames."""
    frames = type_name(model) == 'Recognizer2D' and model.backbone.get('in_channels', 3) == 3
    return sampling.views * (int(sampling.clip_len) if frames else 1)


def geometry_of(model: Any, recognizer: nn.Module, own_frames: int) -> Geometry:
    """How many frames of which size a shrunken recognizer is given.

    Args:
        model: its shrunken config.
        recognizer: built from it.
        own_frames: frames of one clip as the config's pipeline has them.
    """
    config, backbone = model.backbone, getattr(recognizer, 'backbone', None)
    kind = type_name(config)
    if kind == 'UniFormerV2':
        return Geometry(config.get('t_size', 8), config.input_resolution)
    if kind == 'TimeSformer':
        return Geometry(config.num_frames, config.img_size)
    if kind == 'VisionTransformer':
        return Geometry(config.get('num_frames', 16), config.img_size)
    if kind in ('MViT', 'SwinTransformer3D', 'UniFormer'):
        return Geometry(2 * FRAMES_LEFT, TRANSFORMER_EDGE)
    if kind == 'C3D':
        return Geometry(16, EDGE)       # its five poolings need all of them
    if kind == 'ResNet3dSlowFast':
        return Geometry(FRAMES_LEFT * config.get('resample_rate', 8), EDGE)
    if type_name(model) == 'Recognizer2D':
        return Geometry(own_frames, config.get('img_size', EDGE))
    if type_name(model) == 'RecognizerOmni':
        return Geometry(2 * FRAMES_LEFT, EDGE)
    if type_name(model) in ('RecognizerGCN', 'RecognizerAudio'):
        stride = {'ResNetAudio': 8, 'ResNet': 32}.get(kind, 4)      # graphs have two strides of 2
        return Geometry(FRAMES_LEFT * stride, EDGE)
    stride = 2 if kind == 'C2D' else time_stride(backbone)
    least = 2 * FRAMES_LEFT if 'neck' in model else FRAMES_LEFT     # a pyramid divides time once more
    return Geometry(max(least * stride, min(own_frames, 2 * FRAMES_LEFT)), EDGE)


def time_stride(backbone: Any) -> int:
    """By how much a 3-D ResNet divides the number of frames."""
    stride = getattr(backbone, 'conv1_stride_t', 1) * getattr(backbone, 'pool1_stride_t', 1)
    stride *= math.prod(getattr(backbone, 'temporal_strides', (1, )))
    return int(stride * (2 if getattr(backbone, 'with_pool2', False) else 1))
