"""The confusion matrix as people read it."""
import csv
import io

import numpy as np
import pytest

from lsef_plugins.evaluation.functional import confusion_csv, confusion_table

MATRIX = np.array([[3, 1, 0], [0, 10, 2], [0, 0, 0]])
NAMES = ['Happy', 'Sad', 'Very long name']


def test_each_count_stands_in_the_row_of_the_truth_and_the_column_of_the_prediction():
    lines = confusion_table(MATRIX, NAMES).splitlines()
    assert lines[0].split('  ')[0] == 'true \\ predicted' and len({len(line) for line in lines[:4]}) == 1
    assert lines[1].split() == ['Happy', '3', '1', '0', '4', '75.0']
    assert lines[2].split() == ['Sad', '0', '10', '2', '12', '83.3']
    assert lines[3].split()[-2:] == ['0', '-'], 'a class without clips has no recall'
    assert lines[4] == 'WAR 81.25 %, UAR 79.17 %, 16 clips'


def test_the_csv_reads_back():
    rows = list(csv.reader(io.StringIO(confusion_csv(MATRIX, ['a,b', 'Sad', 'x']))))
    assert rows[0] == ['true', 'a,b', 'Sad', 'x'] and [row[0] for row in rows[1:]] == rows[0][1:]
    assert np.array([row[1:] for row in rows[1:]], int).tolist() == MATRIX.tolist()


def test_no_class_name_is_a_formula_in_a_spreadsheet():
    names = ['=HYPERLINK("http://x")', '+1', '-fear']
    rows = list(csv.reader(io.StringIO(confusion_csv(MATRIX, names))))
    assert rows[0][1:] == [row[0] for row in rows[1:]] == [f"'{name}" for name in names]
    assert [row[0] for row in csv.reader(io.StringIO(confusion_csv(MATRIX, ['a-b', 'x=1', 'c@d'])))][1:] == [
        'a-b', 'x=1', 'c@d']


@pytest.mark.parametrize('write', (confusion_table, confusion_csv))
def test_names_are_counted(write):
    with pytest.raises(ValueError, match=r'2 names \(a, b\) came for 3 classes'):
        write(MATRIX, ['a', 'b'])
