"""What the decomposition does while a model trains: rank, energies, thresholds, gates, into every log.

Between the iterations it measures, the hook is not in the model at all. On those it hears each decomposition as it is
made (:mod:`lsef_plugins.nn.listening`), adds sums up on the device, and reads them once, after the step.
"""
from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, Optional

import torch
from mmengine.dist import all_reduce, get_world_size
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.model import is_model_wrapper

from lsef_plugins.functional.readings import Mean, energy_ratios, gate_ratio, stable_rank, threshold_readings
from lsef_plugins.nn.listening import Heard, Listener, decompositions_of
from lsef_plugins.registry import HOOKS

PHASES = ('train', 'val', 'test')
#: In the order in which processes add them up.
NAMES = ('stable_rank', 'stable_ratio', 'transient_ratio', 'residual_ratio', 'kappa', 'kappa_min', 'kappa_max',
         'threshold_ratio', 'floor_ratio', 'gate_ratio')


@HOOKS.register_module()
class DecompositionHook(Hook):
    """Logs what LSEF separates, for each place of a model with LSEFNeck, SEM, DDM or LSEFHead in it.

    ``custom_hooks=[dict(type='DecompositionHook')]`` gives ``decomposition/<place>/<name>`` (places such as ``neck``,
    ``neck.0``, ``cls_head``) to the log and to every backend of the visualizer, TensorBoard's too. The names:

    - ``stable_rank``: participation ratio of the stable part, from 1 to its rank.
    - ``stable_ratio``, ``transient_ratio``, ``residual_ratio``: energies as shares of the features'. The parts are not
      orthogonal, so these need not add up to 1.
    - ``kappa``, ``kappa_min``, ``kappa_max``: thresholds of the channels in robust standard deviations, as learned.
    - ``threshold_ratio``: threshold over the root mean square of its channel, mean over clips and channels.
    - ``floor_ratio``: share of the clips' channels whose noise scale sits at its floor.
    - ``gate_ratio``: mean of the frame gates, the share of the frames that is kept out of the transient.

    What a place does not have is not logged for it (SEM alone has no thresholds; CIM alone separates nothing). Numbers
    are means over the clips of one iteration; with several processes over those of all of them. In validation and test
    they are means over all measured batches of the epoch.

    Args:
        interval: measures every so many iterations, and the first one. Numbers in a log line are those of the last
            measured iteration.
        phases: any of 'train', 'val', 'test'.

    A training under torch.compile is not measured, which is told once: hooks that come and go are not part of a
    compiled graph, and a measured step without the graph would not be the same step. Validation is not compiled.
    """

    def __init__(self, interval: int = 50, phases: Sequence[str] = ('train', )) -> None:
        if isinstance(interval, bool) or not isinstance(interval, int) or interval < 1:
            raise ValueError(f'interval counts iterations between measurements, an integer >= 1, got {interval!r}.')
        if isinstance(phases, str) or not phases or set(phases) - set(PHASES):
            raise ValueError(f"phases names any of {', '.join(PHASES)}, for example ('train', 'val'), got {phases!r}.")
        self.interval, self.phases = interval, tuple(phases)
        self._listener: Optional[Listener] = None
        self._sums: dict[str, torch.Tensor] = {}
        self._told: set[str] = set()

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        if 'train' not in self.phases or not (runner.iter == 0 or self.every_n_train_iters(runner, self.interval)):
            return
        if is_compiled(runner.model):
            self._tell('the training runs under torch.compile, whose graphs call no hooks that come and go. Leave '
                       "compile out, or measure validation: phases=('val', )")
        else:
            self._open(runner)

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        if self._listener is not None:
            self._close()
            self._publish(runner, 'train')

    def before_val_epoch(self, runner: Any) -> None:
        self._sums = {}

    before_test_epoch = before_val_epoch

    def _before_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, mode: str = 'train') -> None:
        if mode in self.phases and batch_idx % self.interval == 0:
            self._open(runner, self._sums)

    def _after_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None,
                    mode: str = 'train') -> None:
        self._close()

    def after_val_epoch(self, runner: Any, metrics: Optional[dict] = None) -> None:
        if 'val' in self.phases:
            self._publish(runner, 'val')

    def after_test_epoch(self, runner: Any, metrics: Optional[dict] = None) -> None:
        if 'test' in self.phases:
            self._publish(runner, 'test')

    def _open(self, runner: Any, sums: Optional[dict] = None) -> None:
        self._close()
        self._sums = {} if sums is None else sums
        self._listener = Listener(_inner(runner.model), self._hear)
        self._listener.open()

    def _close(self) -> None:
        if self._listener is not None:
            self._listener.close()
        self._listener = None

    def _hear(self, place: str, heard: Heard) -> None:
        values = torch.stack([torch.stack([part.double() for part in mean]) for mean in _means(heard)])
        self._sums[place] = self._sums[place] + values if place in self._sums else values

    def _publish(self, runner: Any, phase: str) -> None:
        sums, self._sums = self._over_processes(_inner(runner.model)), {}
        for place, rows in sums.items():
            for name, (total, count) in zip(NAMES, rows):
                if count:
                    runner.message_hub.update_scalar(f'{phase}/decomposition/{place}/{name}', total / count)
        if not sums:
            self._tell("there is no decomposition in this model. It needs neck=dict(type='LSEFNeck') (or SEM, DDM), "
                       'LSEFHead, or lsef_plugins.nn.LSEF in a backbone; CIM alone separates nothing')
        elif not any(count for rows in sums.values() for _, count in rows):
            self._tell(f'{", ".join(sums)} was not reached in a measured iteration, or is part of a compiled module')

    def _over_processes(self, model: Any) -> dict[str, list]:
        """Sum and count of each name for each place, over all processes; here the host waits for the device."""
        places = list(decompositions_of(model))
        if not places:
            return {}
        nothing = torch.zeros(len(NAMES), 2, dtype=torch.float64, device=next(model.parameters()).device)
        sums = torch.stack([self._sums.get(place, nothing) for place in places])
        if get_world_size() > 1:
            all_reduce(sums, 'sum')
        return dict(zip(places, sums.tolist()))

    def _tell(self, why: str) -> None:
        if why not in self._told:
            self._told.add(why)
            print_log(f'DecompositionHook has nothing to log: {why}. (Said once.)', 'current', logging.WARNING)


def is_compiled(model: Any) -> bool:
    """Whether training steps of a model, or the whole of it, run as graphs of torch.compile."""
    return (hasattr(model, '_orig_mod') or getattr(model, '_compiled_call_impl', None) is not None
            or hasattr(model.train_step, '_torchdynamo_orig_callable'))


def _inner(model: Any) -> Any:
    return model.module if is_model_wrapper(model) else model


def _means(heard: Heard) -> list[Mean]:
    """Sum and count of each of NAMES; zero of zero where the place does not have it."""
    stable, transient, x = heard.stable, heard.transient, heard.x
    found: dict[str, Mean] = {}
    if stable is not None:
        found['stable_rank'] = stable_rank(stable.operator, stable.gram)
        found['gate_ratio'] = gate_ratio(stable.frame_gate)
    if transient is not None:
        found.update(threshold_readings(x, transient.scale, transient.threshold))
    if heard.kappa is not None:
        one = heard.kappa.new_ones(())
        found.update(kappa=(heard.kappa.mean(), one), kappa_min=(heard.kappa.min(), one),
                     kappa_max=(heard.kappa.max(), one))
    found.update(energy_ratios(x, None if stable is None else stable.stable,
                               None if transient is None else transient.transient))
    zero = x.new_zeros(())
    return [found.get(name, (zero, zero)) for name in NAMES]
