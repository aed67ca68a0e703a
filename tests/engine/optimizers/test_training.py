"""RAO in MMEngine's Runner: what must not change, and what must come out the same."""
import copy
import json
from pathlib import Path

import pytest
import torch
from differences import differing
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.logging import HistoryBuffer, MessageHub
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmengine.registry import VISBACKENDS
from mmengine.runner import Runner
from mmengine.visualization import BaseVisBackend

import lsef_plugins  # noqa: F401
from lsef_plugins.engine.optimizers.wrapper import rank_aware
from lsef_plugins.optim import Damping, RankAwareGradients
from lsef_plugins.registry import HOOKS

ROOT = Path(__file__).resolve().parents[3]
SGD = dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=1e-4)
QUICK = dict(interval=2, warmup=1, smoothing=0.5)
NO_VALIDATION = dict(val_cfg=None, val_dataloader=None, val_evaluator=None)


def of_rao(constructor='RAO', optimizer=SGD, rao=QUICK, **changes):
    return dict(optim_wrapper=dict(_delete_=True, constructor=constructor, optimizer=optimizer, rao=rao, **changes))


@HOOKS.register_module(force=True)
class Poison(Hook):
    """Makes the loss of one step NaN."""

    def __init__(self, at):
        self.at = at

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        head = runner.model.cls_head
        if runner.iter == self.at:
            self.before = runner.optim_wrapper.state_dict()['rao']
            stock = type(head).loss
            head.loss = lambda *args, **kwargs: {key: value * float('nan') if 'loss' in key else value
                                                 for key, value in stock(head, *args, **kwargs).items()}

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        runner.model.cls_head.__dict__.pop('loss', None)


@VISBACKENDS.register_module(force=True)
class Remembering(BaseVisBackend):
    """Another backend, such as TensorBoard's: what it is handed."""
    seen = []

    def _init_env(self):
        pass

    @property
    def experiment(self):
        return self

    def add_scalars(self, scalar_dict, step=0, file_path=None, **kwargs):
        self.seen.append(dict(scalar_dict))


@pytest.fixture
def train(tiny_config, tmp_path):
    """Trains in a folder of tmp_path and returns the runner."""

    def run(name, **changes):
        hooks = [dict(type='RandomStateHook')]      # deepcopy: the host takes _delete_ out of what it merges
        cfg = tiny_config(tmp_path / name, **copy.deepcopy({**NO_VALIDATION, 'custom_hooks': hooks, **changes}))
        cfg.experiment_name = f'{tmp_path.name}_{name}'
        runner = Runner.from_cfg(cfg)
        runner.train()
        return runner

    return run


def saved(runner, name='epoch_2.pth'):
    content = torch.load(Path(runner.work_dir) / name, map_location='cpu', weights_only=False)
    return {key: content[key] for key in ('state_dict', 'optimizer', 'ema_state_dict') if key in content}


# ---- off ----------------------------------------------------------------------------------------------------------
def test_off_is_the_stock_training_bit_for_bit_and_on_is_another(train):
    stock = train('stock', optim_wrapper=dict(_delete_=True, optimizer=SGD, clip_grad=dict(max_norm=5)))
    off = train('off', **of_rao(rao=dict(enabled=False), clip_grad=dict(max_norm=5)))
    on = train('on', **of_rao(clip_grad=dict(max_norm=5)))
    assert type(off.optim_wrapper) is OptimWrapper and differing(saved(stock), saved(off)) == []
    changed = differing(saved(stock)['state_dict'], saved(on)['state_dict'])
    assert '/backbone.layer4.1.conv2.conv.weight' in changed


# ---- resume -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize('case', ['sgd', 'adamw, products, ema hook', 'amp'])
def test_resumed_is_uninterrupted_bit_for_bit(case, train):
    changes = {'sgd': of_rao(), 'amp': of_rao(type='AmpOptimWrapper', clip_grad=dict(max_norm=5)),
               'adamw, products, ema hook': {
                   **of_rao(optimizer=dict(type='AdamW', lr=1e-3), rao=dict(QUICK, solver='products', interval=3)),
                   'custom_hooks': [dict(type='RandomStateHook'), dict(type='EMAHook')]}}[case]
    changes['model'] = dict(neck=dict(type='LSEFNeck'))
    straight = train('straight', **changes)
    resumed = train('resumed', load_from=str(Path(straight.work_dir) / 'epoch_1.pth'), resume=True, **changes)
    assert differing(saved(straight), saved(resumed)) == []
    rao = saved(straight)['optimizer']['rao']
    assert rao['steps'] == 8 and rao['matrices']['backbone.conv1.conv.weight']['age'] == 8
    assert differing(saved(straight), saved(straight, 'epoch_1.pth')) != []
    assert ('ema_state_dict' in saved(straight)) == ('ema' in case)


def test_without_rao_state_it_warns_and_starts_afresh(train, monkeypatch):
    from lsef_plugins.engine.optimizers import wrapper
    told = []
    monkeypatch.setattr(wrapper, 'print_log', lambda message, *_, **__: told.append(message))
    stock = train('stock', optim_wrapper=dict(_delete_=True, optimizer=SGD))
    middle = str(Path(stock.work_dir) / 'epoch_1.pth')
    ours = train('ours', load_from=middle, resume=True, **of_rao())
    assert 'holds no RAO state' in told[0] and ours.optim_wrapper.rao.steps == 4
    back = train('back', load_from=str(Path(ours.work_dir) / 'epoch_2.pth'), resume=True, train_cfg=dict(max_epochs=3),
                 optim_wrapper=dict(_delete_=True, optimizer=SGD))      # and a stock wrapper takes our checkpoint
    assert type(back.optim_wrapper) is OptimWrapper and back.iter == 12


def test_a_state_of_other_layers_warns_and_one_of_other_settings_is_refused(train, monkeypatch):
    from lsef_plugins.engine.optimizers import wrapper
    told = []
    monkeypatch.setattr(wrapper, 'print_log', lambda message, *_, **__: told.append(message))
    first = train('first', **of_rao(rao=dict(QUICK, exclude=['layer4'])))
    middle = str(Path(first.work_dir) / 'epoch_1.pth')
    train('second', load_from=middle, resume=True, **of_rao())
    assert 'starting afresh: backbone.layer4' in told[0]
    with pytest.raises(ValueError, match='or other RAO settings'):
        train('third', load_from=middle, resume=True, **of_rao(rao=dict(QUICK, smoothing=0.0, exclude=['layer4'])))


# ---- steps --------------------------------------------------------------------------------------------------------
def test_accumulated_small_batches_are_one_large_batch(train):
    """Without batch statistics and dropout; four clips once against two clips twice."""
    quiet = dict(model=dict(backbone=dict(norm_eval=True), cls_head=dict(dropout_ratio=0.0)),
                 train_dataloader=dict(sampler=dict(shuffle=False)), custom_hooks=[], param_scheduler=None)
    frames = dict(type='SampleFrames', clip_len=8, frame_interval=2, num_clips=1, test_mode=True)
    pipeline = [dict(type='DecordInit'), frames, dict(type='DecordDecode'),
                dict(type='Resize', scale=(32, 32), keep_ratio=False),
                dict(type='FormatShape', input_format='NCTHW'), dict(type='PackActionInputs')]
    quiet['train_dataloader']['dataset'] = dict(pipeline=pipeline)
    loader = quiet['train_dataloader']
    large = train('large', **{**quiet, **of_rao(), 'train_dataloader': {**loader, 'batch_size': 4}})
    small = train('small', **quiet, **of_rao(accumulative_counts=2))
    assert large.optim_wrapper.rao.steps == small.optim_wrapper.rao.steps == 4
    start = train('start', **quiet, **of_rao(optimizer=dict(SGD, lr=0.0, weight_decay=0.0))).model.state_dict()
    for (name, a), b in zip(large.model.named_parameters(), small.model.parameters()):
        way = (a - start[name]).norm()
        assert (a - b).norm() <= 2e-2 * way + 1e-7, name


def test_a_step_of_nan_leaves_rao_as_it_was(train):
    """The optimizer of the user does with NaN what it always does; RAO's state is as if the step had not been."""
    runner = train('nan', **{**of_rao(), 'custom_hooks': [dict(type='Poison', at=3)], 'train_cfg': dict(max_epochs=1)})
    state = runner.optim_wrapper.state_dict()['rao']
    poison = next(hook for hook in runner.hooks if isinstance(hook, Poison))
    assert state['steps'] == 3 and differing(state, poison.before) == []
    assert not runner.model.backbone.conv1.conv.weight.isfinite().all()


@pytest.mark.parametrize('fused', [False, True])
@pytest.mark.parametrize('clip', [None, dict(max_norm=1e9)], ids=['', 'clip'])
def test_with_a_loss_scaler_gradients_are_unscaled_once_and_skipped_steps_are_none(fused, clip):
    """Torch's own scaler and optimizers; in two of six steps a gradient overflows that RAO does not even treat."""
    generator = torch.Generator().manual_seed(0)
    gradients = [torch.randn(5, 8, generator=generator) for _ in range(6)]

    def pair():
        weight, bias = torch.nn.Parameter(torch.zeros(5, 8)), torch.nn.Parameter(torch.zeros(5))
        optimizer = torch.optim.SGD([weight, bias], lr=1.0, momentum=0.9, fused=fused)
        return weight, bias, optimizer, RankAwareGradients({'w': weight}, Damping(smoothing=0.5))

    weight, bias, optimizer, rao = pair()
    wrapper = rank_aware(AmpOptimWrapper)(optimizer=optimizer, clip_grad=None if clip is None else dict(clip))
    wrapper.loss_scaler = torch.amp.GradScaler('cpu', init_scale=64.0)
    wrapper.install(rao, 10)
    for index, g in enumerate(gradients):
        loss = (weight * g).sum() + bias.sum() * (float('inf') if index in (2, 3) else 1.0)
        wrapper.backward(loss)
        wrapper.step()
        wrapper.zero_grad()
    assert wrapper.loss_scaler.get_scale() == 16.0      # halved twice: it did skip
    wanted, bias, optimizer, other = pair()
    for index in (0, 1, 4, 5):
        wanted.grad, bias.grad = gradients[index].clone(), torch.ones(5)
        other.step()
        optimizer.step()
    assert rao.steps == 4 and torch.allclose(weight, wanted, rtol=1e-5, atol=1e-6)
    for key, value in other.stacks[0].state.items():
        assert torch.allclose(value, rao.stacks[0].state[key], rtol=1e-4, atol=1e-5), key


def test_amp_trains_in_bfloat16_on_a_cpu(train):
    runner = train('amp', **of_rao(type='AmpOptimWrapper', loss_scale='dynamic'))
    assert runner.optim_wrapper.rao.steps == 8
    assert all(p.isfinite().all() for p in runner.model.parameters())


def test_a_compiled_model_trains_and_its_checkpoint_has_the_same_names(train):
    once = dict(train_cfg=dict(max_epochs=1))
    compiled = train('compiled', **of_rao(), **once, compile=dict(backend='eager'))
    plain = train('plain', **of_rao(), **once)
    states = [saved(runner, 'epoch_1.pth')['optimizer']['rao'] for runner in (compiled, plain)]
    assert states[0]['steps'] == 4 and states[0]['matrices'].keys() == states[1]['matrices'].keys()
    for name, p in plain.model.named_parameters():
        assert torch.allclose(compiled.model.get_parameter(name), p, rtol=1e-3, atol=1e-5), name


# ---- what is logged -----------------------------------------------------------------------------------------------
def test_ranks_and_energies_are_logged_per_role(train):
    backends = [dict(type='LocalVisBackend'), dict(type='Remembering')]
    runner = train('log', **of_rao(rao=dict(QUICK, log_interval=2, target_rank=0.3)),
                   model=dict(neck=dict(type='LSEFNeck')),
                   visualizer=dict(type='ActionVisualizer', vis_backends=backends))
    file = next(Path(runner.work_dir).glob('*/vis_data/scalars.json'))
    rows = [json.loads(line) for line in file.read_text(encoding='utf-8').splitlines()]
    last = [row for row in rows if 'loss' in row][-1]
    for role in ('default', 'stable', 'transient', 'merge'):
        for quantity in ('rank', 'input_rank', 'smooth_energy'):
            assert 0 < last[f'rao/{quantity}_{role}'] <= 1, (quantity, role)
    assert last['rao/rank_default'] <= 0.3 + 1e-3
    assert not any('rao' in key for key in rows[0]) or rows[0]['step'] >= 2
    assert Remembering.seen[-1]['rao/rank_merge'] == last['rao/rank_merge']
    hub = MessageHub.get_current_instance()
    assert isinstance(hub.get_scalar('train/rao/rank_merge'), HistoryBuffer)


def test_the_example_config_trains_with_rao(tiny_config, tmp_path):
    """The named dict of mmaction_configs, as a config uses it."""
    base = Config.fromfile(str(ROOT / 'mmaction_configs' / '_base_' / 'schedules' / 'rao.py'))
    cfg = tiny_config(tmp_path / 'example', **NO_VALIDATION, train_cfg=dict(max_epochs=1))
    cfg.optim_wrapper.update(base.rao)
    runner = Runner.from_cfg(cfg)
    runner.train()
    assert runner.optim_wrapper.rao.steps == 4
