"""A listener hears every decomposition of a model, changes nothing, and leaves no trace."""
import math

import pytest
import torch
from torch import nn

from lsef_plugins.nn import LSEF, DecompositionPooling
from lsef_plugins.nn.listening import Listener, decompositions_of


def hear(model, x):
    heard = []
    listener = Listener(model, lambda place, each: heard.append((place, each)))
    listener.open()
    listener.open()
    try:
        y = model(x)
    finally:
        listener.close()
    return y, heard


@pytest.fixture
def x():
    return torch.randn(2, 4, 8, 3, 2, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize('options', [{}, dict(iterations=3), dict(ddm=dict(group='frame')), dict(rank=9)], ids=str)
def test_what_is_heard_is_the_decomposition_itself(x, options):
    lsef = LSEF(4, **options)
    with torch.no_grad():
        lsef.cim.out.weight.fill_(.1)
    y, [(place, heard)] = hear(lsef, x)
    parts = lsef.decompose(x)
    assert place == 'lsef' and torch.equal(y, lsef(x))
    assert torch.equal(heard.x, x.flatten(3)) and torch.equal(heard.stable.stable, parts.stable.flatten(3))
    assert torch.equal(heard.transient.transient, parts.transient.flatten(3))
    assert torch.equal(heard.stable.frame_gate, parts.frame_gate) and float(heard.kappa.detach()[0, 0]) == \
        pytest.approx(3)
    assert not any(each.requires_grad for each in (heard.x, heard.stable.stable, heard.transient.transient,
                                                   heard.transient.threshold, heard.kappa))


def test_without_a_part_the_other_is_heard_alone(x):
    _, [(_, heard)] = hear(LSEF(4, ddm=False), x)
    assert heard.transient is None and heard.kappa is None and heard.stable is not None
    _, [(_, heard)] = hear(LSEF(4, sem=False), x)
    assert heard.stable is None and heard.transient is not None
    assert not decompositions_of(LSEF(4, sem=False, ddm=False)), 'CIM alone separates nothing'


def test_each_call_is_heard_and_nothing_after_the_end(x):
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.part = LSEF(4)

        def forward(self, x):
            return self.part(self.part(x))

    model = Twice()
    _, heard = hear(model, x)
    assert [place for place, _ in heard] == ['part', 'part']
    before = len(heard)
    model(x)
    assert len(heard) == before
    assert not any(module._forward_hooks for module in model.modules())


def test_training_under_a_listener_is_the_same_training(x):
    gradients = []
    for listened in (False, True):
        torch.manual_seed(0)
        lsef = LSEF(4)
        with torch.no_grad():
            lsef.cim.out.weight.fill_(.1)
        y = hear(lsef, x)[0] if listened else lsef(x)
        y.square().sum().backward()
        gradients.append([p.grad for p in lsef.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*gradients))


def test_under_autocast_what_is_heard_is_computed_without(x):
    found = []
    listener = Listener(LSEF(4), lambda place, heard: found.append((heard.x.mT @ heard.x).dtype))
    listener.open()
    lsef = next(iter(listener.places.values()))
    with torch.autocast('cpu', dtype=torch.bfloat16):
        lsef(x)
    listener.close()
    assert found == [torch.float32]


def test_places_are_named_by_where_they_are_and_numbered_only_where_there_are_several():
    class Many(nn.Module):
        def __init__(self, maps):
            super().__init__()
            self.neck = nn.Module()
            self.neck.streams = nn.ModuleList(LSEF(4) for _ in range(maps))
            self.cls_head = nn.Module()
            self.cls_head.poolings = nn.ModuleList([DecompositionPooling(4, read=('transient', ))])
            self.backbone = nn.Sequential(nn.Identity(), LSEF(4))

    assert sorted(decompositions_of(Many(1))) == ['backbone.1', 'cls_head', 'neck']
    assert sorted(decompositions_of(Many(2))) == ['backbone.1', 'cls_head', 'neck.0', 'neck.1']
    wrapped = nn.Module()
    wrapped.module = Many(1)
    assert sorted(decompositions_of(wrapped)) == ['backbone.1', 'cls_head', 'neck']
    found = decompositions_of(Many(2))
    assert len({id(module) for module in found.values()}) == 4
    assert math.isclose(found['cls_head'].ddm.start_kappa, 1.0)
