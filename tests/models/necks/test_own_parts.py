"""A registered part of the user's own by its name, inside the host's recognizers."""
import pytest
import torch
from torch import nn

import lsef_plugins  # noqa: F401  (first: it repairs the host)
from lsef_plugins.engine.optimizers.roles import roles_of
from lsef_plugins.models.necks import LSEFNeck
from lsef_plugins.registry import MODELS


@MODELS.register_module(name='own_parts_base', force=True)
class Base(nn.Module):

    def __init__(self, channels):
        super().__init__()
        self.mix = nn.Conv2d(channels, channels, (3, 1), padding=(1, 0), groups=channels)

    def forward(self, x):
        return self.mix(x)


@MODELS.register_module(name='own_parts_transient', force=True)
class Transient(nn.Module):

    def forward(self, x, stable, frame_gate):
        return (x - stable).clamp_min(0)


NECK = dict(type='LSEFNeck', sem=dict(type='own_parts_base'), ddm=dict(type='own_parts_transient'))


@pytest.mark.parametrize('name', ['slowonly', 'tsn', 'slowfast'])
def test_a_recognizer_takes_it_by_name_starts_bit_identical_and_learns(name, make_family, plug_like, wake):
    family = make_family(name)
    stock = family.build()
    plugged, missing = plug_like(family, stock, NECK)
    assert all(key.startswith('neck.') for key in missing)
    assert torch.equal(family.scores(plugged), family.scores(stock))
    losses = wake(plugged).train()(**family.batch(plugged, training=True), mode='loss')
    sum(value.mean() for key, value in losses.items() if 'loss' in key).backward()
    for stream in plugged.neck.streams:
        assert stream.sem.module.mix.weight.grad.abs().max() > 0
    assert {key for key in losses if key.startswith('lsef/')} == {'lsef/reconstruction', 'lsef/density'}
    roles = roles_of(plugged, [key for key, _ in plugged.named_parameters()])
    assert roles['neck.streams.0.sem.module.mix.weight'] == 'stable'


def test_an_unknown_name_and_a_loss_that_cannot_be_computed_are_told():
    with pytest.raises(ValueError, match=r"ddm=dict\(type='NoSuchPart'\) names no registered module\. .*custom_imp"):
        LSEFNeck(in_channels=4, ddm=dict(type='NoSuchPart'))
    for name in ('rank', 'consistency'):
        with pytest.raises(ValueError, match=f'aux_loss {name} cannot be computed of Base: consistency needs SEM'):
            LSEFNeck(in_channels=4, sem=NECK['sem'], aux_loss={name: 0.1})
    LSEFNeck(in_channels=4, sem=NECK['sem'], aux_loss=dict(reconstruction=0.1, density=0.1))
