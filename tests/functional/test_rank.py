"""Laws of the participation ratio: how many modes carry the energy."""
import pytest
import torch

from lsef_plugins.functional import participation_ratio


@pytest.mark.parametrize('modes', [1, 2, 5, 7])
def test_equal_modes_are_counted(modes):
    q, _ = torch.linalg.qr(torch.randn(7, modes, generator=torch.Generator().manual_seed(modes), dtype=torch.float64))
    torch.testing.assert_close(participation_ratio((3.7 * q @ q.T)[None]), torch.tensor([modes]).double(),
                               rtol=1e-12, atol=0)


def test_unequal_modes_count_by_their_energy():
    # (4 + 1 + 1)^2 / (16 + 1 + 1)
    g = torch.diag(torch.tensor([4.0, 1.0, 1.0, 0.0], dtype=torch.float64))[None]
    torch.testing.assert_close(participation_ratio(g), torch.tensor([2.0]).double(), rtol=1e-14, atol=0)


@pytest.mark.parametrize('factor', [1e-250, 1e-40, 1e30, 1e250])
def test_the_ratio_does_not_know_the_units(factor):
    x = torch.randn(3, 5, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    g = x @ x.mT
    torch.testing.assert_close(participation_ratio(factor * g), participation_ratio(g), rtol=1e-12, atol=0)


def test_a_zero_clip_has_one_mode_and_no_gradient():
    g = torch.stack([torch.zeros(4, 4), torch.ones(4, 4)]).double().requires_grad_()
    ratio = participation_ratio(g)
    ratio.sum().backward()
    assert ratio.tolist() == [1.0, 1.0]
    assert g.grad.isfinite().all() and g.grad[0].abs().max() == 0


def test_the_gradient_is_the_derivative_although_the_trace_is_detached():
    x = torch.randn(2, 4, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda z: participation_ratio(z @ z.mT), (x,))
