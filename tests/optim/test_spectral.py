"""Spectral damping: what it may change of a matrix, and what never."""
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from lsef_plugins.functional.rank import participation_ratio
from lsef_plugins.optim import damped
from lsef_plugins.optim.spectral import (
    FLOOR,
    apply_root,
    gram,
    in_float64_if_need_be,
    nearer_tau2,
    newton_schulz_steps,
    norm_of,
    over,
    ridge_rank,
    root_by_eigenvectors,
    root_by_products,
    tau2_of_kappa,
    tau2_of_rank,
)

SHAPES = [(3, 5, 9), (2, 9, 5), (1, 7, 7), (4, 2, 31)]
WAYS = [dict(kappa=0.3), dict(kappa=1.0), dict(kappa=4.0), dict(target=0.2), dict(target=0.5), dict(target=0.9)]


def matrices(shape, seed=0, decay=2.0):
    """With singular values that fall over two decades, so that damping has something to do."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(shape, dtype=torch.float64, generator=generator)
    u, s, vh = torch.linalg.svd(x, full_matrices=False)
    return (u * torch.logspace(0, -decay, s.shape[-1], dtype=torch.float64)) @ vh * 3.7


def by_definition(x, tau):
    """The formula on singular values: s / sqrt(s^2 + tau^2), then the norm put back."""
    u, s, vh = torch.linalg.svd(x / x.norm(dim=(-2, -1), keepdim=True), full_matrices=False)
    h = s / (s.square() + tau ** 2).sqrt()
    h = h / h.norm(dim=-1, keepdim=True) * x.norm(dim=(-2, -1))[..., None]
    return (u * h[..., None, :]) @ vh


def effective_rank(x):
    u = over(x, norm_of(x))
    return participation_ratio(gram(u)) / min(x.shape[-2:])


@pytest.mark.parametrize('shape', SHAPES)
@pytest.mark.parametrize('kappa', [0.3, 1.0, 4.0])
def test_a_fixed_floor_is_the_formula_on_singular_values(shape, kappa):
    x = matrices(shape)
    assert torch.allclose(damped(x, kappa=kappa)[0], by_definition(x, kappa / math.sqrt(min(shape[1:]))), atol=1e-10)


@pytest.mark.parametrize('shape', SHAPES)
@pytest.mark.parametrize('way', WAYS, ids=str)
def test_the_norm_is_kept_and_the_effective_rank_never_falls(shape, way):
    x = matrices(shape)
    h, rank = damped(x, **way)
    assert torch.allclose(norm_of(h), norm_of(x), rtol=1e-12)
    assert (effective_rank(h) > effective_rank(x) * (1 + 1e-6)).all() and (effective_rank(h) <= 1 + 1e-12).all()
    assert ((rank > 0) & (rank <= 1)).all()


@pytest.mark.parametrize('way', WAYS, ids=str)
def test_equal_singular_values_are_left_as_they_are(way):
    q = torch.linalg.qr(torch.randn(9, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1)))[0]
    for x in (2.5 * q[None], 2.5 * q.T[None]):
        assert torch.allclose(damped(x, **way)[0], x, atol=1e-12)


@pytest.mark.parametrize('way', WAYS, ids=str)
def test_rank_one_stays_rank_one(way):
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(6, 1, dtype=torch.float64, generator=generator) @ torch.randn(
        1, 11, dtype=torch.float64, generator=generator)
    assert torch.allclose(damped(x[None], **way)[0], x[None], atol=1e-9)


def test_its_limits_are_the_gradient_and_its_polar_factor():
    x = matrices((2, 4, 6), decay=1.0)
    assert torch.allclose(damped(x, kappa=1e6)[0], x, rtol=1e-9)
    u, _, vh = torch.linalg.svd(x, full_matrices=False)
    polar = u @ vh
    near = damped(x, kappa=2 * math.sqrt(FLOOR))[0]
    assert torch.allclose(near, polar * norm_of(x) / norm_of(polar), rtol=1e-3, atol=1e-3)
    assert not torch.allclose(near, x, rtol=0.1)


@pytest.mark.parametrize('target', [0.1, 0.5, 0.9, 1.0])
@pytest.mark.parametrize('shape', SHAPES)
def test_the_floor_meets_the_target_or_is_the_lowest(shape, target):
    x = over(matrices(shape), norm_of(matrices(shape)))
    spectrum = torch.linalg.eigvalsh(gram(x)).clamp_min(0)
    tau2 = tau2_of_rank(spectrum, target)
    rank = ridge_rank(spectrum, tau2)
    lowest = ridge_rank(spectrum, torch.full_like(tau2, FLOOR))
    assert torch.allclose(rank, torch.minimum(lowest, torch.full_like(rank, target)), atol=1e-6)
    assert torch.equal(root_by_eigenvectors(gram(x), target=target).tau2, tau2)


def test_a_target_beyond_the_rank_takes_the_lowest_floor():
    spectrum = torch.tensor([[1.0, 0, 0, 0]])
    assert tau2_of_rank(spectrum, 0.5).item() == pytest.approx(FLOOR)
    assert tau2_of_kappa(1.0, 16) == pytest.approx(1 / 16) and tau2_of_kappa(1e-9, 16) == FLOOR


@pytest.mark.parametrize('tau2', [FLOOR, 1e-4, 0.02, 3.0])
@pytest.mark.parametrize('shape', SHAPES)
def test_products_find_the_root_that_eigenvectors_find(shape, tau2):
    """Relative to the largest value of the root, 1/tau; float32 rounding is magnified by up to 1/tau^2."""
    for dtype, close in ((torch.float64, 1e-6), (torch.float32, 1e-6 / tau2 ** 0.5 + 1e-6)):
        x = over(matrices(shape), norm_of(matrices(shape))).to(dtype)
        exact = root_by_eigenvectors(gram(x.double()), tau2)
        found = root_by_products(gram(x), torch.full((shape[0], ), tau2, dtype=dtype), tau2)
        assert (found.matrix - exact.matrix).abs().max() <= close * exact.matrix.abs().max() * 10
        assert torch.allclose(found.rank.double(), exact.rank, atol=20 * close)


def test_steps_are_few_and_enough():
    assert newton_schulz_steps(FLOOR) <= 13 and newton_schulz_steps(0.1) < newton_schulz_steps(1e-3)


@pytest.mark.parametrize('target', [0.2, 0.5, 0.8])
def test_the_floor_follows_the_target_without_eigenvalues(target):
    x = over(matrices((3, 12, 30)), norm_of(matrices((3, 12, 30))))
    tau2 = torch.tensor([1.0, 0.02, 1e-5], dtype=torch.float64)
    for _ in range(14):
        root = root_by_products(gram(x), tau2)
        tau2 = nearer_tau2(root, target)
    assert torch.allclose(tau2, tau2_of_rank(torch.linalg.eigvalsh(gram(x)), target), rtol=1e-3)
    assert torch.allclose(root.rank, torch.full_like(tau2, target), atol=1e-4)


def test_the_floor_stays_where_it_may_be():
    one = torch.zeros(1, 4, 6, dtype=torch.float64)
    one[0, 0, 0] = 1
    tau2 = torch.ones(1, dtype=torch.float64)
    for _ in range(30):
        tau2 = nearer_tau2(root_by_products(gram(one), tau2), 0.9)
    assert tau2.item() == pytest.approx(FLOOR)


def test_tall_and_wide_are_the_same_matrix():
    x = matrices((2, 5, 9))
    assert torch.allclose(damped(x.mT.contiguous(), target=0.5)[0], damped(x, target=0.5)[0].mT)
    assert gram(x).shape == gram(x.mT).shape == (2, 5, 5)
    root = torch.eye(5, dtype=torch.float64)
    assert torch.equal(apply_root(root, x), x) and torch.equal(apply_root(root, x.mT), x.mT)


def test_it_turns_with_its_input_and_grows_with_it():
    x = matrices((1, 5, 8))
    generator = torch.Generator().manual_seed(3)
    left = torch.linalg.qr(torch.randn(5, 5, dtype=torch.float64, generator=generator))[0]
    right = torch.linalg.qr(torch.randn(8, 8, dtype=torch.float64, generator=generator))[0]
    assert torch.allclose(damped(left @ x @ right, target=0.4)[0], left @ damped(x, target=0.4)[0] @ right, atol=1e-8)
    assert torch.allclose(damped(1e6 * x, kappa=1.0)[0], 1e6 * damped(x, kappa=1.0)[0], rtol=1e-9)


def test_a_gram_matrix_on_which_float32_lapack_gives_up():
    """Of a training: 17 rows are alive, 47 exactly zero. Fails so in MKL; any other LAPACK must agree as well."""
    g = torch.from_numpy(np.load(Path(__file__).parent / 'data' / 'gram_float32_lapack_gives_up.npz')['gram'])[None]
    root, exact = root_by_eigenvectors(g, target=0.2), root_by_eigenvectors(g.double(), target=0.2)
    assert root.matrix.dtype == torch.float32
    assert torch.allclose(root.matrix.double() @ g.double(), exact.matrix @ g.double(), atol=1e-4)
    assert root.rank.item() == pytest.approx(0.2, abs=1e-4)


def test_where_the_solver_gives_up_it_is_asked_in_float64():
    asked = []

    def solve(g):
        asked.append(g.dtype)
        if g.dtype == torch.float32:
            raise torch.linalg.LinAlgError('the algorithm failed to converge')
        return g

    assert in_float64_if_need_be(solve, torch.eye(3)).dtype == torch.float64
    assert asked == [torch.float32, torch.float64]


def test_nothing_comes_of_nothing():
    h, rank = damped(torch.zeros(2, 3, 4), target=0.5)
    assert torch.equal(h, torch.zeros(2, 3, 4)) and rank.isfinite().all()
