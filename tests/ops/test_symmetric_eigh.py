"""The small eigenproblem: true to rounding whatever the spectrum, one matrix blind to the others, and no gradient."""
import math

import pytest
import torch

from lsef_plugins import ops
from lsef_plugins.functional import spectral_shrinkage
from lsef_plugins.ops import symmetric_eigh

F64 = torch.float64
UNIT = {torch.float64: 2.3e-16, torch.float32: 1.2e-7}
ROWS = [*range(1, 18), 31, 32, 33]
SPECTRA = {'plain': lambda t: torch.linspace(1, 2, t, dtype=F64),
           'graded': lambda t: torch.logspace(-12, 0, t, dtype=F64),
           'equal': lambda t: torch.ones(t, dtype=F64), 'two': lambda t: torch.arange(t, dtype=F64) % 2 + 1,
           'signs': lambda t: torch.linspace(-1, 1, t, dtype=F64), 'low': lambda t: (torch.arange(t) == t - 1).to(F64)}


def planted(values, n=9, seed=0):
    """``n`` matrices with these eigenvalues, in turned axes."""
    t = len(values)
    q = torch.linalg.qr(torch.randn(n, t, t, generator=torch.Generator().manual_seed(seed), dtype=F64))[0]
    a = q * values @ q.mT
    return (a + a.mT) / 2


@pytest.mark.parametrize('dtype', UNIT, ids=str)
@pytest.mark.parametrize('spectrum', SPECTRA)
@pytest.mark.parametrize('t', ROWS)
def test_planted_eigenvalues_are_found_and_the_vectors_carry_them(computed_by, t, spectrum, dtype):
    """More matrices than a vector of the CPU has lanes."""
    truth = SPECTRA[spectrum](t)
    a = planted(truth, 9 if dtype == F64 else 17).to(dtype)
    values, vectors = symmetric_eigh(a)
    assert values.dtype == vectors.dtype == dtype and values.shape == a.shape[:2] and vectors.shape == a.shape
    bound, v = 16 * UNIT[dtype] * (1 + t / 8), vectors.double()
    assert (values - truth.sort().values).abs().max() <= bound
    assert (a.double() @ v - v * values.double()[:, None]).abs().max() <= bound
    assert (v.mT @ v - torch.eye(t, dtype=F64)).abs().max() <= bound
    assert (values.diff(dim=1) >= 0).all()


@pytest.mark.parametrize('t', [4, 8, 13])
def test_a_graded_matrix_keeps_every_digit_of_its_smallest_eigenvalue(compiled, t):
    """D B D with B well conditioned: LAPACK loses all digits below 1e-16 of the largest. Truth: its inverse, scaled."""
    x = torch.randn(3, t, 4 * t, generator=torch.Generator().manual_seed(0), dtype=F64)
    b, d = x @ x.mT / (4 * t), torch.logspace(0, -18, t, dtype=F64)
    a = d[:, None] * b * d
    smallest = symmetric_eigh((a + a.mT) / 2)[0][:, 0]
    inverse = torch.linalg.inv(b) / d[:, None] / d
    truth = 1 / torch.linalg.eigvalsh((inverse + inverse.mT) / 2)[:, -1]
    torch.testing.assert_close(smallest, truth, rtol=1e-12, atol=0)


def test_only_the_lower_triangle_is_read(computed_by):
    a = planted(SPECTRA['plain'](8))
    upper = torch.full_like(a, 7.0).triu(1)
    for found, expected in zip(symmetric_eigh(a.tril() + upper), symmetric_eigh(a.tril() + a.tril(-1).mT)):
        assert torch.equal(found, expected)


@pytest.mark.parametrize('scale', [1e-300, 1e-160, 1e160, 1e300])
def test_no_size_of_the_units_is_too_large_or_too_small(computed_by, scale):
    a = planted(SPECTRA['plain'](8))
    values, truth = symmetric_eigh(a * scale)[0] / scale, SPECTRA['plain'](8).expand(9, 8)
    torch.testing.assert_close(values, truth, rtol=1e-13, atol=0)


def test_nothing_to_turn(computed_by):
    a = torch.stack([torch.zeros(6, 6), torch.eye(6), torch.diag(torch.tensor([3.0, -1, 2, 0, 5, 4]))]).to(F64)
    values, vectors = symmetric_eigh(a)
    assert torch.equal(values, a.diagonal(dim1=1, dim2=2).sort(-1).values)
    assert torch.equal(vectors.abs().sum(1), torch.ones(3, 6, dtype=F64))


@pytest.mark.parametrize('broken', [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize('t', [1, 2, 8, 15])
def test_what_is_broken_stays_visible_and_alone(compiled, t, broken):
    a = planted(SPECTRA['plain'](t))
    expected = symmetric_eigh(a)
    a[3, t - 1, 0] = broken
    good = torch.arange(9) != 3
    for found, e in zip(symmetric_eigh(a), expected):
        assert found[3].isnan().all() and torch.equal(found[good], e[good])


def test_the_same_bits_alone_or_among_others_and_with_any_number_of_threads(compiled):
    a, threads = planted(SPECTRA['graded'](8), 70), torch.get_num_threads()
    results = []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            results.append(symmetric_eigh(a))
    finally:
        torch.set_num_threads(threads)
    results.append([torch.cat(parts) for parts in zip(*(symmetric_eigh(a[i:i + 1]) for i in range(70)))])
    results.append(symmetric_eigh(a.mT))      # other strides
    for other in results[1:3]:
        assert all(torch.equal(f, e) for f, e in zip(other, results[0]))
    torch.testing.assert_close(results[3][0], results[0][0], rtol=0, atol=1e-15)


def test_what_does_not_matter_yet_is_kept_although_a_neighbour_turns_there(compiled):
    """1e-22 beside 1 and 1e-10 is nothing, until another rotation has left nothing of the 1."""
    a = torch.tensor([[1, 1e-22, 1], [1e-22, 1e-10, 0], [1, 0, 1]], dtype=F64)
    both = torch.stack([a, planted(SPECTRA['plain'](3), 1)[0]])
    alone, among = symmetric_eigh(a[None]), symmetric_eigh(both)
    assert torch.equal(among[0][:1], alone[0]) and torch.equal(among[1][:1], alone[1])
    assert 1e-13 < alone[1][0, 1, 0].abs() < 1e-12, 'turned in the end'


@pytest.mark.parametrize('shape', [(0, 8, 8), (3, 0, 0)], ids=str)
def test_nothing_in_nothing_out(computed_by, shape):
    values, vectors = symmetric_eigh(torch.zeros(shape, dtype=F64))
    assert values.shape == shape[:2] and vectors.shape == shape


@pytest.mark.parametrize('a', [torch.zeros(3, 4, 5), torch.zeros(4, 4), torch.zeros(2, 4, 4, dtype=torch.bfloat16)],
                         ids=('oblong', 'flat', 'bfloat16'))
def test_what_is_no_batch_of_matrices_is_refused(computed_by, a):
    with pytest.raises(ValueError, match=r'takes symmetric matrices \(b, t, t\) of float32 or float64, got'):
        symmetric_eigh(a)


def test_it_carries_no_gradient_and_the_spectral_operator_has_its_own(computed_by):
    x = torch.randn(3, 6, 20, generator=torch.Generator().manual_seed(0), dtype=F64).requires_grad_()
    values, vectors = symmetric_eigh(x @ x.mT)
    assert not values.requires_grad and not vectors.requires_grad
    assert torch.autograd.gradcheck(lambda z: spectral_shrinkage(z @ z.mT, 2), (x, ))


def test_the_spectral_operator_is_the_same_by_either_solver(library):
    x = torch.randn(9, 8, 20, generator=torch.Generator().manual_seed(0), dtype=F64)
    found = []
    for name in ('reference', 'compiled'):
        z = x.clone().requires_grad_()
        with ops.backend(name):
            p = spectral_shrinkage(z @ z.mT, 2)
            p.square().sum().backward()
        found.append((p.detach(), z.grad))
    torch.testing.assert_close(found[1], found[0], rtol=0, atol=1e-13)


def test_torch_finds_nothing_wrong_with_the_registration_and_compiles_it(compiled):
    a = planted(SPECTRA['plain'](8)).float()
    torch.library.opcheck(torch.ops.lsef.symmetric_eigh.default, (a, ))

    def operator(z):
        return spectral_shrinkage(z, 2).sum() + symmetric_eigh(z)[0].sum()

    torch.testing.assert_close(torch.compile(operator, fullgraph=True, backend='aot_eager')(a), operator(a))


@pytest.mark.parametrize('a, message', [(torch.zeros(2, 3, 4), 'takes square matrices'),
                                        (torch.zeros(2, 3, 3).half(), 'takes float32 and float64'),
                                        (torch.zeros(2, 17, 17), 'too many frames'),
                                        (torch.zeros(2, 3, 3)[:, ::2, ::2], 'matrices must be contiguous')],
                         ids=('oblong', 'half', 'large', 'strided'))
def test_the_compiled_operator_names_what_it_refuses(compiled, a, message):
    with pytest.raises(RuntimeError, match=message):
        torch.ops.lsef.symmetric_eigh(a)
