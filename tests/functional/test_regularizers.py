"""Laws of the auxiliary losses: the Gram form is the direct form, free of scale and size."""
import pytest
import torch

from lsef_plugins.functional import (
    moving_average,
    rank_excess,
    reconstruction_energy,
    scale_consistency,
    stable_operator,
    transient_density,
)

F64 = torch.float64
WINDOWS = (1, 3, 5)


def clips(b=3, t=7, d=40, seed=0):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(b, 1, d, generator=g, dtype=F64) + 0.5 * torch.randn(b, t, d, generator=g, dtype=F64)
    return x, x @ x.mT


def operator_of(g):
    return stable_operator(g, rank=3).operator


def direct(x, m, rank=3):
    """Each loss from the clips themselves."""
    low = m @ x
    energy = torch.linalg.svdvals(low).square()
    consistency = []
    for window in WINDOWS[1:]:
        average = moving_average(x.shape[1], window, F64)
        smooth = average @ x
        apart = operator_of(smooth @ smooth.mT) @ smooth - average @ low
        consistency.append(apart.square().sum((1, 2)) / smooth.square().sum((1, 2)))
    return dict(reconstruction=(x - low).square().sum((1, 2)) / x.square().sum((1, 2)),
                rank=(energy.sum(-1) ** 2 / energy.square().sum(-1) - 1) / (rank - 1),
                consistency=torch.stack(consistency).mean(0))


def from_gram(g, m, rank=3):
    return dict(reconstruction=reconstruction_energy(m, g), rank=rank_excess(m, g, rank),
                consistency=scale_consistency(m, g, operator_of, WINDOWS))


@pytest.mark.parametrize('name', ['reconstruction', 'rank', 'consistency'])
def test_the_gram_form_is_the_direct_form(name):
    x, g = clips()
    m = operator_of(g)
    value = from_gram(g, m)[name]
    torch.testing.assert_close(value, direct(x, m)[name], rtol=1e-9, atol=1e-12)
    assert value.shape == (3,) and (value > 1e-3).all(), 'planted so that there is something to measure'


@pytest.mark.parametrize('factor', [-3.0, 1e-20, 1e15])
def test_free_of_scale(factor):
    x, g = clips()
    scaled = factor ** 2 * g
    ours, theirs = from_gram(scaled, operator_of(scaled)), from_gram(g, operator_of(g))
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name], rtol=1e-8, atol=0)
    s = x.float().masked_fill(x.abs() < 1, 0)
    torch.testing.assert_close(transient_density(factor * s), transient_density(s), rtol=1e-5, atol=0)


def test_free_of_size():
    """Twice the channels with the same content: the same values."""
    x, g = clips()
    ours, theirs = from_gram(2 * g, operator_of(2 * g)), from_gram(g, operator_of(g))
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name], rtol=1e-8, atol=0)
    s = x.masked_fill(x.abs() < 1, 0)
    torch.testing.assert_close(transient_density(torch.cat([s, s], 2)), transient_density(s), rtol=1e-12, atol=0)


def test_all_stable_reconstructs_all_and_nothing_stable_nothing():
    _, g = clips()
    identity = torch.eye(7, dtype=F64).expand_as(g)
    assert reconstruction_energy(identity, g).abs().max() == 0
    torch.testing.assert_close(reconstruction_energy(0 * identity, g), torch.ones(3, dtype=F64))
    # Plain low rank explains part: the ratio of the energies of the spectrum's tail.
    m = stable_operator(g, rank=2, mode='hard', robust_iters=0).operator
    spectrum = torch.linalg.eigvalsh(g).flip(-1)
    torch.testing.assert_close(reconstruction_energy(m, g), spectrum[:, 2:].sum(-1) / spectrum.sum(-1), rtol=1e-9,
                               atol=0)


@pytest.mark.parametrize('rank', [1, 2, 4, 7, 12])
def test_rank_excess_goes_from_one_mode_to_all_that_are_allowed(rank):
    modes = min(rank, 7)
    identity = torch.eye(7, dtype=F64)[None]
    one = torch.zeros(1, 7, 7, dtype=F64)
    one[0, 0, 0] = 5
    full = torch.diag((torch.arange(7) < modes).double())[None]
    torch.testing.assert_close(rank_excess(identity, one, rank), torch.zeros(1, dtype=F64))
    torch.testing.assert_close(rank_excess(identity, full, rank), torch.tensor([float(rank > 1)], dtype=F64))
    # The operator counts, not only the clip.
    torch.testing.assert_close(rank_excess(one / 5, full, rank), torch.zeros(1, dtype=F64))


@pytest.mark.parametrize('kept', [0, 1, 6, 20])
def test_the_density_of_equal_entries_is_their_share(kept):
    s = torch.zeros(2, 4, 5)
    s.view(2, -1)[:, :kept] = 3.0
    s.view(2, -1)[:, :kept // 2] = -3.0
    torch.testing.assert_close(transient_density(s), torch.full((2,), kept / 20))


def test_unequal_entries_count_less():
    # (2 + 1)^2 / (4 + 1) / 4
    torch.testing.assert_close(transient_density(torch.tensor([[2.0, -1.0, 0.0, 0.0]])), torch.tensor([0.45]))


@pytest.mark.parametrize('peak', [1e-38, 1e-20, 1e15, 1e38])
def test_the_density_leaves_no_range(peak):
    s = torch.tensor([[0.0, peak, -peak, 0.0]], requires_grad=True)
    density = transient_density(s)
    density.sum().backward()
    torch.testing.assert_close(density.detach(), torch.tensor([0.5]))
    assert s.grad.isfinite().all()


def test_the_density_of_no_clips_and_of_no_elements_is_empty_or_zero():
    assert transient_density(torch.zeros(0, 3, 4)).shape == (0,)
    assert transient_density(torch.zeros(2, 0, 4)).tolist() == [0.0, 0.0]


@pytest.mark.parametrize('rate, low, high', [(0.0, 0.0, 1e-12), (0.02, 1e-9, 0.01), (1.0, 0.05, 1.0)])
def test_consistency_tells_a_slow_base_from_a_fast_one(rate, low, high):
    """A base of six curves that turn by about ``rate`` per frame, three of them allowed: smoothing fast curves
    changes which ones are the strongest, so it does not commute with taking the stable part."""
    time = rate * torch.arange(16, dtype=F64)[:, None] * torch.tensor([[1.0, 2.3, 3.1, 0.4, 1.7, 2.8]], dtype=F64)
    u = torch.randn(6, 60, generator=torch.Generator().manual_seed(1), dtype=F64)
    x = (0.1 + torch.cos(time)) @ u
    g = (x @ x.T)[None]
    value = scale_consistency(operator_of(g), g, operator_of, WINDOWS).item()
    assert low <= value <= high


def test_consistency_of_one_scale_is_nothing():
    _, g = clips()
    assert scale_consistency(operator_of(g), g, operator_of, (1,)).tolist() == [0.0] * 3


@pytest.mark.parametrize('make', [lambda x: 0 * x, lambda x: x[:, :1].expand_as(x).clone(),
                                  lambda x: torch.cat([0 * x[:1], x[1:]])], ids=['zero', 'constant', 'half zero'])
def test_finite_values_and_gradients_on_clips_without_change(make):
    x = make(clips()[0]).requires_grad_()
    g = x @ x.mT
    losses = from_gram(g, operator_of(g))
    losses['density'] = transient_density(x)
    sum(v.sum() for v in losses.values()).backward()
    assert all(v.isfinite().all() and (v >= 0).all() for v in losses.values())
    assert x.grad.isfinite().all()


def test_the_gradient_is_the_derivative():
    x = clips(b=1, t=5, d=4)[0].requires_grad_()

    def total(z):
        g = z @ z.mT
        m = stable_operator(g, rank=3, robust_iters=0).operator
        plain = scale_consistency(m, g, lambda k: stable_operator(k, rank=3, robust_iters=0).operator, WINDOWS)
        return reconstruction_energy(m, g) + rank_excess(m, g, 3) + plain + transient_density(z)

    assert torch.autograd.gradcheck(total, (x,), atol=1e-5)


def test_all_scales_are_found_in_one_batch():
    calls, g = [], clips()[1]

    def counted(smoothed):
        calls.append(len(smoothed))
        return operator_of(smoothed)

    value = scale_consistency(operator_of(g), g, counted, (1, 3, 5))
    assert calls == [2 * len(g)]
    one_by_one = [scale_consistency(operator_of(g), g, operator_of, (1, w)) for w in (3, 5)]
    torch.testing.assert_close(value, sum(one_by_one) / 2)
