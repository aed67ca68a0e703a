"""The command lines: train, stop, resume to the same bits, test; and what they say when something is wrong."""
import importlib.util
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from differences import differing

ROOT = Path(__file__).resolve().parents[2]
TRAIN, TEST = ROOT / 'tools' / 'train.py', ROOT / 'tools' / 'test.py'
ENVIRONMENT = dict(os.environ, OMP_NUM_THREADS='1', PYTHONWARNINGS='ignore', PYTHON=sys.executable)


def tool(path):
    spec = importlib.util.spec_from_file_location(f'tool_{path.stem}', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


@pytest.fixture(scope='module')
def train():
    return tool(TRAIN)


@pytest.fixture(scope='module')
def test():
    return tool(TEST)


@pytest.fixture
def config(tiny_config, tmp_path):
    """A factory of config files without custom_imports and without a work_dir."""

    def write(name='tiny', text='', **changes):
        cfg = tiny_config(tmp_path / name, log_level='ERROR', **changes)
        cfg.pop('custom_imports')
        path = tmp_path / f'{name}.py'
        path.write_text(cfg.pretty_text + text, encoding='utf-8')
        return str(path)

    return write


def weights(path):
    content = torch.load(path, map_location='cpu')
    return {'state_dict': content['state_dict'], 'optimizer': content.get('optimizer'),
            'ema_state_dict': content.get('ema_state_dict')}


# ---- resume --------------------------------------------------------------------------
RANDOM_VALIDATION = [
    {'type': 'DecordInit'}, {'type': 'SampleFrames', 'clip_len': 8, 'frame_interval': 2, 'num_clips': 1},
    {'type': 'DecordDecode'}, {'type': 'Resize', 'scale': (32, 32), 'keep_ratio': False},
    {'type': 'Flip', 'flip_ratio': 0.5}, {'type': 'FormatShape', 'input_format': 'NCTHW'},
    {'type': 'PackActionInputs'}]
WITH_NECK = {'model': {'neck': {'type': 'LSEFNeck', 'aux_loss': {'rank': 0.1}}}}
CASES = {  # changes of the config, options, last checkpoint, checkpoint in the middle
    'workers, no seed': ({'num_workers': 2, 'randomness': {'seed': None}}, [], 'epoch_2.pth', 'epoch_1.pth'),
    'LSEFNeck, workers of one epoch, ema, amp': (
        {**WITH_NECK, 'num_workers': 2, 'train_dataloader': {'persistent_workers': False},
         'custom_hooks': [{'type': 'EMAHook'}]}, ['--amp'], 'epoch_2.pth', 'epoch_1.pth'),
    'no workers, validation draws': (
        {'val_dataloader': {'dataset': {'pipeline': RANDOM_VALIDATION}}}, [], 'epoch_2.pth', 'epoch_1.pth'),
    'iterations': (
        {'num_workers': 2, 'default_hooks': {'checkpoint': {'by_epoch': False, 'interval': 2}},
         'train_cfg': {'_delete_': True, 'type': 'IterBasedTrainLoop', 'max_iters': 4, 'val_interval': 2},
         'train_dataloader': {'sampler': {'type': 'InfiniteSampler'}}}, [], 'iter_4.pth', 'iter_2.pth'),
}


@pytest.mark.parametrize('case', CASES)
def test_a_stopped_training_ends_with_the_same_bits(case, train, config, tmp_path):
    changes, options, last, middle = CASES[case]
    path = config(**changes)
    straight, resumed = tmp_path / 'straight', tmp_path / 'resumed'
    train([path, '--work-dir', str(straight), *options])
    train([path, '--work-dir', str(resumed), '--resume', str(straight / middle), *options])
    assert differing(weights(straight / last), weights(resumed / last)) == []
    assert differing(weights(straight / last), weights(straight / middle)) != []  # it did learn in between


def test_without_the_hook_the_bits_differ(config, tmp_path):
    """The law above is not true of the host by itself: dropout and augmentation start again."""
    from mmengine.config import Config
    from mmengine.runner import Runner

    def run(work_dir, **changes):
        cfg = Config.fromfile(path)
        cfg.merge_from_dict({'work_dir': str(tmp_path / work_dir), **changes})
        Runner.from_cfg(cfg).train()
        return tmp_path / work_dir / 'epoch_2.pth'

    path = config()
    straight = run('straight')
    resumed = run('resumed', load_from=str(straight.with_name('epoch_1.pth')), resume=True)
    assert differing(weights(straight), weights(resumed)) != []


KILLER = """
import os, signal
from mmengine.hooks import Hook
from mmaction.registry import HOOKS

@HOOKS.register_module()
class Killer(Hook):
    def after_train_iter(self, runner, *args, **kwargs):
        if runner.iter == 9:
            os.kill(os.getpid(), signal.SIGKILL)
"""


def test_killed_in_the_middle_of_an_epoch_and_resumed_from_the_work_dir(train, config, tmp_path, capsys):
    path = config(num_workers=2, train_cfg={'max_epochs': 3}, val_cfg=None, val_dataloader=None, val_evaluator=None)
    (tmp_path / 'killer.py').write_text(KILLER, encoding='utf-8')
    (tmp_path / 'killed.py').write_text(
        "_base_ = ['tiny.py']\ncustom_imports = dict(imports=['killer'])\ncustom_hooks = [dict(type='Killer')]\n",
        encoding='utf-8')
    killed = tmp_path / 'killed'
    job = subprocess.run([sys.executable, str(TRAIN), str(tmp_path / 'killed.py'), '--work-dir', str(killed)],
                         env={**ENVIRONMENT, 'PYTHONPATH': str(tmp_path)}, stdout=subprocess.DEVNULL,
                         stderr=subprocess.DEVNULL)
    assert job.returncode == -signal.SIGKILL
    assert (killed / 'last_checkpoint').read_text(encoding='utf-8') == str(killed / 'epoch_2.pth')
    train([path, '--work-dir', str(killed), '--resume'])
    assert f"going on from {killed / 'epoch_2.pth'}" in capsys.readouterr().out
    train([path, '--work-dir', str(tmp_path / 'straight')])
    assert differing(weights(tmp_path / 'straight' / 'epoch_3.pth'), weights(killed / 'epoch_3.pth')) == []


def test_augmentations_are_new_in_each_epoch(config, tmp_path):
    """The host repeats them in every epoch where workers live for one epoch only."""
    from mmengine.config import Config
    from mmengine.runner import Runner

    def inputs(hooks, persistent):
        cfg = Config.fromfile(config(num_workers=1))
        cfg.merge_from_dict({'custom_hooks': hooks, 'work_dir': str(tmp_path / 'w'),
                             'train_dataloader.sampler.shuffle': False,
                             'train_dataloader.persistent_workers': persistent})
        runner, seen = Runner.from_cfg(cfg), []
        stock = runner.model.train_step
        runner.model.train_step = lambda data, optim_wrapper: (
            seen.append(torch.stack(data['inputs']).clone()), stock(data, optim_wrapper=optim_wrapper))[1]
        runner.train()
        half = len(seen) // 2
        return torch.cat(seen[:half]), torch.cat(seen[half:])

    first, second = inputs([], persistent=False)
    assert torch.equal(first, second)  # the host
    ours = [inputs([{'type': 'RandomStateHook'}], persistent) for persistent in (False, True)]
    for first, second in ours:
        assert not torch.equal(first, second)
    assert torch.equal(ours[0][0], ours[1][0]) and torch.equal(ours[0][1], ours[1][1])


def test_resume_without_a_checkpoint_says_so_and_keeps_load_from(train, config, tmp_path, capsys):
    path = config(train_cfg={'max_epochs': 1})
    train([path, '--work-dir', str(tmp_path / 'a')])
    pretrained = str(tmp_path / 'a' / 'epoch_1.pth')
    train([path, '--work-dir', str(tmp_path / 'b'), '--resume', '--cfg-options', f'load_from={pretrained}'])
    out = capsys.readouterr().out
    assert f"no checkpoint in {tmp_path / 'b'}, training starts from the beginning" in out
    assert f'Loads checkpoint by local backend from path: {pretrained}' in out
    # resume finds the checkpoint after the folder was moved
    (tmp_path / 'b').rename(tmp_path / 'c')
    train([path, '--work-dir', str(tmp_path / 'c'), '--resume', '--cfg-options', 'train_cfg.max_epochs=2'])
    assert f"going on from {tmp_path / 'c' / 'epoch_1.pth'}" in capsys.readouterr().out


# ---- options ---------------------------------------------------------------------------
def test_options_reach_the_runner(train, config, tmp_path, monkeypatch):
    from lsef_plugins.engine import launch
    seen = []

    class Runner:
        work_dir = 'w'

        def train(self):
            pass

    monkeypatch.setattr(launch, 'build_runner', lambda cfg: seen.append(cfg) or Runner())
    path = config(text='\nauto_scale_lr = dict(enable=False, base_batch_size=8)\n')
    monkeypatch.chdir(tmp_path)
    train([path, '--work-dir', 'here', '--amp', '--no-validate', '--auto-scale-lr', '--seed', '7',
           '--diff-rank-seed', '--deterministic', '--cfg-options', 'optim_wrapper.optimizer.lr=0.5'])
    cfg = seen.pop()
    assert cfg.work_dir == 'here' and cfg.optim_wrapper.type == 'AmpOptimWrapper' and cfg.auto_scale_lr.enable
    assert cfg.val_cfg is None and cfg.val_dataloader is None and cfg.val_evaluator is None
    assert cfg.randomness == dict(seed=7, diff_rank_seed=True, deterministic=True)
    assert cfg.optim_wrapper.optimizer.lr == 0.5 and cfg.custom_hooks == [dict(type='RandomStateHook')]
    train([path, '--cfg-options', 'optim_wrapper.loss_scale=512.'])
    cfg = seen.pop()
    assert cfg.randomness.seed == 0, 'the seed of the config stays where the command line gives none'
    assert cfg.val_cfg is not None and not cfg.resume and cfg.launcher == 'none'


def test_a_config_that_inherits_from_mmaction_needs_no_custom_imports(train, config, tmp_path):
    path = tmp_path / 'child.py'
    config()
    path.write_text("_base_ = ['mmaction::_base_/default_runtime.py', './tiny.py']\n"
                    "default_hooks = dict(logger=dict(interval=2))\n", encoding='utf-8')
    text = (tmp_path / 'tiny.py').read_text(encoding='utf-8')
    for name in ('default_hooks', 'env_cfg', 'default_scope', 'log_level', 'load_from', 'resume', 'vis_backends',
                 'visualizer'):
        text += f'\ndel {name}'
    (tmp_path / 'tiny.py').write_text(text, encoding='utf-8')
    train([str(path), '--work-dir', str(tmp_path / 'w'), '--cfg-options', 'train_cfg.max_epochs=1',
           'default_hooks.checkpoint.save_best=None'])
    assert (tmp_path / 'w' / 'epoch_1.pth').is_file()


def test_testing_prints_dumps_and_draws(train, test, config, tmp_path, capsys):
    import pickle
    path = config()
    train([path, '--work-dir', str(tmp_path / 'w'), '--cfg-options', 'train_cfg.max_epochs=1'])
    capsys.readouterr()
    test([path, str(tmp_path / 'w' / 'epoch_1.pth'), '--work-dir', str(tmp_path / 'w'), '--dump',
          str(tmp_path / 'scores.pkl'), '--show-dir', str(tmp_path / 'shown'), '--interval', '2'])
    assert 'acc/top1: ' in capsys.readouterr().out.splitlines()[-1]
    scores = pickle.loads((tmp_path / 'scores.pkl').read_bytes())
    assert len(scores) == 4 and scores[0]['pred_score'].shape == (2,)
    assert sorted(path.name for path in (tmp_path / 'shown').iterdir()) == ['0_0', '2_0']
    assert len(list((tmp_path / 'shown' / '0_0').rglob('*.png'))) == 8
    checkpoint, metrics = str(tmp_path / 'w' / 'epoch_1.pth'), tmp_path / 'metrics.json'
    path = config('matrix', "\ntest_evaluator = [dict(type='AccMetric'), dict(type='ConfusionMatrix')]\n")
    test([path, checkpoint, '--work-dir', str(tmp_path / 'w'), '--out', str(metrics)])
    found = json.loads(metrics.read_text(encoding='utf-8'))
    assert len(found['confusion_matrix/result']) == 2 and 0 <= found['acc/top1'] <= 1
    capsys.readouterr()
    with pytest.raises(SystemExit, match='error: .* could not be written'):
        test([path, checkpoint, '--work-dir', str(tmp_path / 'w'), '--out', str(tmp_path)])
    assert 'acc/top1: ' in capsys.readouterr().out, 'told first'


def test_a_checkpoint_without_all_weights_is_not_measured_unless_that_is_meant(test, config, tmp_path, capsys):
    from mmaction.registry import MODELS
    from mmengine.config import Config
    from mmengine.registry import init_default_scope
    plugged, stock = config(**WITH_NECK), config('stock')
    init_default_scope('mmaction')
    state = MODELS.build(Config.fromfile(plugged).model).state_dict()
    torch.save({'state_dict': {f'module.{name}': value for name, value in state.items()}}, tmp_path / 'whole.pth')
    torch.save({'state_dict': {name: value for name, value in state.items() if not name.startswith('neck')}},
               tmp_path / 'stock.pth')
    rest = ['--work-dir', str(tmp_path / 'w')]
    test([plugged, str(tmp_path / 'whole.pth'), *rest])
    assert 'acc/top1: ' in capsys.readouterr().out.splitlines()[-1]
    for path, weights_file, words in (
            (plugged, 'stock.pth', 'stock.pth has no weights of the neck'),
            (stock, 'whole.pth', 'whole.pth has a neck')):
        with pytest.raises(SystemExit, match=f'error: .*{words}.*: --allow-missing-weights'):
            test([path, str(tmp_path / weights_file), *rest])
        assert 'acc/top1' not in capsys.readouterr().out
    test([plugged, str(tmp_path / 'stock.pth'), *rest, '--allow-missing-weights'])
    assert 'acc/top1: ' in capsys.readouterr().out.splitlines()[-1]


def test_inference_from_the_trained_checkpoint(train, config, tiny_videos, tmp_path):
    from mmaction.apis import inference_recognizer, init_recognizer
    path = config()
    train([path, '--work-dir', str(tmp_path / 'w'), '--cfg-options', 'train_cfg.max_epochs=1'])
    model = init_recognizer(path, str(tmp_path / 'w' / 'epoch_1.pth'), device='cpu')
    score = inference_recognizer(model, str(tiny_videos.root / 'clip_0.mp4')).pred_score
    torch.testing.assert_close(score.sum(), torch.tensor(1.0))


IN_A_JOB = """
import runpy
leave = dist.destroy_process_group

def watched(*args):
    seen.extend(gloo_threads())
    leave(*args)

dist.destroy_process_group = watched
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name='__main__')
"""


@pytest.mark.slow
def test_no_thread_of_the_process_group_outlives_a_job_that_went_well(config, tmp_path, ends_its_gloo_threads):
    """One that still holds a gradient when the interpreter ends aborts the process, and the launcher calls a finished
    job failed."""
    path, work = config(**WITH_NECK, optim_wrapper={'constructor': 'RAO'}), str(tmp_path / 'w')
    for words in ([str(TRAIN), path, '--cfg-options', 'train_cfg.max_epochs=1'],
                  [str(TEST), path, f'{work}/epoch_1.pth']):
        ends_its_gloo_threads(IN_A_JOB, *words, '--work-dir', work, '--launcher', 'pytorch', PYTHONWARNINGS='ignore')


# ---- wrong input -------------------------------------------------------------------------
def test_wrong_input_is_told_in_one_sentence(train, test, config, tmp_path):
    path = config()
    good = (tmp_path / 'tiny.py').read_text(encoding='utf-8')

    def told(tool, *arguments):
        with pytest.raises(SystemExit) as caught:
            tool(list(arguments))
        message = str(caught.value)
        assert message.startswith('error: ') and '\n' not in message
        return message

    def variant(text):
        (tmp_path / 'other.py').write_text(text, encoding='utf-8')
        return str(tmp_path / 'other.py')

    work = ['--work-dir', str(tmp_path / 'w')]
    assert 'gone.py does not exist (looked from' in told(train, 'gone.py')
    assert "other.py cannot be read: line 2: '(' was never closed" in told(train, variant('a = 1\nmodel = dict(\n'))
    assert "cannot be read: line 2: NameError: name 'b' is not defined" in told(train, variant('a = 1\nc = b\n'))
    assert 'nope.py' in told(train, variant("_base_ = ['nope.py']\n"))
    assert 'gone.pth does not exist' in told(train, path, '--resume', 'gone.pth')
    assert 'gone.pth does not exist' in told(test, path, 'gone.pth')
    assert 'base_batch_size' in told(train, path, '--auto-scale-lr')
    assert 'asks for MyWrapper' in told(train, variant(good + "\noptim_wrapper['type'] = 'MyWrapper'\n"), '--amp')
    (tmp_path / 'page.pth').write_text('<html>', encoding='utf-8')
    assert 'page.pth (6 bytes) is incomplete' in told(test, path, str(tmp_path / 'page.pth'), *work)
    assert 'Let it end in .pkl' in told(test, path, str(tmp_path / 'page.pth'), '--dump', 'a.json')
    assert 'describes no test' in told(test, variant(good + '\ntest_evaluator = None\n'), str(tmp_path / 'page.pth'))
    (tmp_path / 'w').mkdir(exist_ok=True)
    (tmp_path / 'w' / 'last_checkpoint').write_text('/moved/epoch_9.pth', encoding='utf-8')
    assert "names the checkpoint '/moved/epoch_9.pth', which does not exist" in told(train, path, '--resume', *work)
    (tmp_path / 'w' / 'last_checkpoint').write_text('', encoding='utf-8')
    assert "names the checkpoint ''" in told(train, path, '--resume', *work)


def test_float16_on_a_cpu_is_refused_before_the_first_iteration(train, config, tmp_path):
    path = config(optim_wrapper={'dtype': 'float16'})
    if torch.cuda.is_available():
        return train([path, '--amp', '--work-dir', str(tmp_path / 'w')])
    with pytest.raises(ValueError, match='Mixed precision on a CPU is bfloat16, but dtype=float16 came'):
        train([path, '--amp', '--work-dir', str(tmp_path / 'w')])
