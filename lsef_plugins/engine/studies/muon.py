"""Muon, the rival, for convolutional networks: torch.optim.Muon takes two-dimensional parameters only.

Momentum first, then the polar factor of the momentum by five Newton-Schulz steps, scaled to the size of AdamW's
updates. All other parameters go to AdamW with the same learning rate, or to SGD with 20 times it: one number is tuned,
as for any other arm.

Source:
    K. Jordan et al., Muon (2024); the scaling is that of Moonlight (arXiv:2502.16982), as in torch.optim.Muon's
    ``adjust_lr_fn='match_rms_adamw'``.
"""
from typing import Any, List

import torch
from mmengine.optim import DefaultOptimWrapperConstructor, OptimWrapper
from mmengine.registry import OPTIMIZERS
from torch import Tensor, nn
from torch.optim import SGD, AdamW

from lsef_plugins.engine.optimizers.roles import treated_matrices
from lsef_plugins.registry import OPTIM_WRAPPER_CONSTRUCTORS

COEFFICIENTS = (3.4445, -4.775, 2.0315)
STEPS = 5


def polar(x: Tensor) -> Tensor:
    """Nearly the polar factor of a matrix ``(r, c)``; singular values end in about [0.7, 1.2]."""
    a, b, c = COEFFICIENTS
    tall = x.shape[0] > x.shape[1]
    y = x.mT if tall else x
    y = y / y.norm().clamp_min(1e-7)
    for _ in range(STEPS):
        g = y @ y.mT
        y = a * y + (b * g + c * g @ g) @ y
    return y.mT if tall else y


class _MuonAndOther:
    """Muon for parameter groups with ``muon=True``, the class beside for the others."""
    MOMENTUM = 0.95         # Nesterov's
    param_groups: List[Any]
    state: Any

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        kept = self.param_groups
        for group in kept:
            if group['muon']:
                self._orthogonal(group['params'], group['lr'], group['weight_decay'])
        self.param_groups = [group for group in kept if not group['muon']]
        try:
            return super().step(closure)        # type: ignore[misc]
        finally:
            self.param_groups = kept

    def _orthogonal(self, parameters: List[nn.Parameter], lr: float, weight_decay: float) -> None:
        for p in parameters:
            if p.grad is None:
                continue
            state = self.state[p]
            if 'momentum_buffer' not in state:
                state['momentum_buffer'] = torch.zeros_like(p)
            buffer = state['momentum_buffer'].lerp_(p.grad, 1 - self.MOMENTUM)
            update = torch.lerp(p.grad, buffer, self.MOMENTUM).flatten(1)
            step = polar(update) * 0.2 * max(update.shape) ** 0.5
            p.mul_(1 - lr * weight_decay).sub_(lr * step.view_as(p))


@OPTIMIZERS.register_module()
class MuonAndAdamW(_MuonAndOther, AdamW):
    """Parameter groups name ``muon``; the ``groups`` of a convolution are not told apart."""


@OPTIMIZERS.register_module()
class MuonAndSGD(_MuonAndOther, SGD):
    """The same beside SGD."""


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class MuonConstructor(DefaultOptimWrapperConstructor):
    """Sorts the matrices that RAO would treat into Muon's group; ``rest`` holds settings of the other one.

    ``rest=dict(lr_mult=20)`` multiplies its learning rate. ``classifier=dict(lr=0.01)`` gives the head's last linear
    layer settings of its own: what it reads is of another scale from head to head.
    """

    def __call__(self, model: nn.Module) -> OptimWrapper:
        cfg = dict(self.optim_wrapper_cfg)
        rest = dict(cfg.pop('rest', {}))
        rest['lr'] = self.optimizer_cfg['lr'] * rest.pop('lr_mult', 1)
        treated = {id(matrix.parameter) for matrix in treated_matrices(model).values()}
        head: Any = getattr(model, 'cls_head', None)
        last = {id(p) for p in head.fc_cls.parameters()} if 'classifier' in cfg else set()
        groups: List[Any] = [dict(params=[], muon=True), dict(params=[], muon=False, **rest)]
        groups += [dict(params=[], muon=False, **cfg['classifier'])] if last else []
        for p in model.parameters():
            groups[0 if id(p) in treated else 2 if id(p) in last else 1]['params'].append(p)
        optimizer = OPTIMIZERS.build(dict(self.optimizer_cfg, params=groups))
        return OptimWrapper(optimizer, clip_grad=cfg.get('clip_grad'))
