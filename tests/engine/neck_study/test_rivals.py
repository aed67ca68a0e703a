"""Each rival is the block that was published, and the identity at the start."""
import pytest
import torch
from mmaction.registry import MODELS
from mmengine.registry import init_default_scope

import lsef_plugins  # noqa: F401
from lsef_plugins.engine.neck_study import rivals

NAMES = ['PointwiseNeck', 'TemporalConvolutionNeck', 'NonLocalNeck', 'HamburgerNeck']


@pytest.fixture(autouse=True)
def scope():
    init_default_scope('mmaction')
    torch.manual_seed(0)


def awake(name, channels=12, width=8, **options):
    """A neck whose last layer is no longer zero."""
    neck = MODELS.build(dict(type=name, in_channels=channels, width=width, **options))
    for parameter in neck.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return neck


def clip(frames=5):
    return torch.randn(3, 12, frames, 2, 3)


@pytest.mark.parametrize('name', NAMES)
def test_a_rival_starts_as_the_identity_and_then_learns(name):
    neck = MODELS.build(dict(type=name, in_channels=12, width=8))
    neck.init_weights()
    x = clip().requires_grad_()
    y = neck(x)[0]
    assert torch.equal(y, x)
    y.square().sum().backward()
    assert sum(float(p.grad.abs().sum()) > 0 for p in neck.parameters() if p.grad is not None) >= 1
    neck = awake(name).train()
    assert not torch.allclose(neck(x)[0], x)
    neck(x)[0].square().sum().backward()
    assert all(torch.isfinite(p.grad).all() and p.grad.abs().sum() > 0 for p in neck.parameters())


def test_the_pointwise_rival_sees_each_place_alone():
    neck, x = awake('PointwiseNeck').eval(), clip()
    other = x.clone()
    other[:, :, 2, 1, 1] += 1
    changed = (neck(other)[0] - neck(x)[0]).abs().sum(1)
    assert changed[:, 2, 1, 1].min() > 0.01 and changed.count_nonzero() == 3


def test_the_temporal_convolution_is_one_of_three_frames():
    neck, x = awake('TemporalConvolutionNeck').eval(), clip(7)
    block, = neck.blocks
    padded = torch.nn.functional.pad(x, (0, 0, 0, 0, 1, 1))
    hidden = sum(torch.einsum('mc,bcthw->bmthw', block.into.weight[:, :, k, 0, 0], padded[:, :, k:k + 7])
                 for k in range(3)) + block.into.bias.view(1, -1, 1, 1, 1)
    added = torch.einsum('cm,bmthw->bcthw', block.out.weight[:, :, 0, 0, 0], torch.nn.functional.gelu(hidden))
    assert torch.allclose(neck(x)[0], x + added + block.out.bias.view(1, -1, 1, 1, 1), atol=1e-4)
    other = x.clone()
    other[:, :, 3] += 1
    assert (neck(other)[0] - neck(x)[0]).abs().sum((0, 1, 3, 4)).nonzero().flatten().tolist() == [2, 3, 4]


def test_the_non_local_rival_is_its_formula():
    """y_i = x_i + BN(W sum_j softmax_j(theta_i . phi_j) g_j) over all places of a clip."""
    neck, x = awake('NonLocalNeck', width=5).eval(), clip()
    block, = neck.blocks

    def mapped(name):
        layer = getattr(block, name).conv
        return torch.einsum('mc,bcn->bmn', layer.weight.flatten(1), x.flatten(2)) + layer.bias[:, None]

    weights = torch.einsum('bmi,bmj->bij', mapped('theta'), mapped('phi')).softmax(-1)
    seen = torch.einsum('bij,bmj->bmi', weights, mapped('g'))
    out, norm = block.conv_out.conv.weight.flatten(1), block.conv_out.norm
    added = torch.einsum('cm,bmn->bcn', out, seen) / (1 + norm.eps) ** 0.5 * norm.weight[:, None] + norm.bias[:, None]
    assert torch.allclose(neck(x)[0], x + added.view_as(x), atol=1e-4)


def planted(rank=2, width=9, places=40):
    generator = torch.Generator().manual_seed(1)
    bases, codes = (torch.rand(3, *shape, generator=generator) for shape in ((width, rank), (rank, places)))
    return (bases * (bases > 0.4)) @ codes


@pytest.mark.parametrize('training', [True, False])
def test_hamburgers_factors_are_not_negative_and_fit(training, monkeypatch):
    ham = rivals.Hamburger(12, 9, 3).train(training)
    z = planted()
    bases, codes = ham.factors(z)
    assert bases.shape == (3, 9, 3) and codes.shape == (3, 3, 40)
    assert bases.min() >= 0 and codes.min() >= 0
    error = [float((z - bases @ codes).norm() / z.norm())]
    for steps in (0, 60):
        monkeypatch.setattr(rivals.Hamburger, 'STEPS', {True: steps, False: steps})
        bases, codes = ham.factors(z)
        error.append(float((z - bases @ codes).norm() / z.norm()))
    few, none, many = error
    assert many < few < none and many < 0.05        # the updates descend to a factorisation that is there


def test_hamburger_adds_the_factorisation_of_what_is_positive():
    """y = x + W_u D C, where D C is that of relu(W_l x + b)."""
    neck, x = awake('HamburgerNeck', width=9, rank=2).eval(), clip()
    block, = neck.blocks
    z = torch.einsum('mc,bcn->bmn', block.lower.weight.flatten(1), x.flatten(2)) + block.lower.bias[:, None]
    assert (z < 0).any()
    bases, codes = block.factors(z.clamp_min(0))
    added = torch.einsum('cm,bmn->bcn', block.upper.weight.flatten(1), bases @ codes)
    assert torch.allclose(neck(x)[0], x + added.view_as(x), atol=1e-4)


def test_hamburger_is_learned_through_its_last_step_alone():
    z = planted().requires_grad_()
    ham = rivals.Hamburger(12, 9, 3).eval()
    bases, codes = ham.factors(z)
    assert not bases.requires_grad and codes.requires_grad
    found, = torch.autograd.grad(codes.sum(), z)
    assert found.isfinite().all() and found.abs().sum() > 0


def test_hamburger_draws_bases_while_training_only():
    ham, z = rivals.Hamburger(12, 9, 3), planted()
    state = torch.get_rng_state()
    first, second = (ham.eval().factors(z)[0] for _ in range(2))
    assert torch.equal(first, second) and torch.equal(state, torch.get_rng_state())
    first, second = (ham.train().factors(z)[0] for _ in range(2))
    assert not torch.equal(first, second)
    assert MODELS.build(dict(type='HamburgerNeck', in_channels=12, width=64)).blocks[0].rank == 8


def test_a_width_below_one_is_told():
    with pytest.raises(ValueError, match='width counts hidden channels and is at least 1, got 0'):
        MODELS.build(dict(type='PointwiseNeck', in_channels=12, width=0))
