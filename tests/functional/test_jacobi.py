"""Laws of Jacobi's method: what eigh gives, by products alone, also where eigenvalues coincide or lie far apart."""
import pytest
import torch

from lsef_plugins.functional import jacobi, jacobi_eigh

SIZES = (1, 2, 3, 4, 5, 8, 9, 16, 25, 32)


def symmetric(values, seed=0, batch=4):
    """Matrices with known eigenvalues, in directions of their own."""
    values = torch.as_tensor(values, dtype=torch.float64)
    generator = torch.Generator().manual_seed(seed)
    u = torch.linalg.qr(torch.randn(batch, len(values), len(values), generator=generator, dtype=torch.float64))[0]
    a = u * values @ u.mT
    return (a + a.mT) / 2


def frames(size, *changes, length=40, batch=4):
    """Gram matrices of ``size`` random frames, with factors for single ones."""
    x = torch.randn(batch, size, length, generator=torch.Generator().manual_seed(size), dtype=torch.float64)
    for frame, factor in changes:
        x[:, frame] *= factor
    return x @ x.mT


CASES = {
    'random': lambda n: frames(n),
    'one frame x 1e4': lambda n: frames(n, (n // 2, 1e4)),
    'two frames x 1e4': lambda n: frames(n, (0, 1e4), (n - 1, 1e4)),
    'graded over 12 orders': lambda n: frames(n, *((i, 10.0 ** (-6 * i / n)) for i in range(n))),
    'constant clip': lambda n: frames(1).expand(4, n, n).clone(),
    'almost constant clip': lambda n: (1 + 1e-5 * frames(n)),
    'rank 2': lambda n: frames(n, length=2),
    'half of the eigenvalues equal 1, half 2': lambda n: symmetric([1.0 + (2 * i < n) for i in range(n)]),
    'five clusters': lambda n: symmetric([float(i % 5) for i in range(n)]),
    'indefinite': lambda n: symmetric([float(i - n // 2) for i in range(n)]),
    'identity': lambda n: torch.eye(n, dtype=torch.float64).expand(3, n, n).clone(),
    'zero': lambda n: torch.zeros(2, n, n, dtype=torch.float64),
    'scale 1e-200': lambda n: 1e-200 * frames(n),
    'scale 1e200': lambda n: 1e200 * frames(n),
}


@pytest.mark.parametrize('case', CASES)
@pytest.mark.parametrize('size', SIZES)
def test_values_are_those_of_eigh_and_vectors_rebuild_the_matrix(size, case):
    a = CASES[case](size)
    values, vectors = jacobi_eigh(a)
    scale = torch.linalg.matrix_norm(a, 2).amax().clamp_min(torch.finfo(a.dtype).tiny)
    a, values = a / scale, values / scale
    # Measured: up to 2.5e-14 at n = 32, each round adding a rounding.
    close = dict(rtol=0, atol=2e-15 * (2 + size))
    torch.testing.assert_close(values, torch.linalg.eigvalsh(a).flip(-1), **close)
    torch.testing.assert_close(vectors * values[:, None] @ vectors.mT, a, **close)
    torch.testing.assert_close(vectors.mT @ vectors, torch.eye(size, dtype=a.dtype).expand_as(a), **close)
    assert (values.diff() <= 0).all()


def test_small_eigenvalues_of_graded_matrices_keep_their_digits():
    """What eigh loses: its error is a part of the largest eigenvalue, Jacobi's one of each."""
    x = torch.diag(10.0 ** -torch.arange(8.0, dtype=torch.float64))
    x = x @ torch.randn(8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    values = jacobi_eigh((x @ x.mT)[None])[0][0]
    expected = torch.linalg.svdvals(x) ** 2
    torch.testing.assert_close(values[:5], expected[:5], rtol=1e-6, atol=0)


def test_every_pair_meets_once_in_a_sweep():
    for size in (2, 4, 6, 10):
        plan = jacobi._plan(size, torch.zeros(1, dtype=torch.float64))
        place, met = torch.arange(size, dtype=torch.float64), set()
        for _ in range(size - 1):
            met |= {frozenset((int(a), int(b))) for a, b in zip(place[:size // 2], place[size // 2:])}
            place = place @ plan.order
        assert len(met) == size * (size - 1) // 2
        assert place.tolist() == list(range(size))


def test_matrices_of_a_batch_do_not_see_each_other():
    a = torch.cat([frames(6), symmetric([1., 1., 1., 2., 2., 2.]), torch.zeros(1, 6, 6, dtype=torch.float64)])
    together = jacobi_eigh(a)[0]
    for index in range(len(a)):
        torch.testing.assert_close(jacobi_eigh(a[index:index + 1])[0][0], together[index], rtol=1e-13, atol=1e-13)


def test_it_stops_when_all_have_converged(monkeypatch):
    turned = []
    stock = jacobi._round
    monkeypatch.setattr(jacobi, '_round', lambda *args: turned.append(1) or stock(*args))
    jacobi_eigh(torch.diag_embed(torch.rand(3, 8, dtype=torch.float64)))
    assert not turned
    jacobi_eigh(frames(8))
    assert 3 * 7 < len(turned) < 7 * 7


def test_a_tracer_gets_a_fixed_number_of_rounds_that_serves_other_matrices_as_well():
    """The TorchScript tracer unrolls: what it saw for an easy matrix must not be too little for a hard one."""
    easy, hard = torch.diag_embed(torch.rand(2, 5, dtype=torch.float64)), frames(5, batch=2)
    traced = torch.jit.trace(lambda a: jacobi_eigh(a)[0], (easy, ), check_trace=False)
    torch.testing.assert_close(traced(hard), torch.linalg.eigvalsh(hard).flip(-1), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize('a', [torch.zeros(3, 3), torch.zeros(1, 3, 4), torch.zeros(1, 3, 3, dtype=torch.long)])
def test_what_is_no_batch_of_square_matrices_is_told(a):
    with pytest.raises(ValueError, match=r'jacobi_eigh takes floating symmetric matrices \(b, n, n\), got torch'):
        jacobi_eigh(a)


def test_sweeps_are_counted_from_one():
    with pytest.raises(ValueError, match='max_sweeps counts passes over all pairs and is at least 1, got 0'):
        jacobi_eigh(torch.zeros(1, 3, 3), max_sweeps=0)
