"""The comparison's instrument: runs of the real thing, nothing made twice, and a report that tells what it was told."""
import json
import math

import pytest

import lsef_plugins  # noqa: F401
from lsef_plugins.datasets.transforms.corruptions import CORRUPTIONS
from lsef_plugins.engine.neck_study import conditions, design, report, run, train
from lsef_plugins.engine.studies import runs, start

CELL = design.CELLS['default_clean']
TESTED = ['clean', 'flicker/3', 'noise_burst/3']
ARMS = ('none/avg', 'tconv/mmd', 'lsef/avg', 'lsef-stable/lsef')


def planted(place, each):
    """A run without training: the last learning rate is the best; LSEF loses a clean point, wins under noise."""
    ours, good = each.arm.name == design.DECLARED, each.rate == max(each.arm.rates)
    level = 0.4 + 0.01 * (each.seed % 100) + 0.2 * good
    uar = dict(clean=level - 0.01 * ours, **{'flicker/3': level - 0.1, 'noise_burst/3': level - 0.2 + 0.1 * ours
                                             + 0.001 * (each.seed % 2) * ours})
    return dict(name=each.name, cell=each.cell.name, arm=each.arm.name, rate=each.rate, seed=each.seed, uar_tune=level,
                uar={name: uar[name] for name in each.conditions}, loss=1.0, parameters=each.arm.parameters(
                    design.SIZES[place.size]), diverged=False, seconds=0.0, seconds_test=0.0)


def study(folder, arms=ARMS, seeds=range(4), **options):
    told = []
    chosen = [design.ARMS[name] for name in arms]
    return run.Study([CELL], chosen, folder, TESTED, seeds=seeds, say=told.append, work=planted, **options), told


def test_a_second_start_reuses_what_is_done_and_only_that(tmp_path):
    made, told = study(tmp_path)
    first = made.run()
    assert made.rates[CELL.name, 'tconv/mmd'] == max(design.ARMS['tconv/mmd'].rates)
    assert [each['seed'] for each in first[CELL.name, 'lsef-stable/lsef']] == [0, 1, 2, 3]
    order = [line.split()[-1] for line in told if line.startswith('[comparing')]
    assert sorted(order) == sorted(each['name'] for results in first.values() for each in results)
    again, told = study(tmp_path)
    assert again.run() == first and told == ['tuning: 24 of 24 runs are there and reused.',
                                             'comparing: 16 of 16 runs are there and reused.']
    more, told = study(tmp_path, seeds=range(5))
    more.run()
    assert told[1] == 'comparing: 16 of 20 runs are there and reused.' and len(told) == 6
    for options in (dict(steps=7), dict(corrupted_clips=9)):
        other, told = study(tmp_path, ('none/avg', ), **options)
        other.run()
        assert not any('reused' in line for line in told)


def test_what_a_result_rests_on_is_in_its_key(tmp_path, monkeypatch):
    made, _ = study(tmp_path)
    each = design.final_runs(CELL, design.ARMS['lsef/avg'], 0.1, [0], TESTED)[0]
    key = made.key_of(each)
    other = design.final_runs(CELL, design.ARMS['lsef/avg'], 0.1, [0], TESTED[:2])[0]
    assert made.key_of(other) != key and study(tmp_path, size='framewise')[0].key_of(each) != key
    with monkeypatch.context() as changed:
        changed.setattr(run, 'COMPARED_ON', 'test')
        assert made.key_of(each) != key
    with monkeypatch.context() as changed:
        changed.setitem(design.TESTED_ON, 'default', 'hard')
        assert made.key_of(each) != key
    other = CORRUPTIONS['flicker']._replace(levels=(1., 2., 3., 4., 5.))
    monkeypatch.setitem(CORRUPTIONS, 'flicker', other)
    assert made.key_of(each) != key


def test_a_run_of_another_backbone_is_another_run(tmp_path):
    first, second = (design.final_runs(CELL, design.ARMS['lsef/avg'], 0.1, [seed], TESTED)[0] for seed in (0, 1))
    one, own = study(tmp_path)[0], study(tmp_path, starts=4)[0]
    assert one.key_of(first) == own.key_of(first) and one.key_of(second) != own.key_of(second)
    key = one.key_of(first)
    one.starts = {0: 'a1b2c3d4'}
    assert one.key_of(first) != key, 'the weights count, not their name: other machines learn other ones'


def test_each_seed_begins_from_the_backbone_of_its_turn(few_clips):
    def begins(seed, starts):
        place = train.Place(str(few_clips), steps=2, starts=starts)
        return train.settings(design.Run(CELL, design.ARMS['none/avg'], 0.02, seed), place, 'work')['load_from']

    assert begins(0, 2) == begins(2, 2) == begins(100, 2) != begins(1, 2) == begins(3, 2)
    assert begins(1, 1) == begins(0, 1) == begins(0, 2)


def test_a_start_is_what_its_seed_and_its_clips_make_of_it(few_clips, tmp_path_factory):
    backbone = design.SIZES['small'].backbone
    paths = start.prepare_starts(few_clips, backbone, [0, 1])
    digests = [start.digest_of(path) for path in paths]
    assert digests[0] != digests[1]
    again, = start.prepare_starts(tmp_path_factory.mktemp('again'), backbone, [1])
    assert again.name == paths[1].name and start.digest_of(again) == digests[1]
    kept = paths[0].stat().st_mtime_ns
    assert start.prepare_start(few_clips, backbone) == paths[0] and paths[0].stat().st_mtime_ns == kept


def test_a_study_prepares_the_backbones_its_seeds_need(few_clips, monkeypatch):
    monkeypatch.setattr(run.conditions, 'prepare', lambda *args: [])
    told = []
    made = run.Study([CELL], [design.ARMS['none/avg']], few_clips, TESTED, seeds=[0, 1, 2], tuning_seeds=[103],
                     starts=5, say=told.append)
    made.prepare()
    files = sorted((few_clips / 'clips').glob('start_*.pth'))
    assert list(made.starts) == [0, 1, 2, 3] and list(made.starts.values()) == list(map(start.digest_of, files))
    assert [line for line in told if line.startswith('start: ')] == [
        f'start: {path} ({digest})' for path, digest in zip(files, made.starts.values())]


def test_rates_tried_on_one_preset_serve_the_others(tmp_path):
    cells = [design.CELLS[name] for name in ('hard_clean', 'longtail_clean', 'hard_augmented')]
    arms, told = [design.ARMS[name] for name in ARMS], []
    made = run.Study(cells, arms, tmp_path, TESTED, seeds=[0], tuning_seeds=[100], say=told.append, work=planted,
                     tune_on='default')
    results = made.run()
    tried = [line.split()[-1] for line in told if line.startswith('[tuning')]
    assert len(tried) == 2 * 3 * len(ARMS) and {name.split('/')[0] for name in tried} == {
        'default_clean', 'default_augmented'}
    assert set(results) == {(cell.name, arm) for cell in cells for arm in ARMS} == set(made.rates)
    assert 'tried on the default preset for all' in report.report(made, results)
    with pytest.raises(ValueError, match="tune_on='easy' is no preset of the study; there are default, hard"):
        run.Study(cells, arms, tmp_path, TESTED, tune_on='easy')


def test_the_comparison_is_made_on_clips_that_nothing_was_chosen_on(few_clips):
    place = train.Place(str(few_clips), steps=2)
    cfg = train.settings(design.Run(CELL, design.ARMS['none/avg'], 0.02, 0), place, 'work')
    assert 'default_fresh_' in cfg['test_dataloader']['dataset']['path']


def test_without_tuning_arms_of_one_head_have_one_rate(tmp_path):
    made, told = study(tmp_path, tuning_seeds=[])
    made.run()
    assert {arm: rate for (_, arm), rate in made.rates.items()} == {
        'none/avg': 0.03, 'lsef/avg': 0.03, 'tconv/mmd': 0.01, 'lsef-stable/lsef': 0.01}
    assert not any('tuning' in line for line in told)


def test_seeds_of_all_arms_come_before_the_next_seed():
    assert run.interleaved([[1, 2, 3], [4, 5], []]) == [1, 4, 2, 5, 3]


@pytest.mark.parametrize('arm, regime', [('tconv/mmd', 'clean'), ('lsef-stable/lsef+rao', 'augmented')])
def test_a_run_is_a_training_of_the_real_thing(few_clips, arm, regime):
    place = train.Place(str(few_clips), steps=2, corrupted_clips=5)
    each = design.Run(design.CELLS[f'default_{regime}'], design.ARMS[arm], 0.02, 0, tuple(TESTED))
    found = train.train(place, each)
    assert set(found['uar']) == set(TESTED) and all(0 <= uar <= 1 for uar in found['uar'].values())
    assert found['parameters'] == design.ARMS[arm].parameters(design.SIZES['small']) and not found['diverged']
    assert math.isfinite(found['loss']) and json.dumps(found)
    again = train.train(place, each)
    assert again['uar'] == found['uar'] and again['loss'] == found['loss']
    assert train.train(place, design.Run(each.cell, each.arm, 0.02, 1))['loss'] != found['loss']


def test_a_run_reads_the_clips_of_its_cell(few_clips):
    place = train.Place(str(few_clips), steps=2)
    made = {name: train.settings(design.Run(design.CELLS[name], design.ARMS['none/avg'], 0.02, 0), place, 'work')
            for name in ('longtail_clean', 'default_augmented')}
    files = {name: [cfg[f'{split}_dataloader']['dataset']['path'] for split in ('train', 'val', 'test')]
             for name, cfg in made.items()}
    starts = [[path.rpartition('/')[2].rpartition('_')[0].rpartition('_')[0] for path in each]
              for each in files.values()]
    assert starts == [['longtail_train', 'default_tune', 'default_fresh'],
                      ['default_train', 'default_tune', 'default_fresh']]
    broken = [cfg['train_dataloader']['dataset']['broken'] for cfg in made.values()]
    assert broken[0] == () and len(broken[1]) == 3 and all('mixture' in path for path in broken[1])
    assert not any('broken' in cfg[f'{split}_dataloader']['dataset'] for cfg in made.values()
                   for split in ('val', 'test'))


def test_each_condition_is_tested_on_its_own_clips(few_clips, monkeypatch):
    seen = []

    class Loop:
        def __init__(self, runner, loader, evaluator):
            seen.append(loader['dataset']['path'])

        def run(self):
            return {'acc/uar': 0.5}

    monkeypatch.setattr(train, 'TestLoop', Loop)
    each = design.Run(CELL, design.ARMS['none/avg'], 0.02, 0)
    place = train.Place(str(few_clips), corrupted_clips=3)
    for condition in TESTED[1:]:
        assert train.tested(type('Runner', (), {})(), each, place, condition) == 0.5
    assert seen == list(map(str, conditions.prepare(few_clips, 'default', 'fresh', TESTED, 3)))
    assert 'flicker' in seen[0] and 'noise_burst' in seen[1]


def test_a_training_that_diverges_has_the_scores_of_chance(few_clips):
    place = train.Place(str(few_clips), steps=4, corrupted_clips=5)
    wild = train.train(place, design.Run(CELL, design.ARMS['none/avg'], 1e30, 0, tuple(TESTED)))
    assert wild['diverged'] and set(wild['uar'].values()) == {1 / 7} and wild['uar_tune'] == 1 / 7


# ---- report -------------------------------------------------------------------------------------------------------
def test_the_report_tells_what_was_planted(tmp_path):
    made, _ = study(tmp_path)
    results = made.run()
    text = report.report(made, results)
    assert '| tconv/mmd | 5013 (1.03) | ' in text
    row = next(line for line in text.splitlines() if line.startswith('| tconv/mmd | -1.0'))
    # clean -1; corrupted (0 + 10 + 0.1 in every second seed) / 2
    assert row.startswith('| tconv/mmd | -1.0 [-1.0, -1.0] | +5.0 [+5.0, +5.1] | < 0.0001 | 0.1250 | < 0.0001 |')
    assert ('default_clean: ahead of every rival of no larger budget on corrupted with p < 0.01 after Holm: yes; '
            'clean: +1.0 points behind the best of them (none/avg), within one point.') in text
    assert '  - behind tconv/mmd: clean -1.0\n' in text and 'behind lsef/avg' not in text
    data = json.loads(json.dumps(report.as_data(made, results), allow_nan=False))
    arm = data['cells'][CELL.name]['tconv/mmd']
    assert arm['against']['corrupted']['mean'] == pytest.approx(5.025) and len(arm['runs']) == 4
    assert data['cells'][CELL.name]['lsef-stable/lsef']['against'] is None


def test_another_arm_is_compared_with_all_and_nothing_is_decided(tmp_path):
    made, _ = study(tmp_path)
    results = made.run()
    text, usual = report.report(made, results, 'none/avg'), report.report(made, results)
    assert 'none/avg was not declared beforehand (lsef-stable/lsef was)' in text and 'What is shown' not in text
    row, = [line for line in text.splitlines() if line.startswith('| lsef-stable/lsef | +1.0')]
    assert row.startswith('| lsef-stable/lsef | +1.0 [+1.0, +1.0] | -5.0 [-5.1, -5.0] |')
    assert '| none/avg minus |' in text
    assert 'Differences are none/avg minus the other' in text and 'declared beforehand' not in usual
    data = report.as_data(made, results, 'none/avg')
    assert data['cells'][CELL.name]['none/avg']['against'] is None and data['against'] == 'none/avg'
    assert data['cells'][CELL.name]['tconv/mmd']['against']['corrupted']['mean'] == pytest.approx(0)


@pytest.mark.parametrize('starts, told', [
    (1, 'All runs begin from one pretrained backbone: spread and p are over seeds of training, and hold for this'),
    (2, 'The seeds begin from 2 pretrained backbones in turn; p takes seeds that share one for independent'),
    (4, 'Each seed begins from a pretrained backbone of its own: spread and p are over both.')])
def test_the_report_tells_what_chance_its_seeds_stand_for(tmp_path, starts, told):
    made, _ = study(tmp_path, starts=starts)
    results = made.run()
    assert told in report.report(made, results)
    made.starts = {0: 'a1b2c3d4', 1: '01234567'}
    assert ' (a1b2c3d4, 01234567). The test clips' in report.report(made, results)
    data = report.as_data(made, results)
    assert data['starts'] == starts and data['weights'] == {'0': 'a1b2c3d4', '1': '01234567'}


def test_runs_that_diverged_are_told(tmp_path):
    made, _ = study(tmp_path)
    results = made.run()
    results[CELL.name, 'tconv/mmd'][1]['diverged'] = True
    text = report.report(made, results)
    both = report.over_cells({**results, **{('other', arm): each for (_, arm), each in results.items()}})
    assert '| tconv/mmd (1 of 4 runs diverged: chance) |' in report.mean_table(made.arms, both)
    assert '| tconv/mmd (1 of 4 runs diverged: chance) | 5013' in text and text.count('diverged') == 1
    assert run.line_of(results[CELL.name, 'tconv/mmd'][1]).startswith('diverged, counts as chance')
    assert run.line_of(results[CELL.name, 'tconv/mmd'][0]).startswith('clean')


def test_p_values_are_corrected_over_all_cells_and_arms(tmp_path):
    made, _ = study(tmp_path)
    results = made.run()
    one = report.comparisons(results)[CELL.name, 'tconv/mmd']
    both = report.comparisons({**results, **{('other', arm): each for (_, arm), each in results.items()}})
    assert one['p_holm'] == pytest.approx(3 * one['p']) and both['other', 'tconv/mmd']['p_holm'] == pytest.approx(
        6 * one['p'])


def test_over_the_cells_each_seed_is_averaged_before_it_is_tested(tmp_path):
    def runs(*clean):
        return [dict(seed=seed, uar={'clean': value, 'flicker/1': value - 0.2}) for seed, value in enumerate(clean)]

    results = {('easy', 'ours'): runs(0.6, 0.7, 0.8), ('hard', 'ours'): runs(0.3, 0.3, 0.4),
               ('easy', 'theirs'): runs(0.5, 0.5, 0.9), ('hard', 'theirs'): runs(0.2, 0.3, 0.2),
               ('easy', 'once'): runs(0.5, 0.5, 0.5)}
    together = report.over_cells(results)
    assert set(together) == {(report.OVER_CELLS, 'ours'), (report.OVER_CELLS, 'theirs')}, 'once lacks a cell'
    scores = report.measures(together[report.OVER_CELLS, 'ours'])
    assert scores['clean'] == pytest.approx([45, 50, 60]) and scores['corrupted'] == pytest.approx([25, 30, 40])
    (values, ) = report.comparisons(together, 'ours').values()
    assert values['clean']['mean'] == pytest.approx((10 + 10 + 5) / 3)
    # Student's test of 10, 10, 5 with two degrees of freedom: t = 5, p = 1 - t / sqrt(2 + t^2)
    assert values['p'] == pytest.approx(1 - 5 / math.sqrt(27))
    assert not report.over_cells({key: each for key, each in results.items() if key[0] == 'easy'}), 'one cell'
    uneven = {**results, ('hard', 'theirs'): runs(0.2, 0.3)}
    assert not report.over_cells({key: each for key, each in uneven.items() if key[1] != 'once'}), 'a seed is missing'


def test_a_report_of_several_cells_has_their_mean_which_decides_nothing(tmp_path):
    cells = [CELL, design.CELLS['hard_clean']]
    arms = [design.ARMS[name] for name in ARMS]
    made = run.Study(cells, arms, tmp_path, TESTED, seeds=range(4), say=lambda line: None, work=planted)
    results = made.run()
    text = report.report(made, results)
    part = text[text.index('## Mean over the cells'):text.index('## default_clean')]
    assert '| lsef-stable/lsef | ' in part and '| tconv/mmd | -1.0 [-1.0, -1.0] | +5.0 [+5.0, +5.1] |' in part
    assert 'was not declared beforehand' in part and '- mean over' not in text, 'it decides nothing'
    data = report.as_data(made, results)
    assert data['over_cells']['tconv/mmd']['corrupted']['mean'] == pytest.approx(5.025)
    assert 'Mean over' not in report.report(*(lambda each: (each, each.run()))(study(tmp_path)[0]))


def test_a_kind_is_the_mean_of_its_severities():
    uar = {'clean': 0.9, 'flicker/1': 0.8, 'flicker/5': 0.4, 'drop/1': 0.3, 'drop/5': 0.1}
    found = report.measures([dict(uar=uar)])
    assert found == dict(clean=[90], corrupted=[40], flicker=[pytest.approx(60)], drop=[20])


def test_what_is_ours_is_no_rival():
    rivals = {name for name, arm in design.ARMS.items() if report.is_rival(arm)}
    assert {'none/avg', 'none/mmd', 'tconv/mmd', 'tpn/avg'} <= rivals
    ours = {'none/lsef', 'tconv/lsef', 'tconv/all', 'lsef/mmd', 'lsef-stable-nosem/avg', 'lsef-restored/exc'}
    assert ours <= set(design.ARMS) and not ours & rivals


def test_a_block_over_the_budget_decides_nothing_but_is_told():
    arms = [design.ARMS[name] for name in ('tconv/mmd', 'tpn/avg')]
    values = {name: dict(clean=dict(mean=sign), corrupted=dict(mean=sign), p_holm=0.001)
              for name, sign in (('tconv/mmd', 2.0), ('tpn/avg', -3.0))}
    told = report.verdict(['c'], arms, {}, {('c', name): each for name, each in values.items()})
    assert 'after Holm: yes' in told and '-2.0 points behind the best of them (tconv/mmd), within' in told
    assert told.endswith('behind tpn/avg: clean -3.0, corrupted -3.0')


def test_one_seed_has_no_interval(tmp_path):
    made, _ = study(tmp_path, seeds=[0], tuning_seeds=[])
    text = report.report(made, made.run())
    assert '| tconv/mmd | -1.0 | +5.0 |  | 1.0000 |  |' in text and '(not of none/avg, tconv/mmd)' in text


def test_names_of_runs_are_places_of_files(tmp_path):
    each = design.Run(CELL, design.ARMS['lsef-stable/lsef+rao'], 0.06, 3)
    assert runs.file_of(tmp_path, each) == tmp_path / 'runs/default_clean/lsef-stable/lsef+rao/lr0.06_seed3.json'
