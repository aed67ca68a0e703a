"""The Gram of a clip's frames is one read, summed in float32 at least, of the features or of what events leave."""
import pytest
import torch

from lsef_plugins import ops
from lsef_plugins.ops import gram, low_rank_sparse

F64 = torch.float64
SIZES = [(2, 3, 8, 49), (1, 1, 1, 1), (3, 5, 4, 7), (2, 33, 3, 130), (1, 2, 17, 257), (2, 1, 33, 16), (1, 70, 8, 3)]


def features(*size, dtype=F64, seed=0):
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed), dtype=F64).to(dtype)


@pytest.mark.parametrize('size', SIZES, ids=str)
def test_inner_products_of_whole_frames(computed_by, size):
    x = features(*size)
    rows = x.transpose(1, 2).flatten(2)
    torch.testing.assert_close(gram(x), rows @ rows.transpose(1, 2), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize('frames', range(1, 34))
def test_every_number_of_frames(computed_by, frames):
    x = features(2, 3, frames, 5)
    rows = x.transpose(1, 2).flatten(2)
    torch.testing.assert_close(gram(x), rows @ rows.transpose(1, 2), rtol=1e-12, atol=1e-12)


def test_exactly_symmetric(computed_by):
    g = gram(features(2, 40, 13, 49, dtype=torch.float32))
    assert torch.equal(g, g.transpose(1, 2))


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16, torch.float32], ids=str)
def test_sums_are_kept_in_float32(computed_by, dtype):
    x = features(2, 64, 8, 49, dtype=dtype)
    g = gram(x)
    assert g.dtype == torch.float32
    # sqrt(3136) products of s.d. 1 cancel; 1e-6 of the diagonal 3136 is far below what bfloat16 sums could hold.
    torch.testing.assert_close(g.double(), gram(x.double()), rtol=0, atol=3e-3)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16, torch.float32, F64], ids=str)
def test_the_gradient_is_the_derivative(computed_by, dtype):
    x = features(2, 3, 5, 6)
    assert torch.autograd.gradcheck(gram, (x.clone().requires_grad_(), ))
    cotangent = features(2, 5, 5, seed=1)
    z = x.to(dtype).requires_grad_()
    (gram(z) * cotangent).sum().backward()
    expected = (cotangent + cotangent.transpose(1, 2))[:, None] @ z.detach().double()
    assert z.grad.dtype == dtype
    torch.testing.assert_close(z.grad.double(), expected, rtol=2e-2 if dtype.itemsize == 2 else 1e-5, atol=2e-2)


def left_by_events(size, dtype=F64):
    x = features(*size, dtype=dtype)
    operator = features(size[0], size[2], size[2], seed=2).to(torch.promote_types(dtype, torch.float32)) / 5
    tau = torch.full(size[:2], 0.6, dtype=operator.dtype)
    keep = torch.linspace(0, 1, size[2], dtype=operator.dtype).expand(size[0], -1)
    return x, operator, tau, keep


@pytest.mark.parametrize('size', SIZES, ids=str)
@pytest.mark.parametrize('exponent', [1.0, 2.0, float('inf')])
def test_of_what_the_transient_leaves_without_writing_it(computed_by, size, exponent):
    x, operator, tau, keep = left_by_events(size)
    s = low_rank_sparse(x, operator, tau, keep, exponent=exponent, outputs=('transient', )).transient
    expected = gram(x - s)
    with torch.no_grad():
        torch.testing.assert_close(gram(x, operator, tau, keep, exponent), expected, rtol=1e-12, atol=1e-11)
    torch.testing.assert_close(gram(x, operator, tau, keep, exponent), expected, rtol=1e-12, atol=1e-11)


def test_of_what_the_transient_leaves_sends_its_gradient(computed_by):
    arguments = [z.clone().requires_grad_() for z in left_by_events((2, 2, 3, 2))]
    assert torch.autograd.gradcheck(lambda *z: gram(*z, revival=0.0), arguments)


def test_an_operator_wants_its_threshold():
    x, operator, tau, _ = left_by_events((2, 3, 4, 5))
    for arguments in (dict(operator=operator), dict(tau=tau)):
        with pytest.raises(ValueError, match='give both operator and tau'):
            gram(x, **arguments)


@pytest.mark.parametrize('size', [(0, 3, 8, 5), (2, 0, 8, 5), (2, 3, 8, 0)], ids=str)
def test_nothing_has_the_gram_zero(computed_by, size):
    x = features(*size).requires_grad_()
    g = gram(x)
    assert g.shape == (size[0], 8, 8) and g.abs().sum() == 0
    g.sum().backward()
    assert x.grad.shape == size


def test_a_broken_value_reaches_the_products_of_its_frame_only(computed_by):
    x = features(2, 3, 8, 20)
    x[1, 2, 3, 4] = float('nan')
    broken = gram(x).isnan()
    assert not broken[0].any() and broken[1, 3].all() and broken[1, :, 3].all() and broken.sum() == 15


def test_the_same_bits_with_any_strides_and_any_number_of_threads(compiled):
    x = features(3, 70, 8, 49, dtype=torch.float32)
    expected = gram(x)
    last = x[..., None].to(memory_format=torch.channels_last_3d).flatten(3)
    assert last.stride() != x.stride() and torch.equal(gram(last), expected)
    threads = torch.get_num_threads()
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            assert torch.equal(gram(x), expected)
    finally:
        torch.set_num_threads(threads)


def test_torch_finds_nothing_wrong_with_the_registration_and_compiles_it(compiled):
    x = features(2, 3, 8, 5, dtype=torch.float32).requires_grad_()
    torch.library.opcheck(torch.ops.lsef.gram.default, (x, None, None, None, 2.0))
    torch.library.opcheck(torch.ops.lsef.gram.default, (*(z.detach() for z in left_by_events((2, 3, 4, 5))), 2.0))
    compiled_gram = torch.compile(lambda z: gram(z).square().sum(), fullgraph=True, backend='aot_eager')
    found, = torch.autograd.grad(compiled_gram(x), x)
    expected, = torch.autograd.grad(gram(x).square().sum(), x)
    torch.testing.assert_close(found, expected)


def test_the_raw_operator_says_that_it_has_no_gradient_through_events(compiled):
    arguments = [z.clone().requires_grad_() for z in left_by_events((2, 3, 4, 5))]
    with pytest.raises(RuntimeError, match='lsef_plugins.ops.gram composes it'):
        torch.ops.lsef.gram(*arguments, 2.0)
    with pytest.raises(RuntimeError, match='needs both the operator and tau'):
        torch.ops.lsef.gram(arguments[0].detach(), arguments[1].detach(), None, None, 2.0)


def test_more_frames_than_the_compiled_operator_takes_are_computed_by_the_formula(library):
    x = features(1, 2, 65, 3)
    rows = x.transpose(1, 2).flatten(2)
    with ops.backend('auto'):
        torch.testing.assert_close(gram(x), rows @ rows.transpose(1, 2))
