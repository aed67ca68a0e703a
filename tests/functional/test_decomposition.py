"""Laws of the frame-robust stable operator: low rank, blind to bad frames, with a bounded gradient."""
import pytest
import torch

from lsef_plugins.functional import (
    apply_over_time,
    clip_gram,
    frame_keep,
    geometric_median_weights,
    isolation,
    neighbour_predictor,
    spectral_shrinkage,
    stable_operator,
)

F64 = torch.float64
STARTS = ('local', 'geometric_median')
MODES = ('garrote', 'soft', 'hard')


def noisy_base(b=3, c=4, t=9, n=25, sigma=0.1, seed=0, drift=True):
    """A base of rank 2 (tone and slow drift; rank 1 without) and white noise: x and base, (b, c, t, n) float64."""
    g = torch.Generator().manual_seed(seed)
    tone, slope = (torch.randn(b, c, 1, n, generator=g, dtype=F64) for _ in range(2))
    curve = torch.linspace(-0.5, 0.5, t, dtype=F64)[:, None] * float(drift)
    base = tone + curve * slope
    return base + sigma * torch.randn(b, c, t, n, generator=g, dtype=F64), base


def stable(x, **options):
    found = stable_operator(clip_gram(x), **options)
    return apply_over_time(found.operator, x), found.frame_gate


def error(low, base):
    return ((low - base).flatten(1).norm(dim=1) / base.flatten(1).norm(dim=1)).max().item()


def with_frames(x, frames, value):
    x = x.clone()
    x[:, :, frames] = value(x[:, :, frames])
    return x


def jacobian_norm(function, x):
    jacobian = torch.autograd.functional.jacobian(function, x)
    return torch.linalg.matrix_norm(jacobian.reshape(x.numel(), x.numel()), 2).item()


# ---- rank and agreement with plain low rank ----------------------------------------------------------------------

@pytest.mark.parametrize('start', STARTS)
@pytest.mark.parametrize('mode', MODES)
@pytest.mark.parametrize('rank, robust_iters', [(1, 1), (2, 1), (3, 2), (5, 0)])
def test_rank_never_exceeds_the_cap_with_bad_frames_neither(start, mode, rank, robust_iters):
    x, _ = noisy_base()
    x = with_frames(x, [2, 6], lambda f: f + 5 * torch.randn(f.shape, generator=torch.Generator().manual_seed(1)))
    low, gate = stable(x, rank=rank, mode=mode, start=start, robust_iters=robust_iters)
    assert (gate[:, [2, 6]] > 0.5).all() == (robust_iters > 0)
    values = torch.linalg.svdvals(low.transpose(1, 2).flatten(2))
    assert (values[:, rank:] < 1e-12 * values[:, :1]).all()


def test_without_robust_passes_it_is_plain_spectral_shrinkage():
    g = clip_gram(noisy_base()[0])
    for mode in MODES:
        found = stable_operator(g, rank=3, mode=mode, robust_iters=0)
        assert torch.equal(found.operator, spectral_shrinkage(g, 3, mode))
        assert torch.equal(found.frame_gate, torch.zeros(3, 9, dtype=F64))


@pytest.mark.parametrize('frames', [2, 3])
def test_too_few_frames_to_outvote_a_bad_one_are_left_to_plain_low_rank(frames):
    x, _ = noisy_base(t=frames)
    x = with_frames(x, [0], lambda f: 50 * f)
    low, gate = stable(x, rank=1)
    assert gate.abs().max() == 0
    torch.testing.assert_close(low, stable(x, rank=1, robust_iters=0)[0], rtol=0, atol=0)


@pytest.mark.parametrize('rank', [5, 8])
def test_a_clip_no_longer_than_the_rank_is_all_stable(rank):
    x = with_frames(noisy_base(t=5)[0], [3], lambda f: 50 * f)
    low, gate = stable(x, rank=rank)
    assert torch.equal(low, x) and gate.abs().max() == 0


def test_a_clean_clip_loses_nothing_to_robustness():
    """No frame is gated, and the error is that of the truncated SVD of the planted rank."""
    x, base = noisy_base(t=16)
    low, gate = stable(x)
    assert gate.max() < 0.35
    assert error(low, base) < 1.05 * error(stable(x, mode='hard', robust_iters=0)[0], base)


# ---- bad frames --------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('start', STARTS)
@pytest.mark.parametrize('amplitude', [3.0, 30.0, 1e4])
@pytest.mark.parametrize('frame', [0, 7, 15])
def test_one_bad_frame_is_found_and_does_not_bend_the_base(start, amplitude, frame):
    x, base = noisy_base(t=16, drift=False)
    noise = torch.randn(3, 4, 1, 25, generator=torch.Generator().manual_seed(2), dtype=F64)
    x = with_frames(x, [frame], lambda f: f + amplitude * noise)
    low, gate = stable(x, start=start, rank=1)
    others = [t for t in range(16) if t != frame]
    # 100 random features agree with their neighbour's by chance: a cosine of 0.2, two standard deviations
    assert gate[:, frame].min() > 1 - 0.5 / amplitude - 0.2 ** 2 and gate[:, others].max() < 0.35
    assert error(low, base) < 0.05
    if amplitude >= 30:
        assert error(stable(x, rank=1, robust_iters=0)[0], base) > 1, 'plain low rank follows the bad frame'


@pytest.mark.parametrize('how', [lambda f: 0 * f, lambda f: 1e4 * f])
def test_a_dropped_frame_and_a_huge_one_are_gated_and_filled_in(how):
    """Both lie inside the span of the base: rank alone cannot see them, their neighbours can."""
    x, base = noisy_base(t=16, drift=False)
    low, gate = stable(with_frames(x, [5], how))
    assert gate[:, 5].min() > 0.9 and gate[:, [4, 6]].max() < 0.35
    assert error(low, base) < 0.05


@pytest.mark.parametrize('start', STARTS)
def test_a_quarter_of_bad_frames(start):
    x, base = noisy_base(t=16, drift=False)
    bad = [1, 6, 7, 12]
    noise = 3 * torch.randn(3, 4, 4, 25, generator=torch.Generator().manual_seed(3), dtype=F64)
    low, gate = stable(with_frames(x, bad, lambda f: f + noise), rank=1, start=start)
    assert gate[:, bad].min() > 0.8
    assert error(low, base) < 0.07


def test_the_gate_is_the_formula_of_the_module():
    x, _ = noisy_base(t=8)
    x = with_frames(x, [3], lambda f: f + 2)
    g = clip_gram(x)
    deviation = torch.eye(8, dtype=F64) - neighbour_predictor(geometric_median_weights(g), 1.3)
    prediction_error = torch.stack([
        (deviation[b] @ x[b].transpose(0, 1).flatten(1)).square().sum(1) / deviation[b].square().sum(1)
        for b in range(3)])
    limit = 1.9 ** 2 * prediction_error.median(1, keepdim=True).values
    gate = (1 - limit / prediction_error).relu()
    found = stable_operator(g, frame_kappa=1.9, bandwidth=1.3)
    torch.testing.assert_close(found.outlying, gate, rtol=0, atol=1e-10)
    repair = torch.eye(8, dtype=F64) - gate[..., None] * deviation
    operator = spectral_shrinkage(repair @ g @ repair.mT, 2) @ repair
    torch.testing.assert_close(found.operator, operator, rtol=0, atol=1e-9)
    assert (gate > 0).any() and (gate == 0).any()


def test_a_second_pass_judges_the_frames_by_the_first_base():
    x, base = noisy_base(t=16)
    x = with_frames(x, [3, 4, 5, 11], lambda f: f + 2 * torch.randn(f.shape, dtype=F64,
                                                                  generator=torch.Generator().manual_seed(8)))
    g = clip_gram(x)
    first = stable_operator(g)
    second = stable_operator(g, robust_iters=2)
    deviation = torch.eye(16, dtype=F64) - first.operator
    prediction_error = (deviation @ g * deviation).sum(-1)
    gate = (1 - 6.25 * prediction_error.median(1, keepdim=True).values / prediction_error).relu()
    torch.testing.assert_close(second.outlying, gate, rtol=0, atol=1e-10)
    assert error(apply_over_time(second.operator, x), base) < 0.15


# ---- events and bad frames ---------------------------------------------------------------------------------------

def test_an_event_bends_the_base_no_more_than_bad_frames_do_but_is_not_gated():
    """The same four frames: moved alike they are an event, each in its own way they are bad."""
    x, base = noisy_base(t=16, drift=False)
    g = torch.Generator().manual_seed(5)
    alike = torch.randn(3, 4, 1, 25, generator=g, dtype=F64)
    course = torch.tensor([0.7, 1.0, 1.0, 0.7], dtype=F64)[:, None]
    event = with_frames(x, [6, 7, 8, 9], lambda f: f + course * alike)
    bad = with_frames(x, [6, 7, 8, 9], lambda f: f + torch.randn(f.shape, generator=g, dtype=F64))
    for clip, gated in ((event, False), (bad, True)):
        found = stable_operator(clip_gram(clip), rank=1)
        assert found.outlying[:, 6:10].min() > 0.5
        assert error(apply_over_time(found.operator, clip), base) < 0.12
        gate = found.frame_gate[:, 6:10]
        assert gate.min() > 0.5 if gated else gate.max() < 0.15


def test_isolation_is_one_minus_the_squared_cosine_with_the_more_alike_neighbour():
    x, _ = noisy_base(t=7, drift=False)
    x = with_frames(x, [2, 3], lambda f: f + torch.linspace(-1, 1, 25, dtype=F64))
    g = clip_gram(x)
    operator = stable_operator(g, rank=1).operator
    residual = (x - apply_over_time(operator, x)).transpose(1, 2).flatten(2)
    cosine = torch.nn.functional.cosine_similarity(residual[:, 1:], residual[:, :-1], dim=-1).relu()
    alike = [max(cosine[1, t - 1].item() if t else 0, cosine[1, t].item() if t < 6 else 0) for t in range(7)]
    expected = [1 - value ** 2 for value in alike]
    assert max(alike) > 0.1
    assert isolation(operator, g)[1].tolist() == pytest.approx(expected, abs=1e-9)
    assert torch.equal(isolation(torch.eye(7, dtype=F64).expand(3, 7, 7), g), torch.ones(3, 7, dtype=F64))


def test_without_an_order_of_frames_there_is_no_isolation():
    x, _ = noisy_base(t=16, drift=False)
    x = with_frames(x, [6, 7, 8], lambda f: f + 1)
    found = stable_operator(clip_gram(x), start='geometric_median')
    assert torch.equal(found.frame_gate, found.outlying) and found.outlying[:, 7].min() > 0.5


# ---- symmetries --------------------------------------------------------------------------------------------------

def dirty(seed=0):
    """With a bad frame: a start that depends on the order looks invariant as long as none is flagged."""
    x, _ = noisy_base(seed=seed)
    return with_frames(x, [2], lambda f: f + 3 * torch.randn(f.shape, generator=torch.Generator().manual_seed(4)))


@pytest.mark.parametrize('options', [dict(), dict(start='geometric_median'), dict(slow_basis='dct'),
                                     dict(slow_basis=5, mode='soft'), dict(robust_iters=2), dict(robust_iters=0)],
                         ids=str)
def test_reversing_time_reverses_the_stable_part(options):
    x = dirty()
    torch.testing.assert_close(stable(x.flip(2), **options)[0].flip(2), stable(x, **options)[0], rtol=0, atol=1e-9)


@pytest.mark.parametrize('options, equivariant', [
    (dict(start='geometric_median'), True), (dict(start='geometric_median', robust_iters=2), True),
    (dict(robust_iters=0), True), (dict(), False), (dict(slow_basis=4, robust_iters=0), False)], ids=str)
def test_the_order_of_the_frames_matters_only_where_it_should(options, equivariant):
    x = dirty()
    order = torch.randperm(9, generator=torch.Generator().manual_seed(5))
    difference = (stable(x[:, :, order], **options)[0] - stable(x, **options)[0][:, :, order]).abs().max()
    assert (difference < 1e-9) == equivariant


@pytest.mark.parametrize('start', STARTS)
@pytest.mark.parametrize('factor', [-2.0, 1e-3, 1e3, 1e-60, 1e60])
def test_the_operator_does_not_know_the_scale_of_the_clip(start, factor):
    x = dirty()
    ours, theirs = (stable_operator(clip_gram(z), start=start) for z in (factor * x, x))
    torch.testing.assert_close(ours.operator, theirs.operator, rtol=0, atol=1e-9)
    torch.testing.assert_close(ours.frame_gate, theirs.frame_gate, rtol=0, atol=1e-9)


def test_clips_do_not_see_each_other():
    x = dirty()
    whole = stable_operator(clip_gram(x))
    for b in range(3):
        alone = stable_operator(clip_gram(x[b:b + 1]))
        torch.testing.assert_close(whole.operator[b:b + 1], alone.operator, rtol=0, atol=1e-13)


# ---- degenerate clips --------------------------------------------------------------------------------------------

@pytest.mark.parametrize('start', STARTS)
@pytest.mark.parametrize('robust_iters', [0, 1, 2])
def test_a_constant_clip_is_all_base_and_has_no_bad_frame(start, robust_iters):
    x = torch.randn(2, 3, 1, 5, generator=torch.Generator().manual_seed(6), dtype=F64).expand(2, 3, 8, 5)
    low, gate = stable(x, start=start, robust_iters=robust_iters)
    assert gate.abs().max() == 0
    torch.testing.assert_close(low, x.contiguous(), rtol=0, atol=1e-12)


def test_a_flicker_below_the_floor_makes_no_bad_frame():
    """One frame off by 1e-3 of the clip's amplitude while all others are exactly equal: below sqrt(6.25e-5)."""
    x = torch.ones(1, 2, 8, 5, dtype=F64)
    assert stable(with_frames(x, [3], lambda f: f * 1.001))[1].abs().max() == 0
    assert stable(with_frames(x, [3], lambda f: f * 1.1))[1][0, 3] > 0.5


def test_duplicated_frames_share_their_stable_part():
    x, _ = noisy_base(t=4)
    low, _ = stable(x.repeat_interleave(2, 2))
    torch.testing.assert_close(low[:, :, ::2], low[:, :, 1::2], rtol=0, atol=0.2)
    assert torch.linalg.matrix_rank(low[0].transpose(0, 1).flatten(1), tol=1e-9) <= 2


CLIPS = {
    'zero': lambda x: 0 * x, 'constant': lambda x: x[:, :, :1].expand_as(x).clone(),
    'rank 1': lambda x: x[:, :, :1] * torch.linspace(1, 2, x.shape[2], dtype=F64)[:, None],
    'half the frames zero': lambda x: with_frames(x, [1, 2, 5, 7], lambda f: 0 * f),
    'all frames but one zero': lambda x: with_frames(x, [1, 2, 3, 4, 5, 6, 7], lambda f: 0 * f),
    'duplicate frames': lambda x: x[:, :, :4].repeat_interleave(2, 2),
    'one frame x 1e4': lambda x: with_frames(x, [3], lambda f: 1e4 * f),
    'one frame zero': lambda x: with_frames(x, [3], lambda f: 0 * f),
    'white noise': lambda x: torch.randn(x.shape, generator=torch.Generator().manual_seed(7), dtype=F64),
    'orthonormal frames': lambda x: torch.linalg.qr(x.transpose(1, 2).flatten(2).mT)[0].mT.unflatten(
        2, x.shape[1::2]).transpose(1, 2).contiguous(),
}


@pytest.mark.parametrize('start', STARTS)
@pytest.mark.parametrize('name', CLIPS)
def test_the_gain_of_the_gradient_is_bounded_on_degenerate_clips(name, start):
    """The weights are stopped: the largest singular value of dL/dX stays of the order of 1."""
    x = CLIPS[name](noisy_base(b=1, c=2, t=8, n=5, sigma=0.3)[0])
    assert jacobian_norm(lambda z: stable(z, start=start)[0], x) < 3.5


@pytest.mark.parametrize('options', [dict(), dict(start='geometric_median'), dict(slow_basis='dct'), dict(mode='hard'),
                                     dict(mode='soft', robust_iters=2)], ids=str)
def test_nothing_infinite_comes_of_a_degenerate_clip(options):
    for name, make in CLIPS.items():
        x = make(noisy_base(b=2, c=2, t=8, n=5)[0]).requires_grad_()
        low, gate = stable(x, **options)
        low.square().sum().backward()
        assert low.isfinite().all() and x.grad.isfinite().all(), name
        assert ((gate >= 0) & (gate < 1)).all(), name


def test_no_clips_have_no_operator():
    found = stable_operator(torch.zeros(0, 6, 6, dtype=F64, requires_grad=True))
    assert found.operator.shape == (0, 6, 6) and found.frame_gate.shape == (0, 6)
    found.operator.sum().backward()


# ---- gradients ---------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('mode', MODES)
@pytest.mark.parametrize('options', [
    dict(), dict(start='geometric_median'), dict(slow_basis='dct'), dict(robust_iters=2), dict(robust_iters=0)],
    ids=str)
def test_with_exact_gradient_the_whole_operator_passes_gradcheck(mode, options):
    """A bad frame is gated, so the gates and the weights behind them take part."""
    x = noisy_base(b=1, c=1, t=8, n=4, sigma=0.3, seed=2)[0]
    x = with_frames(x, [3], lambda f: f + 3)
    if options.get('robust_iters') != 0:
        assert 0.3 < stable(x, **options)[1][0, 3] < 1
    x.requires_grad_()
    assert torch.autograd.gradcheck(lambda z: stable(z, mode=mode, exact_gradient=True, **options)[0], (x,),
                                    atol=1e-4, rtol=2e-3)


def test_the_gates_are_constants_to_the_gradient():
    x = dirty().requires_grad_()
    for start in STARTS:
        found = stable_operator(clip_gram(x), start=start)
        assert not found.frame_gate.requires_grad and found.operator.requires_grad
        assert stable_operator(clip_gram(x), start=start, exact_gradient=True).outlying.requires_grad
    # The gradient is that of the operator with the repair held fixed.
    found = stable_operator(clip_gram(x))
    weights = geometric_median_weights(clip_gram(x).detach())
    deviation = torch.eye(9, dtype=F64) - neighbour_predictor(weights, 2.0)
    repair = torch.eye(9, dtype=F64) - found.frame_gate[..., None] * deviation
    held = spectral_shrinkage(repair @ clip_gram(x) @ repair.mT, 2) @ repair
    torch.testing.assert_close(*(torch.autograd.grad(m.square().sum(), x)[0] for m in (found.operator, held)),
                               rtol=0, atol=1e-10)


# ---- the slow basis, and arguments -------------------------------------------------------------------------------

def test_the_slow_basis_holds_the_base_to_slow_cosines():
    x, _ = noisy_base(t=12)
    fast = x * torch.tensor([1.0, -1.0], dtype=F64).repeat(6)[:, None]
    low, _ = stable(x, slow_basis=4)
    spectrum = torch.fft.rfft(torch.cat([low, low.flip(2)], 2), dim=2).abs().square().sum((0, 1, 3))
    # The DCT-II of 12 frames is the even extension's spectrum: cosine k sits in bin k.
    assert spectrum[4:].sum() < 1e-20 * spectrum.sum()
    assert stable(fast, slow_basis=4, robust_iters=0)[0].norm() < 0.25 * fast.norm()
    assert stable(fast, robust_iters=0)[0].norm() > 0.9 * fast.norm()


@pytest.mark.parametrize('frames, slow_basis, modes', [(12, 'dct', 6), (11, 'dct', 5), (12, 4, 4), (12, 1, 3)])
def test_dct_means_half_the_frames_and_never_fewer_than_the_cut_needs(frames, slow_basis, modes):
    """White noise prefers no cosine: an operator of rank 2 touches every one that it may use."""
    x = torch.randn(1, 4, frames, 30, generator=torch.Generator().manual_seed(9), dtype=F64)
    found = stable_operator(clip_gram(x), rank=2, mode='hard', robust_iters=0, slow_basis=slow_basis)
    columns = torch.fft.rfft(torch.cat([found.operator[0], found.operator[0].flip(0)]), dim=0).abs().sum(1)
    assert int((columns > 1e-9 * columns.max()).sum()) == modes


@pytest.mark.parametrize('more_frames_than', [8, 20])
def test_a_slow_basis_of_all_frames_limits_nothing(more_frames_than):
    x = dirty()[:, :, :8]
    torch.testing.assert_close(stable(x, slow_basis=more_frames_than)[0], stable(x)[0], rtol=0, atol=0)


@pytest.mark.parametrize('options', [dict(rank=1), dict(mode='soft'), dict(robust_iters=0), dict(frame_kappa=1.0),
                                     dict(bandwidth=0.7), dict(start='geometric_median'), dict(slow_basis=3)], ids=str)
def test_every_argument_matters(options):
    g = clip_gram(dirty())
    assert (stable_operator(g, **options).operator - stable_operator(g).operator).abs().max() > 1e-4


@pytest.mark.parametrize('options, message', [
    (dict(start='global'), "start 'global' is not a frame predictor; choose one of local, geometric_median"),
    (dict(robust_iters=-1), 'counts passes and cannot be negative, got -1'),
    (dict(mode='svd'), "mode 'svd' is not a spectral gain"), (dict(rank=0), 'at least 1, got 0'),
    (dict(frame_kappa=0.0), 'frame_kappa and bandwidth .frames. are positive, got 0.0 and 2.0'),
    (dict(bandwidth=-1.0), 'are positive, got 2.5 and -1.0'),
    (dict(slow_basis='fft'), "a number of cosines >= 1, 'dct' .half the frames. or None, got 'fft'"),
    (dict(slow_basis=0), 'slow_basis .* got 0'), (dict(slow_basis=True), 'slow_basis .* got True'),
    (dict(slow_basis=2.0), 'slow_basis .* got 2.0')], ids=str)
def test_an_argument_out_of_its_range_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        stable_operator(clip_gram(dirty()), **options)


@pytest.mark.parametrize('shape', [(4, 4), (2, 3, 4), (2, 3, 4, 4)])
def test_what_is_no_batch_of_grams_is_told_where_grams_come_from(shape):
    with pytest.raises(ValueError, match=r'clip_gram\(x\) makes them'):
        stable_operator(torch.zeros(shape))


# ---- the small pieces --------------------------------------------------------------------------------------------

def test_the_geometric_median_minimises_the_sum_of_distances():
    """Weiszfeld's fixed point, found from the Gram alone: far frames weigh little, and the sum of distances is
    lower than at the mean and near its minimum."""
    x, _ = noisy_base(b=2, t=9, sigma=0.3)
    x = with_frames(x, [1, 4], lambda f: f + 6).transpose(1, 2).flatten(2)
    weights = geometric_median_weights(x @ x.mT)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, dtype=F64))
    assert (weights > 0).all() and (weights[:, [1, 4]].max() < 0.3 * weights.median())

    def cost(w):
        return (x - (w[:, None] @ x)).norm(dim=-1).sum(-1)

    best = cost(weights)
    assert (best < cost(torch.full_like(weights, 1 / 9)) * 0.95).all()
    generator = torch.Generator().manual_seed(10)
    for _ in range(20):
        other = (weights * (1 + 0.3 * torch.randn(2, 9, generator=generator, dtype=F64))).relu()
        # Eight steps come within a thousandth of the minimum.
        assert (best <= cost(other / other.sum(-1, keepdim=True)) * 1.001).all()


def test_the_operator_acts_over_time_and_in_the_dtype_of_the_clip():
    x = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(11))
    m = torch.randn(2, 4, 4, generator=torch.Generator().manual_seed(12), dtype=F64)
    torch.testing.assert_close(apply_over_time(m, x), torch.einsum('bts,bcsn->bctn', m.float(), x))
    torch.testing.assert_close(apply_over_time(m[0], x), torch.einsum('ts,bcsn->bctn', m[0].float(), x))


def test_what_is_kept_of_a_frame_is_what_its_gate_leaves():
    gate = torch.tensor([[0.0, 0.25, 1.0]], dtype=F64)
    keep = frame_keep(gate, torch.zeros(1, 2, 3, 4))
    assert keep.shape == (1, 1, 3, 1) and keep.dtype == torch.float32
    assert keep.flatten().tolist() == [1.0, 0.75, 0.0]


def test_the_gram_of_a_clip_is_float64():
    assert clip_gram(torch.ones(1, 2, 3, 4, dtype=torch.bfloat16)).dtype == F64


def test_without_judging_isolation_the_operator_is_the_same_and_the_gate_is_what_was_repaired():
    x, _ = noisy_base()
    x[:, :, 4:6] += torch.randn(x[:, :, :1].shape, generator=torch.Generator().manual_seed(5)).to(x.dtype)
    g = clip_gram(x)
    judged, spared = stable_operator(g), stable_operator(g, judge_isolation=False)
    assert torch.equal(spared.operator, judged.operator) and torch.equal(spared.frame_gate, judged.outlying)
    assert not torch.equal(spared.frame_gate, judged.frame_gate)
