"""RAO on the gradients of plain PyTorch modules."""
import math
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from torch import nn

from lsef_plugins.optim import Damping, Matrix, RankAwareGradients, Schedule, damped, hidden_matrices
from lsef_plugins.optim.matrices import weights_of
from lsef_plugins.optim.spectral import norm_of
from lsef_plugins.optim.stack import STACK_ELEMENTS

ROOT = Path(__file__).resolve().parents[2]
EVERY_STEP = Schedule(interval=1)


def parameters(count=3, shape=(5, 4, 3), dtype=torch.float64):
    return {f'p{i}': nn.Parameter(torch.zeros(shape, dtype=dtype)) for i in range(count)}


def give(matrices, seed, skip=()):
    """Fresh gradients, drawn in the same order for everyone."""
    generator = torch.Generator().manual_seed(seed)
    for name, p in matrices.items():
        g = torch.randn(p.shape, dtype=torch.float64, generator=generator).to(p.dtype)
        p.grad = None if name in skip else g


def run(rao, matrices, seeds, skip=lambda seed: ()):
    results = []
    for seed in seeds:
        give(matrices, seed, skip(seed))
        rao.step()
        results.append({name: None if p.grad is None else p.grad.clone() for name, p in matrices.items()})
    return results


def same(a, b):
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    return torch.equal(a, b) if torch.is_tensor(a) else a == b


# ---- the formula --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize('options', [dict(target_rank=0.6), dict(target_rank=None, kappa=0.7)], ids=str)
def test_a_step_is_the_formula(options):
    matrices = parameters()
    rao = RankAwareGradients(matrices, Damping(size=None, **options), schedule=EVERY_STEP)
    give(matrices, 0)
    raw = {name: p.grad.clone() for name, p in matrices.items()}
    assert rao.step() is True
    for name, p in matrices.items():
        wanted, _ = damped(raw[name].reshape(1, 5, 12), kappa=options.get('kappa', 0.0),
                           target=options['target_rank'] or 0.0)
        assert torch.allclose(p.grad.reshape(1, 5, 12), wanted, atol=1e-12)
        assert not torch.allclose(p.grad, raw[name], rtol=1e-2)


def test_smoothing_is_an_average_of_the_gradients_without_bias():
    matrices = parameters(1)
    rao = RankAwareGradients(matrices, Damping(target_rank=None, smoothing=0.7, decay=0.8))
    seen, average = [], None
    for seed, (result, ) in enumerate(zip(*[iter(run(rao, matrices, range(9)))] * 1)):
        give(matrices, seed)
        g = matrices['p0'].grad
        seen.append(g)
        weight = max(1 / len(seen), 0.2)
        average = g if average is None else (1 - weight) * average + weight * g
        wanted = 0.3 * g + 0.7 * average
        wanted = wanted * g.norm() / wanted.norm()
        assert torch.allclose(result['p0'], wanted, atol=1e-12)
    assert torch.allclose(rao.stacks[0].state['average'].reshape(5, 4, 3), average, atol=1e-12)


def test_the_root_is_kept_between_computations_and_the_norm_in_every_step():
    matrices = parameters(2)
    rao = RankAwareGradients(matrices, Damping(size=None), schedule=Schedule(interval=3, warmup=2))
    roots, norms = [], []
    for seed in range(9):
        give(matrices, seed)
        norms.append(matrices['p1'].grad.norm())
        rao.step()
        roots.append(rao.stacks[0].state['root'].clone())
        assert torch.allclose(matrices['p1'].grad.norm(), norms[-1], rtol=1e-12)
    changed = [not torch.equal(a, b) for a, b in zip(roots, roots[1:])]
    assert changed == [True, False, True, False, False, True, False, False]     # into steps 1, 3 and 6


def test_the_average_of_a_lasting_gradient_has_all_the_energy_and_of_noise_little():
    matrices = parameters(2, (40, 60), torch.float32)
    rao = RankAwareGradients(matrices, Damping(smoothing=0.5, decay=0.9))
    generator = torch.Generator().manual_seed(0)
    lasting = torch.randn(40, 60, generator=generator)
    for _ in range(60):
        matrices['p0'].grad, matrices['p1'].grad = lasting.clone(), torch.randn(40, 60, generator=generator)
        rao.step()
    energy = rao.stacks[0].readings()['smooth_energy']
    assert energy[0].item() == pytest.approx(1, abs=0.02)
    assert energy[1].item() == pytest.approx(0.1 / 1.9, abs=0.01)


def test_products_give_what_eigenvectors_give():
    results = []
    for solver in ('eigenvectors', 'products'):
        matrices = parameters(2, (6, 15), torch.float32)
        rao = RankAwareGradients(matrices, schedule=Schedule(interval=1, solver=solver))
        for _ in range(4):                      # the same gradients: the floor has time to follow
            give(matrices, 0)
            rao.step()
        results.append(torch.stack([p.grad for p in matrices.values()]))
    assert torch.allclose(*results, rtol=1e-3, atol=1e-3)


def test_with_a_size_every_matrix_moves_alike_and_in_the_same_direction():
    kept, sized = parameters(2), parameters(2)
    free, fixed = (RankAwareGradients(each, Damping(smoothing=0.5, size=size), schedule=EVERY_STEP)
                   for each, size in ((kept, None), (sized, 0.01)))
    for seed in range(3):
        for matrices in (kept, sized):
            give(matrices, seed)
            matrices['p1'].grad.mul_(1e-6)
        free.step()
        fixed.step()
    for name, p in sized.items():
        assert p.grad.square().mean().sqrt().item() == pytest.approx(0.01)
        assert torch.allclose(p.grad / p.grad.norm(), kept[name].grad / kept[name].grad.norm(), atol=1e-12)
    assert not Damping(target_rank=None, size=0.1).does_nothing


def test_a_shared_size_keeps_the_common_norm_and_every_matrix_moves_alike():
    matrices = {**parameters(2), **{f'q{i}': p for i, p in enumerate(parameters(2, (7, 2)).values())}}
    given, aside = matrices.copy(), nn.Parameter(torch.zeros(3, 3, dtype=torch.float64))
    rao = RankAwareGradients({**matrices, 'aside': aside}, schedule=EVERY_STEP, roles={'aside': 'stable'}, damping=dict(
        default=Damping(smoothing=0.5, size='shared'), stable=Damping(target_rank=None, smoothing=0.5, size=None)))
    for seed in range(3):
        give(given, seed)
        matrices['p1'].grad.mul_(1e-6)
        matrices['q0'].grad = None              # it takes no part in this step
        matrices['q1'].grad.mul_(1e3)
        aside.grad = torch.full_like(aside, 1e9)        # a role that does not share
        before = torch.cat([p.grad.flatten() for p in matrices.values() if p.grad is not None])
        rao.step()
        after = [p.grad.flatten() for p in matrices.values() if p.grad is not None]
        assert torch.cat(after).norm().item() == pytest.approx(before.norm().item())
        for g in after:
            assert g.square().mean().sqrt().item() == pytest.approx(before.square().mean().sqrt().item())
        assert aside.grad.norm().item() == pytest.approx(3e9)


def test_a_shared_size_of_huge_and_of_half_precision_gradients_is_finite():
    for dtype, value in ((torch.float32, 9e14), (torch.bfloat16, 9e14), (torch.float32, 1e-17)):
        matrices = parameters(3, (64, 65), dtype)
        rao = RankAwareGradients(matrices, Damping(size='shared'))
        give(matrices, 0)
        for p in matrices.values():
            p.grad.mul_(value / p.grad.abs().max())
        before = torch.cat([p.grad.flatten() for p in matrices.values()]).double().norm()
        assert rao.step()
        after = torch.cat([p.grad.flatten() for p in matrices.values()]).double().norm()
        assert (after / before).item() == pytest.approx(1, abs=1e-2 if dtype == torch.bfloat16 else 1e-5)


# ---- stacks -------------------------------------------------------------------------------------------------------
def test_a_matrix_does_not_care_who_is_stacked_with_it():
    together, alone = parameters(4), parameters(4)
    alone_too = [RankAwareGradients({name: p}, Damping(smoothing=0.5, size=None)) for name, p in alone.items()]
    rao = RankAwareGradients(together, Damping(smoothing=0.5, size=None))
    assert len(rao.stacks) == 1 and len(rao) == 4
    for seed in range(25):
        give(together, seed)
        give(alone, seed)
        rao.step()
        for each in alone_too:
            each.step()
    for name, p in together.items():
        assert torch.allclose(p.grad, alone[name].grad, atol=1e-12)


def test_large_stacks_are_cut():
    side = int(math.sqrt(STACK_ELEMENTS / 2.5))
    with torch.device('meta'):
        big = {f'p{i}': nn.Parameter(torch.zeros(side, side)) for i in range(3)}
    rao = RankAwareGradients(big, Damping(target_rank=None, smoothing=0.5), schedule=Schedule(solver='products'))
    assert [len(stack.names) for stack in rao.stacks] == [2, 1]


def test_groups_of_a_convolution_are_matrices_of_their_own():
    whole = nn.Conv2d(8, 12, 3, groups=4, bias=False).double()
    matrices = hidden_matrices(whole)
    assert matrices['weight'].shape == (4, 3, 18)
    rao = RankAwareGradients(matrices, Damping(size=None), schedule=EVERY_STEP)
    whole.weight.grad = torch.randn(whole.weight.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    raw = whole.weight.grad.clone()
    rao.step()
    wanted, _ = damped(raw.reshape(4, 3, 18), target=0.5)
    assert torch.allclose(whole.weight.grad.reshape(4, 3, 18), wanted, atol=1e-12)


def test_strides_and_dtypes_of_gradients_are_kept():
    p = nn.Parameter(torch.zeros(6, 4, 3, 3, dtype=torch.bfloat16).to(memory_format=torch.channels_last))
    g = torch.randn(6, 4, 3, 3, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16)
    p.grad = g.to(memory_format=torch.channels_last)
    strides = p.grad.stride()
    RankAwareGradients({'p': p}, schedule=EVERY_STEP).step()
    assert p.grad.stride() == strides and p.grad.dtype == torch.bfloat16
    wanted, _ = damped(g.float().reshape(1, 6, 36), target=0.5)
    assert torch.allclose(p.grad.float().reshape(1, 6, 36), wanted, rtol=0.02, atol=0.02)


# ---- what is left alone -------------------------------------------------------------------------------------------
@pytest.mark.parametrize('poison', [float('nan'), float('inf'), 1e30])
def test_a_step_that_is_not_finite_changes_nothing(poison):
    matrices = parameters()
    rao = RankAwareGradients(matrices, Damping(smoothing=0.5))
    run(rao, matrices, range(3))
    before = rao.state_dict()
    give(matrices, 3)
    matrices['p1'].grad[2, 1, 0] = poison
    raw = [p.grad.clone() for p in matrices.values()]
    assert rao.step() is False
    assert same(rao.state_dict(), before)
    for p, g in zip(matrices.values(), raw):
        assert torch.equal(p.grad, g) or poison != poison and torch.equal(p.grad.isnan(), g.isnan())
    go_on, unbroken = run(rao, matrices, range(4, 8)), parameters()
    other = RankAwareGradients(unbroken, Damping(smoothing=0.5))
    assert all(same(a, b) for a, b in zip(go_on, run(other, unbroken, [0, 1, 2, 4, 5, 6, 7])[3:]))


def test_without_a_gradient_nothing_happens_to_a_matrix():
    """Absent in odd steps, it ends as if there had been only the even ones; its neighbours do not notice."""
    damping = Damping(smoothing=0.5, size=None)
    absent, present = parameters(), parameters()
    rao = RankAwareGradients(absent, damping, schedule=Schedule(interval=2, warmup=1))
    every = RankAwareGradients(present, damping, schedule=Schedule(interval=2, warmup=1))
    results = run(rao, absent, range(8), skip=lambda seed: ('p1', ) if seed % 2 else ())
    whole = run(every, present, range(8))
    few = parameters()
    even = run(RankAwareGradients(few, damping, schedule=Schedule(interval=2, warmup=1)), few,
               range(0, 8, 2))
    for seed in range(8):
        assert torch.allclose(results[seed]['p0'], whole[seed]['p0'], atol=1e-12)
        if seed % 2 == 0:
            assert torch.allclose(results[seed]['p1'], even[seed // 2]['p1'], atol=1e-12)


def test_zero_and_sparse_gradients_are_left_alone():
    matrices = parameters(3, (4, 6))
    rao = RankAwareGradients(matrices)
    give(matrices, 0)
    matrices['p0'].grad = torch.zeros(4, 6, dtype=torch.float64)
    sparse = torch.eye(4, 6, dtype=torch.float64).to_sparse()
    matrices['p1'].grad = sparse
    assert rao.step() and rao.stacks[0].ages == [0, 0, 1]
    assert torch.equal(matrices['p0'].grad, torch.zeros(4, 6, dtype=torch.float64))
    assert matrices['p1'].grad is sparse


def test_what_is_hidden():
    shared = nn.Linear(8, 8)
    model = nn.ModuleDict(dict(
        stem=nn.Conv3d(3, 8, 3), norm=nn.BatchNorm3d(8), depthwise=nn.Conv3d(8, 8, 3, groups=8),
        words=nn.Embedding(9, 8), tied=nn.ModuleList([shared, shared]), thin=nn.Linear(8, 1),
        frozen=nn.Linear(8, 4).requires_grad_(False), attention=nn.MultiheadAttention(8, 2),
        huge=nn.Linear(3000, 3000), classifier=nn.Linear(8, 7)))
    model.table = nn.Parameter(torch.zeros(4, 4))
    assert list(hidden_matrices(model, num_classes=7)) == [
        'stem.weight', 'attention.in_proj_weight', 'attention.out_proj.weight']
    assert 'classifier.weight' in hidden_matrices(model)
    assert 'huge.weight' in hidden_matrices(model, largest_side=4000) and 'huge.weight' in weights_of(model)
    assert list(hidden_matrices(torch.compile(model))) == list(hidden_matrices(model))


def test_a_role_that_does_nothing_is_not_touched():
    matrices = parameters()
    off = Damping(target_rank=None, size=None)
    rao = RankAwareGradients(matrices, dict(default=off, merge=Damping()), roles=dict(p2='merge'))
    assert rao.roles == ['merge'] and len(rao) == 1
    give(matrices, 0)
    raw = matrices['p0'].grad.clone()
    rao.step()
    assert torch.equal(matrices['p0'].grad, raw)
    assert set(rao.readings()) == {'rank_merge', 'input_rank_merge'}


# ---- state --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize('solver', ['eigenvectors', 'products'])
def test_stopped_and_resumed_is_uninterrupted_bit_for_bit(solver, tmp_path):
    schedule = Schedule(interval=4, warmup=3, solver=solver)
    straight = parameters(dtype=torch.float32)
    rao = RankAwareGradients(straight, Damping(smoothing=0.5), schedule=schedule)
    run(rao, straight, range(6))
    torch.save(rao.state_dict(), tmp_path / 'state.pth')
    wanted = run(rao, straight, range(6, 14))
    resumed = parameters(dtype=torch.float32)
    other = RankAwareGradients(resumed, Damping(smoothing=0.5), schedule=schedule)
    other.load_state_dict(torch.load(tmp_path / 'state.pth', weights_only=True))
    assert all(same(a, b) for a, b in zip(run(other, resumed, range(6, 14)), wanted))
    assert same(rao.state_dict(), other.state_dict()) and other.steps == 14


def test_a_saved_state_does_not_move_on():
    matrices = parameters()
    rao = RankAwareGradients(matrices, Damping(smoothing=0.5))
    run(rao, matrices, range(2))
    saved = rao.state_dict()
    root = saved['matrices']['p0']['root'].clone()
    run(rao, matrices, range(2, 4))
    assert torch.equal(saved['matrices']['p0']['root'], root)


def test_a_state_of_other_matrices_warns_and_of_other_shapes_is_refused():
    old = parameters()
    state = RankAwareGradients(old).state_dict()
    new = {'p0': old['p0'], 'fresh': nn.Parameter(torch.zeros(4, 4))}
    with pytest.warns(UserWarning, match='starting afresh: fresh; not treated now: p1, p2'):
        RankAwareGradients(new).load_state_dict(state)
    with pytest.raises(ValueError, match=r'state of p0 in the checkpoint is .*\(1, 5, 5\).*another layer'):
        RankAwareGradients(parameters(shape=(7, 9))).load_state_dict(state)
    with pytest.raises(ValueError, match='or other RAO settings'):
        RankAwareGradients(parameters(), Damping(smoothing=0.3)).load_state_dict(state)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        RankAwareGradients(parameters()).load_state_dict(state)


def test_settings_that_changed_since_a_state_was_saved_are_told():
    kept = RankAwareGradients(parameters(), Damping(size=None)).state_dict()
    with pytest.warns(UserWarning, match=r"other settings .*\(default: size None -> 'shared'\)"):
        RankAwareGradients(parameters()).load_state_dict(kept)
    former = {key: value for key, value in kept.items() if key != 'settings'}       # of before there was a shared size
    with pytest.warns(UserWarning, match=r"\(default: size None -> 'shared'\)"):
        RankAwareGradients(parameters()).load_state_dict(former)
    with pytest.warns(UserWarning, match=r'\(default: target_rank 0.5 -> 0.9\)'):
        RankAwareGradients(parameters(), Damping(0.9, size=None)).load_state_dict(kept)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        for state in (kept, former):
            RankAwareGradients(parameters(), Damping(size=None)).load_state_dict(state)


def test_it_costs_less_than_a_float32_for_each_parameter():
    """An average in bfloat16 and a root of the smaller side: of a matrix four times as wide as high 0.5 + 0.25."""
    p = nn.Parameter(torch.zeros(64, 256))
    rao = RankAwareGradients({'p': p}, Damping(smoothing=0.5))
    used = sum(t.numel() * t.element_size() for t in rao.stacks[0].state.values())
    assert used / (4 * p.numel()) == pytest.approx(0.75, abs=0.01)
    bare = RankAwareGradients({'p': p}).stacks[0].state
    assert 'average' not in bare


# ---- with an optimizer --------------------------------------------------------------------------------------------
@pytest.mark.parametrize('kind', [torch.optim.SGD, torch.optim.AdamW])
def test_it_works_before_any_optimizer_and_lets_go(kind):
    model = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 2))
    optimizer = kind(model.parameters(), lr=0.1)
    rao = RankAwareGradients(hidden_matrices(model, num_classes=2))
    rao.attach(optimizer)
    rao.attach(optimizer)                       # twice is once
    model(torch.randn(9, 6)).square().sum().backward()
    raw = [p.grad.clone() for p in model.parameters()]
    optimizer.step()
    assert rao.steps == 1
    assert [torch.equal(p.grad, g) for p, g in zip(model.parameters(), raw)] == [False, True, True, True]
    assert torch.allclose(norm_of(model[0].weight.grad), norm_of(raw[0]), rtol=1e-5)
    rao.detach()
    optimizer.step()
    assert rao.steps == 1


# ---- bad input ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize('options, told', [
    (dict(target_rank=0.0), r'in \(0, 1\], got 0.0'), (dict(target_rank=1.5), r'in \(0, 1\], got 1.5'),
    (dict(target_rank=True), 'got True'), (dict(target_rank=float('nan')), 'got nan'),
    (dict(kappa=0.5), 'both set the noise floor'), (dict(target_rank=None, kappa=-1), 'a positive number'),
    (dict(size=0.0), 'a positive number, or None to keep'), (dict(size='equal'), "or 'shared' to keep .* got 'equal'"),
    (dict(smoothing=1.2), r'in \[0, 1\], got 1.2'), (dict(decay=1.0), r'in \[0, 1\), got 1.0')])
def test_settings_that_cannot_be(options, told):
    with pytest.raises(ValueError, match=told):
        Damping(**options)


@pytest.mark.parametrize('options, told', [
    (dict(interval=0), 'interval counts steps.*got 0'), (dict(warmup=1.5), 'warmup counts steps'),
    (dict(solver='svd'), "solver 'svd' is unknown; choose one of auto"),
    (dict(average_dtype='int8'), "average_dtype 'int8' is unknown")])
def test_schedules_that_cannot_be(options, told):
    with pytest.raises(ValueError, match=told):
        Schedule(**options)


def test_changes_of_a_role():
    assert Damping().changed(dict(kappa=2.0)) == Damping(target_rank=None, kappa=2.0)
    assert Damping(target_rank=None, kappa=2.0).changed(dict(target_rank=0.3)) == Damping(target_rank=0.3)
    with pytest.raises(ValueError, match='does not know tau; a role takes target_rank'):
        Damping().changed(dict(tau=1))


def test_matrices_that_cannot_be():
    with pytest.raises(ValueError, match='is no matrix'):
        RankAwareGradients({'bias': nn.Parameter(torch.zeros(4))})
    with pytest.raises(ValueError, match='single row or column'):
        RankAwareGradients({'depthwise': Matrix(nn.Parameter(torch.zeros(4, 1, 3)), 4)})
    with pytest.raises(ValueError, match="has the role 'merge', for which there is no damping"):
        RankAwareGradients(parameters(), dict(default=Damping()), roles=dict(p1='merge'))


def test_it_works_without_openmmlab():
    code = ("import torch; from lsef_plugins.optim import RankAwareGradients, hidden_matrices\n"
            "m = torch.nn.Linear(4, 3); o = torch.optim.SGD(m.parameters(), lr=1.0)\n"
            "RankAwareGradients(hidden_matrices(m)).attach(o)\n"
            "m(torch.ones(2, 4)).square().sum().backward(); o.step()\n"
            "import sys; print(sorted({n.split('.')[0] for n in sys.modules} & {'mmaction', 'mmengine', 'mmcv'}))")
    done = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True, timeout=120,
                          env={'LSEF_PLUGINS_REGISTER': '0', 'PATH': ''})
    assert done.returncode == 0 and done.stdout.strip() == '[]', done.stderr
