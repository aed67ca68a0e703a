"""One row: what a recognizer costs without and with the neck.

All times are taken in turn, round after round, the order turned round each time, so that whatever drifts meets both
alike: processor time of one thread on a CPU, which other programs disturb little; events on a GPU. A ratio is the
median over the rounds of the ratio within a round.
"""
from __future__ import annotations

import contextlib
import statistics
import time
import traceback
from typing import Any, Callable, Dict, Iterator, List, Sequence

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from lsef_plugins import ops
from lsef_plugins.ops import benchmark

from ..insertion_matrix.catalogue import Entry
from ..insertion_matrix.examine import CHECKING, FAILED, NEEDS, PASSED, lacking, needed_packages
from .pair import PLUGGED, STOCK, Pair, neck_inputs
from .settings import Settings

NECK = 'neck'


def measured(settings: Settings, entry: Entry, _: str = '') -> Dict[str, Any]:
    """A row: ``status`` (passed, failed, needs), ``reason``, and where it passed what was measured.

    ``parameters`` counts, ``flops`` of one forward of one video, ``peak_bytes`` of a training step with what it holds
    before, ``forward`` and ``step``: ``seconds`` by name, ``ratio`` plugged / stock (median, lowest, highest),
    ``neck``: the seconds of the neck's own forward and backward on the very maps that enter it.
    """
    began = time.perf_counter()
    row: Dict[str, Any] = dict(name=entry.name, family=entry.family, status=FAILED, reason='')
    missing = lacking(needed_packages(entry.cfg.model))
    if missing:
        return {**row, 'status': NEEDS, 'reason': missing}
    try:
        row.update(_measured(entry, settings))
    except Exception as error:
        traceback.print_exc()
        words = ' '.join(str(error).split())
        return {**row, 'reason': f'{type(error).__name__}: {words[:300]}' if words else type(error).__name__}
    return {**row, 'status': PASSED, 'seconds': round(time.perf_counter() - began, 1)}


def _measured(entry: Entry, settings: Settings) -> Dict[str, Any]:
    if settings.device == 'cpu':
        benchmark.keep_memory()
    _say('build')
    pair = Pair(entry.cfg, settings)
    found: Dict[str, Any] = dict(
        geometry=dict(pair.geometry._asdict()), views=pair.inputs.one_clip, own_neck=pair.own_neck, notes=pair.notes,
        optimizer=type(pair.optimizers[STOCK].optimizer).__name__,
        parameters={name: sum(p.numel() for p in model.parameters()) for name, model in pair.models().items()})
    _say('maps')
    maps = neck_inputs(pair)
    found['maps'] = [list(each.shape) for _, value in maps for each in ((value, ) if isinstance(value, Tensor)
                                                                         else value)]
    if not maps:
        raise RuntimeError('nothing reached the neck in a training step, so there is nothing to compare.')
    _say('FLOPs')
    found['flops'] = {name: flops_of(pair, name) for name in pair.models()}
    _say('training step')
    ways: Dict[str, Callable[[], object]] = {name: lambda name=name: pair.step(name)    # type: ignore[misc]
                                             for name in pair.models()}
    if not settings.compiled:
        ways[NECK] = lambda: neck_step(pair, maps)
    found['step'] = timed(ways, settings)
    _say('forward')
    found['forward'] = timed({name: lambda name=name: pair.forward(name)                # type: ignore[misc]
                              for name in pair.models()}, settings)
    _say('memory')
    found['peak_bytes'] = {name: pair.state_bytes(name) + benchmark.peak_bytes(lambda: pair.step(name),  # noqa: B023
                                                                               settings.device)
                           for name in pair.models()}
    found['compiled_operators'] = settings.device in ops.status()['devices']
    return found


def timed(ways: Dict[str, Callable[[], object]], settings: Settings,
          clock: Callable[[Callable[[], object], str], float] = benchmark.seconds_of) -> Dict[str, Any]:
    """Median seconds of each way, every measured round, and the ratio of plugged to stock within a round."""
    rounds: List[Dict[str, float]] = []
    for turn in range(settings.repeats + 1):
        names = list(ways) if turn % 2 else list(ways)[::-1]
        seconds = {name: clock(ways[name], settings.device) for name in names}
        if turn:                # the first is for caches, compilers and pages
            rounds.append(seconds)
    return dict(seconds={name: statistics.median(each[name] for each in rounds) for name in ways},
                ratio=spread([each[PLUGGED] / each[STOCK] for each in rounds]), rounds=rounds)


def spread(values: Sequence[float]) -> Dict[str, float]:
    """Median, lowest and highest; these two hold the true median with a probability of 1 - 2^(1 - n)."""
    return dict(median=statistics.median(values), lowest=min(values), highest=max(values))


def neck_step(pair: Pair, maps: Sequence[Any]) -> None:
    """Forward and backward of the necks alone on what entered them."""
    for neck, value in maps:
        single = isinstance(value, Tensor)
        entering = [each.detach().requires_grad_() for each in ((value, ) if single else value)]
        neck.train()
        with pair.autocast():
            left, _ = neck(entering[0] if single else tuple(entering))
        left = [left] if single else list(left)
        learned = [p for p in neck.parameters() if p.requires_grad]
        torch.autograd.grad(left, [*entering, *learned], [torch.ones_like(z) for z in left], allow_unused=True)


def flops_of(pair: Pair, name: str) -> float:
    """Operations of one forward of one video; a multiplication with an addition counts two."""
    model = pair.models()[name].eval()
    # With gradients: without them nn.MultiheadAttention takes a kernel that nobody counts.
    with _countable_attention(), FlopCounterMode(display=False) as counter:
        model._run_forward(pair.data[False], mode='predict')
    return counter.get_total_flops() / pair.settings.batch


@contextlib.contextmanager
def _countable_attention() -> Iterator[None]:
    """Attention as two products: PyTorch does not count its fused kernel for the CPU."""
    try:
        from torch.nn.attention import SDPBackend, sdpa_kernel
    except ImportError:     # torch before 2.3
        with torch.backends.cuda.sdp_kernel(enable_flash=False, enable_mem_efficient=False, enable_math=True):
            yield
        return
    with sdpa_kernel(SDPBackend.MATH):
        yield


def _say(stage: str) -> None:
    print(f'{CHECKING}{stage}', flush=True)
