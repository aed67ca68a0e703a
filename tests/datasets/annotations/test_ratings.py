"""Ratings per frame: the column is found by evidence, and a file that would shift ratings is refused."""
import numpy as np
import pytest

from lsef_plugins.datasets.annotations import AnnotationError, read_aff_wild2, read_rating, read_rating_pair

CURVE = np.round(np.sin(np.arange(40) / 7) * .6, 6)


def put(path, columns, header=''):
    path.write_text(header + ''.join(','.join(str(value) for value in row) + '\n' for row in zip(*columns)))
    return path


@pytest.mark.parametrize('columns', [
    (np.arange(40), CURVE), (CURVE, np.arange(40)), (np.arange(1, 41), CURVE),
    (np.arange(40), CURVE, np.arange(40) * 9),
    (CURVE,), (np.arange(40), np.arange(40) / 25 + 1, CURVE), (np.arange(40) / 100, CURVE)],
    ids=['official', 'swapped', 'from one', 'three columns', 'alone', 'with seconds', 'small time stamps'])
def test_the_rating_is_the_column_inside_the_range_that_does_not_count(tmp_path, columns):
    values, how = read_rating(put(tmp_path / 'v.csv', columns))
    np.testing.assert_allclose(values, CURVE, rtol=1e-6)
    assert values.dtype == np.float32 and 'rating in column' in how


@pytest.mark.parametrize('rating', [np.zeros(40), np.linspace(-.5, .9, 40), np.full(40, -1.), np.r_[np.zeros(39), 1]])
def test_still_and_rising_ratings_are_ratings(tmp_path, rating):
    np.testing.assert_allclose(read_rating(put(tmp_path / 'v.csv', (np.arange(40), rating)))[0], rating, rtol=1e-6)


def test_the_first_column_is_never_taken_because_it_is_first(tmp_path):
    # Two frames: the count 0, 1 lies inside [-1, 1] too.
    assert read_rating(put(tmp_path / 'v.csv', ([0, 1], [.5, .4])))[0].tolist() == pytest.approx([.5, .4])


@pytest.mark.parametrize('columns, message', [
    ((np.arange(40), CURVE * 100), r'no column can be the rating.*column 1: -59.*another scale'),
    ((np.arange(40), CURVE, -CURVE), '2 columns can be the rating'),
    ((np.r_[0:17, 18:41], CURVE), r'v.csv:18: frame 16 is followed by frame 18: ratings of frames are missing')])
def test_what_cannot_be_decided_or_would_shift_is_refused(tmp_path, columns, message):
    with pytest.raises(AnnotationError, match=message):
        read_rating(put(tmp_path / 'v.csv', columns))


def test_a_stated_column_is_taken_and_checked(tmp_path):
    path = put(tmp_path / 'v.csv', (np.arange(40), CURVE, -CURVE))
    np.testing.assert_allclose(read_rating(path, 2)[0], -CURVE, rtol=1e-6)
    for column in (0, 3):
        with pytest.raises(AnnotationError, match=f'rating_column={column} is not a column inside'):
            read_rating(path, column)


@pytest.mark.parametrize('text', ['0,.1\n1\n', '0,.1\n1,nan\n', '0,.1\n1,x\n', '0,.1\n1,.2,.3\n'])
def test_a_damaged_line_is_named(tmp_path, text):
    (tmp_path / 'v.csv').write_text(text)
    with pytest.raises(AnnotationError, match='v.csv:2: .* is not 2 finite number'):
        read_rating(tmp_path / 'v.csv')


def test_a_pair_of_different_lengths_is_refused(tmp_path):
    one, other = put(tmp_path / 'v.csv', (np.arange(40), CURVE)), put(tmp_path / 'a.csv', (np.arange(39), CURVE[:39]))
    with pytest.raises(AnnotationError, match='rates 40 frames and .* 39'):
        read_rating_pair(one, other)


def test_aff_wild2_takes_either_column_order_and_either_mark(tmp_path):
    (tmp_path / '1.txt').write_text('arousal,valence\r\n.1,.2\r\n-5,.3\r\n')
    ratings = read_aff_wild2(tmp_path / '1.txt')
    np.testing.assert_allclose(ratings.values[0], [.2, .1], rtol=1e-6)
    assert ratings.valid.tolist() == [True, False] and '1 of 2 frames have no rating' in ratings.evidence[0]


@pytest.mark.parametrize('text, message', [
    ('valence,arousal\n.1,1.5\n', r'1.txt:2: \[0.1, 1.5\] is neither in \[-1, 1\] nor the mark -5'),
    ('.1,.2\n', 'expected the header "valence,arousal"'), ('valence,arousal\n', 'a header and no rating')])
def test_another_file_is_refused(tmp_path, text, message):
    (tmp_path / '1.txt').write_text(text)
    with pytest.raises(AnnotationError, match=message):
        read_aff_wild2(tmp_path / '1.txt')
