"""Files are whole or not at all."""
import csv
import json

import numpy as np
import pytest

from lsef_plugins.visualization import Event, save_picture, write_csv
from lsef_plugins.visualization.writing import COLUMNS, for_json, whole_file


@pytest.fixture
def table():
    rng = np.random.default_rng(0)
    return {name: rng.random(6) for name in ('base', 'transient', 'residual', 'cross', 'frame', 'frame_gate')}


def test_rows_are_the_sampled_frames_and_numbers_survive(tmp_path, table):
    indices, times = np.arange(6) * 5, np.arange(6) * .2
    path = write_csv(tmp_path / 'new' / 'folder' / 'table.csv', table, indices, times, [Event(1, 1, 2), Event(4, 4, 4)])
    with open(path, newline='') as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS and len(rows) == 6
    assert [row['event'] for row in rows] == ['', '1', '1', '', '2', '']
    assert [int(row['frame']) for row in rows] == indices.tolist()
    for column, values in (('time_s', times), ('base_energy_ratio', table['base']), ('frame_gate', table['frame_gate']),
                           ('transient_energy_ratio', table['transient']),
                           ('residual_energy_ratio', table['residual'])):
        np.testing.assert_allclose([float(row[column]) for row in rows], values, rtol=1e-4, atol=1e-4)


def test_the_same_numbers_give_the_same_bytes(tmp_path, table):
    paths = [write_csv(tmp_path / name, table, range(6), np.arange(6.)) for name in ('a.csv', 'b.csv')]
    assert paths[0].read_bytes() == paths[1].read_bytes() and b'\r' not in paths[0].read_bytes()


def test_an_interrupted_write_leaves_the_old_file_and_nothing_else(tmp_path):
    target = tmp_path / 'table.csv'
    target.write_text('old')
    with pytest.raises(KeyboardInterrupt):
        with whole_file(target) as unfinished:
            unfinished.write_text('half')
            assert target.read_text() == 'old'
            raise KeyboardInterrupt
    assert target.read_text() == 'old' and list(tmp_path.iterdir()) == [target]
    with whole_file(target) as unfinished:
        unfinished.write_text('new')
    assert target.read_text() == 'new' and list(tmp_path.iterdir()) == [target]


def test_a_full_disk_while_a_picture_is_written_leaves_nothing(tmp_path):
    class Canvas:
        def print_png(self, file, metadata):
            file.write(b'half')
            raise OSError(28, 'No space left on device')
    figure = type('Figure', (), {'canvas': Canvas()})()
    with pytest.raises(OSError, match='No space left on device.*no half file is left.*a disk with room'):
        save_picture(figure, tmp_path / 'a.png')
    assert list(tmp_path.iterdir()) == []


def test_places_that_cannot_be_written_are_named(tmp_path, table):
    (tmp_path / 'file').write_text('')
    for place in (tmp_path / 'file' / 'table.csv', tmp_path):
        with pytest.raises(OSError, match='could not be written.*a folder you may write to'):
            write_csv(place, table, range(6), range(6))


def test_a_picture_that_is_no_png_and_rows_that_do_not_match_are_refused(tmp_path, table):
    with pytest.raises(ValueError, match=r'ends in \.png'):
        save_picture(None, tmp_path / 'a.jpg')
    with pytest.raises(ValueError, match=r'has 6 frames, but indices of shape \(5,\)'):
        write_csv(tmp_path / 'a.csv', table, range(5), range(6))


def test_metrics_of_all_kinds_are_json():
    import torch
    found = for_json({'a': np.float32(.5), 'b': torch.tensor(float('nan')), 3: [True, 7, 'word', None],
                      'm': torch.tensor([[1, 2], [3, 4]]), 'n': np.array([np.inf, 1.])})
    assert json.loads(json.dumps(found, allow_nan=False)) == {
        'a': .5, 'b': None, '3': [True, 7, 'word', None], 'm': [[1., 2.], [3., 4.]], 'n': [None, 1.]}
    assert type(for_json(np.float64(.5))) is float
