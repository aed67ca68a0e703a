"""The study's instrument: same budget for all, nothing counted twice, and a rival that is Muon."""
import importlib.util
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from torch import nn

import lsef_plugins  # noqa: F401
from lsef_plugins.engine.optimizer_study import clips, design, muon, report, run, start, train

ROOT = Path(__file__).resolve().parents[3]
CELL = design.CELLS['default_wrong40_batch16']


# ---- clips --------------------------------------------------------------------------------------------------------
def test_splits_do_not_overlap_and_frames_are_means():
    ranges = [(source, set(range(first, first + count))) for source, first, count in clips.SPLITS.values()]
    ranges.append(('train', set(range(start.FIRST, start.FIRST + start.CLIPS))))
    for index, (source, numbers) in enumerate(ranges):
        for other, others in ranges[index + 1:]:
            assert source != other or not numbers & others
    frames = np.zeros((32, 64, 64, 3), np.uint8)
    frames[2, :2, :2] = 100
    frames[6, 0, 0] = 100
    found = clips.small(frames)
    assert found.shape == (8, 32, 32, 3) and found[0, 0, 0, 0] == 100 and found[1, 0, 0, 0] == 25 and found.sum() == 375


def test_wrong_labels_are_as_many_as_asked_for_and_never_the_right_ones():
    labels = np.arange(700) % 7
    wrong = clips.wrong_labels(labels, 0.4, seed=1)
    assert (wrong != labels).sum() == 280 and set(wrong) == set(range(7))
    assert (clips.wrong_labels(labels, 0.4, 1) == wrong).all() and (clips.wrong_labels(labels, 0.4, 2) != wrong).any()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Clips and a start as the study makes them, but few."""
    monkeypatch.setattr(clips, 'SPLITS', {'train': ('train', 0, 14), 'tune': ('val', 0, 7), 'test': ('val', 7, 7)})
    for name, value in (('CLIPS', 4), ('STEPS', 2), ('BATCH', 2)):
        monkeypatch.setattr(start, name, value)
    return tmp_path


def test_clips_are_drawn_once_and_seen_as_they_are(folder):
    path = clips.prepare(folder, 'default', 'train')
    before = path.stat().st_mtime_ns
    assert clips.prepare(folder, 'default', 'train') == path and path.stat().st_mtime_ns == before
    data = clips.SmallClips(str(path), wrong=0.4, seed=3)
    frames, labels = clips.load(str(path))
    assert len(data) == 14 and data[3]['inputs'].shape == (1, 3, 8, 32, 32)
    assert torch.equal(data[3]['inputs'][0, :, 5], torch.from_numpy(frames[3, 5]).permute(2, 0, 1))
    assert [int(data[i]['data_samples'].gt_label) for i in range(14)] == list(clips.wrong_labels(labels, 0.4, 3))
    torch.manual_seed(0)
    turned = clips.SmallClips(str(path), mirror=True)
    seen = [turned[3]['inputs'] for _ in range(12)]
    mirrored = [torch.equal(each, data[3]['inputs'].flip(-1)) for each in seen]
    assert any(mirrored) and not all(mirrored)


# ---- the rival ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize('kind', [muon.MuonAndAdamW, muon.MuonAndSGD])
def test_our_muon_is_torchs_muon(kind):
    """On matrices, in torch's own scaling; torch works in bfloat16 inside."""
    if not hasattr(torch.optim, 'Muon'):
        pytest.fail('this torch has no Muon to compare with; install a newer one for the tests')
    generator = torch.Generator().manual_seed(0)
    ours, theirs = (nn.Parameter(torch.ones(12, 20)) for _ in range(2))
    a = kind([dict(params=[ours], muon=True)], lr=0.1, weight_decay=0.02)
    b = torch.optim.Muon([theirs], lr=0.1, weight_decay=0.02, adjust_lr_fn='match_rms_adamw')
    for _ in range(4):
        ours.grad = torch.randn(12, 20, generator=generator)
        theirs.grad = ours.grad.clone()
        a.step()
        b.step()
    assert (ours - theirs).norm() < 0.03 * (ours - 1).norm()
    assert torch.linalg.svdvals(muon.polar(torch.randn(9, 5, generator=generator))).sub(0.95).abs().max() < 0.35


@pytest.mark.parametrize('name', ['muon', 'muon-sgd'])
def test_muon_leaves_the_rest_to_the_other_optimizer(name):
    init_default_scope('mmaction')
    from host_families import Family
    model = Family('slowonly').build(dict(type='LSEFNeck'))
    wrapper = build_optim_wrapper(model, design.ARMS[name].optim_wrapper(0.01))
    orthogonal, rest = wrapper.optimizer.param_groups
    assert sum(p.numel() for group in (orthogonal, rest) for p in group['params']) == sum(
        p.numel() for p in model.parameters())
    assert model.cls_head.fc_cls.weight in set(rest['params']) and all(p.ndim > 1 for p in orthogonal['params'])
    twin = nn.Parameter(model.cls_head.fc_cls.weight.detach().clone())
    other = (torch.optim.AdamW([twin], lr=0.01, weight_decay=0.02) if name == 'muon' else
             torch.optim.SGD([twin], lr=0.2, momentum=0.9, weight_decay=1e-4))
    for _ in range(2):
        for p in [*model.parameters(), twin]:
            p.grad = torch.full_like(p, 1e-4)
        wrapper.step()
        other.step()
    assert torch.equal(model.cls_head.fc_cls.weight, twin) and len(wrapper.optimizer.param_groups) == 2


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


def test_names_that_are_not_there_are_told():
    with pytest.raises(ValueError, match='There is no arm adam; there are sgd'):
        design.chosen('arm', design.ARMS, ['adam', 'sgd'])


# ---- runs ---------------------------------------------------------------------------------------------------------
def planted(each, folder, steps):
    """A run without training: the second learning rate is the best one; SGD with RAO wins by a point, paired."""
    good = sorted(each.arm.rates)[1]
    uar = 0.3 + 0.01 * each.seed * (each.seed < 100) + 0.2 * (each.rate == good) + 0.01 * ('rank' in each.arm.name)
    losses = [2.0 / (1 + i / 50) for i in range(320)]
    return dict(name=each.name, cell=each.cell.name, arm=each.arm.name, rate=each.rate, seed=each.seed, uar_tune=uar,
                uar=uar, war=uar, losses=losses, ranks=[0.1] * 8, diverged=False, seconds=0.0)


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


def test_a_run_is_a_training_of_the_real_thing(folder):
    each = design.Run(CELL, design.ARMS['sgd+rank'], 0.02, 0)
    found = train.train(each, str(folder), steps=2)
    assert len(found['losses']) == 2 and 0 <= found['uar'] <= 1 and not found['diverged']
    wild = train.train(design.Run(CELL, design.ARMS['sgd'], 1e30, 0), str(folder), steps=4)
    assert wild['diverged'] and wild['uar'] == pytest.approx(1 / 7)


# ---- report -------------------------------------------------------------------------------------------------------
def test_measures_of_planted_losses():
    assert report.running_mean([1.0, 2.0, 3.0, 6.0], 2) == [1.5, 2.5, 4.5]
    assert report.steps_to([4.0, 3.0, 2.0, 1.0], 2.5, 2) == 3 and report.steps_to([4.0, 3.0], 0.0, 2) == 2
    assert report.loss_variance([2.0] * 50, 5) == 0
    noisy = [1.0 + 0.5 * (-1) ** i for i in range(400)]
    assert report.loss_variance(noisy, 50) == pytest.approx(0.25, rel=0.05)
    assert report.difference([2.0, 4.0], [1.0, 1.0]) == '+2.0 ± 1.0' and report.plain_of('adamw+ema') == 'adamw'
    assert report.plain_of('muon') == 'adamw' and report.plain_of('muon-sgd') == 'sgd'


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
