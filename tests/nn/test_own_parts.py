"""Laws of a stable or a transient part of the user's own: the contract is kept, and nothing around it notices."""
import pytest
import torch
from torch import nn

from lsef_plugins.functional import StableOperator, moving_average
from lsef_plugins.nn import (
    LSEF,
    DecompositionPooling,
    DynamicDecouplingModule,
    StabilityEncodingModule,
)
from lsef_plugins.nn.listening import Listener

C, T = 4, 10


def clip(b=3, c=C, t=T, h=3, w=5, seed=0):
    g = torch.Generator().manual_seed(seed)
    x = 2 * torch.randn(b, c, 1, h, w, generator=g) + 0.2 * torch.randn(b, c, t, h, w, generator=g)
    x[:, :, 4:6] += 3 * torch.randn(b, c, 1, h, w, generator=g)        # an event of two frames
    return x


class MeanBase(nn.Module):
    """The mean over all frames."""

    def __init__(self, channels, rank=5, gated=None):
        super().__init__()
        self.channels, self.rank, self.gated = channels, rank, gated

    def forward(self, x):
        stable = x.mean(2, keepdim=True).expand_as(x)
        if self.gated is None:
            return stable
        gate = torch.zeros(len(x), x.shape[2])
        gate[:, self.gated] = 1
        return stable, gate


class LearnedBase(nn.Module):
    """No rank to tell, and something to learn."""

    def __init__(self, channels):
        super().__init__()
        self.mix = nn.Conv2d(channels, channels, (3, 1), padding=(1, 0), groups=channels)

    def forward(self, x):
        return self.mix(x)


class Everything(nn.Module):
    """All that deviates is transient."""

    def forward(self, x, stable, frame_gate):
        return x - stable


class MeanOperator(StabilityEncodingModule):

    def operator_of(self, g, robust=True, gates=True):
        mean = torch.full_like(g, 1 / g.shape[-1])
        return StableOperator(mean, g.new_zeros(g.shape[:-1]), g.new_zeros(g.shape[:-1]))


OWN = {'sem': dict(sem=dict(type=MeanBase)), 'ddm': dict(ddm=dict(type=Everything)),
       'both': dict(sem=dict(type=LearnedBase), ddm=dict(type=Everything)),
       'child of sem': dict(sem=dict(type=MeanOperator)), 'stable alone': dict(sem=dict(type=MeanBase), ddm=False),
       'alternating': dict(sem=dict(type=MeanBase), iterations=3),
       'own transient, alternating': dict(ddm=dict(type=Everything), iterations=2)}


@pytest.mark.parametrize('name', OWN)
def test_the_parts_add_up_the_start_is_the_identity_and_gradients_are_finite(name):
    torch.manual_seed(0)
    x = clip().requires_grad_()
    lsef = LSEF(C, **OWN[name])
    y, parts = lsef.run(x)
    assert torch.equal(y, x)
    assert torch.allclose(parts.stable + parts.transient + parts.residual, x, atol=1e-5)
    assert parts.stable.abs().max() > 0
    with torch.no_grad():
        lsef.cim.out.weight.normal_()
    y, parts = lsef.run(x)
    assert not torch.equal(y, x)
    sum(value.sum() for value in lsef.auxiliary(parts).values()).add(y.square().sum()).backward()
    for parameter in [x, *lsef.parameters()]:
        assert parameter.grad is not None and parameter.grad.isfinite().all()
    if name == 'both':
        assert lsef.sem.module.mix.weight.grad.abs().max() > 0


def test_what_the_module_returns_is_the_stable_part():
    x = clip()
    parts = LSEF(C, sem=dict(type=MeanBase)).decompose(x)
    assert torch.allclose(parts.stable, x.mean(2, keepdim=True).expand_as(x), atol=1e-6)
    # 1e3 and 1e-3: LSEF's power of two leaves no trace.
    for size in (1e-18, 1e15):
        assert torch.allclose(LSEF(C, sem=dict(type=MeanBase)).decompose(x * size).stable, parts.stable * size,
                              rtol=1e-5, atol=0)


def test_a_base_by_an_operator_and_the_same_base_by_a_module_separate_alike():
    """The fused pass of SEM's child and the plain pass of a module of the user's, same mean over time."""
    x = clip()
    fused, plain = LSEF(C, sem=dict(type=MeanOperator)), LSEF(C, sem=dict(type=MeanBase, rank=2))
    assert isinstance(fused.sem, StabilityEncodingModule) and not isinstance(plain.sem, StabilityEncodingModule)
    ours, theirs = fused.decompose(x), plain.decompose(x)
    for part in ('stable', 'transient', 'residual', 'frame_gate', 'scale', 'threshold'):
        assert torch.allclose(getattr(ours, part), getattr(theirs, part), atol=1e-5), part
    # Both know the Gram matrix of the stable part, and so the auxiliary losses that need no more.
    of_stable = [p.operator @ p.gram @ p.operator.transpose(1, 2) for p in (ours, theirs)]
    assert torch.allclose(*of_stable, rtol=1e-4)
    first, second = fused.auxiliary(ours), plain.auxiliary(theirs)
    assert set(first) - set(second) == {'consistency'}
    for name in second:
        assert torch.allclose(first[name].double(), second[name].double(), rtol=1e-4, atol=1e-6), name
    # The mean of a clip with an event leaves something: neither ratio is trivially 0.
    assert 0.01 < second['reconstruction'].min() < 0.9


def test_the_modules_own_frame_gate_reaches_ddm():
    x = clip()
    parts = LSEF(C, sem=dict(type=MeanBase, gated=4)).decompose(x)
    assert parts.frame_gate[:, 4].eq(1).all() and parts.frame_gate.sum() == len(x)
    assert parts.transient[:, :, 4].eq(0).all() and parts.transient[:, :, 5].abs().max() > 1
    alternating = LSEF(C, sem=dict(type=MeanBase, gated=4), iterations=3).decompose(x)
    assert alternating.frame_gate[:, 4].eq(1).all() and alternating.transient[:, :, 4].eq(0).all()


def test_the_modules_own_frame_gate_reaches_the_restored_features():
    x, read = clip(), []
    lsef = LSEF(C, sem=dict(type=MeanBase, gated=4), cim=dict(influence_clip=None))
    lsef.cim.from_stable.register_forward_pre_hook(lambda module, args: read.append(args[0]))
    _, parts = lsef.run(x)
    torch.testing.assert_close(read[0][:, :, 4], parts.stable[:, :, 4])
    torch.testing.assert_close(read[0][:, :, 5], x[:, :, 5])
    assert (x - parts.stable)[:, :, 4].abs().max() > 1


def test_alternation_takes_the_event_out_of_an_own_base():
    x = clip()
    base = x[:, :, [0, 1, 2, 3, 6, 7, 8, 9]].mean(2, keepdim=True).expand_as(x)
    error = [(LSEF(C, sem=dict(type=MeanBase), iterations=k).decompose(x).stable - base).norm() for k in (1, 2, 4)]
    assert error[0] > 1.3 * error[1] and error[1] > 1.3 * error[2]


def test_cim_reads_an_own_transient_as_it_is():
    """No second threshold: at window 1 without a limit, S is what the module returned."""
    x = clip()
    lsef = LSEF(C, ddm=dict(type=Everything), cim=dict(windows=(1, ), influence_clip=None), merge=('transient', ))
    seen = []
    lsef.cim.from_transient.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    _, parts = lsef.run(x)
    assert torch.allclose(seen[0].reshape(x.shape), parts.transient, atol=1e-6) and parts.threshold.eq(0).all()


def test_channels_and_rank_are_handed_over_where_the_class_takes_them_and_the_dict_wins():
    lsef = LSEF(C, rank=3, sem=dict(type=MeanBase))
    assert lsef.sem.module.channels == C and lsef.sem.rank == 3
    assert LSEF(C, rank=3, sem=dict(type=MeanBase, rank=1)).sem.rank == 1
    assert LSEF(C, sem=dict(type=LearnedBase)).sem.rank is None
    assert isinstance(LSEF(C, ddm=dict(type=DynamicDecouplingModule, kappa=2.0)).ddm, DynamicDecouplingModule)


@pytest.mark.parametrize('options, rank', [(dict(sem=dict(type=MeanBase)), 2), (dict(sem=dict(type=LearnedBase)), T),
                                           (dict(ddm=dict(type=Everything)), 2)])
def test_listeners_hear_own_parts(options, rank):
    lsef, heard = LSEF(C, **options), []
    listener = Listener(lsef, lambda place, found: heard.append(found))
    listener.open()
    _, parts = lsef.run(clip())
    listener.close()
    assert len(heard) == 1 and heard[0].rank == rank and (heard[0].kappa is None) == ('ddm' in options)
    assert torch.equal(heard[0].stable.stable.view_as(parts.stable), parts.stable)


class Returns(nn.Module):

    def __init__(self, what):
        super().__init__()
        self.what = what

    def forward(self, x, *args):
        return self.what(x)


@pytest.mark.parametrize('options, message', [
    (dict(sem=dict(type='MeanBase')), r"sem=dict\(type=\.\.\.\) takes a class of torch\.nn\.Module .* 'MeanBase'"),
    (dict(ddm=dict(type=dict)), r"ddm=dict\(type=\.\.\.\) takes a class .*custom_imports"),
    (dict(sem=dict(type=MeanBase, ranks=3)), "was given 'ranks', and MeanBase takes channels, rank, gated"),
    (dict(ddm=dict(type=Everything, kappa=3)), "was given 'kappa', and Everything takes no arguments")])
def test_a_wrong_request_is_told_at_construction(options, message):
    with pytest.raises(ValueError, match=message):
        LSEF(C, **options)


@pytest.mark.parametrize('name, what, message', [
    ('sem', lambda x: x.mean(2), r'Returns must return the stable part, .* \(3, 4, 10, 15\), got \(3, 4, 15\)'),
    ('sem', lambda x: [x], 'Returns must return the stable part, .* got list'),
    ('sem', lambda x: (x, x), r'must return the frame gate \(b, t\), a tensor of shape \(3, 10\)'),
    ('ddm', lambda x: None, 'Returns must return the transient part, .* got NoneType')])
def test_a_wrong_answer_is_told_with_the_shape_that_was_expected(name, what, message):
    lsef = LSEF(C, **{name: dict(type=Returns, what=what)})
    with pytest.raises(ValueError, match=message):
        lsef(clip())


def test_the_head_reads_sem_and_ddm_only():
    for name in ('sem', 'ddm'):
        with pytest.raises(ValueError, match=rf'{name}=dict\(type=\.\.\.\) is for LSEF and LSEFNeck'):
            DecompositionPooling(C, **{name: dict(type=MeanBase)})


def test_a_clip_that_is_not_finite_touches_no_other_and_meets_no_own_module():
    x = clip()
    x[1, 0, 2] = float('nan')
    lsef = LSEF(C, sem=dict(type=LearnedBase), ddm=dict(type=Everything), on_nonfinite='isolate')
    with torch.no_grad():
        lsef.cim.out.weight.normal_()
    with pytest.warns(UserWarning, match='hold NaN or Inf'):
        y = lsef(x)
    alone = lsef(x[[0, 2]])
    assert torch.allclose(y[[0, 2]], alone, atol=1e-6) and torch.equal(y[1].isnan(), x[1].isnan())


def test_moving_averages_are_at_hand_for_own_operators():
    """The page's example: rows of a moving average over time sum to one, so a constant clip is all base."""
    assert torch.allclose(moving_average(T, 7, torch.float64).sum(1), torch.ones(T, dtype=torch.float64))
