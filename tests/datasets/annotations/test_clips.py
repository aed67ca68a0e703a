"""The reader: what it infers, what it refuses, and that each refusal names the place and the way out."""
import re

import numpy as np
import pytest

from lsef_plugins.datasets.annotations import CLASSES, ORDERS, AnnotationError, clip_identity, read_clips
from lsef_plugins.datasets.annotations.published import PUBLISHED


@pytest.fixture
def write(tmp_path):
    """write(text, name) puts a list on disk."""

    def put(text, name='list.csv'):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return put


def rows(labels, start=1):
    return 'video_name,label\n' + ''.join(f'{i:05d},{label}\n' for i, label in enumerate(labels, start))


def classes(found):
    return [CLASSES[record.label] for record in found.records]


# ---- bytes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('dress', [
    lambda text: text.encode(), lambda text: b'\xef\xbb\xbf' + text.encode(),
    lambda text: text.replace('\n', '\r\n').encode(), lambda text: text.replace('\n', '\r').encode(),
    lambda text: text.rstrip('\n').encode(), lambda text: ('\n' + text + '\n \n').encode(),
    lambda text: text.encode('utf-16'), lambda text: text.replace(',', ';').encode(),
    lambda text: text.replace(',', '\t').encode(), lambda text: text.replace(',', ' ').encode(),
    lambda text: re.sub(r'(\w+)', r'"\1"', text).encode(), lambda text: text.replace(',7', ', 7.0').encode()],
    ids=['plain', 'byte order mark', 'CRLF', 'CR', 'no last line end', 'blank lines', 'UTF-16', 'semicolons', 'tabs',
         'blanks', 'quotes', 'floats'])
def test_the_dress_of_a_list_does_not_change_what_it_says(write, dress):
    found = read_clips(write(dress(rows([1, 7, 4]))), 'dfew')
    assert classes(found) == ['Happy', 'Fear', 'Angry']
    assert [record.identity for record in found.records] == ['00001', '00002', '00003']


@pytest.mark.parametrize('content, message', [
    (b'', 'is empty: no line with a clip'), (b'\n \n', 'is empty'), (b'video_name,label\n', 'a header and no clip'),
    (b'PK\x03\x04rest', 'is a spreadsheet or an archive.*CSV UTF-8'), (b'\xff\x00\x80abc', 'is not UTF-8 text'),
    (b'video_name,label\n0000\x001,1\n', 'holds zero bytes.*Save the list as UTF-8'),
    (b'00001\n00002\n', "list.csv:1: '00001' has no label"),
    (b'00001 1\n00002 joy\n', "list.csv:2: the label 'joy'.*neither a number nor one of the seven"),
    (b'00001 20 1\n00002 7\n', "list.csv:2: '00002 7' has no number of frames and line 1 has one"),
    (b'a/00001 0 20 1\na/00002 3 20 7\n', 'with_offset form'),
    (b'video_name,target,id\n00001,1,2,3\n', "list.csv:2: 4 cells, but the header"),
    (b'a,label\n00001,1\n', 'names no clip column'),
    (b'00001 1\n00002 ' + b'7' * 5000, 'list.csv:2: a line of 5006 characters names no clip'),
    (b'video_name,label\n' + b'1' * 140000 + b',1\n', 'list.csv:2: a line of 140002 characters names no clip'),
    (b'video_name,label\n00001 1\n', 'list.csv:2: 1 cells, but the header'),
    (b'video_name,label\nclip_a,1\nclip_b,7\n', "list.csv:2: 'clip_a' does not end in the number of a DFEW clip")])
def test_a_damaged_list_is_refused_by_place(write, content, message):
    with pytest.raises(AnnotationError, match=message):
        read_clips(write(content), 'dfew')


def test_unknown_requests_are_refused(write):
    path = write(rows([1, 7]))
    with pytest.raises(ValueError, match="data_set='afew' must be one of 'dfew', 'ferv39k'"):
        read_clips(path, 'afew')
    with pytest.raises(ValueError, match='label_base=2 must be 0, 1, or None'):
        read_clips(path, 'dfew', label_base=2)
    with pytest.raises(ValueError, match="class_order='abc' is unknown. Give 'dfew', 'alphabetical'"):
        read_clips(path, 'dfew', class_order='abc')
    with pytest.raises(ValueError, match='must name each of the seven emotions once'):
        read_clips(path, 'dfew', class_order=['Happy', 'Sad'])
    with pytest.raises(ValueError, match='both state the order of the classes: give one'):
        read_clips(path, 'dfew', class_order='dfew', label_index='label_index.txt')
    with pytest.raises(FileNotFoundError):
        read_clips(path.with_name('absent.csv'), 'dfew')


# ---- base -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('labels, base', [([0, 3], 0), ([7, 3], 1), ([0, 1, 2, 3, 4, 5, 6], 0),
                                          ([1, 2, 3, 4, 5, 6, 7], 1)])
def test_a_zero_or_a_seven_decides_the_base(write, labels, base):
    found = read_clips(write(rows(labels)), 'dfew')
    assert found.class_map.base == base and classes(found) == [CLASSES[label - base] for label in labels]


@pytest.mark.parametrize('labels', [[1, 2, 3, 4, 5, 6], [3], [6, 6, 1]])
def test_labels_within_1_to_6_decide_nothing_and_are_asked_about(write, labels):
    path = write(rows(labels))
    with pytest.raises(AnnotationError, match=r'possible counting from 0 and from 1.*State label_base=1 \(official'):
        read_clips(path, 'dfew')
    for base in (0, 1):
        assert classes(read_clips(path, 'dfew', label_base=base)) == [CLASSES[label - base] for label in labels]


@pytest.mark.parametrize('partner, base', [([0, 1], 0), ([7, 7], 1)])
def test_another_list_of_the_release_decides(write, partner, base):
    path, other = write(rows([1, 2, 6])), write(rows(partner, 50), 'other.csv')
    found = read_clips(path, 'dfew', companions=[other])
    assert found.class_map.base == base and any('together with 1 other list' in why for why in found.class_map.evidence)


def test_lists_of_two_releases_are_refused(write):
    one, other = write(rows([0, 1, 2]), 'train.csv'), write(rows([7, 2], 9), 'test.csv')
    with pytest.raises(AnnotationError, match='train.csv and .*test.csv contradict: labels 0..2 and 2..7'):
        read_clips(one, 'dfew', companions=[other])


@pytest.mark.parametrize('labels, options, message', [
    ([0, 7], {}, r'label 0 \(line 2\) and label 7 \(line 3\) cannot be among seven classes.*annotation sheet 0 marks'),
    ([-1, 2], {}, r'label -1 \(line 2\)'), ([2, 8], {}, r'label 8 \(line 3\)'),
    ([1, 0, 2], dict(label_base=1), r'list.csv:3: label 0 cannot be one of seven classes counted from 1 \(1..7\)'),
    ([1, 7], dict(label_base=0), r'list.csv:3: label 7 cannot be one of seven classes counted from 0')])
def test_labels_that_contradict_the_base_are_refused(write, labels, options, message):
    with pytest.raises(AnnotationError, match=message):
        read_clips(write(rows(labels)), 'dfew', **options)


def shares(n, order, base, seed=0):
    """Labels of n DFEW clips in the published shares, numbered in an order from a base."""
    published = PUBLISHED['dfew']['shares']
    names = [name for name in CLASSES for _ in range(round(n * published[name]))]
    np.random.default_rng(seed).shuffle(names)
    return [order.index(name) + base for name in names]


def test_class_shares_of_a_large_list_contradict_a_wrong_reading(write):
    path = write(rows(shares(2000, ORDERS['alphabetical'], 0)))
    with pytest.raises(AnnotationError, match='class shares are .* away .* read in alphabetical order from 0'):
        read_clips(path, 'dfew')
    assert read_clips(path, 'dfew', class_order='alphabetical').class_map.order == 'alphabetical'
    assert read_clips(path, 'dfew', check_counts=False).class_map.order == 'dfew'


def test_class_shares_contradict_a_wrongly_stated_base(write):
    labels = [label for label in shares(2000, CLASSES, 1) if label != 7]        # no Fear: within 1..6
    path = write(rows(labels))
    with pytest.raises(AnnotationError, match='read in dfew order from 1'):
        read_clips(path, 'dfew', label_base=0)
    assert read_clips(path, 'dfew', label_base=1).class_map.base == 1


def test_class_shares_leave_small_and_selected_lists_alone(write):
    assert read_clips(write(rows([0, 3] * 100)), 'dfew').class_map.base == 0
    balanced = [label for label in range(7) for _ in range(100)]
    assert read_clips(write(rows(balanced)), 'dfew').class_map.base == 0


# ---- order ----------------------------------------------------------------------------------------------------


def ferv(pairs):
    return ''.join(f'Scene/{word}/{i:04d} {label}\n' for i, (word, label) in enumerate(pairs))


@pytest.mark.parametrize('order', list(ORDERS))
@pytest.mark.parametrize('base', [0, 1])
def test_paths_decide_order_and_base(write, order, base):
    pairs = [(word, ORDERS[order].index(word) + base) for word in CLASSES]
    found = read_clips(write(ferv(pairs)), 'ferv39k')
    assert (found.class_map.order, found.class_map.base) == (order, base) and classes(found) == list(CLASSES)


def test_one_line_against_its_path_is_found_and_named(write):
    pairs = [(word, ORDERS['alphabetical'].index(word)) for word in CLASSES * 2]
    pairs[9] = ('Neutral', 3)
    with pytest.raises(AnnotationError, match=r"list.csv:10: the path 'Scene/Neutral/0009' says Neutral and the label "
                                              r'3 says Happy, reading the list in alphabetical .* 13 of 14 lines'):
        read_clips(write(ferv(pairs)), 'ferv39k')


def test_a_word_against_its_path_is_refused(write):
    with pytest.raises(AnnotationError, match='list.csv:2: the path .* says Sad and the label says Happy'):
        read_clips(write('A/Happy/1 Happy\nA/Sad/2 Happy\n'), 'ferv39k')


def test_a_stated_order_against_the_paths_is_refused(write):
    path = write(ferv([(word, CLASSES.index(word)) for word in CLASSES]))
    with pytest.raises(AnnotationError, match=r'\(stated\).*Correct the class order or the list'):
        read_clips(path, 'ferv39k', class_order='alphabetical')


def test_an_order_of_its_own_is_taken_when_stated_and_asked_for_when_not(write):
    order = ['Sad', 'Happy', 'Neutral', 'Angry', 'Surprise', 'Disgust', 'Fear']
    path = write(ferv([(word, order.index(word)) for word in CLASSES]))
    with pytest.raises(AnnotationError, match='if it has an order of its own, state it'):
        read_clips(path, 'ferv39k')
    assert classes(read_clips(path, 'ferv39k', class_order=order)) == list(CLASSES)


def test_one_path_decides_the_order_of_all_labels(write):
    """No class has the same number in two of the four readings (two orders, two bases)."""
    for word in CLASSES:
        assert len({order.index(word) + base for order in ORDERS.values() for base in (0, 1)}) == 4
    assert classes(read_clips(write('x/clips/1 3\nA/Fear/2 6\n'), 'ferv39k')) == ['Angry', 'Fear']
    assert classes(read_clips(write('x/clips/1 3\nA/Fear/2 2\n'), 'ferv39k')) == ['Happy', 'Fear']


def test_words_and_numbers_do_not_mix(write):
    with pytest.raises(AnnotationError, match="list.csv:2: the label 'Sad' is a word and other labels"):
        read_clips(write('A/Happy/1 0\nA/Sad/2 Sad\n'), 'ferv39k')
    with pytest.raises(AnnotationError, match="list.csv:2: the label '3' is no emotion, though"):
        read_clips(write('A/Happy/1 Happy\nA/Sad/2 3\n'), 'ferv39k')


@pytest.mark.parametrize('text, message', [
    ('Angry 0\nHappy 2\n', 'not consecutive'), ('Angry 0\nHappy 0\n', 'every number once'),
    ('Angry zero\n', 'expected "Class number"'), ('Angry 0\nHappy 1\n', 'must name each of the seven')])
def test_a_damaged_label_index_is_refused(write, text, message):
    index = write(text, 'label_index.txt')
    with pytest.raises(AnnotationError, match=message):
        read_clips(write('x/clips/1 0\n'), 'ferv39k', label_index=index)


def test_label_index_against_the_paths_is_refused(write):
    index = write(''.join(f'{word} {i}\r\n' for i, word in enumerate(ORDERS['alphabetical'])), 'index.txt')
    path = write(ferv([(word, CLASSES.index(word)) for word in CLASSES]))
    with pytest.raises(AnnotationError, match='index.txt.*Correct the class order'):
        read_clips(path, 'ferv39k', label_index=index)
    index.rename(index.with_name('label_index.txt'))    # merely beside the list: the paths decide
    assert read_clips(path, 'ferv39k').class_map.order == 'dfew'


# ---- votes ----------------------------------------------------------------------------------------------------

HEAD = '1happy,2sad,3neutral,4angry,5surprise,6disgust,7fear,order,label\n'


def test_votes_that_contradict_the_label_are_refused(write):
    with pytest.raises(AnnotationError, match=r'list.csv:3: label 2 \(Sad\) has 0 votes and 1 \(Happy\) has 9'):
        read_clips(write(HEAD + '9,0,1,0,0,0,0,1,1\n9,0,0,0,0,0,0,2,2\n'), 'dfew')


def test_a_sheet_without_single_labels_or_with_other_columns_is_refused(write):
    with pytest.raises(AnnotationError, match='none of the 1 clips carries a single label'):
        read_clips(write(HEAD + '3,3,2,1,1,0,0,3,0\n'), 'dfew')
    with pytest.raises(AnnotationError, match='must spell seven vote columns'):
        read_clips(write(HEAD.replace('7fear,', '') + '9,0,1,0,0,0,1,1\n'), 'dfew')


# ---- clips ----------------------------------------------------------------------------------------------------


def test_one_clip_of_two_classes_is_refused_and_of_one_class_noted(write):
    with pytest.raises(AnnotationError, match='clip 00001 is Happy on line 2 and Fear on line 3'):
        read_clips(write('video_name,label\n1,1\n00001,7\n'), 'dfew')
    assert read_clips(write('video_name,label\n1,7\n00001,7\n2,1\n'), 'dfew').repeated == ('00001',)


@pytest.mark.parametrize('path, data_set, identity', [
    ('1', 'dfew', '00001'), ('00001', 'dfew', '00001'), ('a/b/16372.mp4', 'dfew', '16372'), ('clip_a', 'dfew', None),
    ('Action/Happy/267', 'ferv39k', 'Action/Happy/0267'), ('x/Action/happy/0267.avi', 'ferv39k', 'Action/Happy/0267'),
    ('Action/clips/0267', 'ferv39k', None), ('Happy/0267', 'ferv39k', None),
    ('War/Fear/a_3.x', 'ferv39k', 'War/Fear/a_3.x')])
def test_a_clip_has_one_identity_in_every_spelling(path, data_set, identity):
    assert clip_identity(path, data_set) == identity
