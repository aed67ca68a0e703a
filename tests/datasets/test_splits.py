"""Splits: the same clips every time, in their shares, and the lists of a fold in every spelling."""
from collections import Counter

import numpy as np
import pytest

from lsef_plugins.datasets.splits import check_split, dfew_list, ferv39k_list, held_out, select, source_split

NAMES = [f'{i:05d}' for i in range(1000)]
LABELS = np.random.default_rng(0).choice(7, 1000, p=[.209, .162, .228, .186, .126, .012, .077]).tolist()


def test_every_class_is_held_out_in_its_share():
    held = held_out(NAMES, LABELS, .1)
    kept, given = Counter(LABELS), Counter(label for name, label in zip(NAMES, LABELS) if name in held)
    assert all(given[label] == max(round(.1 * count), 1) for label, count in kept.items())


def test_the_draw_depends_on_clips_and_seed_alone():
    held = held_out(NAMES, LABELS, .1)
    assert held_out(NAMES[::-1], LABELS[::-1], .1) == held != held_out(NAMES, LABELS, .1, seed=1)
    # Another class growing changes nothing in this one.
    more = held_out([*NAMES, *(f'x{i}' for i in range(300))], [*LABELS, *[6] * 300], .1)
    assert {name for name, label in zip(NAMES, LABELS) if name in held and label != 6} == {
        name for name, label in zip(NAMES, LABELS) if name in more and label != 6}


def test_a_class_of_one_clip_stays_in_training_and_of_two_gives_one():
    assert held_out(['a'], [0], .5) == set() and len(held_out(['a', 'b'], [0, 0], .01)) == 1
    assert len(held_out(['a', 'b'], [0, 0], .99)) == 1


def test_a_repeated_clip_is_on_one_side_only():
    names, labels = NAMES * 2, LABELS * 2
    train, val = (select(names, labels, split, 'clean', .1, 0) for split in ('train', 'val'))
    assert not {names[i] for i in train} & {names[i] for i in val} and len(train) + len(val) == 2000


def test_protocols_take_what_they_say():
    for protocol, split, source in (('paper', 'val', 'test'), ('paper', 'train', 'train'), ('clean', 'val', 'train'),
                                    ('clean', 'test', 'test'), ('clean', 'train', 'train'), ('paper', 'test', 'test')):
        assert source_split(split, protocol) == source
    every = list(range(1000))
    assert select(NAMES, LABELS, 'val', 'paper', .1, 0) == every == select(NAMES, LABELS, 'test', 'clean', .1, 0)
    train, val = (select(NAMES, LABELS, split, 'clean', .1, 0) for split in ('train', 'val'))
    assert sorted(train + val) == every and 80 < len(val) < 120


@pytest.mark.parametrize('arguments, message', [
    (('dev', 'paper', .1), "split='dev' must be one of 'train', 'val', 'test'"),
    (('val', 'fair', .1), "protocol='fair' must be 'paper'"), (('val', 'clean', 1.), 'val_ratio=1.0 must be a share')])
def test_impossible_splits_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        check_split(*arguments)


@pytest.mark.parametrize('spelling', ['train(single-labeled)', 'train(single_labeled)', 'train_single_labeled',
                                      'train (single-labeled)', 'Train(Single-Labelled)'])
def test_a_folds_list_is_found_in_every_spelling(tmp_path, spelling):
    folder = tmp_path / 'EmoLabel_DataSplit' / spelling
    folder.mkdir(parents=True)
    (tmp_path / 'EmoLabel_DataSplit' / 'test(single-labeled)').mkdir()
    (folder / 'set_3.csv').write_text('video_name,label\n1,1\n')
    assert dfew_list(str(tmp_path), 'train', 3) == str(folder / 'set_3.csv')
    with pytest.raises(FileNotFoundError, match=r'No list of fold 4, split train.*holds .*single'):
        dfew_list(str(tmp_path), 'train', 4)


def test_two_spellings_must_agree(tmp_path):
    for spelling, text in (('test(single-labeled)', 'a'), ('test_single_labeled', 'a')):
        (tmp_path / 'EmoLabel_DataSplit' / spelling).mkdir(parents=True)
        (tmp_path / 'EmoLabel_DataSplit' / spelling / 'set_1.csv').write_text(text)
    assert dfew_list(str(tmp_path), 'test', 1)
    (tmp_path / 'EmoLabel_DataSplit' / 'test_single_labeled' / 'set_1.csv').write_text('b')
    with pytest.raises(FileNotFoundError, match='differ: name the one to use'):
        dfew_list(str(tmp_path), 'test', 1)


def test_absent_lists_say_what_was_expected(tmp_path):
    with pytest.raises(ValueError, match='fold=6 must be 1..5'):
        dfew_list(str(tmp_path), 'train', 6)
    with pytest.raises(FileNotFoundError, match='EmoLabel_DataSplit does not exist.*tools/data/dfew/README.md'):
        dfew_list(str(tmp_path), 'train', 1)
    with pytest.raises(FileNotFoundError, match='test_All.csv does not exist.*tools/data/ferv39k/README.md'):
        ferv39k_list(str(tmp_path), 'test')
