"""An optimizer wrapper of any class, with RAO before each real step of its optimizer.

The gradients are rewritten in a pre-hook of ``optimizer.step``: after loss scaling, all-reduce, accumulation and
clipping, just before the optimizer reads them, and not at all when the loss scaler skips the step.
"""
from __future__ import annotations

import functools
import logging
import warnings
from typing import Any

from mmengine.logging import print_log

from lsef_plugins.optim import RankAwareGradients

KEY = 'rao'


class RankAwareMixin:
    """What is added to an optimizer wrapper; :func:`rank_aware` makes the class."""
    rao: RankAwareGradients
    log_interval: int

    def install(self, rao: RankAwareGradients, log_interval: int) -> None:
        self.rao, self.log_interval = rao, log_interval
        rao.attach(self.optimizer)              # type: ignore[attr-defined]

    def step(self, **kwargs: Any) -> None:
        if not self.rao.is_attached_to(self.optimizer):     # type: ignore[attr-defined]
            raise ValueError('The optimizer of this wrapper was replaced after RAO had been attached to it, as FSDP '
                             'and DeepSpeed strategies do. RAO needs whole gradients: train with DDP, or set another '
                             'constructor.')
        before = self.rao.steps
        self._unscale()
        super().step(**kwargs)                  # type: ignore[misc]
        if self.rao.steps != before and self.rao.steps % self.log_interval == 0:
            for name, value in self.rao.readings().items():
                self.message_hub.update_scalar(f'train/{KEY}/{name}', value)    # type: ignore[attr-defined]

    def _unscale(self) -> None:
        """Fused optimizers divide by the loss scale inside their step, which is too late for RAO."""
        scaler = getattr(self, 'loss_scaler', None)
        fused = getattr(self.optimizer, '_step_supports_amp_scaling', False)    # type: ignore[attr-defined]
        if scaler is None or not scaler.is_enabled() or not fused:
            return
        if not self.clip_grad_kwargs:           # type: ignore[attr-defined]
            scaler.unscale_(self.optimizer)     # type: ignore[attr-defined]

    def state_dict(self) -> dict:
        return {**super().state_dict(), KEY: self.rao.state_dict()}     # type: ignore[misc]

    def load_state_dict(self, state_dict: dict) -> None:
        state_dict = dict(state_dict)
        saved = state_dict.pop(KEY, None)
        super().load_state_dict(state_dict)     # type: ignore[misc]
        if saved is None:
            print_log('The checkpoint holds no RAO state (it was trained without RAO): RAO starts afresh.',
                      'current', logging.WARNING)
            return
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter('always')
            self.rao.load_state_dict(saved)
        for each in told:
            print_log(str(each.message), 'current', logging.WARNING)


@functools.cache
def rank_aware(cls: Any) -> Any:
    """The subclass of an OptimWrapper class that applies RAO."""
    return cls if issubclass(cls, RankAwareMixin) else type(f'RankAware{cls.__name__}', (RankAwareMixin, cls), {})
