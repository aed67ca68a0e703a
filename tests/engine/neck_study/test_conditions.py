"""The broken test clips: corrupted before they shrink, once for all arms, made anew when a corruption changes."""
import numpy as np
import pytest

import lsef_plugins  # noqa: F401
from lsef_plugins.datasets.synthetic import draw_clip
from lsef_plugins.datasets.transforms import corruptions
from lsef_plugins.engine.neck_study import conditions
from lsef_plugins.engine.studies import clips


def test_all_kinds_of_the_suite():
    found = conditions.conditions_of([1, 3], ['flicker', 'gaussian_noise'])
    assert found == ['clean', 'flicker/1', 'gaussian_noise/1', 'flicker/3', 'gaussian_noise/3']
    assert len(conditions.conditions_of([3])) == 1 + len(corruptions.CORRUPTIONS)


def test_unknown_conditions_are_told():
    with pytest.raises(ValueError, match='There is no corruption rain; there are .*gaussian_noise'):
        conditions.conditions_of([3], ['rain'])
    with pytest.raises(ValueError, match=r'A severity is 1 to 5, got \[0\]'):
        conditions.conditions_of([0])


def test_clips_are_corrupted_at_full_size_and_seen_by_all_arms_alike(few_clips):
    tested = conditions.conditions_of([3], ['noise_burst', 'frame_drop'])
    first = conditions.prepare(few_clips, 'default', 'test', tested, 3)
    stamps = [path.stat().st_mtime_ns for path in first]
    assert conditions.prepare(few_clips, 'default', 'test', tested, 3) == first
    assert [path.stat().st_mtime_ns for path in first] == stamps and len(first) == 2
    frames, labels = clips.load(str(first[0]))
    drawn, truth = draw_clip('default', 'val', 7)
    rng = corruptions.sample_rng(0, 'val', 7, 'noise_burst')
    expected = clips.SMALL.of(np.stack(corruptions.corrupt_clip(list(drawn), 'noise_burst', 3, rng)))
    assert np.array_equal(frames[0], expected) and labels[0] == truth.label and len(labels) == 3
    clean, clean_labels = clips.load(str(clips.prepare(few_clips, 'default', 'test')))
    assert np.array_equal(clean_labels[:3], labels) and not np.array_equal(clean[:3], frames)
    again = conditions.prepare(few_clips, 'default', 'test', ['noise_burst/3'], 4)[0]
    assert again != first[0] and np.array_equal(clips.load(str(again))[0][:3], frames)


def test_another_level_is_another_file(few_clips, monkeypatch):
    def files():
        return [conditions.file_of(few_clips, 'default', 'test', what, clips.SMALL, 3)
                for what in ('gaussian_noise/3', 'flicker/3', 'mixture0')]

    before = files()
    other = corruptions.CORRUPTIONS['gaussian_noise']._replace(levels=(1., 2., 3., 4., 5.))
    monkeypatch.setitem(corruptions.CORRUPTIONS, 'gaussian_noise', other)
    assert [a == b for a, b in zip(before, files())] == [False, True, False]


def test_mixtures_hold_the_training_clips_in_several_states(few_clips):
    paths = conditions.prepare_mixtures(few_clips, 'default', copies=2)
    clean, labels = clips.load(str(clips.prepare(few_clips, 'default', 'train')))
    one, two = (clips.load(str(path)) for path in paths)
    assert np.array_equal(one[1], labels) and np.array_equal(two[1], labels)
    pairs = ((one[0], clean), (two[0], clean), (one[0], two[0]))
    apart = [np.abs(a.astype(int) - b).mean((1, 2, 3, 4)) for a, b in pairs]
    assert all((each > 0).mean() > 0.7 for each in apart) and max(each.max() for each in apart[:2]) < 128
