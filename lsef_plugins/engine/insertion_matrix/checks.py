"""The columns of the table: each says of one recognizer whether the line kept a promise.

A check returns a short note (may be empty) when the promise holds, raises :class:`Broken` when it does not, and
:class:`NotHere` when the *stock* recognizer cannot do it either, so that nothing is asked of the plugged one.
"""
from __future__ import annotations

import copy
import functools
import math
from typing import Any, Callable, Dict, List, Sequence, Tuple

import torch
from mmengine.optim import build_optim_wrapper
from torch import Tensor

from .subject import Subject, entering, seed_all, tensors_of, wake

TOLERANCE = 1e-6


class Broken(Exception):
    """The plugged recognizer does not do what was promised."""


class NotHere(Exception):
    """The host's own recognizer cannot do this; says why."""


def difference(ours: Sequence[Tensor], stock: Sequence[Tensor]) -> float:
    """Largest difference, relative to the largest value of the stock tensor where that is above 1; inf of NaN."""
    if [x.shape for x in ours] != [x.shape for x in stock]:
        raise Broken(f'shapes {[tuple(x.shape) for x in ours]} instead of {[tuple(x.shape) for x in stock]}')
    worst = 0.0
    for x, y in zip(ours, stock):
        if not torch.isfinite(y).all():
            raise NotHere('the stock output is not finite on these inputs')
        if not torch.isfinite(x).all():
            return math.inf
        if y.numel():
            worst = max(worst, float((x.double() - y.double()).abs().max()) / max(1.0, float(y.abs().max())))
    return worst


def equal(ours: Sequence[Tensor], stock: Sequence[Tensor]) -> str:
    if not stock:
        raise Broken('nothing came out to compare')
    worst = difference(ours, stock)
    if not worst <= TOLERANCE:
        raise Broken(f'differs by {worst:.1e}')
    return '' if worst == 0 else f'{worst:.0e}'


def of_stock(call: Callable[[], Any]) -> Any:
    """The stock recognizer's own result; what it cannot do is not asked of the plugged one."""
    try:
        return call()
    except Exception as error:
        raise NotHere(f'stock: {type(error).__name__}: {" ".join(str(error).split())[:120]}') from error


# ---- the columns -------------------------------------------------------------------------------------------------


def loads(subject: Subject) -> str:
    """The stock state dict loads; only the neck's keys are missing."""
    neck = 'neck.lsef.' if subject.model.get('neck') else 'neck.'
    strangers = [key for key in subject.missing if not key.startswith(neck)]
    if strangers or subject.unexpected:
        raise Broken(f'also missing: {strangers[:3]}, unexpected: {subject.unexpected[:3]}')
    if not subject.missing:
        raise Broken('no key of a neck is missing: there is no neck')
    return ''


def identity(subject: Subject) -> str:
    """Equal logits and scores at initialisation, and outputs that depend on the inputs."""
    stock = of_stock(lambda: subject.scores(subject.stock))
    with entering(subject.necks()) as subject.maps:
        note = equal(subject.scores(subject.plugged), stock)
    if difference(subject.scores(subject.stock, seed=1), stock) == 0:
        raise Broken('the stock output does not depend on the inputs, so equality says nothing')
    return note


def predicts(subject: Subject) -> str:
    """Equal scores with the config's own clips and crops, and its own test_cfg."""
    options: Dict[str, Any] = dict(inputs=subject.test_inputs, videos=1, views=subject.test_views())
    stock = of_stock(lambda: subject.scores(subject.stock, **options))
    note = equal(subject.scores(subject.plugged, **options), stock)
    said = f'{subject.test.clips} x {subject.test.crops}' if subject.test else 'no test of its own: 1 view'
    return ', '.join(part for part in (said, *map(str, subject.test_cfg), note) if part)


def few_views(subject: Subject) -> str:
    """Equal scores when views pass in groups of ``max_testing_views`` (Recognizer3D; the config's own number else)."""
    if subject.kind != 'Recognizer3D':
        raise NotHere('only Recognizer3D groups views')
    if 'max_testing_views' in subject.test_cfg:
        return f'own, {subject.test_cfg["max_testing_views"]}'
    return _with_test_cfg(subject, dict(subject.test_cfg, max_testing_views=2), dict(videos=1, views=3))


def full_convolution(subject: Subject) -> str:
    """Equal scores with ``fcn_test``, where the host's head can read maps."""
    if subject.test_cfg.get('fcn_test'):
        return 'own'
    if subject.kind != 'Recognizer2D':
        raise NotHere('only heads of Recognizer2D read it')
    return _with_test_cfg(subject, dict(fcn_test=True, num_segs=subject.geometry.t), dict(videos=1))


def _with_test_cfg(subject: Subject, test_cfg: Dict, options: Dict) -> str:
    both: List[Any] = [subject.stock, subject.plugged]
    for model in both:
        model.test_cfg = test_cfg
    try:
        stock = of_stock(lambda: subject.scores(subject.stock, **options))
        return equal(subject.scores(subject.plugged, **options), stock)
    finally:
        for model in both:
            model.test_cfg = subject.test_cfg or None


def tensor_mode(subject: Subject) -> str:
    """``mode='tensor'`` runs up to the backbone and through the head, with equal results."""
    notes = []
    for stage in ('backbone', 'head'):
        stock = of_stock(functools.partial(_tensors, subject, subject.stock, stage))
        notes.append(equal(_tensors(subject, subject.plugged, stage), stock))
    return max(notes)


def _tensors(subject: Subject, model: Any, stage: str) -> List[Tensor]:
    model.eval()
    inputs = subject.inputs.batch(model, videos=1)['inputs']
    seed_all()
    with torch.no_grad():
        return tensors_of(model(inputs, mode='tensor', stage=stage))


def copies(subject: Subject) -> str:
    """A deep copy, as EMA makes it, listens to its own neck; an awake neck changes the output."""
    before = subject.scores(subject.plugged)
    twin = copy.deepcopy(subject.plugged)
    for neck in subject.necks(twin):
        wake(neck)
    if difference(subject.scores(subject.plugged), before):
        raise Broken('changing the copy changed the original')
    if not difference(subject.scores(twin), before) > TOLERANCE:
        raise Broken('changing the neck of the copy did not change its output')
    return ''


def complexity(subject: Subject) -> str:
    """The host's tools/analysis_tools/get_flops.py runs and counts the neck's parameters."""
    try:
        counted = _count(subject, subject.plugged)
    except Exception:
        of_stock(lambda: _count(subject, subject.stock))    # the host's fault if this fails too
        raise
    stock = sum(p.numel() for p in subject.stock.parameters())
    neck = sum(p.numel() for each in subject.necks() for p in each.parameters())
    if counted['params'] - stock != neck or not neck or not counted['flops'] > 0:
        raise Broken(f'{counted["params"] - stock} parameters more, the neck has {neck}; {counted["flops"]} operations')
    return f'{neck / 1e6:.2f} M of {counted["params"] / 1e6:.1f} M'


def _count(subject: Subject, model: Any) -> Dict[str, Any]:
    from mmengine.analysis import get_model_complexity_info
    model.eval()
    inputs = subject.inputs.batch(model, videos=1)['inputs']
    if subject.kind == 'RecognizerOmni':
        inputs = inputs[0]      # the tool hands it (batch, c, t, h, w)
    model.forward = model.extract_feat
    try:
        return get_model_complexity_info(model, inputs=(inputs, ))
    finally:
        del model.forward


def mixed_precision(subject: Subject) -> str:
    """Forward, loss and backward under bfloat16 autocast are finite."""

    def step(model: Any) -> Tuple[Tensor, List[str]]:
        model.zero_grad(set_to_none=True)
        with torch.autocast('cpu', dtype=torch.bfloat16):
            loss, _ = subject.loss(model)
        loss.backward()
        bad = [name for name, p in model.named_parameters() if p.grad is not None and not torch.isfinite(p.grad).all()]
        return loss.detach(), bad

    loss, bad = step(subject.plugged)
    if torch.isfinite(loss) and not bad:
        return ''
    stock_loss, stock_bad = of_stock(lambda: step(subject.stock))
    if not torch.isfinite(stock_loss) or stock_bad:
        raise NotHere('the stock loss or gradient is not finite in bfloat16')
    raise Broken(f'loss {loss.item():.3g}, gradients not finite: {bad[:3]}')


def learns(subject: Subject) -> str:
    """Finite loss; after the first step some, after the second every parameter of the neck has had a gradient."""
    neck = {name: p for name, p in subject.plugged.named_parameters()
            if any(p is q for each in subject.necks() for q in each.parameters()) and p.requires_grad}
    optimizer = torch.optim.SGD(neck.values(), lr=0.1)
    reached: Dict[str, int] = {}
    for step in (1, 2):
        subject.plugged.zero_grad(set_to_none=True)
        loss, _ = subject.loss(subject.plugged)
        if not torch.isfinite(loss):
            raise Broken(f'loss {loss.item()} at step {step}')
        loss.backward()
        for name, parameter in neck.items():
            if parameter.grad is not None and not torch.isfinite(parameter.grad).all():
                raise Broken(f'gradient of {name} is not finite at step {step}')
            if parameter.grad is not None and parameter.grad.abs().sum() > 0:
                reached.setdefault(name, step)
        if not reached:
            raise Broken('no parameter of the neck has a gradient in the first step')
        optimizer.step()
    silent = sorted(set(neck) - set(reached))
    if silent:
        raise Broken(f'{len(silent)} of {len(neck)} have no gradient after two steps: {", ".join(silent[:3])}')
    first = sum(step == 1 for step in reached.values())
    return f'{first} then {len(neck)} of {len(neck)}'


def optimizer(subject: Subject) -> str:
    """The config's own optim_wrapper, with its constructor, takes every parameter of the neck exactly once."""
    config, note = optim_config(subject.cfg)
    wrapper = build_optim_wrapper(subject.plugged, config)
    grouped = [id(p) for group in wrapper.optimizer.param_groups for p in group['params']]
    counts = {name: grouped.count(id(p)) for name, p in subject.plugged.named_parameters()
              if any(p is q for each in subject.necks() for q in each.parameters()) and p.requires_grad}
    wrong = [f'{name} {count} times' for name, count in counts.items() if count != 1]
    if wrong or not counts:
        raise Broken(f'not exactly once: {", ".join(wrong[:3]) or "there is no neck"}')
    return note


def optim_config(cfg: Any) -> Tuple[Dict, str]:
    """A config's optim_wrapper for a CPU, and what is to be said about it."""
    if cfg.get('optim_wrapper') is None:
        return dict(optimizer=dict(type='SGD', lr=0.01)), 'none of its own: SGD'
    config = copy.deepcopy(cfg.optim_wrapper)
    note = str(config.get('constructor', 'default')).replace('Constructor', '').replace('OptimWrapper', '')
    if config.get('type', 'OptimWrapper') != 'OptimWrapper':
        note += f', {config.type} -> OptimWrapper'
        for key in ('loss_scale', 'dtype', 'use_fsdp'):
            config.pop(key, None)
        config.type = 'OptimWrapper'
    return config, note


def passive(subject: Subject) -> str:
    """The recognizer without the line is the host's own: no module and no hook of ours, no neck."""
    for name, module in subject.stock.named_modules():
        if type(module).__module__.startswith('lsef_plugins'):
            raise Broken(f'{name or "the recognizer"} is our {type(module).__name__}')
        for hooks in (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks):
            for hook in hooks.values():
                owner = getattr(hook, '__module__', None) or type(hook).__module__
                if str(owner).startswith('lsef_plugins'):
                    raise Broken(f'{name or "the recognizer"} has a hook of ours')
    if getattr(subject.stock, 'neck', None) is not None and not subject.model.get('neck'):
        raise Broken('it has a neck')
    return ''


# In this order: what is cheap and what all else rests on first; training, which moves weights, at the end.
COLUMNS: Dict[str, Callable[[Subject], str]] = {
    'passive': passive, 'loads': loads, 'identity': identity, 'predict': predicts, 'max_testing_views': few_views,
    'fcn_test': full_convolution, 'tensor mode': tensor_mode, 'deepcopy': copies, 'complexity': complexity,
    'bf16': mixed_precision, 'learns': learns, 'optimizer': optimizer}
# A stock recognizer that cannot do these is no reason to ask nothing of the plugged one: the row fails.
ESSENTIAL = ('passive', 'loads', 'identity', 'predict', 'deepcopy', 'learns', 'optimizer')
