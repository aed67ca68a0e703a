"""A clip as a vector: of the order of one, free of scale, and not to be moved far by what is broken."""
import copy

import pytest
import torch
from torch import nn

from lsef_plugins.functional import moving_average
from lsef_plugins.nn import DecompositionPooling
from lsef_plugins.nn.pooling import READINGS

C = 6
pytestmark = pytest.mark.filterwarnings('ignore:SEM. rank', 'ignore:.*hold NaN or Inf')


def clip(b=2, c=C, t=12, h=3, w=4, sigma=0.3, seed=0):
    g = torch.Generator().manual_seed(seed)
    x = 2 * torch.randn(b, c, 1, h, w, generator=g) + sigma * torch.randn(b, c, t, h, w, generator=g)
    return x + torch.linspace(-0.5, 0.5, t)[:, None, None] * torch.randn(b, c, 1, h, w, generator=g)


def event(x, frames, size=3.0):
    """The first two channels rise during some frames."""
    x = x.clone()
    x[:, :2, frames] += size
    return x


def bad_frame(x, size, frame=5):
    x = x.clone()
    x[:, :, frame] += size * torch.randn(x[:, :, frame].shape, generator=torch.Generator().manual_seed(9))
    return x


def clip_stable_mean(x):
    return DecompositionPooling(C).separation.decompose(x).stable.mean((2, 3, 4))


def everything(**options):
    """Reads all there is to read."""
    return DecompositionPooling(C, read=READINGS, **options)


def readings(pooling, x):
    vector, found, at = pooling(x), {}, 0
    for name in pooling.read:
        windows = len(pooling.windows)
        size = C * {'transient': windows, 'excursion': 2 * windows + 1}.get(name, 1)
        found[name], at = vector[:, at:at + size], at + size
    assert at == vector.shape[1] == pooling.out_channels
    return found


def test_the_readings_are_what_their_formulas_say():
    x = event(clip(), [6, 7, 8])
    pooling = everything(windows=(1, 5))
    parts = pooling.separation.decompose(x)
    unit = parts.stable.square().mean((1, 2, 3, 4)).sqrt()[:, None]
    found = readings(pooling, x)
    torch.testing.assert_close(found['stable'], parts.stable.mean((2, 3, 4)) / unit)
    deviation, limit = x - parts.stable, 4 * parts.scale[..., None, None, None]
    deviation = deviation.clamp(-limit, limit)
    torch.testing.assert_close(found['pool'], (parts.stable + deviation).mean((2, 3, 4)) / unit)
    moved = x.mean((3, 4)) - parts.stable.mean((2, 3, 4))[..., None]
    moved = moved / unit[..., None]
    assert moved.square().mean(1).max() < 4         # nothing is out of reach
    slower = moved @ moving_average(12, 5).T
    expected = torch.cat([moved.amax(2), -moved.amin(2), slower.amax(2), -slower.amin(2),
                          moved.square().mean(2).sqrt()], 1)
    size = expected.square().mean(1, keepdim=True)
    torch.testing.assert_close(found['excursion'], expected / (size + 0.09).sqrt())
    plain = readings(everything(influence_clip=None), clip())
    torch.testing.assert_close(plain['pool'] / plain['stable'] * clip_stable_mean(clip()),
                               clip().mean((2, 3, 4)), rtol=1e-3, atol=1e-4)
    for name in ('excursion', 'transient'):
        assert found[name][:, :2].min() > 2 * found[name][:, 2:C].max(), name


@pytest.mark.parametrize('read', [('pool', ), ('transient', 'pool'), ('stable', 'excursion'), ('stable', )])
def test_each_reading_alone_is_its_part_of_the_whole(read):
    x = event(clip(), [6, 7, 8])
    whole, pooling = readings(everything(), x), DecompositionPooling(C, read=read)
    assert pooling.read == tuple(name for name in READINGS if name in read)
    for name, value in readings(pooling, x).items():
        assert torch.equal(value, whole[name])
    assert (len(list(pooling.parameters())) == 1) == ('transient' in read)


def test_no_reading_dwarfs_the_others_at_the_start():
    """Of the order of one for any scale of the features, without batch statistics."""
    x = event(clip(b=8), [6, 7, 8]).relu()
    for factor in (1e-4, 1.0, 1e4):
        found = readings(everything(), factor * x)
        sizes = [value.square().mean().sqrt().item() for value in found.values()]
        assert min(sizes) > 0.2 and max(sizes) < 4, sizes


@pytest.mark.parametrize('factor', [1e-20, 1e-3, 1e3, 1e15])
def test_the_vector_does_not_know_the_scale(factor):
    x = event(clip(), [6, 7])
    pooling = everything()
    torch.testing.assert_close(pooling(factor * x), pooling(x), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize('name', ['pool', 'stable', 'excursion'])
def test_to_enlarge_the_features_is_no_way_to_be_read_differently(name):
    """Euler's law. Where a scale has no gradient a backbone learns to grow for nothing."""
    x = event(clip(), [6, 7, 8]).requires_grad_()
    vector = DecompositionPooling(C, read=(name, ))(x)
    weights = torch.randn(vector.shape, generator=torch.Generator().manual_seed(5))
    slope, = torch.autograd.grad((weights * vector).sum(), x)
    along = (slope * x).sum((1, 2, 3, 4)) / (slope.flatten(1).norm(dim=1) * x.flatten(1).norm(dim=1))
    assert along.abs().max() < (0.05 if name == 'pool' else 1e-5), along


def test_reversing_time_and_the_order_of_positions_change_nothing():
    x = event(clip(), [6, 7])
    pooling = everything()
    torch.testing.assert_close(pooling(x.flip(2)), pooling(x), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(pooling(x.flip(3).transpose(3, 4)), pooling(x), rtol=1e-4, atol=1e-4)


def test_a_constant_clip_has_no_transient():
    x = clip()[:, :, :1].expand(2, C, 12, 3, 4).contiguous()
    found = readings(everything(), x)
    assert found['transient'].abs().max() == 0 and found['excursion'].abs().max() < 1e-5
    torch.testing.assert_close(found['stable'], found['pool'], rtol=1e-4, atol=1e-5)


def test_the_sign_of_an_event_does_not_matter_to_the_transient():
    up, down = (readings(everything(), event(clip(), [6, 7], size))['transient'] for size in (3.0, -3.0))
    quiet = readings(everything(), clip())['transient']
    assert (up - quiet)[:, :2].min() > 0.5 and (down - quiet)[:, :2].min() > 0.5


def test_the_sign_of_an_event_is_that_of_the_excursion():
    """Upwards and downwards of each window change places when the features change sign."""
    x = event(clip(), [6, 7])
    up, down = (readings(DecompositionPooling(C, windows=(1, 3)), z)['excursion'].unflatten(1, (5, C)) for z in (x, -x))
    torch.testing.assert_close(up[:, [1, 0, 3, 2, 4]], down, rtol=1e-4, atol=1e-5)
    assert up[:, 0, :2].min() > 2 * up[:, 1, :2].max()


def test_an_event_of_one_frame_is_read_although_it_stands_alone():
    """At 8 frames a clip most events are one frame; the gate, which cannot know, waits for what is far."""
    x = event(clip(b=8, t=8, sigma=0.1), [4])
    parts = DecompositionPooling(C).separation.decompose(x)
    assert parts.frame_gate[:, 4].median() > 0.5            # taken for a bad frame
    one, two = (readings(DecompositionPooling(C), z)['excursion'].unflatten(1, (5, C))
                for z in (x, event(clip(b=8, t=8, sigma=0.1), [4, 5])))
    assert (one[:, 0, :2] / two[:, 0, :2]).median() > 0.9


def test_a_clip_that_hardly_moves_does_not_look_like_one_with_an_event():
    still, moving = (readings(DecompositionPooling(C), z)['excursion'].square().mean().sqrt()
                     for z in (clip(sigma=0.01, b=8).mean(2, keepdim=True) + 0.01 * clip(sigma=1, b=8, seed=3),
                               event(clip(b=8), [6, 7])))
    assert still < 0.1 and 0.7 < moving < 1


def test_a_bad_frame_moves_the_vector_little_and_the_usual_statistics_without_bound():
    x = event(clip(b=8), [8, 9])

    def usual(z):
        return torch.cat([z.mean((2, 3, 4)), z.amax((2, 3, 4)), z.flatten(2).std(2)], 1)

    def moved(function, size):
        return ((function(bad_frame(x, size)) - function(x)).norm(dim=1) / function(x).norm(dim=1)).median().item()

    pooling = DecompositionPooling(C)
    assert moved(usual, 30) > 5 and moved(usual, 300) > 50
    for size in (3, 30, 300):
        assert moved(pooling, size) < 0.25, size


def sparse(t, b=8):
    """As behind a ReLU: a base that is zero in most places, and channels that are silent in the whole clip."""
    g = torch.Generator().manual_seed(3)
    base = (torch.randn(b, 16, 1, 4, 4, generator=g) - 1).relu()
    return base * (1 + 0.1 * torch.randn(b, 16, t, 4, 4, generator=g)).relu()


@pytest.mark.parametrize('t', [4, 8])
@pytest.mark.parametrize('features', ['dense', 'sparse'])
def test_the_mean_that_is_read_knows_bad_frames_even_where_channels_have_no_noise_of_their_own(features, t):
    """A channel that only the bad frame wakes takes that frame for its noise: no limit of its own can hold it."""
    x = sparse(t) if features == 'sparse' else clip(b=8, c=16, t=t, h=4, w=4)
    pooling = DecompositionPooling(16, read=('pool', ))
    before = pooling(x)

    def moved(size):
        z = x.clone()
        z[:, :, 2] += size * torch.randn(x[:, :, 2].shape, generator=torch.Generator().manual_seed(9)).abs()
        return ((pooling(z) - before).norm(dim=1) / before.norm(dim=1)).max().item()

    assert max(moved(size) for size in (10, 30, 300)) < 0.2
    assert max(moved(size) for size in (1e4, 1e6, 1e9)) <= 1.1


@pytest.mark.parametrize('t', [2, 3, 8])
def test_no_frame_counts_for_more_than_four_times_the_base(t):
    """Nor where there are too few frames to gate any, nor where a third of the clip is bad."""
    x = sparse(t)
    x[:, :, :max(t // 3, 1)] *= 1e3
    vector = DecompositionPooling(16, read=('pool', ), influence_clip=None)(x)
    assert vector.square().mean(1).sqrt().max() < 1 + 4


@pytest.mark.parametrize('live', [1, 2, 3])
def test_a_clip_that_is_silent_but_for_a_frame_or_two_has_no_huge_reading_and_no_huge_gradient(live):
    x = torch.zeros(2, C, 8, 4, 4)
    x[:, :, 3:3 + live] = torch.randn(2, C, live, 4, 4, generator=torch.Generator().manual_seed(1))
    x.requires_grad_()
    vector = everything()(x)
    vector.square().sum().backward()
    assert vector.abs().max() < 20 and x.grad.norm() * x.detach().norm() < 1e5
    assert everything()(x.detach().half()).isfinite().all()


def test_isolated_spikes_move_the_vector_less_than_the_event_does():
    x = clip(b=8)
    g = torch.Generator().manual_seed(4)
    spiky = x + 5 * (torch.rand(x.shape, generator=g) < 0.01) * torch.randn(x.shape, generator=g).sign()

    def moved(pooling, z):
        return (readings(pooling, z)['transient'] - readings(pooling, x)['transient']).norm(dim=1).median().item()

    with_limit, without = everything(), everything(limit_spikes=False)
    shown = moved(with_limit, event(x, [8, 9]))
    assert moved(with_limit, spiky) < 0.5 * shown and moved(with_limit, spiky) < 0.8 * moved(without, spiky)


@pytest.mark.parametrize('t', [1, 2, 3, 4, 5, 16])
def test_any_number_of_frames(t):
    x = clip(t=t).requires_grad_()
    pooling = everything()
    found = readings(pooling, x)
    if t <= 2:
        assert found['transient'].abs().max() == 0 and (t == 2 or found['excursion'].abs().max() < 1e-6)
        torch.testing.assert_close(found['stable'], found['pool'])
    sum(value.sum() for value in found.values()).backward()
    assert x.grad.isfinite().all() and pooling.separation.ddm.offset.weight.grad.isfinite().all()


@pytest.mark.parametrize('case', ['zero', 'zero in a batch', 'one zero frame', 'one huge frame', 'zero channels',
                                  'tiny'])
def test_nothing_infinite_comes_of_a_degenerate_clip(case):
    x = clip()
    if case == 'zero':
        x = 0 * x
    elif case == 'zero in a batch':
        x[0] = 0
    elif case == 'one zero frame':
        x[:, :, 4] = 0
    elif case == 'one huge frame':
        x[:, :, 4] *= 1e4
    elif case == 'zero channels':
        x[:, :4] = 0
    else:
        x = 1e-18 * x
    x.requires_grad_()
    vector = everything()(x)
    vector.square().sum().backward()
    assert vector.isfinite().all() and x.grad.isfinite().all()
    if case == 'zero in a batch':
        assert vector[0].abs().max() == 0
        torch.testing.assert_close(vector[1:], everything()(x[1:]))


def test_no_clips_have_no_vector():
    assert DecompositionPooling(C)(torch.zeros(0, C, 8, 2, 2)).shape == (0, 6 * C)
    assert everything()(torch.zeros(0, C, 8, 2, 2)).shape == (0, 9 * C)


@pytest.mark.parametrize('dtype, tolerance', [(torch.float16, 2e-2), (torch.bfloat16, 2e-1)])
def test_half_precision_comes_out_as_it_came_in_and_autocast_stays_outside(dtype, tolerance):
    x = event(clip(), [6, 7])
    pooling = everything()
    expected = pooling(x)
    half = pooling(x.to(dtype))
    assert half.dtype == dtype
    torch.testing.assert_close(half.float(), expected, rtol=tolerance, atol=tolerance)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        assert torch.equal(pooling(x), expected)


def test_a_clip_that_is_not_finite_reads_nan_and_its_neighbour_what_it_is():
    x = clip()
    x[0, 2, 3, 0, 0] = float('nan')
    for read in (READINGS, ('transient', )):
        vector = DecompositionPooling(C, read=read, on_nonfinite='isolate')(x)
        assert vector[0].isnan().all()
        torch.testing.assert_close(vector[1:], DecompositionPooling(C, read=read)(x[1:]))
    with pytest.raises(ValueError, match='hold NaN or Inf'):
        DecompositionPooling(C)(x)


def test_the_threshold_learns_and_lives_in_a_leaf_that_optimizers_know():
    assert not list(DecompositionPooling(C).parameters())
    pooling = everything()
    assert [type(m) for m in pooling.modules() if next(m.parameters(recurse=False), None) is not None] == [nn.Conv3d]
    pooling(event(clip(), [6, 7])).square().sum().backward()
    weight = pooling.separation.ddm.offset.weight
    assert (weight.grad.abs() > 0).all()
    with torch.no_grad():
        weight.fill_(3)
    loud = pooling(clip())
    pooling.reset_identity()
    assert weight.abs().max() == 0 and not torch.equal(loud, pooling(clip()))


def test_no_argument_is_lost_on_the_way():
    pooling = DecompositionPooling(
        C, read=('pool', 'stable', 'transient'), windows=(1, 7), rank=3, sem=dict(mode='hard'),
        ddm=dict(exponent=1.0), influence_clip=2.0, limit_spikes=False, on_nonfinite='isolate',
        reach=1.5)
    separation = pooling.separation
    assert (separation.sem.rank, separation.sem.mode, separation.sem.slow_basis) == (3, 'hard', 3)
    assert (separation.ddm.exponent, separation.ddm.start_kappa, separation.on_nonfinite) == (1.0, 1.0, 'isolate')
    assert separation.cim is None and pooling.out_channels == 4 * C and pooling.reach == 1.5
    own = everything(sem=dict(slow_basis=None), ddm=dict(kappa=3.0)).separation
    assert own.sem.slow_basis is None and own.ddm.start_kappa == 3.0
    x = event(clip(), [6, 7])
    expected = everything(windows=(1, 3, 5))(x)
    for options in (dict(influence_clip=1.0), dict(limit_spikes=False), dict(windows=(1, 3, 7)),
                    dict(ddm=dict(kappa=2.0)), dict(sem=dict(slow_basis=None)), dict(rank=1),
                    dict(ddm=dict(exponent=1.0)), dict(ddm=dict(group='frame'))):
        other = everything(**dict(dict(windows=(1, 3, 5)), **options))(x)
        assert not torch.allclose(other, expected, atol=1e-3), options
    assert 'limit_spikes=True, reach=2.0' in repr(DecompositionPooling(C))
    assert torch.equal(copy.deepcopy(everything(windows=(1, 3, 5)))(x), expected)


@pytest.mark.parametrize('size', [0.75, 1.0, 1.5])
@pytest.mark.parametrize('name', ['pool', 'excursion'])
def test_a_bad_frame_of_the_size_of_the_base_is_kept_out_where_the_gate_counts_near_it(name, size):
    """A frame like no other, no further from the base than an event: with the reach as it comes it is read."""
    x = clip()
    unit = x.square().mean((1, 2, 3, 4), keepdim=True).sqrt()
    bad = x.clone()
    bad[:, :, 5] += size * unit[:, :, 0] * torch.randn(C, 1, 1, generator=torch.Generator().manual_seed(9)).sign()

    def moved(**options):
        pooling = DecompositionPooling(C, read=(name, ), influence_clip=None, **options)
        return (pooling(bad) - pooling(x)).norm(dim=1)

    assert (moved(reach=0) < 0.7 * moved()).all()
    assert torch.equal(moved(reach=2), moved())


def test_an_event_of_several_frames_is_read_with_any_reach_one_of_a_single_frame_is_not():
    def change(frames):
        x = event(clip(t=16), frames)
        near, far = (readings(everything(reach=reach), x)['excursion'] for reach in (0, 2))
        return (near - far).norm() / far.norm()

    assert change([6, 7, 8, 9]) < 0.05 and change([6]) > 0.3


def test_the_base_of_slow_cosines_leaves_an_event_to_the_transient():
    """The reason for slow_basis=3: an event of much energy is a mode of its own, and LSEF's base takes it."""
    g = torch.Generator().manual_seed(0)
    x = 2 * torch.randn(4, C, 1, 6, 6, generator=g) + 0.3 * torch.randn(4, C, 16, 6, 6, generator=g)
    x = event(x, [7, 8, 9], size=1.0)

    def in_the_base(**sem):
        base = DecompositionPooling(C, sem=sem).separation.decompose(x).stable[:, :2].mean((3, 4))
        return (base[:, :, 8] - base[:, :, 2]).mean()

    assert in_the_base(slow_basis=None) > 0.7 and in_the_base() < 0.6 * in_the_base(slow_basis=None)


@pytest.mark.parametrize('options, message', [
    (dict(read=()), r'read is a tuple of any of pool, stable, excursion, transient, each once, got \(\)'),
    (dict(read='pool'), "each once, got 'pool'"), (dict(read=('pool', 'pool')), 'each once'),
    (dict(read=('max', )), 'read is a tuple of any of'), (dict(sem=False), 'sem is a dict of arguments; .* got False'),
    (dict(ddm=True, read=READINGS), 'ddm is a dict of arguments'),
    (dict(ddm=dict(kappa=2.0)), r"ddm is DDM's, which only the reading 'transient' asks; read=\('pool', 'excursion'\)"),
    (dict(reach=-1), "reach .* SEM's frame gate counts, a number from 0, got -1"), (dict(reach=None), 'got None'),
    (dict(reach=float('nan')), 'got nan'), (dict(reach=True), 'got True'),
    (dict(reach=0, read=('stable', 'transient')), "reach is of the readings 'pool' and 'excursion'; .* would ignore 0"),
    (dict(influence_clip=0), 'influence_clip .* positive, or None, got 0'),
    (dict(windows=(3, 5)), 'ascending from 1')])
def test_an_argument_that_cannot_be_is_refused_at_construction(options, message):
    with pytest.raises(ValueError, match=message):
        DecompositionPooling(C, **options)
