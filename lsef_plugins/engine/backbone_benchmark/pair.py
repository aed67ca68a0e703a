"""A recognizer at its real size without and with the neck, equal weights, and batches of the config's own clips."""
from __future__ import annotations

import copy
from typing import Any, Dict, List, Optional, Tuple

import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from torch import Tensor, nn

from lsef_plugins.models import SitedNeck
from lsef_plugins.models.insertion import without_ours

from ..config_names import bare_name
from ..insertion_matrix.catalogue import type_name
from ..insertion_matrix.inputs import Inputs
from ..insertion_matrix.shrink import Geometry, own_frames, without_checkpoints
from ..insertion_matrix.stand_ins import stand_ins
from ..insertion_matrix.subject import build, seed_all, settle
from ..insertion_matrix.views import pipeline_of, train_sampling
from .choose import BenchmarkError
from .settings import Settings

LEARNING_RATE = 1e-6    # an optimizer's step costs the same at any rate, and random labels teach nothing
STOCK, PLUGGED = 'stock', 'plugged'
CROPS = ('RandomCrop', 'CenterCrop', 'ThreeCrop', 'TenCrop')


def clip_size(cfg: Config) -> Geometry:
    """Frames of one training clip and edge of a frame, as the config's own pipeline and backbone have them.

    Raises:
        BenchmarkError: neither says a size, or frames are no squares.
    """
    frames = own_frames(cfg.model, train_sampling(cfg))
    kind = type_name(cfg.model)
    if kind == 'RecognizerGCN':
        return Geometry(frames, 0)
    steps = pipeline_of(cfg, 'train_dataloader', 'test_dataloader', 'val_dataloader') or []
    if kind == 'RecognizerAudio':
        return Geometry(next((step['fixed_length'] for step in steps if 'fixed_length' in step), frames), 0)
    edge = _edge(steps) or _edge_of(cfg.model.backbone)
    if edge is None:
        raise BenchmarkError('the config names no size of a frame: no crop and no Resize to a fixed scale in its '
                             'pipelines, no img_size in its backbone.')
    return Geometry(frames, edge // 2 if kind == 'MMRecognizer3D' else edge)


def _edge(steps: List[dict]) -> Optional[int]:
    """What the last step that fixes the size of a frame leaves."""
    found: Any = None
    for step in steps:
        kind = bare_name(step['type'])
        if kind in CROPS:
            found = step.get('crop_size', step.get('size', found))
        elif kind == 'MultiScaleCrop':
            found = step.get('input_size', found)
        elif kind == 'Resize' and not step.get('keep_ratio', True):
            found = step['scale']
    if isinstance(found, (list, tuple)):
        if found[0] != found[-1]:
            raise BenchmarkError(f'frames of {tuple(found)} are no squares, and random clips can be nothing else here.')
        found = found[0]
    return found


def _edge_of(backbone: Any) -> Optional[int]:
    return next((backbone[key] for key in ('img_size', 'input_resolution', 'spatial_size') if key in backbone), None)


class Pair:
    """Two recognizers of one config with equal weights, ready to train.

    Attributes:
        stock, plugged: without and with the neck; if the config itself has one of ours, it is taken out of ``stock``.
        own_neck: whether it has.
        inputs, geometry: what makes batches, and of which size.
    """

    def __init__(self, cfg: Config, settings: Settings) -> None:
        self.settings = settings
        model = without_checkpoints(cfg.model)
        stock, ours = without_ours(model)
        self.own_neck = ours is not None
        plugged = Config(dict(model=model))
        plugged.merge_from_dict(dict(model=dict(neck=dict(settings.neck, type=(ours or {}).get('type', 'LSEFNeck')))))
        self.notes = stand_ins(stock)
        self.stock = build(stock, seed=0).to(settings.device)
        self.geometry = clip_size(cfg)
        self.inputs = Inputs(stock, self.geometry)
        settle(self.stock, self.inputs)
        self.plugged = build(plugged.model, seed=1).to(settings.device)
        self.plugged.load_state_dict(self.stock.state_dict(), strict=False)
        _open(self.necks())
        self.optimizers = {name: _optimizer(model, cfg) for name, model in self.models().items()}
        self.data = {training: self.inputs.batch(self.stock, settings.batch, training=training)
                     for training in (True, False)}
        if settings.compiled:
            # Else code that was compiled for the stock head, which has no hook, serves the plugged one as well.
            torch._dynamo.config.skip_nnmodule_hook_guards = False
        self.calls: Dict[str, Any] = {name: torch.compile(model) if settings.compiled else model
                                      for name, model in self.models().items()}

    def models(self) -> Dict[str, Any]:
        return {STOCK: self.stock, PLUGGED: self.plugged}

    def necks(self) -> List[SitedNeck]:
        return [each for each in self.plugged.modules() if isinstance(each, SitedNeck)]

    def autocast(self) -> Any:
        return torch.autocast(self.settings.device, torch.bfloat16, enabled=self.settings.dtype == 'bf16')

    def step(self, name: str) -> None:
        """Forward, backward and optimizer step of a batch."""
        model: Any = self.models()[name].train()
        with self.autocast():
            losses = self._call(name, self.data[True], 'loss')
        self.optimizers[name].update_params(model.parse_losses(losses)[0])

    def forward(self, name: str) -> None:
        """The scores of a batch, without gradients."""
        self.models()[name].eval()
        with torch.no_grad(), self.autocast():
            self._call(name, self.data[False], 'predict')

    def _call(self, name: str, data: Any, mode: str) -> Any:
        call = self.calls[name]
        return call(**data, mode=mode) if isinstance(data, dict) else call(*data, mode=mode)

    def state_bytes(self, name: str) -> int:
        """Parameters, buffers, the optimizer's state and the batch."""
        model, optimizer = self.models()[name], self.optimizers[name].optimizer
        state = [z for each in optimizer.state.values() for z in each.values() if isinstance(z, Tensor)]
        held = [*model.parameters(), *model.buffers(), *state, *_tensors(self.data[True])]
        return sum({z.untyped_storage().data_ptr(): z.untyped_storage().nbytes() for z in held}.values())


def _tensors(value: Any) -> List[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    return [each for item in value for each in _tensors(item)] if isinstance(value, (list, tuple)) else []


def _open(necks: List[SitedNeck]) -> None:
    """No output of a merge is zero, as after the first steps of training."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for neck in necks:
            for module in neck.modules():
                if isinstance(module, nn.Conv3d) and not bool(module.weight.any()):
                    noise = torch.randn(module.weight.shape, generator=generator)
                    module.weight.add_((0.02 * noise).to(module.weight))


def _optimizer(model: nn.Module, cfg: Config) -> Any:
    """The config's own optimizer, constructor and clipping, at a tiny rate; SGD with momentum where it has none."""
    wrapper = copy.deepcopy(cfg.get('optim_wrapper') or dict(optimizer=dict(type='SGD', momentum=0.9)))
    wrapper['type'] = 'OptimWrapper'        # precision is the settings', accumulation would skip steps
    for key in ('loss_scale', 'dtype', 'accumulative_counts'):
        wrapper.pop(key, None)
    wrapper['optimizer']['lr'] = LEARNING_RATE
    return build_optim_wrapper(model, wrapper)


def neck_inputs(pair: Pair) -> List[Tuple[SitedNeck, Any]]:
    """What enters each neck in a training step, without gradient; a tensor ``(b, c, t, h, w)`` or a tuple of them."""
    seen: List[Tuple[SitedNeck, Any]] = []

    def look(neck: Any, args: Tuple) -> None:
        value = args[0]
        seen.append((neck, value.detach().clone() if isinstance(value, Tensor)
                     else tuple(each.detach().clone() for each in value)))

    handles = [neck.register_forward_pre_hook(look) for neck in pair.necks()]
    try:
        seed_all()
        pair.plugged.train()
        with pair.autocast(), torch.no_grad():
            pair.plugged._run_forward(pair.data[True], mode='loss')
    finally:
        for handle in handles:
            handle.remove()
    return seen
