"""Losses for long tails: laws that hold for every batch, and the boundary they lead to where the best is known."""
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import lsef_plugins  # noqa: F401
from lsef_plugins.registry import MODELS

COUNTS = [500, 200, 40, 7]


def build(kind, **options):
    return MODELS.build(dict(type=kind, **options))


def batch(n=24, k=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    scores = 2 * torch.randn(n, k, generator=generator)
    return scores.requires_grad_(), torch.randint(0, k, (n, ), generator=generator)


@pytest.mark.parametrize('kind, options', [
    ('LogitAdjustedLoss', dict(class_counts=[9, 9, 9, 9])), ('LogitAdjustedLoss', dict(class_counts=COUNTS, tau=0)),
    ('ClassWeightedLoss', dict(class_counts=[9, 9, 9, 9])), ('ClassWeightedLoss', dict(class_counts=COUNTS, power=0)),
    ('ClassWeightedLoss', dict(class_counts=COUNTS, beta=0))])
def test_without_imbalance_or_correction_it_is_plain_cross_entropy(kind, options):
    scores, labels = batch()
    torch.testing.assert_close(build(kind, **options)(scores, labels), F.cross_entropy(scores, labels))
    ours, = torch.autograd.grad(build(kind, **options)(scores, labels), scores)
    plain, = torch.autograd.grad(F.cross_entropy(scores, labels), scores)
    torch.testing.assert_close(ours, plain)


@pytest.mark.parametrize('tau', [0.5, 1.0, 2.0])
def test_the_adjustment_is_the_log_of_the_shares_and_does_not_know_their_sum(tau):
    scores, labels = batch()
    shares = torch.tensor(COUNTS) / sum(COUNTS)
    loss = build('LogitAdjustedLoss', class_counts=COUNTS, tau=tau)(scores, labels)
    torch.testing.assert_close(loss, F.cross_entropy(scores + tau * shares.log(), labels))
    more = build('LogitAdjustedLoss', class_counts=[10 * c for c in COUNTS], tau=tau)(scores, labels)
    torch.testing.assert_close(more, loss)


def test_weights_are_the_hosts_and_of_mean_one_over_the_clips():
    scores, labels = batch()
    for options, raw in ((dict(), [1 / c for c in COUNTS]), (dict(power=.5), [c ** -.5 for c in COUNTS]),
                         (dict(beta=.99), [.01 / (1 - .99 ** c) for c in COUNTS])):
        loss = build('ClassWeightedLoss', class_counts=COUNTS, **options)
        weights = loss.weights(torch.tensor(COUNTS, dtype=torch.float64))
        assert (weights * torch.tensor(COUNTS)).sum() / sum(COUNTS) == pytest.approx(1)
        assert (weights / weights[0]).tolist() == pytest.approx([r / raw[0] for r in raw])
        host = build('CrossEntropyLoss', class_weight=weights.float().tolist())
        torch.testing.assert_close(loss(scores, labels), host(scores, labels))
        soft = .9 * F.one_hot(labels, 4) + .025
        torch.testing.assert_close(loss(scores, soft), host(scores, soft))
    assert weights[3] > weights[0]


def test_soft_labels_of_one_class_are_hard_ones():
    scores, labels = batch()
    for kind in ('LogitAdjustedLoss', 'ClassWeightedLoss'):
        loss = build(kind, class_counts=COUNTS)
        torch.testing.assert_close(loss(scores, F.one_hot(labels, 4).float()), loss(scores, labels))


def planted(shares, n=6000, seed=0):
    """Two classes of equal spread on a line, at -1 and 1: the best boundary for UAR is 0, for accuracy it is not."""
    generator = torch.Generator().manual_seed(seed)
    labels = (torch.rand(n, generator=generator) < shares[1]).long()
    x = 2. * labels - 1 + 1.2 * torch.randn(n, generator=generator)
    return x[:, None], labels


def boundary(loss, x, labels):
    model = nn.Linear(1, 2)
    nn.init.zeros_(model.weight), nn.init.zeros_(model.bias)
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=200, line_search_fn='strong_wolfe')

    def step():
        optimizer.zero_grad()
        value = loss(model(x), labels)
        value.backward()
        return value

    optimizer.step(step)
    slope, offset = model.weight[1] - model.weight[0], model.bias[1] - model.bias[0]
    return (-offset / slope).item()


def test_the_adjusted_loss_leads_to_the_best_boundary_for_uar_and_plain_to_that_for_accuracy():
    """Bayes: log p(1|x)/p(0|x) = 2 x / 1.44 + log(pi1 / pi0) is 0 at 0.72 log(pi0/pi1); the likelihoods meet at 0."""
    shares = (.95, .05)
    x, labels = planted(shares)
    counts = torch.bincount(labels).tolist()
    by_accuracy = .72 * math.log(counts[0] / counts[1])
    assert boundary(nn.CrossEntropyLoss(), x, labels) == pytest.approx(by_accuracy, abs=.2) and by_accuracy > 2
    assert boundary(build('LogitAdjustedLoss', class_counts=counts), x, labels) == pytest.approx(0, abs=.2)
    assert boundary(build('ClassWeightedLoss', class_counts=counts), x, labels) == pytest.approx(0, abs=.2)
    half = boundary(build('LogitAdjustedLoss', class_counts=counts, tau=.5), x, labels)
    assert half == pytest.approx(by_accuracy / 2, abs=.25)


def test_bfloat16_scores_are_computed_in_float32():
    scores, labels = batch()
    for kind in ('LogitAdjustedLoss', 'ClassWeightedLoss'):
        loss = build(kind, class_counts=COUNTS)
        with torch.autocast('cpu', dtype=torch.bfloat16):
            found = loss(scores.bfloat16(), labels)
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, loss(scores.bfloat16().float(), labels))


def test_counts_are_no_part_of_a_checkpoint_and_survive_half_precision():
    loss = build('LogitAdjustedLoss', class_counts=[100000, 3])
    assert not loss.state_dict() and not list(loss.parameters())
    expected = loss(torch.zeros(1, 2), torch.tensor([1]))
    torch.testing.assert_close(loss.half()(torch.zeros(1, 2), torch.tensor([1])), expected)


def test_counts_that_are_missing_wrong_or_of_other_classes_are_told():
    scores, labels = batch()
    with pytest.raises(ValueError, match=r"LogitAdjustedLoss does not know how often.*type='ClassCountsHook'"):
        build('LogitAdjustedLoss')(scores, labels)
    with pytest.raises(ValueError, match=r'must be positive for each class; classes \[1\] are not'):
        build('ClassWeightedLoss', class_counts=[3, 0, 2])
    with pytest.raises(ValueError, match=r'knows 3 classes and got scores \(24, 4\)'):
        build('ClassWeightedLoss', class_counts=[3, 1, 2])(scores, labels)
    with pytest.raises(ValueError, match='tau is at least 0'):
        build('LogitAdjustedLoss', tau=-1)
    with pytest.raises(ValueError, match=r'beta in \[0, 1\)'):
        build('ClassWeightedLoss', beta=1.)
