"""Equal budgets, equal starts, equal tuning."""
import pytest
import torch
from mmaction.registry import MODELS
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope

import lsef_plugins  # noqa: F401
from lsef_plugins.engine.neck_study import budget, design, train  # noqa: F401
from lsef_plugins.engine.studies.runs import chosen

SMALL = design.SIZES['small']
TUNABLE = [arm for arm in design.ARMS.values() if arm.neck is not None and not arm.fixed]


@pytest.fixture(autouse=True)
def scope():
    init_default_scope('mmaction')


def built(arm, size=SMALL):
    torch.manual_seed(3)
    model = MODELS.build(arm.model(size))
    model.init_weights()
    return model


@pytest.mark.parametrize('arm', TUNABLE, ids=lambda arm: arm.name)
def test_neck_and_head_hold_as_many_parameters_as_the_declared_arm(arm):
    model = built(arm)
    held = sum(p.numel() for part in (model.neck, model.cls_head) for p in part.parameters())
    assert held == arm.parameters(SMALL)
    assert abs(held - SMALL.budget) <= 0.035 * SMALL.budget


def test_the_budget_is_that_of_a_neck_of_its_own_width_and_the_neck_as_it_comes_has_it_too():
    model = built(design.ARMS[design.DECLARED])
    plain = MODELS.build(dict(design.STABLE, in_channels=64))
    assert built(design.ARMS['lsef/lsef']).neck.streams[0].cim.out.in_channels == MODELS.build(
        dict(type='LSEFNeck', in_channels=64)).streams[0].cim.out.in_channels
    assert sum(p.numel() for p in model.neck.parameters()) == sum(p.numel() for p in plain.parameters())
    assert design.ARMS[design.DECLARED].parameters(SMALL) == SMALL.budget


def test_at_full_size_too():
    full = design.SIZES['full']
    for name in ('mlp/avg', 'tconv/mmd', 'hamburger/avg', 'lsef/mmd'):
        assert abs(design.ARMS[name].parameters(full) / full.budget - 1) < 0.01, name


def test_a_frozen_backbone_neither_learns_nor_counts():
    frozen = design.SIZES['frozen']
    model = built(design.ARMS['lsef/lsef'], frozen).train()
    assert not any(p.requires_grad for p in model.backbone.parameters()) and 'frozen_stages' not in frozen.backbone
    norms = [module for module in model.backbone.modules() if isinstance(module, torch.nn.BatchNorm3d)]
    before = [norm.running_mean.clone() for norm in norms]
    x = torch.randn(2, 3, 8, 32, 32, generator=torch.Generator().manual_seed(0))
    scores(model, x).square().sum().backward()
    assert norms and all(torch.equal(norm.running_mean, each) for norm, each in zip(norms, before))
    assert model.neck.streams[0].cim.out.weight.grad.abs().max() > 0
    assert all(p.requires_grad for p in built(design.ARMS['lsef/lsef'], design.SIZES['framewise']).parameters())


def test_a_head_that_uses_up_the_budget_is_told():
    with pytest.raises(ValueError, match='PointwiseNeck has no width with which it and LSEFHead fit into 900'):
        budget.fitted(dict(type='PointwiseNeck'), design.head('lsef'), 64, 900)


@pytest.mark.parametrize('name', ['avg', 'mmd', 'mmds', 'exc', 'lsef', 'all'])
def test_all_necks_start_from_the_function_without_a_neck(name):
    """The same backbone and head, bit for bit the same scores; TPN alone replaces the features."""
    x = torch.randn(2, 3, 8, 32, 32, generator=torch.Generator().manual_seed(0))
    plain = built(design.ARMS[f'none/{name}']).eval()
    for arm in design.ARMS.values():
        if arm.head == name and arm.neck is not None and not arm.fixed:
            model = built(arm).eval()
            missing, unexpected = model.load_state_dict(plain.state_dict(), strict=False)
            assert not unexpected and all(key.startswith('neck.') for key in missing), arm.name
            with torch.no_grad():
                assert torch.equal(scores(model, x), scores(plain, x)), arm.name


def scores(model, x):
    return model.cls_head(model.extract_feat(x[:, None])[0])


@pytest.mark.parametrize('name', ['tpn/avg', 'tpn/mmd'])
def test_tpn_is_the_hosts_and_over_the_budget(name):
    model = built(design.ARMS[name]).eval()
    assert type(model.neck).__module__.startswith('mmaction.')
    x = torch.randn(2, 1, 3, 8, 32, 32)
    feats = model.extract_feat(x)[0]
    assert feats.shape[:3] == (2, design.TPN_CHANNELS, 1 if name == 'tpn/avg' else 8)
    assert model.cls_head(feats).shape == (2, 7) and design.ARMS[name].parameters(SMALL) > 10 * SMALL.budget


@pytest.mark.parametrize('whole, head', [('lsef', 'lsef'), ('lsef-stable', 'avg')])
def test_ablations_are_what_they_say(whole, head):
    parts = {name: built(design.ARMS[f'{whole}-{name}/{head}']).neck.streams[0] for name in design.ABLATIONS}
    stock = built(design.ARMS[f'{whole}/{head}']).neck.streams[0]
    assert stock.cim.windows == (1, 3, 5) and stock.sem.robust_iters == 1 and stock.ddm.gate_frames
    assert parts['nosem'].sem is None and parts['noddm'].ddm is None and parts['nocim'].cim.windows == (1, )
    assert parts['nogate'].sem.robust_iters == 0 and not parts['nogate'].ddm.gate_frames
    assert parts['soft'].sem.mode == 'soft' and parts['soft'].ddm.exponent == 1 and stock.ddm.exponent == 2
    assert parts['rank1'].sem.rank == 1 and parts['k2'].iterations == 2 and (stock.sem.rank, stock.iterations) == (2, 1)
    # What a part leaves of the merge; nothing else of it changes.
    missing = dict(nosem=('stable', 1), noddm=('stable', 3), nocim=('stable', 1)) if whole == 'lsef' else {}
    for name, part in parts.items():
        expected = missing.get(name, (stock.cim.bands_of, stock.cim.kernel))
        assert (part.cim.bands_of, part.cim.kernel) == expected, name


def test_an_ablated_arm_has_the_head_and_the_budget_of_the_whole():
    for name in design.ABLATIONS:
        arm, whole = design.ARMS[f'lsef-{name}/lsef'], design.ARMS['lsef/lsef']
        assert repr(built(arm).cls_head) == repr(built(whole).cls_head)
        assert abs(arm.parameters(SMALL) / SMALL.budget - 1) < 0.035, name


def test_the_variants_are_the_neck_with_other_bands_and_another_head():
    model = built(design.ARMS['lsef-restored/all'])
    assert model.neck.streams[0].cim.bands_of == 'restored' and tuple(model.cls_head.options['read']) == (
        'pool', 'stable', 'excursion', 'transient')
    stock, *others = (built(design.ARMS[name]).neck.streams[0].cim
                      for name in ('lsef/all', 'lsef-stable/all', 'lsef-restored/all'))
    assert (stock.bands_of, stock.kernel) == ('restored', 3)
    assert [(other.bands_of, other.kernel) for other in others] == [('stable', 1), ('restored', 1)]


def test_every_arm_has_the_same_tuning_and_its_own_seeds():
    cell = design.CELLS['hard_augmented']
    assert len({len(design.tuning_runs(cell, arm)) for arm in design.ARMS.values()}) == 1
    assert len(design.SEEDS) >= 5 and not set(design.SEEDS) & set(design.TUNING_SEEDS)
    assert len(design.CELLS) == 6 and set(design.MAIN) <= set(design.ARMS) and design.DECLARED in design.MAIN
    names = [run.name for arm in design.ARMS.values() for run in design.tuning_runs(cell, arm)]
    assert len(set(names)) == len(names)
    assert {f'{neck}/{head}' for neck in design.RIVALS for head in ('avg', 'mmd')} <= set(design.ARMS)
    assert all(arm.guess in arm.rates for arm in design.ARMS.values())
    assert len({repr(arm.optim_wrapper(0.1)) for arm in design.ARMS.values() if arm.recipe == 'muon'}) == 1


@pytest.mark.parametrize('name, matrices, classifier', [('lsef/avg', 0.003, 0.5), ('lsef-stable/lsef+sgd', 0.5, 0.05),
                                                        ('lsef-stable/lsef+rao', 0.5, 0.05)])
def test_the_rate_is_that_of_the_classifier_and_under_sgd_of_all(name, matrices, classifier):
    model = built(design.ARMS[name])
    wrapper = build_optim_wrapper(model, design.ARMS[name].optim_wrapper(0.5))
    rates = {id(p): group['lr'] for group in wrapper.optimizer.param_groups for p in group['params']}
    assert rates[id(model.cls_head.fc_cls.weight)] == pytest.approx(classifier)
    assert rates[id(model.backbone.layer4[1].conv2.conv.weight)] == pytest.approx(matrices)
    assert rates[id(model.neck.streams[0].cim.out.weight)] == pytest.approx(matrices) and len(rates) == len(
        list(model.parameters()))
    assert hasattr(wrapper, 'rao') == name.endswith('rao')


def test_an_arm_that_is_not_there_is_told():
    with pytest.raises(ValueError, match='There is no arm lsef/max; there are none/avg'):
        chosen('arm', design.ARMS, ['lsef/max'])


def test_a_long_tail_is_tested_on_equal_classes():
    from lsef_plugins.datasets.synthetic.presets import PRESETS
    assert design.CELLS['longtail_clean'].tested_on == 'default' and design.CELLS['hard_clean'].tested_on == 'hard'
    tail, equal = (dict(vars(PRESETS[name]), name='', clips=0, class_probabilities=None) for name in
                   ('longtail', 'default'))
    assert tail == equal


def test_the_plan_counts_the_runs():
    arms = [design.ARMS[name] for name in design.MAIN]
    told = design.plan([design.CELLS['default_clean']], arms, SMALL, 2, 5, 7)
    assert 'together 165 runs' in told and 'tuning: 90 runs in each of 1 cells' in told and 'tconv/mmd: ' in told
    assert 'together 75 runs' in design.plan([design.CELLS['default_clean']], arms, SMALL, 0, 5, 7)
    cells = [design.CELLS[name] for name in ('default_clean', 'hard_clean', 'longtail_clean', 'hard_augmented')]
    told = design.plan(cells, arms, SMALL, 1, 5, 7, 'default')
    assert 'tuning: 45 runs in each of 2 cells (default_clean, default_augmented)' in told
    assert 'together 390 runs' in told
    with pytest.raises(ValueError, match="tune_on='easy' is no preset"):
        design.plan(cells, arms, SMALL, 1, 5, 7, 'easy')
