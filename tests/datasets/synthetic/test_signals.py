"""Signals: slow tones, events of several frames, disturbances that know nothing of the label."""
import dataclasses

import numpy as np
import pytest

from lsef_plugins.datasets.synthetic import CLASSES, PRESETS
from lsef_plugins.datasets.synthetic.signals import (
    NUISANCE,
    SPLITS,
    class_counts,
    draw_signals,
    envelope,
    face_actions,
    label_tone_event,
    person_of,
)

EVERY = pytest.mark.parametrize('preset', PRESETS.values(), ids=list(PRESETS))


def some(preset, number=150, split='train', seed=3):
    return [draw_signals(preset, split, index, seed) for index in range(number)]


@EVERY
def test_a_clip_is_the_same_whenever_and_wherever_it_is_drawn(preset):
    first, second = draw_signals(preset, 'val', 4, 11), draw_signals(preset, 'val', 4, 11)
    assert first.signals_sha256() == second.signals_sha256()
    others = {draw_signals(preset, split, index, seed).signals_sha256()
              for split, index, seed in (('train', 4, 11), ('val', 5, 11), ('val', 4, 12))}
    assert len(others | {first.signals_sha256()}) == 4


def test_train_and_val_share_no_random_stream():
    for index in range(5):
        train, val = (draw_signals(PRESETS['default'], split, index, 0) for split in SPLITS)
        assert not np.isclose(train.nuisance[:, :6], val.nuisance[:, :6]).any(0).all()
        assert not np.array_equal(train.nuisance[:, :6], val.nuisance[:, :6])
        assert train.tone_curve[0] != val.tone_curve[0]


@EVERY
def test_an_event_lasts_several_frames_and_the_transient_is_exactly_zero_outside(preset):
    for truth in some(preset):
        inside = np.zeros(preset.frames, bool)
        for event in truth.events:
            onset, apex, offset, amplitude = (event[name] for name in ('onset', 'apex', 'offset', 'amplitude'))
            assert 0 < onset < apex < offset < preset.frames and event['kind'] == truth.event
            inside[onset + 1:offset] = True
            strong = np.abs(truth.transient[onset:offset + 1]).max(1) >= .5 * np.abs(truth.transient).max() / 1.5
            assert 4 <= strong.sum() <= 10
            assert preset.event_gain[0] <= amplitude <= preset.event_gain[1]
        assert (np.abs(truth.transient).max(1) > 0).tolist() == inside.tolist()
        assert (len(truth.events) == 0) == (truth.event == 'still')


def test_events_begin_all_over_the_clip():
    preset = PRESETS['default']
    onsets = [truth.events['onset'][0] for truth in some(preset, 600) if len(truth.events)]
    counts = np.bincount(onsets, minlength=preset.frames)
    assert (counts > 0).sum() >= 20 and counts.max() < .12 * len(onsets)


@EVERY
def test_the_base_is_slow_and_of_low_rank(preset):
    for truth in some(preset):
        values = np.linalg.svd(truth.base, compute_uv=False)
        assert values[2] <= 1e-9 * max(values[0], 1)
        assert np.abs(np.diff(truth.tone_curve, n=2)).max() < .03      # no corner a frame wide
    transients = [truth for truth in some(preset) if len(truth.events)]
    assert min(np.abs(np.diff(np.abs(truth.transient).max(1), n=2)).max() for truth in transients) > .06


@EVERY
def test_the_tone_of_a_clip_is_the_sign_of_its_last_frames(preset):
    for truth in some(preset):
        assert truth.tone_curve.shape == (preset.frames,)
        if truth.tone != 'neutral':
            assert truth.tone_curve[-6:].mean() > .4 * preset.tone_gain
        else:
            assert np.abs(truth.tone_curve).max() < 5 * preset.wander


def test_persons_of_train_and_val_are_disjoint():
    preset = PRESETS['default']
    train, val = ({person_of(preset, split, index, 0) for index in range(800)} for split in SPLITS)
    assert not train & val
    assert len(train) > 200 and len(val) == 80


def test_a_person_keeps_the_same_face_at_rest():
    by_person = {}
    for truth in some(PRESETS['default'], 600):
        by_person.setdefault(truth.identity, []).append(truth.rest)
    assert max(map(len, by_person.values())) > 1
    for rests in by_person.values():
        assert all(np.array_equal(rest, rests[0]) for rest in rests)
    firsts = np.stack([rests[0] for rests in by_person.values()])
    assert firsts.std(0)[0] > .2     # the rest mouth is not straight


@EVERY
@pytest.mark.parametrize('clips', [70, 101, 700])
def test_any_number_of_clips_holds_the_classes_in_their_shares(preset, clips):
    shares = np.full(7, 1 / 7) if preset.class_probabilities is None else np.array(preset.class_probabilities)
    assert np.abs(np.array(class_counts(preset, 'train', clips, 0)) - shares * clips).max() <= 3


def test_longtail_counts_are_close_to_dfews():
    counts = dict(zip(CLASSES, class_counts(PRESETS['longtail'], 'train', 1400, 0)))
    assert counts['Neutral'] > counts['Happy'] > counts['Angry'] > counts['Sad'] > counts['Surprise'] > counts['Fear']
    assert 14 <= counts['Disgust'] <= 20


@EVERY
def test_valence_and_arousal_stay_in_their_range_and_move(preset):
    truths = some(preset)
    for name in ('valence', 'arousal'):
        curves = np.stack([getattr(truth, name) for truth in truths])
        assert curves.shape == (150, preset.frames) and np.abs(curves).max() <= 1
        assert curves.std() > .12 and curves.std(1).mean() > .1


def test_at_the_apex_a_face_feels_as_its_class_does():
    for truth in some(dataclasses.replace(PRESETS['default'], event_gain=(1., 1.))):
        for event in truth.events:
            if CLASSES[truth.label] == 'Fear':
                assert truth.valence[event['apex']] == pytest.approx(-.7)
                assert truth.arousal[event['apex']] == pytest.approx(.8)


def test_disturbances_know_nothing_of_the_label():
    """Class means of every nuisance statistic, of the rest face and of the person differ by chance only."""
    truths = some(PRESETS['default'], 1400)
    labels = np.array([truth.label for truth in truths])
    rows = np.stack([np.concatenate([truth.nuisance.mean(0), truth.nuisance.std(0), truth.rest])
                     for truth in truths])
    rows = rows[:, rows.std(0) > 0]
    z = (rows - rows.mean(0)) / rows.std(0)
    means = np.stack([z[labels == k].mean(0) * np.sqrt((labels == k).sum()) for k in range(7)])
    assert np.abs(means).max() < 4.2     # 7 x about 30 standard normal numbers


def test_a_face_adds_up_rest_base_transient_blinks_and_speech():
    truth = draw_signals(PRESETS['default'], 'train', 1, 0)
    truth.nuisance[:, [NUISANCE.index('blink'), NUISANCE.index('speech')]] = 0
    assert np.array_equal(face_actions(truth), truth.rest + truth.base + truth.transient)
    truth.nuisance[5, NUISANCE.index('blink')] = 1
    assert face_actions(truth)[5, 8] == pytest.approx((truth.rest + truth.base + truth.transient)[5, 8] - 1.6)


def test_an_envelope_is_zero_outside_one_at_the_apex_and_smooth():
    curve = envelope(20, onset=3, apex=7, hold=2, offset=14)
    assert (curve[:4] == 0).all() and (curve[14:] == 0).all() and curve[7:10] == pytest.approx(1)
    assert (np.diff(curve[3:8]) > 0).all() and (np.diff(curve[9:15]) < 0).all()
    assert np.abs(np.diff(curve)).max() < .45


def test_the_cell_of_a_clip_follows_its_class():
    table = [label_tone_event(PRESETS['default'], 'train', index, 0) for index in range(2100)]
    fear = [(tone, event) for label, tone, event in table if CLASSES[label] == 'Fear']
    assert np.mean([event == 'brow_raise' for _, event in fear]) == pytest.approx(.75, abs=.08)
    assert {tone for tone, _ in fear} == {'negative'}


def test_an_unknown_split_is_told_which_there_are():
    with pytest.raises(ValueError, match="no split 'test'; choose one of train, val"):
        draw_signals(PRESETS['default'], 'test', 0, 0)
