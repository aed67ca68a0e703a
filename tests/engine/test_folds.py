"""Cross-validation as processes: each run once, an interrupted one goes on, and one table at the end."""
import importlib.util
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import lsef_plugins  # noqa: F401  (first: it repairs the host before anything of it is imported)
from lsef_plugins.engine.folds import Folds, Run, RunError, chosen_checkpoint, table_of
from lsef_plugins.engine.launch import LaunchError, read_config

ROOT = Path(__file__).resolve().parents[2]
SMALL = ROOT / 'mmaction_configs' / 'synthetic_faces' / 'framewise-r18-w16_1xb16-u16-10e_synthetic-dfew-fd1-rgb.py'
CONFIG = '''
train_dataloader = dict(dataset=dict(type='RepeatDataset', times=2, dataset=dict(type='DFEWDataset', fold=1)))
val_dataloader = dict(dataset=dict(type='DFEWDataset', fold=1, protocol='paper'))
test_dataloader = dict(dataset=dict(type='DFEWDataset', fold=1, protocol='paper'))
'''
# Stand-ins for the tools: they note what they were asked for, and what they leave behind is what the real ones leave.
TRAIN = '''
import os, sys
work = sys.argv[sys.argv.index('--work-dir') + 1]
with open(os.path.join(work, '..', '..', 'calls'), 'a') as file:
    print('train', os.path.basename(sys.argv[1]), *sys.argv[2:], file=file)
if os.environ.get('BREAK') and os.environ['BREAK'] in work:
    sys.exit('no more room')
open(os.path.join(work, 'epoch_1.pth'), 'w').close()
open(os.path.join(work, 'last_checkpoint'), 'w').write(os.path.join(work, 'epoch_1.pth'))
if os.environ.get('BEST'):
    open(os.path.join(work, 'best_acc_uar_epoch_1.pth'), 'w').close()
'''
TEST = '''
import json, os, sys
work = sys.argv[sys.argv.index('--work-dir') + 1]
with open(os.path.join(work, '..', '..', 'calls'), 'a') as file:
    print('test', os.path.basename(sys.argv[1]), os.path.basename(sys.argv[2]), file=file)
fold = int(sys.argv[sys.argv.index('--fold') + 1])
score = 0.1 * fold + (0.05 if os.path.basename(sys.argv[1]).startswith('ours') else 0)
json.dump({'acc/war': score, 'acc/uar': score / 2}, open(sys.argv[sys.argv.index('--out') + 1], 'w'))
'''


@pytest.fixture
def place(tmp_path):
    (tmp_path / 'tools').mkdir()
    (tmp_path / 'work').mkdir()
    (tmp_path / 'tools' / 'train.py').write_text(TRAIN)
    (tmp_path / 'tools' / 'test.py').write_text(TEST)
    for name in ('stock', 'ours'):
        (tmp_path / f'{name}.py').write_text(CONFIG)
    return tmp_path


def folds_of(place, configs=('stock', 'ours'), folds=(1, 2, 3), seeds=(0, ), protocol=None, options=()):
    return Folds([str(place / f'{name}.py') for name in configs], folds, seeds, protocol, str(place / 'work'),
                 str(place / 'tools'), options=options)


def calls(place):
    path = place / 'work' / 'calls'
    return path.read_text().splitlines() if path.exists() else []


def test_every_config_meets_every_fold_and_seed_once(place):
    found = list(folds_of(place, seeds=(0, 7), protocol='clean', options=['a.b=1']).results())
    assert [(Path(run.config).stem, run.fold, run.seed) for run, _ in found] == [
        (name, fold, seed) for fold in (1, 2, 3) for seed in (0, 7) for name in ('stock', 'ours')]
    trained = [line for line in calls(place) if line.startswith('train')]
    assert len(trained) == 12
    assert trained[1].split()[1:] == ['ours.py', '--resume', '--seed', '0', '--work-dir', found[1][0].folder(str(
        place / 'work')), '--fold', '1', '--protocol', 'clean', '--cfg-options', 'a.b=1']
    assert found[3][1]['acc/war'] == pytest.approx(0.15)


def test_finished_runs_are_not_done_again_and_a_broken_one_goes_on(place, monkeypatch):
    monkeypatch.setenv('BREAK', os.path.join('ours', 'fd2'))
    with pytest.raises(RunError, match=r'ours\.py: fold 2, seed 0: train\.py ended with code 1.*\n  no more room\n'):
        list(folds_of(place).results())
    before = calls(place)
    assert len(before) == 2 * 3 + 1
    monkeypatch.delenv('BREAK')
    assert len(list(folds_of(place).results())) == 6
    again = calls(place)[len(before):]
    assert [line.split()[:2] for line in again] == [
        [what, f'{name}.py'] for name in ('ours', 'stock', 'ours') for what in ('train', 'test')]
    assert list(folds_of(place).results()) and calls(place) == before + again


def test_a_trained_run_whose_test_broke_is_not_trained_again(place):
    (place / 'tools' / 'test.py').write_text('raise SystemExit(3)')
    with pytest.raises(RunError, match=r'test\.py ended with code 3'):
        list(folds_of(place, folds=(1, )).results())
    (place / 'tools' / 'test.py').write_text(TEST)
    assert len(list(folds_of(place, folds=(1, )).results())) == 2
    assert [line.split()[:2] for line in calls(place)] == [
        ['train', 'stock.py'], ['test', 'stock.py'], ['train', 'ours.py'], ['test', 'ours.py']]


def test_a_start_that_failed_before_its_first_checkpoint_does_not_bind_the_next(place, monkeypatch):
    monkeypatch.setenv('BREAK', 'stock')
    with pytest.raises(RunError, match='no more room'):
        list(folds_of(place, ('stock', ), folds=(1, ), options=['data=wrong']).results())
    monkeypatch.delenv('BREAK')
    assert len(list(folds_of(place, ('stock', ), folds=(1, ), options=['data=right']).results())) == 1


def test_who_is_told_to_stop_leaves_no_training_behind(place, monkeypatch):
    (place / 'tools' / 'train.py').write_text(
        "import os, signal, sys, time\nopen(os.path.join(os.path.dirname(__file__), 'number'), 'w').write("
        "str(os.getpid()))\nos.kill(os.getppid(), signal.SIGTERM)\ntime.sleep(20)\n"
        "open(__file__ + '.ended', 'w').close()")
    spec = importlib.util.spec_from_file_location('run_folds', ROOT / 'tools' / 'run_folds.py')
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    monkeypatch.setattr(tool, 'Folds', lambda *arguments: folds_of(place, ('stock', ), folds=(1, )))
    before = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(SystemExit) as caught:
            tool.main([str(place / 'stock.py')])
    finally:
        signal.signal(signal.SIGTERM, before)
    assert caught.value.code == 143
    assert not (place / 'tools' / 'train.py.ended').exists()
    with pytest.raises(ProcessLookupError):
        os.kill(int((place / 'tools' / 'number').read_text()), 0)


def test_the_best_checkpoint_is_tested_where_there_is_one(place, monkeypatch):
    list(folds_of(place, ('stock', ), folds=(1, )).results())
    monkeypatch.setenv('BEST', '1')
    list(folds_of(place, ('stock', ), folds=(2, )).results())
    assert [line.split()[2] for line in calls(place) if line.startswith('test')] == [
        'epoch_1.pth', 'best_acc_uar_epoch_1.pth']


def test_best_checkpoints_of_several_metrics_are_no_choice_of_ours(tmp_path):
    for name in ('best_acc_uar_epoch_3', 'best_acc_uar_epoch_5', 'best_acc_war_epoch_4'):
        (tmp_path / f'{name}.pth').touch()
    with pytest.raises(RunError, match=r'best checkpoints of several metrics \(best_acc_uar, best_acc_war\)'):
        chosen_checkpoint(str(tmp_path))
    (tmp_path / 'best_acc_war_epoch_4.pth').unlink()
    assert Path(chosen_checkpoint(str(tmp_path))).name.startswith('best_acc_uar')


def test_results_of_other_settings_are_never_taken_for_these(place):
    list(folds_of(place, ('stock', ), folds=(1, )).results())
    with pytest.raises(LaunchError, match='is the result of other settings'):
        list(folds_of(place, ('stock', ), folds=(1, ), protocol='clean').results())
    with open(place / 'stock.py', 'a') as file:
        file.write('more = 1\n')
    with pytest.raises(LaunchError, match='is the result of other settings'):
        list(folds_of(place, ('stock', ), folds=(1, )).results())
    result = Run(str(place / 'stock.py'), 1, 0).folder(str(place / 'work')) + '/result.json'
    os.remove(result)
    os.remove(os.path.join(os.path.dirname(result), 'last_checkpoint'))     # as with save_best and nothing else
    with pytest.raises(LaunchError, match='holds an unfinished run of other settings'):
        list(folds_of(place, ('stock', ), folds=(1, )).results())


def test_what_cannot_work_is_told_before_anything_runs(place):
    (place / 'other').mkdir()
    (place / 'other' / 'stock.py').write_text(CONFIG)
    with pytest.raises(LaunchError, match='Two configs have the same file name'):
        folds_of(place, ('stock', 'other/stock'))
    (place / 'plain.py').write_text('train_dataloader = dict(dataset=dict(type="VideoDataset"))')
    with pytest.raises(LaunchError, match='--fold 1 was given, but no data set of .*plain.py names its fold'):
        folds_of(place, ('plain', ))
    with pytest.raises(LaunchError, match='does not exist'):
        folds_of(place, ('nowhere', ))
    with pytest.raises(LaunchError, match='--cfg-options takes KEY=VALUE, .* and got lr'):
        folds_of(place, options=['a.b=1', 'lr'])
    assert not calls(place)


def test_a_fold_reaches_every_data_set_through_its_wrappers_and_names_the_folder(place):
    cfg = read_config(str(place / 'stock.py'), None, 'none', None, fold=4, protocol='clean')
    assert cfg.train_dataloader.dataset.dataset.fold == cfg.test_dataloader.dataset.fold == 4
    assert cfg.val_dataloader.dataset.protocol == 'clean' and 'fold' not in cfg.train_dataloader.dataset
    # The training names no protocol: left to its default it would train on the clips that val holds out.
    assert cfg.train_dataloader.dataset.dataset.protocol == 'clean'
    assert Path(cfg.work_dir).parts[-3:] == ('stock', 'fold4', 'protocolclean')
    assert read_config(str(place / 'stock.py'), None, 'none', None, fold=None).test_dataloader.dataset.fold == 1


def test_the_table_pairs_runs_and_leaves_out_what_only_one_has():
    results = [(Run(config, fold, 0), {'acc/war': war, 'acc/uar': war, 'acc/recall_Happy': 1.0})
               for config, fold, war in (('a.py', 1, .50), ('a.py', 2, .70), ('b.py', 1, .54), ('b.py', 2, .72),
                                         ('b.py', 3, .99))]
    rows = table_of(results).splitlines()
    assert rows[0] == '| config | runs | WAR | difference | UAR | difference |'
    assert rows[2].startswith('| a | 2 | 60.0 ± 14.1 |  |')
    # +4 and +2: mean 3, deviation 1.4, half a width of 12.706 * 1.414 / 1.414
    assert '| b | 3 | 75.0 ± 22.6 | +3.0 ± 1.4, 95 % [-9.7, +15.7] |' in rows[3]


def test_a_metric_that_is_not_defined_is_told_and_costs_no_table():
    def results(*values):   # of two configs on two folds
        return [(Run(config, fold, 0), value) for (config, fold), value in zip(
            [('a.py', 1), ('a.py', 2), ('b.py', 1), ('b.py', 2)], values)]

    ccc = 'va/ccc_global'
    rows = table_of(results({ccc: .1}, {ccc: float('nan')}, {ccc: .2}, {ccc: .3})).splitlines()
    assert rows[2] == '| a | 2 | undefined in 1 of 2 runs |  |' and '0.250 ± 0.071 | undefined |' in rows[3]
    rows = table_of(results({ccc: .1}, {ccc: .1}, {'acc/war': .2}, {'acc/war': .2})).splitlines()
    assert rows[0] == '| config | runs | va/ccc_global | difference | WAR | difference |'
    assert rows[3] == '| b | 2 | undefined in 2 of 2 runs | undefined | 20.0 ± 0.0 | undefined |'
    rows = table_of(results(*[{'acc/top1': value} for value in (.1, .2, .4, .5)])).splitlines()
    assert '| acc/top1 |' in rows[0] and '| 0.450 ± 0.071 | +0.300 ±' in rows[3]


def test_two_folds_of_the_embedded_faces_in_dfews_layout_end_in_a_table(tmp_path):
    """The real thing: data set on disk, training, test on the held-out fold, result."""
    run = [sys.executable, '-W', 'ignore']
    subprocess.run([*run, str(ROOT / 'tools/data/write_synthetic_layout.py'), 'dfew', str(tmp_path / 'dfew'),
                    '--clips', '35', '--preset', 'easy'], check=True, cwd=ROOT)
    options = [f'{split}_dataloader.dataset.data_root={tmp_path / "dfew"}' for split in ('train', 'val', 'test')]
    options += ['train_cfg.max_epochs=1', 'train_cfg.val_begin=1', 'param_scheduler.0.total_steps=1']
    done = subprocess.run([*run, str(ROOT / 'tools/run_folds.py'), str(SMALL), '--folds', '1', '2', '--protocol',
                           'clean', '--work-dir', str(tmp_path / 'work'), '--cfg-options', *options], cwd=ROOT,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, done.stdout[-3000:]
    assert '[2/2]' in done.stdout and (tmp_path / 'work' / 'results.md').read_text() in done.stdout
    folder = tmp_path / 'work' / SMALL.stem / 'fd2_seed0'
    found = json.loads((folder / 'result.json').read_text())
    assert {'acc/war', 'acc/uar', 'acc/recall_Happy', 'acc/uar_low'} <= set(found['metrics'])
    log = (folder / 'train.log').read_text()
    assert "DFEWDataset fold 2: protocol 'clean', split 'val' is the 10% of the training list that are held out" in log
