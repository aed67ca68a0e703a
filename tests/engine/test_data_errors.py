"""Errors of data become one line; everything else stays what it is. With clips and loaders: robustness/test_run."""
import pytest

pytest.importorskip('mmaction')

from torch.utils.data import DataLoader, Dataset

import lsef_plugins  # noqa: F401
from lsef_plugins.datasets.integrity import UnreadableClipError
from lsef_plugins.engine.data_errors import data_errors, told
from lsef_plugins.engine.launch import LaunchError


class Broken(Dataset):
    """Raises what it was given for every sample."""

    def __init__(self, error):
        self.error = error

    def __len__(self):
        return 2

    def __getitem__(self, index):
        raise self.error


@pytest.mark.parametrize('workers', (0, 1))
@pytest.mark.parametrize('error', (
    UnreadableClipError('The frame a/b.jpg is empty: extract it again.'), ValueError('a list\n  of two lines: no'),
    FileNotFoundError('clips/7.mp4 is gone')), ids=lambda error: type(error).__name__)
def test_what_is_wrong_with_data_is_told_in_one_line_with_or_without_workers(error, workers):
    with pytest.raises(LaunchError) as caught, data_errors():
        list(DataLoader(Broken(error), num_workers=workers))
    assert str(caught.value) == ' '.join(str(error).split())


@pytest.mark.parametrize('workers', (0, 1))
def test_faults_of_programs_are_not_hidden(workers):
    with pytest.raises(TypeError, match='an argument'), data_errors():
        list(DataLoader(Broken(TypeError('an argument too many')), num_workers=workers))


def test_what_is_already_clear_stays():
    clear = LaunchError('two\nlines')
    with pytest.raises(LaunchError) as caught, data_errors():
        raise clear
    assert caught.value is clear


def test_an_error_without_a_worker_keeps_its_words():
    assert told(ValueError('x\nValueError: y')) == 'x ValueError: y'
