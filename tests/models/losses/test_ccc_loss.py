"""CCCLoss: the field's loss, on whatever a batch may hold."""
import pytest
import torch

import lsef_plugins  # noqa: F401
from lsef_plugins.evaluation.functional import ccc
from lsef_plugins.registry import MODELS


def build(**options):
    return MODELS.build(dict(type='CCCLoss', **options))


def pair(*shape, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    target = torch.rand(*shape, 2, generator=generator, dtype=dtype) * 2 - 1
    return (.5 * target + .2 * torch.randn(*shape, 2, generator=generator, dtype=dtype)).clamp(-1, 1), target


@pytest.mark.parametrize('shape', [(16, ), (4, 5)])
@pytest.mark.parametrize('weight', [0.0, 0.1, 2.0])
def test_it_is_one_minus_ccc_and_some_squared_error_over_all_frames_together(shape, weight):
    predicted, target = pair(*shape, dtype=torch.float64)
    x, y = target.reshape(-1, 2).numpy(), predicted.reshape(-1, 2).numpy()
    expected = sum(1 - ccc(x[:, d], y[:, d]) + weight * ((x - y)[:, d] ** 2).mean() for d in (0, 1)) / 2
    assert build(mse_weight=weight)(predicted, target).item() == pytest.approx(expected, rel=1e-9)
    assert build(mse_weight=weight, loss_weight=3.)(predicted, target).item() == pytest.approx(3 * expected, rel=1e-9)


def test_invalid_frames_teach_nothing_and_a_batch_of_them_is_zero():
    predicted, target = pair(12, dtype=torch.float64)
    target[[1, 4], 0] = float('nan')
    target[[1, 7], 1] = float('nan')
    predicted.requires_grad_()
    loss = build()(predicted, target)
    loss.backward()
    assert loss.isfinite() and predicted.grad.isfinite().all()
    assert torch.equal(predicted.grad == 0, target.isnan())
    changed = predicted.detach().clone()
    changed[target.isnan()] = -1.
    assert build()(changed, target).item() == pytest.approx(loss.item(), rel=1e-12)
    only_arousal = target.clone()
    only_arousal[:, 0] = float('nan')
    rows = ~target[:, 1].isnan()
    alone = 1 - ccc(target[rows, 1].numpy(), predicted.detach()[rows, 1].numpy()) + \
        .1 * (predicted.detach() - target)[rows, 1].square().mean().item()
    assert build()(predicted, only_arousal).item() == pytest.approx(alone)
    predicted.grad = None
    nothing = build()(predicted, torch.full_like(target, float('nan')))
    nothing.backward()
    assert nothing.item() == 0 and (predicted.grad == 0).all(), 'every parameter keeps a gradient: DDP waits for it'


@pytest.mark.parametrize('case', ['one', 'constant target', 'constant prediction', 'equal constants'])
def test_where_there_is_nothing_to_agree_on_the_squared_error_teaches(case):
    predicted, target = pair(1 if case == 'one' else 8)
    if 'target' in case or 'equal' in case:
        target = torch.full_like(target, .25)
    if 'prediction' in case or 'equal' in case:
        predicted = torch.full_like(predicted, .25)
    predicted.requires_grad_()
    loss = build()(predicted, target)
    loss.backward()
    square = (predicted - target).square().mean().item()
    assert loss.item() == pytest.approx(1 + .1 * square, rel=1e-4) and predicted.grad.isfinite().all()
    if case in ('one', 'constant target'):
        torch.testing.assert_close(predicted.grad, .1 * 2 * (predicted - target).detach() / target.numel())


def test_descending_it_reaches_the_target():
    predicted, target = pair(20)
    parameter = torch.zeros_like(target).requires_grad_()       # starts as a constant
    optimizer = torch.optim.SGD([parameter], lr=2.)
    for _ in range(300):
        optimizer.zero_grad()
        build()(parameter.tanh(), target).backward()
        optimizer.step()
    assert build(mse_weight=0.)(parameter.tanh(), target).item() < .02


def test_gradcheck():
    predicted, target = pair(7, dtype=torch.float64)
    target[2, 0] = float('nan')
    assert torch.autograd.gradcheck(lambda x: build()(x, target), predicted.requires_grad_())


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(dtype):
    predicted, target = pair(64)
    half = predicted.to(dtype)
    expected = build()(half.float(), target)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        found = build()(half.requires_grad_(), target)
    assert found.dtype == torch.float32 and torch.equal(found, expected)
    found.backward()
    assert half.grad.dtype == dtype and half.grad.isfinite().all()


def test_a_prediction_that_is_not_finite_shows():
    predicted, target = pair(8)
    predicted[0, 0] = float('nan')
    assert build()(predicted, target).isnan()


def test_what_would_broadcast_or_has_lost_its_fractions_is_told():
    predicted, target = pair(4)
    with pytest.raises(ValueError, match=r'predictions \(4, 2\) and targets \(2,\) came\. Make num_frames'):
        build()(predicted, target[0])
    with pytest.raises(ValueError, match=r'targets are torch\.int64.*cut off the fractions.*PackAffectInputs'):
        build()(predicted, target.long())
    with pytest.raises(ValueError, match='mse_weight is at least 0 and eps positive, got -1'):
        build(mse_weight=-1)
