"""What LSEF separates, in the logs of the host's own runner: the right numbers, at the right time, and nothing else."""
import importlib.util
import json
from types import SimpleNamespace

import pytest
import torch
from host_families import Family
from mmengine.hooks import Hook
from mmengine.logging import MessageHub
from mmengine.registry import init_default_scope
from mmengine.runner import Runner

import lsef_plugins.nn
from lsef_plugins.engine.hooks import DecompositionHook
from lsef_plugins.engine.hooks.decomposition_hook import NAMES
from lsef_plugins.registry import HOOKS

THRESHOLDS = {'kappa', 'kappa_min', 'kappa_max', 'threshold_ratio', 'floor_ratio'}


def train(tiny_config, work_dir, neck=('LSEFNeck', {}), hooks=None, epochs=1, **changes):
    changes = {'train_cfg': dict(max_epochs=epochs), **changes}
    if neck:
        changes['model'] = dict(neck=dict(type=neck[0], **neck[1]))
    cfg = tiny_config(work_dir, **changes)
    cfg.default_hooks.logger.interval = 1
    cfg.custom_hooks = [dict(type='DecompositionHook', interval=2)] if hooks is None else hooks
    runner = Runner.from_cfg(cfg)
    runner.train()
    return runner


def scalars(work_dir):
    [path] = work_dir.rglob('scalars.json')
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [row for row in rows if 'loss' in row], [row for row in rows if 'loss' not in row]


def measured(row):
    return {key: value for key, value in row.items() if key.startswith('decomposition/')}


@pytest.fixture(scope='module')
def logged(tiny_config, tmp_path_factory):
    """Log lines of training (each iteration) and of validation; measured at iterations 1, 2 and 4 of 4."""
    folder = tmp_path_factory.mktemp('logged')
    runner = train(tiny_config, folder, hooks=[dict(type='DecompositionHook', interval=2, phases=('train', 'val'))])
    return (*scalars(folder), runner)


def test_every_name_of_the_neck_is_in_the_log_of_training_and_of_validation(logged):
    training, validation, _ = logged
    names = {f'decomposition/neck/{name}' for name in NAMES}
    assert all(set(measured(row)) == names for row in [*training, *validation]) and len(training) == 4


def test_the_logged_rank_and_residual_are_those_of_the_auxiliary_losses_of_that_iteration(logged):
    """The neck's own figures, computed from the Gram: the rank's excess (rank 2), and what the stable part leaves."""
    training = logged[0]
    for row in (training[0], training[1], training[3]):
        found = measured(row)
        assert found['decomposition/neck/stable_rank'] - 1 == pytest.approx(row['lsef/rank'], rel=1e-4)
        assert 0 < found['decomposition/neck/stable_ratio'] < 1
    assert training[1]['decomposition/neck/stable_rank'] != training[0]['decomposition/neck/stable_rank']


def test_between_measurements_the_last_one_stands(logged):
    training = logged[0]
    assert measured(training[2]) == measured(training[1]) != measured(training[3])


def test_no_hook_is_left_in_the_model_and_none_is_there_between_measurements(tiny_config, tmp_path):
    seen = []

    @HOOKS.register_module(force=True)
    class Watcher(Hook):
        priority = 'LOW'

        def before_train_iter(self, runner, batch_idx, data_batch=None):
            neck = runner.model.neck.streams[0]
            seen.append(len(neck.sem._forward_hooks) + len(neck.ddm._forward_hooks))

    runner = train(tiny_config, tmp_path, hooks=[dict(type='DecompositionHook', interval=3), dict(type='Watcher')])
    assert seen == [2, 0, 2, 0], 'the first iteration and each third'
    assert not any(module._forward_hooks for module in runner.model.neck.streams.modules())


def test_a_training_that_is_measured_is_the_same_training(tiny_config, tmp_path):
    runs = [train(tiny_config, tmp_path / str(i), hooks=hooks) for i, hooks in enumerate(([], None))]
    first, second = (run.model.state_dict() for run in runs)
    assert all(torch.equal(value, second[key]) for key, value in first.items())


def test_it_goes_with_ema_and_measures_the_weights_that_are_validated(tiny_config, tmp_path):
    runner = train(tiny_config, tmp_path, hooks=[dict(type='EMAHook', momentum=.5), dict(
        type='DecompositionHook', interval=1, phases=('train', 'val'))])
    training, validation = scalars(tmp_path)
    assert len(measured(validation[0])) == len(measured(training[0])) == len(NAMES)
    assert not any(module._forward_hooks for module in runner.model.neck.streams.modules())


def test_a_model_without_decomposition_is_told_once_and_trains_on(tiny_config, tmp_path):
    train(tiny_config, tmp_path, neck=None)
    training, _ = scalars(tmp_path)
    assert len(training) == 4 and not measured(training[-1])
    told = [line for path in tmp_path.rglob('*.log') for line in path.read_text().splitlines()
            if 'DecompositionHook' in line and 'WARNING' in line]
    assert len(told) == 1 and 'no decomposition in this model' in told[0] and "type='LSEFNeck'" in told[0]


def test_values_reach_tensorboard(tiny_config, tmp_path):
    if not importlib.util.find_spec('tensorboard'):
        pytest.skip('tensorboard is not installed')
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    train(tiny_config, tmp_path, visualizer=dict(vis_backends=[dict(type='TensorboardVisBackend')]))
    [folder] = {path.parent for path in tmp_path.rglob('events.out.*')}
    events = EventAccumulator(str(folder))
    events.Reload()
    assert {f'decomposition/neck/{name}' for name in NAMES} <= set(events.Tags()['scalars'])
    assert len(events.Scalars('decomposition/neck/stable_rank')) == 4


def step(model, batch, hook=None, iteration=0):
    """One measured iteration without a runner; what the message hub got."""
    hub = MessageHub(f'hub{id(model)}{iteration}')
    runner = SimpleNamespace(model=model, iter=iteration, message_hub=hub)
    hook = hook or DecompositionHook(interval=1)
    hook.before_train_iter(runner, 0)
    model(**batch, mode='loss')
    hook.after_train_iter(runner, 0)
    return {key[len('train/decomposition/'):]: buffer.current() for key, buffer in hub.log_scalars.items()}


def places(found):
    return {place: {key.rpartition('/')[2] for key in found if key.rpartition('/')[0] == place}
            for place in {key.rpartition('/')[0] for key in found}}


@pytest.mark.parametrize('name, neck, head, expected', [
    ('slowonly', 'LSEFNeck', None, {'neck': set(NAMES)}),
    ('slowonly', 'SEM', None, {'neck': set(NAMES) - THRESHOLDS}),
    ('slowonly', 'DDM', None, {'neck': set(NAMES)}),
    ('slowonly', 'CIM', None, {}),
    ('slowfast', 'LSEFNeck', None, {'neck.0': set(NAMES), 'neck.1': set(NAMES)}),
    ('tsn', None, dict(type='LSEFHead'), {'cls_head': set(NAMES) - THRESHOLDS}),       # it needs no threshold
    ('tsm', 'LSEFNeck', dict(type='LSEFHead', read=('pool', 'transient')),
     {'cls_head': set(NAMES), 'neck': set(NAMES)}),
    ('tpn-slowonly', 'LSEFNeck', None, {'neck.lsef.0': set(NAMES), 'neck.lsef.1': set(NAMES)}),
    ('videomae', 'LSEFNeck', None, {'neck': set(NAMES)}),
])
def test_each_place_of_each_family_has_what_it_separates(name, neck, head, expected):
    init_default_scope('mmaction')
    family = Family(name)
    if head:
        family.with_head(**head)
    model = family.build(neck and dict(type=neck)).train()
    assert places(step(model, family.batch(model, training=True))) == expected


def test_numbers_are_those_of_the_parts():
    init_default_scope('mmaction')
    family = Family('slowonly')
    model = family.build(dict(type='LSEFNeck', ddm=dict(kappa=2.0))).train()
    caught = []
    model.neck.register_forward_pre_hook(lambda module, args: caught.append(args[0].detach()))
    found = step(model, family.batch(model, training=True))
    parts = model.neck.streams[0].decompose(caught[0])
    whole = caught[0].square().sum((1, 2, 3, 4))
    for name in ('stable', 'transient', 'residual'):
        share = (getattr(parts, name).square().sum((1, 2, 3, 4)) / whole).mean()
        assert found[f'neck/{name}_ratio'] == pytest.approx(float(share), rel=1e-4)
    assert found['neck/gate_ratio'] == pytest.approx(float(parts.frame_gate.mean()), abs=1e-6)
    assert found['neck/kappa'] == found['neck/kappa_min'] == pytest.approx(2)


def test_a_compiled_training_is_not_measured_and_told_once(monkeypatch):
    from lsef_plugins.engine.hooks import decomposition_hook
    init_default_scope('mmaction')
    family, told = Family('slowonly'), []
    monkeypatch.setattr(decomposition_hook, 'print_log', lambda text, *rest: told.append(text))
    model = family.build(dict(type='LSEFNeck')).train()
    model.train_step = torch.compile(model.train_step, backend='eager')
    hook, batch = DecompositionHook(interval=1), family.batch(model, training=True)
    assert step(model, batch, hook) == step(model, batch, hook, 1) == {}
    assert len(told) == 1 and 'runs under torch.compile' in told[0] and "phases=('val', )" in told[0]


def test_a_place_that_is_not_reached_is_told(monkeypatch):
    from lsef_plugins.engine.hooks import decomposition_hook
    told, hub = [], MessageHub('unreached')
    monkeypatch.setattr(decomposition_hook, 'print_log', lambda text, *rest: told.append(text))
    model = torch.nn.Sequential(lsef_plugins.nn.LSEF(4))
    model.train_step = None
    hook, runner = DecompositionHook(), SimpleNamespace(model=model, iter=0, message_hub=hub)
    hook.before_train_iter(runner, 0)
    hook.after_train_iter(runner, 0)
    assert len(told) == 1 and '0 was not reached in a measured iteration' in told[0] and not hub.log_scalars


def test_between_measurements_nothing_is_read_off_the_device(monkeypatch):
    hub, published = MessageHub('between'), []
    model, x = lsef_plugins.nn.LSEF(4), torch.randn(1, 4, 8, 2, 2)
    model.train_step = None
    hook, runner = DecompositionHook(interval=3), SimpleNamespace(model=model, message_hub=hub)
    publish = hook._publish
    monkeypatch.setattr(hook, '_publish', lambda *args: (published.append(runner.iter), publish(*args)))
    for runner.iter in range(6):
        hook.before_train_iter(runner, runner.iter)
        model(x)
        hook.after_train_iter(runner, runner.iter)
    assert published == [0, 2, 5] and len(hub.log_scalars) == len(NAMES)


@pytest.mark.parametrize('options, words', [
    (dict(interval=0), 'interval counts iterations between measurements, an integer >= 1, got 0'),
    (dict(interval=True), 'interval counts'),
    (dict(phases='train'), "phases names any of train, val, test.*got 'train'"),
    (dict(phases=('fit', )), 'phases names any of')])
def test_wrong_options_are_told(options, words):
    with pytest.raises(ValueError, match=words):
        DecompositionHook(**options)


WORKER = '''
import json
import torch
from types import SimpleNamespace
import lsef_plugins
from mmengine.dist import get_rank, init_dist
from mmengine.logging import MessageHub
from torch.nn.parallel import DistributedDataParallel
from lsef_plugins.engine.hooks import DecompositionHook
from lsef_plugins.nn import LSEF
init_dist('pytorch', backend='gloo')
torch.manual_seed(0)
x = torch.randn(5, 4, 8, 3, 2) * torch.tensor([1., 2., 3., 4., 5.])[:, None, None, None, None]
model = DistributedDataParallel(LSEF(4))
model.train_step = None
def measure(model, x):
    hub = MessageHub(str(len(x)))
    runner = SimpleNamespace(model=model, iter=0, message_hub=hub)
    hook = DecompositionHook()
    hook.before_train_iter(runner, 0)
    if len(x):
        model(x)
    hook.after_train_iter(runner, 0)
    return {key: buffer.current() for key, buffer in hub.log_scalars.items()}
mine = measure(model, x[:3] if get_rank() == 0 else x[3:])
print('RESULT' + json.dumps([mine, measure(model, x[:3] if get_rank() == 0 else x[5:])]))
'''


@pytest.mark.slow
def test_processes_log_the_numbers_of_all_of_their_clips_together(two_processes):
    from lsef_plugins.nn import LSEF
    torch.manual_seed(0)
    x = torch.randn(5, 4, 8, 3, 2) * torch.tensor([1., 2., 3., 4., 5.])[:, None, None, None, None]
    model = LSEF(4)

    def alone(x):
        model.train_step = None
        hub = MessageHub(f'alone{len(x)}')
        runner = SimpleNamespace(model=model, iter=0, message_hub=hub)
        hook = DecompositionHook()
        hook.before_train_iter(runner, 0)
        model(x)
        hook.after_train_iter(runner, 0)
        return {key: buffer.current() for key, buffer in hub.log_scalars.items()}

    first, second = two_processes(WORKER)
    assert first == second
    assert first[0] == pytest.approx(alone(x)) and first[1] == pytest.approx(alone(x[:3]))
    assert len(first[0]) == len(NAMES)
