"""Composite = stable + transient + residual at every point of the three surfaces."""
import numpy as np
import pytest
import torch

from lsef_plugins.nn import LSEF
from lsef_plugins.visualization.surfaces import CHANNELS, draw_surfaces, surfaces_of


@pytest.fixture(scope='module')
def parts():
    torch.manual_seed(0)
    x = torch.randn(40, 1, 6, 5) + torch.linspace(0, 1, 12).view(1, 12, 1, 1) * torch.randn(40, 1, 6, 5)
    x = x + .01 * torch.randn_like(x)
    x[3, 5:7, 2, :] += 4.                               # channel 3, frames 5 and 6, row 2
    with torch.no_grad():
        return LSEF(40, rank=2).decompose(x[None])


@pytest.mark.parametrize('pixels', [True, False])
def test_the_parts_add_up_at_every_point(parts, pixels):
    found = surfaces_of(parts, pixels)
    gone = surfaces_of(parts._replace(residual=torch.zeros_like(parts.residual)), pixels)
    assert found.composite.shape == ((12, 6) if pixels else (12, CHANNELS))
    # Without a residual the sum is exact, but for the mean over time, which is the composite's own.
    rest = gone.composite - gone.stable - gone.transient
    np.testing.assert_allclose(rest, 0, atol=1e-9)
    np.testing.assert_allclose(found.composite.mean(0), 0, atol=1e-9)


def test_a_flash_stands_where_it_was(parts):
    rows = np.abs(surfaces_of(parts, True).transient)
    assert np.unravel_index(rows.argmax(), rows.shape)[0] in (5, 6) and rows.argmax() % 6 == 2
    channels = surfaces_of(parts, False).transient
    t, p = np.unravel_index(np.abs(channels).argmax(), channels.shape)
    assert t in (5, 6) and p == CHANNELS - 1            # the strongest channel, ordered by its value there


def test_an_all_stable_clip_can_be_read_and_drawn():
    parts = LSEF(3, rank=2).decompose(torch.ones(1, 3, 8, 4, 4))
    for pixels in (True, False):
        found = surfaces_of(parts, pixels)
        assert not found.transient.any() and np.abs(found.composite).max() < 1e-4
        draw_surfaces(found, np.arange(8.), width=1200)


def test_a_flat_transient_gets_an_axis_of_its_own_and_says_so(parts):
    for factor, said in ((1., False), (1e-3, True)):
        found = surfaces_of(parts, True)
        figure = draw_surfaces(found._replace(transient=found.transient * factor), np.arange(12) / 25)
        words = [text.get_text() for axes in figure.axes for text in axes.texts]
        assert any('its own axis' in word for word in words) == said
        limits = [axes.get_zlim() for axes in figure.axes]
        assert limits[0] == limits[1] and (limits[2] != limits[0]) == said
        assert [axes.get_xlabel() for axes in figure.axes] == ['time in s'] * 3


def test_times_of_another_clip_are_refused(parts):
    with pytest.raises(ValueError, match='surfaces have 12 frames'):
        draw_surfaces(surfaces_of(parts, True), np.arange(11.))
    with pytest.raises(ValueError, match='width is 1199'):
        draw_surfaces(surfaces_of(parts, True), np.arange(12.), width=1199)
