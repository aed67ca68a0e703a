"""The constructor: what it builds on, what it treats, and what it refuses."""
import copy
import logging

import pytest
import torch
from host_families import Family
from mmengine.optim import AmpOptimWrapper, OptimWrapper, build_optim_wrapper
from mmengine.registry import OPTIM_WRAPPERS, init_default_scope
from torch import nn

import lsef_plugins  # noqa: F401
from lsef_plugins.engine.optimizers.roles import roles_of, treated_matrices
from lsef_plugins.engine.optimizers.wrapper import rank_aware
from lsef_plugins.nn import LSEF

SGD = dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=1e-4)


@pytest.fixture(scope='module', autouse=True)
def scope():
    init_default_scope('mmaction')


@pytest.fixture(scope='module')
def slowonly(scope):
    return Family('slowonly').build(dict(type='LSEFNeck'))


def build(model, constructor='RAO', optimizer=SGD, **cfg):
    return build_optim_wrapper(model, dict(constructor=constructor, optimizer=dict(optimizer), **cfg))


def names_of(wrapper, role=None):
    return {name for r, stack in zip(wrapper.rao.roles, wrapper.rao.stacks) for name in stack.names
            if role in (None, r)}


class Plain(nn.Module):
    """Not a recognizer: a layer for each question."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(6, 5), nn.Linear(5, 4)


# ---- what it builds on --------------------------------------------------------------------------------------------
@pytest.mark.parametrize('name, base, paramwise', [
    ('tsm', 'TSMOptimWrapperConstructor', dict(fc_lr5=True)), ('swin', 'SwinOptimWrapperConstructor', dict(
        absolute_pos_embed=dict(decay_mult=0.), backbone=dict(lr_mult=0.1))),
    ('videomae', 'LearningRateDecayOptimizerConstructor', dict(decay_rate=0.75, decay_type='layer_wise', num_layers=2)),
    ('slowonly', 'DefaultOptimWrapperConstructor', dict(custom_keys=dict(backbone=dict(lr_mult=0.1)),
                                                        norm_decay_mult=0.0)),
    ('slowonly', None, None), ('slowonly', dict(type='DefaultOptimWrapperConstructor'), dict(bias_lr_mult=2.0))])
def test_groups_are_those_of_the_base_constructor(name, base, paramwise):
    model = Family(name).build(dict(type='LSEFNeck'))
    model.backbone.get_num_layers = lambda: 2
    kind = base['type'] if isinstance(base, dict) else base
    stock = build(model, kind or 'DefaultOptimWrapperConstructor', paramwise_cfg=copy.deepcopy(paramwise))
    ours = build(model, base_constructor=base, paramwise_cfg=copy.deepcopy(paramwise))
    assert len(names_of(ours)) > 10

    def told(wrapper):
        return [{key: [id(p) for p in value] if key == 'params' else value for key, value in group.items()}
                for group in wrapper.param_groups[:len(wrapper.optimizer.param_groups)]]

    assert told(stock) == told(ours)


@pytest.mark.parametrize('kind, cls', [('OptimWrapper', OptimWrapper), (OptimWrapper, OptimWrapper),
                                       (None, OptimWrapper), ('AmpOptimWrapper', AmpOptimWrapper)])
def test_the_wrapper_is_one_of_the_configured_class(kind, cls, slowonly):
    options = {} if kind is None else dict(type=kind)
    wrapper = build(slowonly, clip_grad=dict(max_norm=3.0), accumulative_counts=4, **options)
    assert isinstance(wrapper, cls) and type(wrapper) is rank_aware(cls) is not cls
    assert wrapper.clip_grad_kwargs == dict(max_norm=3.0) and wrapper._accumulative_counts == 4
    assert 'RankAware' in repr(wrapper)


def test_a_wrapper_of_ones_own_stays_one(slowonly):

    @OPTIM_WRAPPERS.register_module(force=True)
    class Counting(OptimWrapper):
        count = 0

        def step(self, **kwargs):
            self.count += 1
            super().step(**kwargs)

    wrapper = build(slowonly, type='Counting')
    for p in slowonly.parameters():
        p.grad = torch.ones_like(p)
    wrapper.step()
    assert isinstance(wrapper, Counting) and wrapper.count == wrapper.rao.steps == 1
    slowonly.zero_grad()


def test_both_names_are_known_and_the_config_is_not_changed(slowonly):
    cfg = dict(optimizer=SGD, rao=dict(roles=dict(stable=False)), base_constructor='DefaultOptimWrapperConstructor')
    before = copy.deepcopy(cfg)
    first = build(slowonly, 'RAO', **cfg)
    second = build(slowonly, 'RankAwareOptimWrapperConstructor', **cfg)
    assert cfg == before and names_of(first) == names_of(second)


# ---- what is treated ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize('neck, prefix', [('LSEFNeck', 'neck'), ('SEM', 'neck'), ('DDM', 'neck'), ('CIM', 'neck')])
def test_roles_come_from_the_modules(neck, prefix):
    wrapper = build(Family('slowonly').build(dict(type=neck)))
    stream = f'{prefix}.streams.0.cim'
    wanted = {'stable': {f'{stream}.from_stable.weight'}, 'merge': {f'{stream}.out.weight'},
              'transient': {f'{stream}.from_transient.weight', f'{stream}.from_magnitude.weight'}}
    there = {'LSEFNeck': wanted, 'SEM': {**wanted, 'transient': set()}, 'DDM': {**wanted, 'stable': set()},
             'CIM': {**wanted, 'transient': set()}}[neck]
    assert {role: names_of(wrapper, role) for role in wanted} == there
    assert all(name.startswith('backbone.') for name in names_of(wrapper, 'default'))


def test_roles_do_not_depend_on_where_a_module_sits():
    model = Plain()
    model.block = nn.Sequential(nn.Linear(4, 4), LSEF(16))
    model.block[0].rao_role = 'stable'
    roles = roles_of(model, treated_matrices(model))
    assert roles['block.0.weight'] == 'stable' and roles['block.1.cim.from_magnitude.weight'] == 'transient'
    assert roles['block.1.cim.out.weight'] == 'merge' and roles['one.weight'] == 'default'
    assert roles_of(torch.compile(model), roles) == roles


def test_classifiers_embeddings_norms_and_vectors_are_not_treated(slowonly):
    treated = names_of(build(slowonly))
    left = {name for name, p in slowonly.named_parameters() if name not in treated}
    assert 'cls_head.fc_cls.weight' in left and 'backbone.conv1.conv.weight' in treated
    assert all(p.ndim == 1 for name, p in slowonly.named_parameters() if name in left
               and not name.endswith(('fc_cls.weight', 'ddm.offset.weight', 'cim.gains.weight')))
    head = Family('tsn').with_head(type='LSEFHead').build()
    assert not any('cls_head' in name for name in names_of(build(head)))


def test_what_is_treated_can_be_changed(slowonly):
    assert 'cls_head.fc_cls.weight' in names_of(build(slowonly, rao=dict(include=['fc_cls'])))
    without = names_of(build(slowonly, rao=dict(exclude=['layer4', 'neck'], include=['fc_cls'])))
    assert not any('layer4' in name or 'neck' in name for name in without) and 'cls_head.fc_cls.weight' in without
    both = names_of(build(slowonly, rao=dict(exclude=['cls_head'], include=['fc_cls', 'from_stable'])))
    assert both == names_of(build(slowonly))
    assert names_of(build(slowonly, rao=dict(roles=dict(default=False)))) == names_of(build(slowonly)) - names_of(
        build(slowonly), 'default')
    small = names_of(build(slowonly, rao=dict(largest_side=32)))
    assert small and small < names_of(build(slowonly))


def test_each_role_has_settings_of_its_own(slowonly):
    wrapper = build(slowonly, rao=dict(smoothing=0.4, target_rank=0.6, roles=dict(
        stable=dict(kappa=2.0), transient=dict(smoothing=0.0), merge=dict(decay=0.5, size=0.01)), interval=7, warmup=3,
        solver='products', average_dtype='float32', log_interval=5))
    found = {role: stack.damping for role, stack in zip(wrapper.rao.roles, wrapper.rao.stacks)}
    assert (found['default'].target_rank, found['default'].smoothing) == (0.6, 0.4)
    assert (found['stable'].target_rank, found['stable'].kappa, found['stable'].smoothing) == (None, 2.0, 0.4)
    assert (found['transient'].smoothing, found['merge'].decay, found['merge'].size) == (0.0, 0.5, 0.01)
    assert found['default'].size == 'shared'
    schedule = wrapper.rao.schedule
    assert (schedule.interval, schedule.warmup) == (7, 3)
    assert (schedule.solver, schedule.average_dtype) == ('products', 'float32')
    assert wrapper.log_interval == 5 and wrapper.rao.stacks[0].state['average'].dtype == torch.float32


@pytest.mark.parametrize('rao', [dict(enabled=False), dict(target_rank=None, size=None), dict(roles=dict.fromkeys(
    ('stable', 'transient', 'merge', 'default'), False))], ids=str)
def test_with_nothing_to_do_the_wrapper_is_the_stock_one(rao, slowonly):
    wrapper = build(slowonly, rao=rao)
    assert type(wrapper) is OptimWrapper and not wrapper.optimizer._optimizer_step_pre_hooks


def test_frozen_and_shared_parameters_are_left_alone():
    model = Plain()
    model.tied = nn.ModuleList([model.one])
    model.frozen = nn.Linear(4, 4).requires_grad_(False)
    assert names_of(build(model)) == {'two.weight'}


def test_a_parameter_that_is_not_optimized_is_not_treated():
    from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS

    @OPTIM_WRAPPER_CONSTRUCTORS.register_module(name='OnlyTheFirst', force=True)
    class OnlyTheFirst:

        def __init__(self, optim_wrapper_cfg, paramwise_cfg=None):
            self.cfg = optim_wrapper_cfg

        def __call__(self, model):
            return self.cfg['type'](torch.optim.SGD(model.one.parameters(), lr=0.1))

    assert names_of(build(Plain(), base_constructor='OnlyTheFirst')) == {'one.weight'}


# ---- what is refused ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize('cfg, told', [
    (dict(rao=dict(roles=dict(steady=dict()))), "role in rao.roles 'steady' is unknown; RAO knows stable, transient"),
    (dict(rao=dict(target_rank=0)), r'in \(0, 1\], got 0'),
    (dict(rao=dict(target_rank=1.01)), r'in \(0, 1\], got 1.01'),
    (dict(rao=dict(roles=dict(merge=dict(target_rank=-1)))), r'in \(0, 1\], got -1'),
    (dict(base_constructor='TSMConstructor'),
     "'TSMConstructor' does not exist. There are .*TSMOptimWrapperConstructor"),
    (dict(base_constructor='RAO'), 'any but itself'), (dict(base_constructor=dict(kind=1)), 'any but itself'),
    (dict(rao=dict(tau=1)), 'rao does not know tau. It takes target_rank'),
    (dict(rao=[0.5]), 'rao is a dict of options'),
    (dict(rao=dict(roles=dict(merge=dict(rank=1)))), 'does not know rank; a role takes'),
    (dict(rao=dict(exclude='layer4')), 'rao.exclude is a list of parts'),
    (dict(rao=dict(exclude=['layer9'])), "rao.exclude names 'layer9', which is part of no weight.*backbone.conv1"),
    (dict(rao=dict(include=['bn1'])), "rao.include names 'bn1'"),
    (dict(rao=dict(interval=0)), 'interval counts steps'),
    (dict(rao=dict(log_interval=0)), 'rao.log_interval is a whole'),
    (dict(rao=dict(largest_side=2.5)), 'rao.largest_side is a whole'),
    (dict(type='NoWrapper'), "'NoWrapper' does not exist"),
    (dict(type='DeepSpeedOptimWrapper'), 'RAO cannot work in DeepSpeedOptimWrapper: DeepSpeed'),
    (dict(type='AmpOptimWrapper', use_fsdp=True), r'spread over processes \(FSDP\)')], ids=str)
def test_what_cannot_be_is_told(cfg, told, slowonly):
    import mmengine._strategy.deepspeed  # noqa: F401 - registers its wrapper
    with pytest.raises(ValueError, match=told):
        build(slowonly, **cfg)


def test_a_module_with_an_unknown_role_is_told():
    model = Plain()
    model.two.rao_role = 'base'
    with pytest.raises(ValueError, match="rao_role of two 'base' is unknown"):
        build(model)


def test_shards_are_refused():

    class FullyShardedDataParallel(nn.Module):
        """What FSDP's wrapper looks like from outside; test_ddp.py shards a real model."""

        def __init__(self, module):
            super().__init__()
            self.module = module

    with pytest.raises(ValueError, match='needs whole gradient matrices.*Train it with DDP'):
        build(FullyShardedDataParallel(Plain()))


def test_an_optimizer_that_was_replaced_is_noticed(slowonly):
    wrapper = build(slowonly)
    wrapper.optimizer = torch.optim.SGD(slowonly.parameters(), lr=0.1)
    with pytest.raises(ValueError, match='was replaced after RAO had been attached'):
        wrapper.step()


@pytest.mark.parametrize('optimizer, told', [
    (SGD, False), (dict(type='AdamW', lr=1e-3), True), (dict(type='RMSprop', lr=1e-3), True)])
def test_an_optimizer_that_undoes_rao_is_told_of(optimizer, told, slowonly, monkeypatch):
    from lsef_plugins.engine.optimizers import constructor
    lines = []
    monkeypatch.setattr(constructor, 'print_log', lambda message, *rest: lines.append((message, *rest)))
    build(slowonly, optimizer=optimizer)
    warnings = [line[0] for line in lines if logging.WARNING in line]
    assert len(warnings) == told and all(f'beside {optimizer["type"]}' in line for line in warnings)
