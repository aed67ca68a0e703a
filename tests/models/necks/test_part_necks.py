"""SEM, DDM and CIM alone: each the identity at the start, and afterwards what its name says."""
import math

import pytest
import torch
from torch import nn

from lsef_plugins.models import SitedNeck
from lsef_plugins.models.necks import ConsistencyIntegrationNeck, DynamicDecouplingNeck, StabilityEncodingNeck
from lsef_plugins.nn import LSEF
from lsef_plugins.registry import MODELS

C = 6
NAMES = ('SEM', 'DDM', 'CIM')
pytestmark = pytest.mark.filterwarnings('ignore:SEM. rank')


def clip(b=2, t=8, h=3, w=4, seed=0):
    g = torch.Generator().manual_seed(seed)
    x = 3 * torch.randn(b, C, 1, h, w, generator=g) + 0.3 * torch.randn(b, C, t, h, w, generator=g)
    x[:, :2, t // 2:t // 2 + 2] += 3      # an event of two frames
    return x


def build(name, **options):
    return MODELS.build(dict(type=name, in_channels=C, **options))


def awake(neck, seed=7):
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in neck.parameters():
            p.add_(0.2 * torch.randn(p.shape, generator=g))
    return neck


@pytest.mark.parametrize('name, cls', zip(NAMES, (StabilityEncodingNeck, DynamicDecouplingNeck,
                                                  ConsistencyIntegrationNeck)))
def test_the_registry_knows_the_acronym_and_the_full_words(name, cls):
    assert MODELS.get(name) is cls and MODELS.get(cls.__name__) is cls and issubclass(cls, SitedNeck)


@pytest.mark.parametrize('name', NAMES)
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16, torch.float16])
def test_at_the_start_every_size_of_map_passes_bit_for_bit_and_an_awake_neck_changes_it(name, dtype):
    neck = build(name)
    neck.init_weights()
    for t, h, w in ((1, 2, 2), (2, 1, 1), (8, 3, 4), (13, 2, 5)):
        x = clip(t=t, h=h, w=w).to(dtype)
        y, _ = neck.to(dtype)(x)
        assert torch.equal(y, x) and y.dtype == dtype
        changed, _ = awake(build(name)).to(dtype)(x)
        assert changed.shape == x.shape and (changed - x).abs().max() > 0


@pytest.mark.parametrize('name', NAMES)
def test_every_parameter_is_in_a_leaf_that_optimizers_know_and_learns_within_two_steps(name):
    neck = build(name)
    leaves = [module for module in neck.modules() if next(module.parameters(recurse=False), None) is not None]
    assert leaves and all(isinstance(leaf, (nn.Conv3d, nn.Linear, nn.GroupNorm)) for leaf in leaves)
    x, goal = clip(), clip(seed=1)
    optimizer, moved = torch.optim.SGD(neck.parameters(), lr=0.1), set()
    for _ in range(2):
        optimizer.zero_grad()
        (neck(x)[0] - goal).square().mean().backward()
        # DDP without find_unused_parameters needs a gradient for each of them, from the first step on.
        assert all(p.grad is not None and p.grad.isfinite().all() for p in neck.parameters())
        moved |= {key for key, p in neck.named_parameters() if p.grad.abs().sum() > 0}
        optimizer.step()
    assert moved == {key for key, _ in neck.named_parameters()}


def test_sem_is_lsef_without_ddm_and_cim():
    neck = awake(build('SEM', rank=1, hidden_channels=5))
    lsef = LSEF(C, rank=1, ddm=False, cim=dict(windows=(1, ), kernel=1, hidden_channels=5))
    lsef.load_state_dict(neck.streams[0].state_dict())
    assert torch.equal(neck(clip())[0], lsef(clip()))


def test_sem_reads_the_stable_part_alone():
    """What it adds to two clips of the same base is the same, whatever flashes in one of them."""
    neck, x = awake(build('SEM', rank=1)).double(), clip(t=12).double()
    flash = x.clone()
    flash[:, :, 5] += 40 * torch.randn(2, C, 3, 4, generator=torch.Generator().manual_seed(3)).double()
    ours, theirs = (neck(z)[0] - z for z in (flash, x))
    assert (ours - theirs).norm() < 0.1 * theirs.norm()


def test_ddm_reads_the_transient_part_against_a_base_that_is_not_merged():
    neck, x = awake(build('DDM')), clip()
    lsef = LSEF(C, cim=dict(windows=(1, )), merge=('transient', ))
    lsef.load_state_dict(neck.streams[0].state_dict())
    assert torch.equal(neck(x)[0], lsef(x))
    # Clips without an event get nothing but the bias, however different they are.
    still = [x[:, :, :1].expand(2, C, 8, 3, 4).contiguous() * factor for factor in (1, -3)]
    added = [(neck(z)[0] - z) for z in still]
    torch.testing.assert_close(added[0], added[1], rtol=0, atol=1e-5)
    constant = added[0].mean((0, 2, 3, 4), keepdim=True).expand_as(added[0])
    torch.testing.assert_close(added[0], constant, rtol=0, atol=1e-5)
    assert ((neck(x)[0] - x) - added[0]).abs().max() > 0.05


def test_ddm_without_a_base_would_call_the_mean_an_event():
    """The reason for its base: thresholding the features themselves finds all of a still clip."""
    still = clip()[:, :, :1].expand(2, C, 8, 3, 4).contiguous()
    assert LSEF(C, sem=False, ddm=dict(kappa=0.5)).decompose(still).transient.abs().mean() > 0.1
    assert LSEF(C, ddm=dict(kappa=0.5)).decompose(still).transient.abs().max() == 0


@pytest.mark.parametrize('options', [dict(), dict(kernel=1), dict(kernel=5, windows=(1, 5))], ids=str)
def test_cim_is_lsef_of_a_rank_at_which_nothing_is_separated(options):
    neck, x = awake(build('CIM', **options)), clip()
    lsef = LSEF(C, rank=8, ddm=False, cim=options)
    lsef.load_state_dict(neck.streams[0].state_dict())
    assert torch.equal(neck(x)[0], lsef(x))


def test_cim_knows_several_time_scales_and_sem_and_ddm_one():
    for name, scales in (('SEM', 1), ('DDM', 2), ('CIM', 3)):     # DDM: s and |s| at one scale
        cim = build(name).streams[0].cim
        assert cim.gains.in_channels == scales * cim.gains.out_channels, name
    assert build('CIM', windows=(1, 7)).streams[0].cim.windows == (1, 7)


OPTIONS = [
    ('SEM', 'sem', dict(rank=3, mode='soft', robust_iters=2, frame_kappa=3.0, bandwidth=1.5,
                        start='geometric_median', slow_basis='dct')),
    ('DDM', 'ddm', dict(kappa=2.0, exponent=1.0, group='frame', gate_frames=False)),
    ('CIM', 'cim', dict(windows=(1, 3), kernel=5))]


@pytest.mark.parametrize('name, part, options', OPTIONS)
def test_no_argument_is_lost_on_the_way(name, part, options):
    module = getattr(build(name, **options).streams[0], part)
    for key, value in options.items():
        assert getattr(module, dict(kappa='start_kappa').get(key, key)) == value, key


def test_the_arguments_of_the_merge_and_of_the_base_arrive():
    stream = build('DDM', rank=1, base=dict(mode='hard'), iterations=3, influence_clip=2.0, hidden_channels=5,
                   limit_spikes=True, on_nonfinite='raise').streams[0]
    assert (stream.sem.rank, stream.sem.mode, stream.iterations) == (1, 'hard', 3)
    assert (stream.cim.influence_clip, stream.cim.out.in_channels, stream.on_nonfinite) == (2.0, 5, 'raise')
    assert stream.cim.limit_spikes and not build('DDM').streams[0].cim.limit_spikes
    assert math.isclose(float(stream.ddm.kappa.detach().mean()), 3, rel_tol=1e-5)
    for name in ('SEM', 'CIM'):
        stream = build(name, hidden_channels=5, on_nonfinite='isolate').streams[0]
        assert (stream.cim.out.in_channels, stream.on_nonfinite) == (5, 'isolate')


@pytest.mark.parametrize('name, losses', [('SEM', {'reconstruction', 'rank'}), ('DDM', {'density'}), ('CIM', set())])
def test_the_auxiliary_losses_are_those_of_the_part(name, losses):
    neck = build(name)
    assert set(neck.train()(clip())[1]) == {f'lsef/{loss}' for loss in losses}
    assert neck.eval()(clip())[1] == {}
    for loss in losses:
        weighted = build(name, aux_loss={loss: 0.5}).train()
        x = clip().requires_grad_()
        values = weighted(x)[1]
        torch.testing.assert_close(values[f'loss_lsef_{loss}'], 0.5 * values[f'lsef/{loss}'])
        values[f'loss_lsef_{loss}'].backward()
        assert x.grad.abs().max() > 0
    if name != 'CIM':
        with pytest.raises(ValueError, match=f'aux_loss knows {", ".join(neck.auxiliary_losses)}; got consistency'):
            build(name, aux_loss=dict(consistency=1.0))


@pytest.mark.parametrize('name', NAMES)
def test_without_channels_the_error_names_this_neck(name):
    with pytest.raises(ValueError, match=rf"{type(build(name)).__name__} needs in_channels.*neck=dict\(type='"):
        MODELS.build(dict(type=name))


@pytest.mark.parametrize('name', NAMES)
@pytest.mark.parametrize('host', ['slowonly', 'slowfast', 'tsm'])
def test_alone_in_a_recognizer_the_scores_stay_and_an_awake_neck_changes_them(name, host, make_family, plug_like, wake):
    family = make_family(host)
    stock = family.build()
    plugged, missing = plug_like(family, stock, dict(type=name))
    assert missing and all(key.startswith('neck.') for key in missing)
    expected = family.scores(stock)
    assert torch.equal(family.scores(plugged), expected)
    plugged.train()
    loss, logged = plugged.parse_losses(plugged(**family.batch(plugged, training=True), mode='loss'))
    assert torch.isfinite(loss)
    assert {key for key in logged if key.startswith('lsef/')} == {f'lsef/{k}' for k in plugged.neck.auxiliary_losses}
    plugged.load_state_dict(stock.state_dict(), strict=False)
    assert torch.equal(family.scores(plugged), expected) and not torch.equal(family.scores(wake(plugged)), expected)
