"""What the checks look at: one recognizer of the host without and one with the line, with equal weights."""
from __future__ import annotations

import contextlib
import copy
import random
from typing import Any, Dict, Iterator, List, Optional, Tuple

import numpy as np
import torch
from mmaction.registry import MODELS
from mmengine.config import Config
from torch import Tensor, nn

from lsef_plugins.models import SitedNeck

from .inputs import Inputs
from .shrink import geometry_of, own_frames, shrunken
from .stand_ins import stand_ins
from .views import Sampling, test_sampling, train_sampling

STOCK_SEED, PLUGGED_SEED, NOISE = 0, 1, 0.02
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


class Subject:
    """A config's recognizer, small, stock and plugged.

    Args:
        cfg: a recognizer config as the host ships it.
        neck: the type of the neck that is merged into it, as a child config would.

    Attributes:
        stock, plugged: the two models, with equal weights wherever both have them.
        maps: what entered the necks in the check of identity, ``(c, t, h, w)`` each.
        missing, unexpected: keys, after the stock model's state was loaded into the plugged one.
    """

    def __init__(self, cfg: Config, neck: str = 'LSEFNeck') -> None:
        self.cfg, self.neck = cfg, neck
        self.maps: List[Tuple[int, ...]] = []
        self.model, self.shrunk = shrunken(cfg.model)
        self.stand_ins = stand_ins(self.model)
        self.stock = build(self.model, STOCK_SEED)
        stir(self.stock)
        self.own_frames = own_frames(self.model, train_sampling(cfg))
        self.geometry = geometry_of(self.model, self.stock, self.own_frames)
        self.inputs = Inputs(self.model, self.geometry)
        self.test: Optional[Sampling] = test_sampling(cfg)
        # Many views at the config's own length, where training needs more frames for time to reach the neck.
        few = min(self.geometry.t, self.own_frames) if self.kind == 'Recognizer3D' else self.geometry.t
        self.test_inputs = Inputs(self.model, self.geometry._replace(t=few))
        self.test_cfg: Dict = dict(self.model.get('test_cfg') or {})
        settle(self.stock, self.inputs)
        self.plugged = build(with_neck(self.model, neck), PLUGGED_SEED)
        self.missing, self.unexpected = map(list, self.plugged.load_state_dict(self.stock.state_dict(), strict=False))

    @property
    def kind(self) -> str:
        return type(self.stock).__name__

    def necks(self, model: Any = None) -> List[SitedNeck]:
        return [each for each in (model or self.plugged).modules() if isinstance(each, SitedNeck)]

    def neck_parameters(self) -> Dict[str, nn.Parameter]:
        """What the necks of the plugged model learn, by its name there."""
        ours = {id(p) for each in self.necks() for p in each.parameters()}
        return {name: p for name, p in self.plugged.named_parameters() if id(p) in ours and p.requires_grad}

    def test_views(self) -> int:
        return self.inputs.one_clip if self.test is None else self.inputs.views_of(self.test)

    def scores(self, model: Any, inputs: Optional[Inputs] = None, **options: Any) -> List[Tensor]:
        """Logits and predicted scores of a model in ``predict`` mode, on the same seeded inputs for each model."""
        inputs = inputs or self.inputs
        model.eval()
        if 'max_testing_views' in (model.test_cfg or {} if self.kind != 'RecognizerOmni' else {}):
            options.setdefault('videos', 1)     # the host groups the views of one video only
        seed_all()
        with torch.no_grad(), outputs_of(model.cls_head) as seen:
            samples = model._run_forward(inputs.batch(model, **options), mode='predict')
        return [*tensors_of(seen), *tensors_of([sample.pred_score for sample in samples])]

    def loss(self, model: Any) -> Tuple[Tensor, Dict[str, Tensor]]:
        """The loss of one training batch of two videos, and what is logged; the same dropout for each model."""
        model.train()
        seed_all()
        losses = model._run_forward(self.inputs.batch(model, training=True), mode='loss')
        return model.parse_losses(losses)


def seed_all(seed: int = 0) -> None:
    """Dropout and augmentation draw from torch, TRN's choice of relations from numpy and random."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def build(model: Any, seed: int) -> Any:
    """A recognizer, initialised as a runner would."""
    torch.manual_seed(seed)
    built = MODELS.build(copy.deepcopy(model))
    built.init_weights()
    return built


def with_neck(model: Any, neck: str) -> Any:
    """The model's config as a child config with ``model = dict(neck=dict(type=neck))`` gets it."""
    merged = Config(dict(model=copy.deepcopy(model)))
    merged.merge_from_dict(dict(model=dict(neck=dict(type=neck))))
    return merged.model


def stir(model: nn.Module, seed: int = 0) -> None:
    """Moves constant parameters (zeros of a last norm, of a temporal embedding) a little, in place.

    Otherwise whole branches are zero at initialisation, and equality of outputs would say nothing about them. For the
    same reason convolutions of a backbone without any norm (deployed MobileOne) are scaled to keep their signal.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.numel() and bool((parameter == parameter.flatten()[0]).all()):
                parameter.add_(NOISE * torch.randn(parameter.shape, generator=generator))
    backbone: Any = model.backbone
    if not any('Norm' in type(module).__name__ for module in backbone.modules()):
        for module in backbone.modules():
            if isinstance(module, CONVOLUTIONS):
                nn.init.kaiming_normal_(module.weight, nonlinearity='relu', generator=generator)


def settle(model: Any, inputs: Inputs) -> None:
    """Gives a stock model's batch norms the statistics of one batch, as a trained model has them, in place.

    With those of initialisation, activations grow from block to block until they are not finite.
    """
    model.train()
    norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    before = [module.momentum for module in norms]
    for module in norms:
        module.momentum = 1.0
        module.train()
    if norms:
        with torch.no_grad():
            seed_all()
            model._run_forward(inputs.batch(model, training=True), mode='loss')
    for module, momentum in zip(norms, before):
        module.momentum = momentum


def wake(neck: nn.Module, seed: int = 0) -> None:
    """Moves every parameter of a neck away from its identity start, in place."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in neck.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))


@contextlib.contextmanager
def outputs_of(module: nn.Module) -> Iterator[List[Any]]:
    """Collects what a module returns while the block runs."""
    seen: List[Any] = []
    handle = module.register_forward_hook(lambda _, args, output: seen.append(output))
    try:
        yield seen
    finally:
        handle.remove()


@contextlib.contextmanager
def entering(necks: List[SitedNeck]) -> Iterator[List[Tuple[int, ...]]]:
    """Collects ``(c, t, h, w)`` of the maps that enter necks while the block runs."""
    seen: List[Tuple[int, ...]] = []

    def look(_: nn.Module, args: Tuple) -> None:
        seen.extend(tuple(each.shape[1:]) for each in tensors_of(args[0]))

    handles = [neck.register_forward_pre_hook(look) for neck in necks]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def tensors_of(value: Any) -> List[Tensor]:
    """Every tensor inside nested lists, tuples and dicts, in order."""
    if isinstance(value, Tensor):
        return [value.detach()]
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        return [each for item in value for each in tensors_of(item)]
    return []
