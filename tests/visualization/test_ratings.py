"""Curves of valence and arousal: both files say the same, in the order of time, with gaps where nothing is known."""
import csv

import numpy as np
import pytest

from lsef_plugins.visualization import draw_ratings, save_picture, write_ratings

FRAMES = np.array([0, 1, 2, 3, 20, 21, 22])
RNG = np.random.default_rng(0)
PREDICTED, TRUTH = RNG.uniform(-1, 1, (7, 2)), RNG.uniform(-1, 1, (7, 2))
TRUTH[2] = np.nan


def lines_of(figure, panel):
    return {line.get_label(): np.array(line.get_data()) for line in figure.axes[panel].lines
            if not line.get_label().startswith('_')}


def test_each_panel_shows_its_dimension_with_gaps_where_frames_are_missing():
    figure = draw_ratings(FRAMES, PREDICTED, TRUTH, fps=25)
    for panel in (0, 1):
        found = lines_of(figure, panel)
        times, values = found['predicted']
        known = ~np.isnan(times)
        assert np.flatnonzero(~known).tolist() == [4], 'no line is drawn from frame 3 to frame 20'
        np.testing.assert_allclose(times[known], FRAMES / 25)
        np.testing.assert_array_equal(values[known], PREDICTED[:, panel])
        np.testing.assert_array_equal(found['true'][1][known], TRUTH[:, panel])
        assert figure.axes[panel].get_ylim() == (-1.05, 1.05)
    assert [axes.get_ylabel() for axes in figure.axes] == ['Valence', 'Arousal']
    assert set(lines_of(draw_ratings(FRAMES, PREDICTED), 0)) == {'predicted'}


def test_the_same_numbers_give_the_same_bytes(tmp_path):
    paths = [save_picture(draw_ratings(FRAMES, PREDICTED, TRUTH), tmp_path / f'{i}.png') for i in range(2)]
    assert paths[0].read_bytes() == paths[1].read_bytes()
    import cv2
    picture = cv2.imread(str(paths[0]))
    assert picture.shape == (520, 1200, 3) and len(np.unique(picture.reshape(-1, 3), axis=0)) > 20


def test_the_table_reads_back(tmp_path):
    path = write_ratings(tmp_path / 'deep' / 'v.csv', FRAMES, PREDICTED, TRUTH)
    rows = list(csv.DictReader(path.read_text().splitlines()))
    assert [int(row['frame']) for row in rows] == FRAMES.tolist()
    for column, name in enumerate(('valence', 'arousal')):
        np.testing.assert_allclose([float(row[f'{name}_predicted']) for row in rows], PREDICTED[:, column], atol=1e-6)
        assert [row[f'{name}_true'] == '' for row in rows] == np.isnan(TRUTH[:, column]).tolist()
        assert float(rows[5][f'{name}_true']) == pytest.approx(TRUTH[5, column], abs=1e-6)
    bare = write_ratings(tmp_path / 'bare.csv', FRAMES, PREDICTED)
    assert {row['valence_true'] for row in csv.DictReader(bare.read_text().splitlines())} == {''}


def test_what_does_not_belong_together_is_told(tmp_path):
    with pytest.raises(ValueError, match=r'frames \(7,\) are the numbers.*got \(7, 2\), \(6, 2\)'):
        draw_ratings(FRAMES, PREDICTED, TRUTH[:6])
    with pytest.raises(ValueError, match='order of time'):
        write_ratings(tmp_path / 'x.csv', FRAMES[::-1], PREDICTED)
    with pytest.raises(ValueError, match='at least 600 pixels and fps positive'):
        draw_ratings(FRAMES, PREDICTED, fps=0)
    assert not list(tmp_path.iterdir())
