"""Hands what LSEF separated in validation and test to the metrics, sample by sample.

The runner gives metrics the predictions only. This hook listens while a batch is predicted
(:mod:`lsef_plugins.nn.listening`), keeps few numbers of each clip, and writes them into the data samples the recognizer
returns, before the evaluator sees them. A sample has one or several *views*: its clips times its crops, crop by crop.
Axes: ``v`` views, ``t`` frames of the map, ``r`` rank, ``b`` clips of a batch, ``c n`` channels and positions.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Optional

import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.structures import BaseDataElement
from torch import Tensor

from lsef_plugins.evaluation.functional.subspaces import drift_of_products
from lsef_plugins.functional.readings import frame_energies, temporal_factors
from lsef_plugins.nn.listening import Heard, Listener
from lsef_plugins.registry import HOOKS

FIELD, TWINS = 'decomposition', 'clean_clips'


@HOOKS.register_module()
class DecompositionTapHook(Hook):
    """Writes ``decomposition`` into each predicted sample: place -> name -> float64 array.

    ``custom_hooks=[dict(type='DecompositionTapHook')]``; what ``DecompositionRecoveryMetric`` reads. The names:

    - ``stable``, ``transient``, ``residual`` ``(v, t)``: energies of the frames, over the clip's mean frame energy.
    - ``frame_gate`` ``(v, t)`` in [0, 1).
    - ``curves`` ``(v, t, r)``: the stable part's curves over time (temporal singular vectors times singular values).
    - ``stable_drift``, ``feature_drift`` ``(pairs, )``, where a sample holds clean clips and their corrupted twins
      (``CleanTwin``): 1 - cosine between both stable parts, and between the features both were taken from.

    Nothing is kept from one batch to the next. Training is left alone.
    """

    def __init__(self) -> None:
        self._listener: Optional[Listener] = None
        self._handle: Any = None
        self._heard: dict[str, list[dict[str, Tensor]]] = {}
        self._twins = False

    def before_val_epoch(self, runner: Any) -> None:
        """Begins to listen.

        Raises:
            ValueError: nothing is separated in this model.
        """
        self._stop()
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        self._listener = Listener(model, self._hear)
        if not self._listener.places:
            raise ValueError("DecompositionTapHook finds no decomposition in this model. It needs neck=dict(type="
                             "'LSEFNeck') (or SEM, DDM), LSEFHead, or lsef_plugins.nn.LSEF in a backbone; without one, "
                             'drop the hook and DecompositionRecoveryMetric.')
        self._listener.open()
        self._handle = model.register_forward_hook(self._on_leave)

    before_test_epoch = before_val_epoch

    def after_val_epoch(self, runner: Any, metrics: Optional[dict] = None) -> None:
        self._stop()

    after_test_epoch = after_val_epoch

    def before_train_epoch(self, runner: Any) -> None:
        self._stop()                # a validation that an error ended

    def _before_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, mode: str = 'train') -> None:
        samples = data_batch.get('data_samples') if isinstance(data_batch, dict) else None
        self._twins = any(TWINS in sample for sample in samples or [] if isinstance(sample, BaseDataElement))

    def _stop(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._handle.remove()
        self._listener, self._handle, self._heard = None, None, {}

    def _hear(self, place: str, heard: Heard) -> None:
        summary = summary_of(heard)
        if self._twins:             # whole parts, until the batch is through
            summary['x'] = heard.x
            if heard.stable is not None:
                summary['whole'] = heard.stable.stable
        self._heard.setdefault(place, []).append(summary)

    def _on_leave(self, module: Any, args: Any, output: Any) -> None:
        heard, self._heard = self._heard, {}
        if module.training or not isinstance(output, (list, tuple)) or not output or \
                not all(isinstance(sample, BaseDataElement) for sample in output):
            return
        silent = sorted(set(self._listener.places if self._listener else ()) - set(heard))
        if silent:
            raise ValueError(f'DecompositionTapHook heard nothing of {", ".join(silent)} in a predicted batch: it was '
                             'not reached, or is part of a module under torch.compile, which calls no hooks that come '
                             'later. Validate without compiling the model.')
        found: list[dict] = [{} for _ in output]
        for place, calls in heard.items():
            # max_testing_views: several calls make the views of one batch.
            whole = {name: torch.cat([call[name] for call in calls]) for name in calls[0]}
            for mine, part in zip(found, _shares(whole, len(output), place)):
                mine[place] = part
        for sample, places in zip(output, found):
            for place, part in places.items():
                x, whole = part.pop('x', None), part.pop('whole', None)
                places[place] = {name: value.double().cpu().numpy() for name, value in part.items()}
                if TWINS in sample:
                    places[place].update(drifts(x, whole, int(sample.get(TWINS)), place))
            sample.set_field(places, FIELD)


def summary_of(heard: Heard) -> dict[str, Tensor]:
    """What is kept of a decomposition: see the hook; first axis ``b``."""
    x, stable, transient = heard.x, heard.stable, heard.transient
    nothing = torch.zeros(len(x), x.shape[2], dtype=torch.float64, device=x.device)
    residual = x if stable is None else x - stable.stable
    residual = residual if transient is None else residual - transient.transient
    energies = dict(stable=nothing if stable is None else frame_energies(stable.stable),
                    transient=nothing if transient is None else frame_energies(transient.transient),
                    residual=frame_energies(residual))
    mean = frame_energies(x).mean(1, keepdim=True)
    mean = torch.where(mean > 0, mean, torch.ones_like(mean))
    summary = {name: energy / mean for name, energy in energies.items()}
    summary['frame_gate'] = nothing if stable is None else stable.frame_gate
    summary['curves'] = nothing[..., None] if stable is None else temporal_factors(
        stable.operator, stable.gram, min(heard.rank, x.shape[2]))
    return summary


def _shares(whole: dict[str, Tensor], samples: int, place: str) -> Sequence[dict[str, Tensor]]:
    views, rest = divmod(len(whole['stable']), samples)
    if rest or not views:
        raise ValueError(f'{place} separated {len(whole["stable"])} clips for {samples} samples, which cannot be '
                         'shared out evenly: the views of a sample must be as many for each.')
    return [{name: value[i * views:(i + 1) * views] for name, value in whole.items()} for i in range(samples)]


def drifts(x: Optional[Tensor], stable: Optional[Tensor], clean: int, place: str) -> dict[str, np.ndarray]:
    """Drift between the clean clips and their twins in the views ``(v, c, t, n)`` of one sample.

    Args:
        clean: clips of a crop that are clean; as many twins follow them.

    Raises:
        ValueError: the views are not crops of clean clips and their twins.
    """
    if x is None or len(x) % (2 * clean):
        raise ValueError(f'{place}: a sample of {clean} clean clip(s) and as many twins came as '
                         f'{0 if x is None else len(x)} view(s). Recognizer2D must know the segments of one clip: '
                         "neck=dict(type='LSEFNeck', num_segments=...).")
    found = {}
    for name, part in (('feature_drift', x), ('stable_drift', stable)):
        if part is not None:
            pairs = part.double().flatten(1).view(-1, 2, clean, part[0].numel())
            first, second = pairs[:, 0].flatten(0, 1), pairs[:, 1].flatten(0, 1)
            products = [(a * b).sum(1).cpu().numpy() for a, b in ((first, second), (first, first), (second, second))]
            found[name] = drift_of_products(*products)
    return found
