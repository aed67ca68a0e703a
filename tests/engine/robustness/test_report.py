"""Numbers and tables made of measured conditions: hand-made results, no model."""
import json
import math

import matplotlib.image
import pytest

import lsef_plugins  # noqa: F401
from lsef_plugins.engine.launch import LaunchError
from lsef_plugins.engine.robustness import chosen_metric, read_reference, summarise, write_report

KINDS, SEVERITIES = ('flicker', 'jpeg', 'defocus'), (1, 3)


def results(clean=0.8, loss=0.1, metric='acc/uar', flips=None, clips='a', **more):
    """A file of results: each severity s costs s * loss, the second corruption twice that, the third nothing."""
    conditions = {'clean': {metric: clean, **more}}
    for factor, kind in enumerate(KINDS[:2], start=1):
        conditions.update({f'{kind}/{s}': {metric: clean - factor * s * loss, **more} for s in SEVERITIES})
    conditions.update({f'defocus/{s}': {metric: clean, **more} for s in SEVERITIES})
    if flips is not None:
        for index, found in enumerate(conditions.values()):
            found['flip_rate'] = flips + 0.01 * index
    return dict(config='a/config.py', checkpoint='w.pth', fingerprint='f', conditions=conditions,
                clips=dict(count=7, digest=clips), windows=dict(count=1 if flips is None else 4,
                                                                left_out='it has one' if flips is None else ''))


def test_the_summary_is_of_what_is_asked_for_whatever_else_the_file_holds():
    found = results()
    found['conditions'].update({'flicker/5': {'acc/uar': 0.0}, 'black_frames/1': {'acc/uar': 0.0}})
    summary = summarise(found, 'acc/uar', KINDS, SEVERITIES)
    assert summary.clean == 0.8 and summary.curves['jpeg'] == pytest.approx({1: 0.6, 3: 0.2})
    assert summary.mpc == pytest.approx((0.6 + 0.4 + 0.8) / 3) and summary.rpc == pytest.approx(summary.mpc / 0.8)
    assert summary.ce is None and summary.mce is None


def test_against_itself_a_model_has_an_mce_of_one(tmp_path):
    path = tmp_path / 'other.json'
    path.write_text(json.dumps(results()))
    reference = read_reference(str(path))
    summary = summarise(results(), 'acc/uar', KINDS[:2], SEVERITIES, reference)
    assert (summary.mce, summary.relative_mce) == (pytest.approx(1), pytest.approx(1))
    half = summarise(results(clean=0.9, loss=0.05), 'acc/uar', KINDS[:2], SEVERITIES, reference)
    assert half.mce == pytest.approx(0.5) and half.relative_mce == pytest.approx(0.5)
    free = summarise(results(), 'acc/uar', KINDS, SEVERITIES, reference)
    assert math.isnan(free.relative_mce), 'defocus costs the reference nothing'


@pytest.mark.parametrize('change, words', [
    (lambda r: r['conditions'].pop('jpeg/3'), r'The reference .* lacks acc/uar of jpeg/3\. Measure it'),
    (lambda r: r['clips'].update(digest='b'), r'measured on other clips or labels \(7 clips, here 7\)'),
    (lambda r: r['conditions']['clean'].pop('acc/uar'), 'lacks acc/uar of clean')])
def test_what_is_no_reference_is_refused(change, words):
    other = results()
    change(other)
    with pytest.raises(LaunchError, match=words):
        summarise(results(), 'acc/uar', KINDS, SEVERITIES, dict(other, file='other.json'))


def test_older_references_that_do_not_name_their_clips_pass():
    older = results()
    del older['clips']
    assert summarise(results(), 'acc/uar', KINDS, SEVERITIES, older).mce == pytest.approx(1)


@pytest.mark.parametrize('text', ('{half', '[1]', '{"conditions": 3}', '{}'))
def test_a_file_of_something_else_is_no_reference(text, tmp_path):
    path = tmp_path / 'r.json'
    path.write_text(text)
    with pytest.raises(LaunchError, match=r'r\.json is no file of results'):
        read_reference(str(path))
    with pytest.raises(LaunchError, match='gone.json does not exist'):
        read_reference(str(tmp_path / 'gone.json'))


def test_the_metric_is_uar_else_ccc_else_the_hosts():
    every = {'acc/top1': 0.1, 'acc/mean1': 0.1, 'va/ccc_global': 0.1, 'acc/uar': 0.1, 'other': 0.1}
    for name in ('acc/uar', 'va/ccc_global', 'acc/mean1', 'acc/top1'):
        assert chosen_metric({'conditions': {'clean': every}}) == name
        del every[name]
    with pytest.raises(LaunchError, match=r'None of acc/uar.* is among the metrics of the test \(other\)'):
        chosen_metric({'conditions': {'clean': every}})
    assert chosen_metric({'conditions': {'clean': every}}, 'other') == 'other'
    with pytest.raises(LaunchError, match='--metric acc/f1 is not among the metrics of the test: other'):
        chosen_metric({'conditions': {'clean': every}}, 'acc/f1')


def test_clean_and_mpc_stand_beside_rpc_in_every_table():
    text = write_report(results(), summarise(results(), 'acc/uar', KINDS, SEVERITIES))
    rows = [[cell.strip() for cell in line.strip('|').split('|')] for line in text.splitlines() if line[:1] == '|']
    assert rows[0] == ['metric', 'clean', 'mPC', 'rPC', 'mPC - clean']
    assert rows[2] == ['UAR', '80.0', '60.0', '75.0 %', '-20.0']
    assert 'rPC alone crowns the weakest model' in text
    assert rows[3] == ['corruption', '1', '3', 'mean', 'change']
    assert ['jpeg', '60.0', '20.0', '40.0', '-40.0'] in rows and ['flicker', '70.0', '50.0', '60.0', '-20.0'] in rows
    assert ['**spatial, mean**', '70.0', '50.0', '60.0', '-20.0'] in rows
    assert 'Flip rate: left out, it has one.' in text


def test_a_reference_adds_its_columns_and_is_named():
    reference = dict(results(clean=0.6), config='ref.py', checkpoint='ref.pth', file='ref.json')
    summary = summarise(results(), 'acc/uar', KINDS, SEVERITIES, reference)
    text = write_report(results(), summary, reference=reference)
    assert f'| {100 * summary.mce:.1f} % |' in text and 'mCE against ref.py, ref.pth (ref.json)' in text
    assert '| defocus | 80.0 | 80.0 | 80.0 | +0.0 | 50.0 % |' in text


def test_flip_rates_are_averaged_as_mpc_is():
    found = results(flips=0.1)
    text = write_report(found, summarise(found, 'acc/uar', KINDS, SEVERITIES))
    assert 'neighbouring windows (4 of each video): 10.0 % clean, 13.5 % corrupted.' in text
    del found['conditions']['jpeg/1']['flip_rate']
    assert 'Flip rate: left out' in write_report(found, summarise(found, 'acc/uar', KINDS, SEVERITIES))


def test_ratings_are_told_as_they_are_with_their_change():
    more = {'va/ccc_global_valence': 0.5, 'va/ccc_global_arousal': 0.3}
    found = results(clean=0.4, loss=0.05, metric='va/ccc_global', **more)
    found['conditions']['jpeg/3']['va/ccc_global_valence'] = 0.2
    text = write_report(found, summarise(found, 'va/ccc_global', KINDS, SEVERITIES))
    assert '| CCC (global) | 0.400 | 0.300 | 75.0 % | -0.100 |' in text
    assert '| va/ccc_global_valence | 0.500 | 0.450 | 90.0 % | -0.050 |' in text


def test_the_files_are_whole_and_know_no_nan(tmp_path):
    found = results()
    found['conditions']['flicker/3']['acc/uar'] = None      # a metric that was not defined
    out = tmp_path / 'deep' / 'r.json'
    text = write_report(found, summarise(found, 'acc/uar', KINDS, SEVERITIES), str(out))
    saved = json.loads(out.read_text(), parse_constant=lambda name: pytest.fail(f'{name} is no JSON'))
    assert saved['conditions'] == found['conditions'] and saved['summary']['mpc'] is None
    assert saved['summary']['clean'] == 0.8 and saved['summary']['by_kind']['jpeg'] == pytest.approx(0.4)
    assert '| UAR | 80.0 | undefined | undefined | undefined |' in text
    assert (out.parent / 'r.md').read_text() == text + '\n'
    assert matplotlib.image.imread(out.parent / 'r.png').shape[:2] == (460, 1300)
    assert sorted(path.name for path in out.parent.iterdir()) == ['r.json', 'r.md', 'r.png']
