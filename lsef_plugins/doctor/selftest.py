"""Does it compute what it should here? Planted truth, compiled code against formulas, a recognizer against its twin."""
import time
from typing import Any, Callable, Iterator, List, Tuple

import torch
from torch import Tensor

from .. import ops
from ..nn import LSEF
from .findings import FAULT, GOOD, NOTE, Finding


def planted() -> Iterator[Finding]:
    """A base of rank one, an event, and a bad frame, in noise of 0.05: each must be found in its own place."""
    generator = torch.Generator().manual_seed(0)
    channels, frames, bad = 32, 16, 11
    base = torch.randn(channels, 1, 6, 6, generator=generator) * torch.linspace(0.7, 1.3, frames)[:, None, None]
    event = torch.zeros_like(base)
    event[:4, 5:8, 2, 3] = 1
    x = base + event + 0.05 * torch.randn(base.shape, generator=generator)
    x[:, bad] *= 10
    with torch.no_grad():
        found = LSEF(channels, rank=1).decompose(x[None])
    stable, transient, gate = found.stable[0], found.transient[0].abs(), found.frame_gate[0]
    error = float((stable - base).norm() / base.norm())
    others = [t for t in range(frames) if t != bad]
    inside, outside = transient[event > 0].min(), transient[:, others][event[:, others] == 0].max()
    sums = found.stable + found.transient + found.residual
    laws = {
        'the parts do not sum to the features': bool((sums - x).abs().max() < 1e-4),
        f'the base is off by {error:.2f}': error < 0.05,
        f'the gates are {[round(g, 2) for g in gate.tolist()]}, but frame {bad} alone is bad':
            bool(gate[bad] > 0.9 and gate[others].max() < 0.1),
        f'the event is {inside:.2f} where it was planted and {outside:.2f} elsewhere': bool(inside > 2 * outside)}
    yield from _told('planted truth', laws, f'base found to {error:.3f}, event and bad frame in their places')


def compiled() -> Iterator[Finding]:
    """Values and gradients of the compiled operators, as far as there are any, against the formulas beside them."""
    if ops.status()['library'] is None:
        yield Finding('compiled operators', 'none are loaded', NOTE)
        return
    for device in ('cpu', *(['cuda'] if torch.cuda.is_available() and 'cuda' in ops.status()['devices'] else [])):
        worst = max(float((ours - theirs).abs().max() / theirs.abs().max().clamp(min=1e-6))
                    for ours, theirs in zip(_computed('compiled', device), _computed('reference', device)))
        laws = {f'they differ from the formulas by {worst:.1e}': worst < 1e-3}
        yield from _told(f'compiled operators, {device}', laws,
                         f'equal to the formulas within {worst:.0e}, gradients too')


def _computed(backend: str, device: str) -> List[Tensor]:
    torch.manual_seed(0)
    lsef = LSEF(16)
    assert lsef.cim is not None
    torch.nn.init.normal_(lsef.cim.out.weight, std=0.1)
    x = torch.randn(2, 16, 9, 5, 4, generator=torch.Generator().manual_seed(1)) + 2
    lsef, x = lsef.to(device), x.to(device).requires_grad_()
    with ops.backend(backend):
        y = lsef(x)
        gradients = torch.autograd.grad(y.square().mean(), [x, *(p for p in lsef.parameters() if p.requires_grad)],
                                        allow_unused=True)
    return [y.detach(), *(g for g in gradients if g is not None)]


def recognizers() -> Iterator[Finding]:
    """A stock recognizer and its twin with the neck and equal weights give the same scores, and the neck learns."""
    from mmaction.registry import MODELS
    from mmengine.registry import DefaultScope
    with DefaultScope.overwrite_default_scope('mmaction'):
        stock, plugged = (MODELS.build(_recognizer(neck)).eval() for neck in ({}, dict(neck=dict(type='LSEFNeck'))))
    missing, unexpected = plugged.load_state_dict(stock.state_dict(), strict=False)
    x = torch.randn(2, 1, 3, 8, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        scores = stock.cls_head(*_features(stock, x))
        ours = plugged.cls_head(*_features(plugged, x))
    plugged.cls_head(*_features(plugged, x)).square().sum().backward()
    gradients = [p.grad for name, p in plugged.named_parameters() if name.startswith('neck.') and p.grad is not None]
    laws = {
        'weights other than those of the neck are new': not unexpected and all(n.startswith('neck.') for n in missing),
        f'the scores differ by {float((scores - ours).abs().max()):.1e}': torch.equal(scores, ours),
        'no gradient reaches the neck': any(bool(g.abs().max() > 0) for g in gradients)}
    yield from _told('recognizer', laws, 'equal scores with and without the neck, which gets gradients')


def _features(model: Any, x: Tensor) -> Tuple[Any, ...]:
    features, options = model.extract_feat(x, stage='neck')
    return (features, )


def _recognizer(neck: dict) -> dict:
    return dict(
        type='Recognizer3D',
        backbone=dict(type='ResNet3dSlowOnly', depth=18, pretrained=None, lateral=False, base_channels=4,
                      conv1_kernel=(1, 7, 7), conv1_stride_t=1, pool1_stride_t=1, inflate=(0, 0, 0, 0),
                      norm_eval=False),
        cls_head=dict(type='I3DHead', in_channels=32, num_classes=3, dropout_ratio=0.0),
        **neck)


def _told(name: str, laws: dict, words: str) -> Iterator[Finding]:
    broken = [law for law, holds in laws.items() if not holds]
    yield Finding(name, '; '.join(broken) if broken else words, FAULT if broken else GOOD)


def timed(test: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    start = time.perf_counter()
    for finding in test():
        yield finding._replace(value=f'{finding.value} ({time.perf_counter() - start:.1f} s)')
