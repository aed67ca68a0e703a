"""The label table and its ceilings: neither the slow tone nor the short event suffices alone."""
import itertools

import numpy as np
import pytest

from lsef_plugins.datasets.synthetic import CLASSES, EVENTS, PRESETS, TONES, label_ceilings
from lsef_plugins.datasets.synthetic.actions import ACTIONS, EVENT_ACTIONS, TONE_ACTIONS
from lsef_plugins.datasets.synthetic.design import CELLS, LABEL_TABLE, ceilings, joint, label_of
from lsef_plugins.datasets.synthetic.presets import DFEW_SHARES
from lsef_plugins.datasets.synthetic.signals import draw_signals


def test_classes_are_dfews_in_its_order():
    assert CLASSES == ('Happy', 'Sad', 'Neutral', 'Angry', 'Surprise', 'Disgust', 'Fear')


@pytest.mark.parametrize('tone, event, expected', [
    ('neutral', 'jaw_drop', 'Surprise'), ('positive', 'jaw_drop', 'Surprise'), ('negative', 'jaw_drop', 'Fear'),
    ('negative', 'smile', 'Sad'), ('neutral', 'smile', 'Happy'), ('neutral', 'still', 'Neutral')])
def test_the_same_event_means_another_class_on_another_tone(tone, event, expected):
    assert CLASSES[label_of(tone, event)] == expected


def test_every_cell_that_is_drawn_has_the_class_of_the_table():
    for name, cells in CELLS.items():
        assert sum(cells.values()) == pytest.approx(1)
        for tone, event in cells:
            assert CLASSES[label_of(tone, event)] == name


def test_every_tone_and_event_moves_a_face():
    assert set(LABEL_TABLE) == set(EVENTS) == set(EVENT_ACTIONS) and set(TONES) == set(TONE_ACTIONS)
    moving = [EVENT_ACTIONS[event] for event in EVENTS if event != 'still']
    assert all(np.abs(vector).max() >= .9 for vector in moving)
    assert np.linalg.matrix_rank(np.stack(moving)) == len(moving)
    assert all(vector.shape == (len(ACTIONS),) for vector in TONE_ACTIONS.values())


def test_one_half_of_the_truth_stops_at_a_known_ceiling_and_both_halves_suffice():
    best = label_ceilings('default')
    assert best['chance'] == pytest.approx(1 / 7)
    assert best['base'] == pytest.approx(.38, abs=.01)
    assert best['events'] == pytest.approx(.67, abs=.01)
    assert best['both'] == pytest.approx(1)


@pytest.mark.parametrize('preset', PRESETS)
def test_both_halves_suffice_on_every_preset_and_one_never_does(preset):
    best = label_ceilings(preset)
    assert best['both'] == pytest.approx(1)
    assert best['chance'] < best['base'] < best['events'] < .7


def test_the_ceiling_is_the_best_of_all_rules_tried_one_by_one():
    """The sum of maxima against all 7**3 rules tone -> class, with unequal classes."""
    shares = np.array(DFEW_SHARES) / 100
    table = joint(shares).sum(1)
    best = max(sum(table[tone, rule[tone]] for tone in range(3)) for rule in itertools.product(range(7), repeat=3))
    assert ceilings(shares)['base'] == pytest.approx(best)
    assert joint(shares).sum((0, 1)) == pytest.approx(shares)


@pytest.mark.parametrize('shares', [(.5, .5), (.5, .6, 0, 0, 0, 0, 0), (-.5, 1.5, 0, 0, 0, 0, 0)])
def test_impossible_class_shares_are_refused(shares):
    with pytest.raises(ValueError, match='7 non-negative numbers that sum to 1, in the order Happy, Sad'):
        joint(shares)


@pytest.fixture(scope='module')
def truths():
    return [draw_signals(PRESETS['default'], 'train', index, seed=5) for index in range(2100)]


def nearest(rows, templates):
    """Index of the template that points most like each row; the first (zero) template where a row is small."""
    rows, templates = np.asarray(rows), np.asarray(templates)
    scores = rows @ templates.T - .5 * (templates ** 2).sum(1)
    return scores.argmax(1)


def majority_accuracy(cells, labels):
    """Accuracy of the best rule from cells to labels, counted on the clips themselves."""
    counts = np.zeros((cells.max() + 1, len(CLASSES)))
    np.add.at(counts, (cells, labels), 1)
    return counts.max(1).sum() / len(labels)


def test_an_observer_of_the_true_base_reaches_its_ceiling_and_no_more(truths):
    labels = np.array([truth.label for truth in truths])
    tones = nearest([truth.base[-8:].mean(0) for truth in truths], [TONE_ACTIONS[tone] for tone in TONES])
    best = label_ceilings('default')['base']
    assert majority_accuracy(tones, labels) == pytest.approx(best, abs=3 * np.sqrt(.25 / len(labels)))


def test_an_observer_of_the_true_events_reaches_its_ceiling_and_no_more(truths):
    labels = np.array([truth.label for truth in truths])
    events = nearest([truth.transient[np.abs(truth.transient).max(1).argmax()] for truth in truths],
                     [EVENT_ACTIONS[event] for event in EVENTS])
    best = label_ceilings('default')['events']
    assert majority_accuracy(events, labels) == pytest.approx(best, abs=3 * np.sqrt(.25 / len(labels)))


def test_an_observer_of_both_true_signals_names_every_class(truths):
    tones = nearest([truth.base[-8:].mean(0) for truth in truths], [TONE_ACTIONS[tone] for tone in TONES])
    events = nearest([truth.transient[np.abs(truth.transient).max(1).argmax()] for truth in truths],
                     [EVENT_ACTIONS[event] for event in EVENTS])
    named = [label_of(TONES[tone], EVENTS[event]) for tone, event in zip(tones, events)]
    assert np.mean(np.array(named) == [truth.label for truth in truths]) > .995


def test_an_unknown_preset_is_told_which_there_are():
    with pytest.raises(ValueError, match="no preset 'medium'; choose one of easy, default, hard, longtail, va"):
        label_ceilings('medium')
