"""Of overlapping clips each frame is told once, by the clip in which it is most central."""
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from lsef_plugins.visualization.whole_clip import whole_clip


def parts_of(values):
    """A decomposition ``(b, 1, t, 1, 1)`` whose transient's square is ``values`` ``(b, t)``."""
    transient = torch.tensor(values, dtype=torch.float64).sqrt()[:, None, :, None, None]
    return SimpleNamespace(stable=torch.ones_like(transient), transient=transient,
                           residual=torch.zeros_like(transient), frame_gate=torch.tensor(values) / 100.)


def test_the_most_central_occurrence_of_a_frame_counts():
    indices = np.array([0, 2, 4, 6, 4, 6, 8, 10])               # 4: last but one of the first clip, first of the second
    found = whole_clip(indices, 2., 2, parts_of([[1., 2., 3., 4.], [5., 6., 7., 8.]]))
    assert found.indices.tolist() == [0, 2, 4, 6, 8, 10] and found.times.tolist() == [0, 1, 2, 3, 4, 5]
    np.testing.assert_allclose(found.squares['transient'], [1, 2, 3, 6, 7, 8], rtol=1e-12)
    np.testing.assert_allclose(found.frame_gate, np.array([1, 2, 3, 6, 7, 8]) / 100, rtol=1e-6)
    assert len(found.windows) == 1 and found.window.tolist() == [0] * 6


def test_maps_of_fewer_frames_are_held_within_their_clip():
    found = whole_clip(np.arange(8), 1., 2, parts_of([[1., 2.], [3., 4.]]), ratings=np.array([[.1, .2], [.3, .4]]))
    np.testing.assert_allclose(found.squares['transient'], [1, 1, 2, 2, 3, 3, 4, 4], rtol=1e-12)
    np.testing.assert_allclose(found.ratings[:, 0], [.1] * 4 + [.3] * 4)


def test_a_rating_of_the_clip_is_that_of_each_frame_and_nothing_is_decomposed_without_parts():
    found = whole_clip(np.arange(3), 1., 1, ratings=np.array([.1, -.2]), probabilities=np.array([.3, .7]))
    assert found.ratings.tolist() == [[.1, -.2]] * 3 and found.probabilities.tolist() == [[.3, .7]]
    assert not found.decomposed


def test_what_is_not_finite_is_told():
    with pytest.raises(ValueError, match='ratings is not finite there. Look at the weights'):
        whole_clip(np.arange(3), 1., 1, ratings=np.array([np.nan, 0]))
