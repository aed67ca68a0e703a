"""The concordance that is trained is the one that is reported, wherever there is something to agree on."""
import math

import pytest
import torch

from lsef_plugins.evaluation.functional import ccc
from lsef_plugins.functional.concordance import EPS, concordance, masked_mean_square


def pair(n=31, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    target = torch.rand(n, 2, generator=generator, dtype=dtype) * 2 - 1
    noise = .2 * torch.randn(n, 2, generator=generator, dtype=dtype)
    return .5 * target + noise + torch.tensor([.1, -.3], dtype=dtype), target


@pytest.mark.parametrize('seed', range(5))
def test_it_is_the_metrics_ccc_of_each_column(seed):
    predicted, target = pair(seed=seed)
    expected = [ccc(target[:, d].numpy(), predicted[:, d].numpy()) for d in (0, 1)]
    assert concordance(predicted, target).tolist() == pytest.approx(expected, rel=1e-12)


def test_a_common_offset_costs_float32_no_digits():
    predicted, target = pair(dtype=torch.float32)
    exact = concordance(predicted.double() + 64, target.double() + 64)
    torch.testing.assert_close(concordance(predicted + 64, target + 64), exact.float(), rtol=1e-4, atol=1e-5)


def test_what_is_not_valid_is_not_there():
    predicted, target = pair()
    generator = torch.Generator().manual_seed(1)
    valid = torch.rand(31, 2, generator=generator) < .6
    broken = target.clone()
    broken[~valid] = float('nan')
    predicted.requires_grad_()
    found = concordance(predicted, broken, valid)
    square = masked_mean_square(predicted, broken, valid)
    for d in (0, 1):
        rows = valid[:, d]
        assert found[d].item() == pytest.approx(ccc(target[rows, d].numpy(), predicted[rows, d].detach().numpy()))
        assert square[d].item() == pytest.approx((target - predicted)[rows, d].square().mean().item())
    (found.sum() + square.sum()).backward()
    assert predicted.grad.isfinite().all() and torch.equal(predicted.grad != 0, valid)


@pytest.mark.parametrize('case', ['constant target', 'constant prediction', 'both equal', 'one', 'none valid', 'empty'])
def test_where_there_is_nothing_to_agree_on_it_is_zero_and_flat_enough(case):
    predicted, target = pair(7)
    valid = None
    if case in ('constant target', 'both equal'):
        target = torch.full_like(target, .1)
    if case in ('constant prediction', 'both equal'):
        predicted = torch.full_like(predicted, .1)
    if case == 'one':
        predicted, target = predicted[:1], target[:1]
    if case == 'empty':
        predicted, target = predicted[:0], target[:0]
    if case == 'none valid':
        valid, target = torch.zeros_like(target, dtype=torch.bool), target * float('nan')
    predicted = predicted.requires_grad_()
    found = concordance(predicted, target, valid)
    assert found.tolist() == pytest.approx([0, 0], abs=1e-12)
    found.sum().backward()
    assert predicted.grad.isfinite().all()
    if case != 'constant prediction':
        assert predicted.grad.abs().max() <= 1e-9 if predicted.numel() else True


@pytest.mark.parametrize('spread', [1e-6, 1e-4, 1e-3, 3e-3, 1e-2, 1.])
def test_the_gradient_stays_below_what_is_promised(spread):
    for seed in range(20):
        predicted, target = pair(6, seed)
        predicted = (predicted * spread).requires_grad_()
        concordance(predicted, target * spread)[0].backward()
        assert predicted.grad.norm() <= 5 / math.sqrt(6 * EPS)


def test_gradients_are_those_of_differences():
    predicted, target = pair(9)
    valid = torch.rand(9, 2, generator=torch.Generator().manual_seed(0)) < .7
    assert torch.autograd.gradcheck(lambda x: concordance(x, target, valid), predicted.requires_grad_())
    tiny = (1e-4 * predicted.detach()).requires_grad_()         # below eps: the limited denominator
    assert torch.autograd.gradcheck(lambda x: concordance(x, 1e-4 * target), tiny, eps=1e-9, atol=1e-3, rtol=1e-3)
    assert torch.autograd.gradcheck(lambda x: masked_mean_square(x, target, valid), predicted.detach().requires_grad_())


def test_a_prediction_that_is_not_finite_shows():
    predicted, target = pair()
    predicted[3, 0] = float('nan')
    found = concordance(predicted, target, torch.ones_like(target, dtype=torch.bool))
    assert found[0].isnan() and found[1].isfinite()
