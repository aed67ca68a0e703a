"""The study's instrument: same budget for all, and nothing counted twice."""
import importlib.util
import json
import math
import time
from pathlib import Path

import pytest
import torch

import lsef_plugins  # noqa: F401
from lsef_plugins.engine.optimizer_study import design, report, run, train
from lsef_plugins.engine.studies import start

ROOT = Path(__file__).resolve().parents[3]
CELL = design.CELLS['default_wrong40_batch16']


# ---- design -------------------------------------------------------------------------------------------------------
def test_every_arm_has_the_same_budget():
    budgets = {arm.name: len(design.tuning_runs(CELL, arm)) for arm in design.ARMS.values()}
    assert len(set(budgets.values())) == 1 and len(design.SEEDS) >= 5
    assert not set(design.SEEDS) & set(design.TUNING_SEEDS)
    assert len(design.CELLS) == 12
    assert {'sgd', 'adamw', 'muon', 'sgd+ema', 'sgd+kappa', 'adamw+rank'} <= set(design.ARMS)
    runs = [each.name for arm in design.ARMS.values() for each in design.tuning_runs(CELL, arm)]
    assert len(set(runs)) == len(runs)
    told = design.plan([CELL], list(design.ARMS.values()), 2, 5)
    assert f'together {sum(budgets.values()) + 5 * len(budgets)} runs' in told


def test_an_arm_is_what_its_name_says():
    """With the settings that RAO reads of it, not with what was a default once."""
    from lsef_plugins.optim import Damping
    found = {name: Damping().changed({key: value for key, value in arm.rao.items() if key != 'interval'})
             for name, arm in design.ARMS.items() if arm.rao is not None}
    for name, damping in found.items():
        assert (damping.size == 'shared') == ('shared' in name), name
        assert (damping.size is None) == ('shared' not in name and 'size' not in name), name
        assert damping.damps == any(word in name for word in ('rank', 'kappa', 'high')), name
        assert (damping.smoothing > 0) == ('ema' in name), name
    assert found['sgd+rank+shared'] == Damping(), 'RAO as it comes'
    assert len({damping for name, damping in found.items() if name.startswith('sgd')}) == 9


# ---- runs ---------------------------------------------------------------------------------------------------------
def planted(each, folder, steps):
    """A run without training: the second learning rate is the best one; SGD with RAO wins by a point, paired."""
    good = sorted(each.arm.rates)[1]
    uar = 0.3 + 0.01 * each.seed * (each.seed < 100) + 0.2 * (each.rate == good) + 0.01 * ('rank' in each.arm.name)
    losses = [2.0 / (1 + i / 50) for i in range(320)]
    scores = dict(uar_tune=uar, uar=None, war=None) if each.tuning else dict(uar_tune=None, uar=uar, war=uar)
    return dict(name=each.name, cell=each.cell.name, arm=each.arm.name, rate=each.rate, seed=each.seed, **scores,
                losses=losses, ranks=[0.1] * 8, diverged=False, seconds=0.0)


def study(tmp_path, work=planted, **options):
    told = []
    arms = [design.ARMS[name] for name in ('sgd', 'sgd+rank', 'muon')]
    return run.Study([CELL], arms, tmp_path, seeds=range(3), say=told.append, work=work, **options), told


def test_the_best_rate_of_the_tuning_clips_is_compared_and_pairs_are_pairs(tmp_path):
    made, _ = study(tmp_path)
    results = made.run()
    assert made.rates == {(CELL.name, 'sgd'): 0.02, (CELL.name, 'sgd+rank'): 0.02, (CELL.name, 'muon'): 0.001}
    assert [each['seed'] for each in results[CELL.name, 'sgd']] == [0, 1, 2]
    text = report.report(made, results)
    row = next(line for line in text.splitlines() if line.startswith('| sgd+rank | 0.02 |'))
    assert '| 52.0 ± 1.0 | +1.0 ± 0.0 | +1.0 ± 0.0 |' in row


def test_a_second_start_reuses_what_is_done_and_only_that(tmp_path):
    study(tmp_path)[0].run()
    victim = tmp_path / 'runs' / CELL.name / 'sgd' / 'lr0.02_seed1.json'
    victim.write_text('{"key"', encoding='utf-8')
    made, told = study(tmp_path)
    made.run()
    assert 'comparing: 8 of 9 runs are there and reused.' in told
    assert json.loads(victim.read_text())['result']['seed'] == 1
    again, told = study(tmp_path, steps=7)
    again.run()
    assert not any('reused' in line for line in told)       # other settings are other runs


def test_what_a_result_rests_on_is_in_its_key(tmp_path, monkeypatch):
    made, _ = study(tmp_path)
    each = design.final_runs(CELL, design.ARMS['sgd'], 0.02, [0])[0]
    key = made.key_of(each)
    assert study(tmp_path, steps=design.STEPS[16])[0].key_of(each) == key != study(tmp_path, steps=7)[0].key_of(each)
    monkeypatch.setitem(design.STEPS, 16, 640)
    assert made.key_of(each) != key
    monkeypatch.undo()
    made.start = 'a1b2c3d4'
    assert made.key_of(each) != key, 'the weights of the start count, not their name: other machines learn other ones'
    # the neck of the recognizer and the clips it is trained on
    assert {'models', 'nn', 'datasets/synthetic'} <= set(run.SOURCES)


def test_a_study_knows_the_backbone_it_begins_from(few_clips):
    told = []
    made = run.Study([CELL], [design.ARMS['sgd']], few_clips, say=told.append)
    made.prepare()
    path, = (few_clips / 'clips').glob('start_*.pth')
    assert made.start == start.digest_of(path) and f'start: {path} ({made.start})' in told


def test_rates_tried_on_one_preset_serve_the_others(tmp_path):
    cells = [design.Cell(preset, wrong, 16) for preset in ('hard', 'longtail') for wrong in (0.0, 0.4)]
    tried = []

    def best_where(each, folder, steps):
        """On the default preset the third rate is the best one of clean labels, the first one of wrong ones."""
        tried.append((each.cell.name, each.tuning))
        found = planted(each, folder, steps)
        if each.tuning:
            best = each.arm.rates[0 if each.cell.wrong else 2]
            found['uar_tune'] = float(each.cell.preset == 'default' and each.rate == best)
        return found

    made = run.Study(cells, [design.ARMS['sgd']], tmp_path, seeds=range(3), say=lambda line: None, work=best_where,
                     tuning_seeds=[100], tune_on='default')
    made.all_of = lambda wanted, what: {each.name: best_where(each, '', 0) for each in wanted}
    results = made.run()
    assert made.rates == {(cell.name, 'sgd'): 0.006 if cell.wrong else 0.06 for cell in cells}
    assert sorted(name for name, tuning in tried if tuning) == sorted(
        ['default_wrong0_batch16', 'default_wrong40_batch16'] * 4), 'once for both presets'
    assert [each['seed'] for each in results['hard_wrong40_batch16', 'sgd']] == [0, 1, 2]
    with pytest.raises(ValueError, match='there are default, hard, longtail'):
        run.Study(cells, [], tmp_path, tune_on='easy')
    text = design.plan(cells, [design.ARMS['sgd']], 1, 3, 'default')
    assert text.count('tuning default_wrong') == 2 and 'together 20 runs' in text


def test_a_run_is_a_training_of_the_real_thing(few_clips):
    each = design.Run(CELL, design.ARMS['sgd+rank'], 0.02, 0)
    found = train.train(each, str(few_clips), steps=2)
    assert len(found['losses']) == 2 and 0 <= found['uar'] <= 1 and not found['diverged']
    assert found['uar_tune'] is None, 'the test clips choose no rate'
    tried = train.train(design.Run(CELL, design.ARMS['sgd+rank'], 0.02, 0, tuning=True), str(few_clips), steps=2)
    assert 0 <= tried['uar_tune'] <= 1 and tried['uar'] is None and tried['losses'] == found['losses']
    wild = train.train(design.Run(CELL, design.ARMS['sgd'], 1e30, 0), str(few_clips), steps=4)
    assert wild['diverged'] and wild['uar'] == pytest.approx(1 / 7)


def test_runs_of_one_second_share_nothing(few_clips, monkeypatch):
    monkeypatch.setattr(time, 'strftime', lambda *_: '20260101_000000')      # the clock of the Runner's names
    each = design.Run(CELL, design.ARMS['sgd'], 0.02, 0)
    first, second = (train.train(each, str(few_clips), steps=2) for _ in range(2))
    assert first['losses'] == second['losses'] and first['uar'] == second['uar']


# ---- report -------------------------------------------------------------------------------------------------------
def test_measures_of_planted_losses():
    assert report.running_mean([1.0, 2.0, 3.0, 6.0], 2) == [1.5, 2.5, 4.5]
    assert report.steps_to([4.0, 3.0, 2.0, 1.0], 2.5, 2) == 3 and report.steps_to([4.0, 3.0], 0.0, 2) == 2
    assert report.loss_variance([2.0] * 50, 5) == 0
    noisy = [1.0 + 0.5 * (-1) ** i for i in range(400)]
    assert report.loss_variance(noisy, 50) == pytest.approx(0.25, rel=0.05)
    assert report.difference([2.0, 4.0], [1.0, 1.0]) == '+2.0 ± 1.0' and report.plain_of('adamw+ema') == 'adamw'
    assert report.plain_of('muon') == 'adamw' and report.plain_of('muon-sgd') == 'sgd'


def test_an_arm_meets_the_muon_beside_its_own_optimizer():
    arms = ['sgd', 'sgd+rank+shared', 'muon-sgd', 'adamw', 'muon']
    assert [report.muon_of(arm, arms) for arm in arms] == ['muon-sgd', 'muon-sgd', None, 'muon', None]
    assert report.muon_of('sgd', ['sgd', 'muon']) == 'muon' and report.muon_of('sgd', ['sgd']) is None


def test_the_effective_rank_of_a_movement():
    still = torch.zeros(1, 4, 6)
    one = torch.zeros(1, 4, 6)
    one[0, 0, 0] = 3
    assert train.effective_rank(one, still) == pytest.approx(0.25)
    assert train.effective_rank(torch.eye(4, 6)[None], still) == pytest.approx(1)
    assert math.isfinite(train.effective_rank(still, still))


def test_the_command_plans_and_tells(capsys):
    spec = importlib.util.spec_from_file_location('study_rao', ROOT / 'tools' / 'study_rao.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.main(['--plan']) == 0 and 'core hours' in capsys.readouterr().out
    assert module.main(['--cells', 'easy']) == 2 and 'There is no cell easy' in capsys.readouterr().err
    assert module.main(['--jobs', '0']) == 2 and 'count from 1' in capsys.readouterr().err
