"""CSV and JSON hold the same numbers, and those are the timeline's."""
import csv
import json

import numpy as np
import pytest

from lsef_plugins.visualization import Event
from lsef_plugins.visualization.curves import class_names, class_rows, curve_columns, rating_rows, write_curves
from lsef_plugins.visualization.sliding import plan_windows
from lsef_plugins.visualization.timeline import Timeline


@pytest.fixture
def timeline():
    rng, windows = np.random.default_rng(0), plan_windows(10, 4, 3)     # 3 windows
    number = np.concatenate([[k] * (w.last - w.first) for k, w in enumerate(windows)])
    squares = {name: rng.random(10) for name in ('base', 'transient', 'residual', 'frame')}
    probabilities = np.array([[.5, .2, .3], [.1, .8, .1], [.2, .7, .1]])
    return Timeline(np.arange(10) * 2, np.arange(10) * .08, windows, number, squares, rng.random(10), probabilities,
                    rng.uniform(-1, 1, (10, 2)), ('Happy', 'Sad, rather', '怒'))


def test_csv_and_json_agree_and_are_the_timeline(timeline, tmp_path):
    files = write_curves(tmp_path / 'a.csv', tmp_path / 'a.json', timeline, [Event(1, 2, 2), Event(8, 9, 9)],
                         dict(clip='a.mp4'))
    with open(files[0], newline='', encoding='utf-8') as file:
        rows = list(csv.DictReader(file))
    told = json.loads(files[1].read_text(encoding='utf-8'))
    assert list(rows[0]) == list(told['frames']) and len(rows) == 10
    for name, values in told['frames'].items():
        assert [row[name] for row in rows] == ['' if value is None else str(value) for value in values], name
    table = timeline.table()
    np.testing.assert_allclose(told['frames']['transient_energy_ratio'], table['transient'], rtol=1e-5)
    np.testing.assert_allclose(told['frames']['base_energy_ratio'], table['base'], rtol=1e-5)
    np.testing.assert_allclose(told['frames']['valence'], timeline.ratings[:, 0], atol=1e-4)
    assert told['frames']['event'] == [None, 1, 1, None, None, None, None, None, 2, 2]
    assert told['frames']['p_怒'] == [timeline.probabilities[k, 2] for k in timeline.window]
    assert told['frames']['window'] == [1] * 4 + [2] * 3 + [3] * 3 == (timeline.window + 1).tolist()
    assert told['clip'] == 'a.mp4' and [each['apex_s'] for each in told['events']] == [.16, .72]
    assert told['events'][0]['amplitude_ratio'] == pytest.approx(np.sqrt(table['transient'][2]), rel=1e-3)
    assert told['windows'][1] == dict(window=2, first_s=.24, last_s=.48,
                                      probabilities={'Happy': .1, 'Sad, rather': .8, '怒': .1})


def test_names_that_do_not_fit_the_classes_are_not_used(timeline):
    assert class_names(timeline) == ['Happy', 'Sad, rather', '怒']
    import dataclasses
    assert class_names(dataclasses.replace(timeline, classes=('one',))) == ['class 0', 'class 1', 'class 2']


def test_summaries_count_windows_and_span_ratings(timeline):
    assert class_rows(timeline) == [('Sad, rather', .5667, 2), ('Happy', .2667, 1), ('怒', .1667, 0)]
    (name, mean, low, high), _ = rating_rows(timeline)
    assert name == 'valence' and low <= mean <= high
    assert high == pytest.approx(timeline.ratings[:, 0].max(), abs=1e-4)


def test_without_classes_and_ratings_there_are_no_columns_of_them(timeline):
    import dataclasses
    plain = dataclasses.replace(timeline, probabilities=None, ratings=None)
    assert list(curve_columns(plain, [])) == [
        'frame', 'time_s', 'window', 'base_energy_ratio', 'transient_energy_ratio', 'residual_energy_ratio',
        'frame_gate', 'event']
    assert class_rows(plain) == rating_rows(plain) == []


def test_an_interrupted_write_leaves_neither_a_half_file_nor_a_changed_one(timeline, tmp_path, monkeypatch):
    (tmp_path / 'a.json').write_text('old')
    monkeypatch.setattr('os.replace', lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        write_curves(tmp_path / 'a.csv', tmp_path / 'a.json', timeline, [], {})
    assert [path.name for path in tmp_path.iterdir()] == ['a.json'] and (tmp_path / 'a.json').read_text() == 'old'
