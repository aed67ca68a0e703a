"""Laws of the numbers: shares that add up, events where they were planted."""
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from lsef_plugins.nn import LSEF
from lsef_plugins.visualization import base_directions, energy_table, event_threshold, find_events


@pytest.fixture
def clip():
    """Two clips (2, 3, 20, 12, 14): a picture that drifts slowly, with noise."""
    generator = torch.Generator().manual_seed(3)
    picture = torch.rand(2, 3, 1, 12, 14, generator=generator)
    drift = torch.rand(2, 3, 1, 12, 14, generator=generator) * torch.linspace(-1, 1, 20)[:, None, None]
    return picture + .2 * drift + .01 * torch.randn(2, 3, 20, 12, 14, generator=generator)


def decompose(x, **options):
    with torch.no_grad():
        return LSEF(x.shape[1], **options).decompose(x)


def test_the_three_parts_and_their_overlap_are_the_features_energy_whose_mean_is_one(clip):
    for k in range(2):
        table = energy_table(decompose(clip), clip=k)
        whole = clip[k].double().square().sum((0, 2, 3)).numpy()
        np.testing.assert_allclose(table['frame'], whole / whole.mean(), rtol=1e-5)
        np.testing.assert_allclose(sum(table[name] for name in ('base', 'transient', 'residual', 'cross')),
                                   table['frame'], rtol=1e-9)
        assert table['frame'].mean() == pytest.approx(1, abs=1e-9)
        assert table['base'].mean() > .99 > 100 * table['residual'].mean()


def test_energies_do_not_care_for_the_scale_of_the_features(clip):
    ones, larger = energy_table(decompose(clip)), energy_table(decompose(1024 * clip))
    for name in ones:
        np.testing.assert_allclose(larger[name], ones[name], rtol=1e-6, atol=1e-12)


def test_a_constant_clip_is_all_base_and_has_no_event(clip):
    table = energy_table(decompose(clip[:, :, :1].repeat(1, 1, 12, 1, 1)))
    np.testing.assert_allclose(table['base'], 1, rtol=1e-5)
    assert table['transient'].max() < 1e-9 and find_events(table['transient'], table['residual']) == []


def test_an_empty_screen_divides_by_nothing():
    table = energy_table(decompose(torch.zeros(1, 3, 8, 4, 4)))
    assert all(np.array_equal(values, np.zeros(8)) for values in table.values())


@pytest.mark.parametrize('frame', [0, 4, 11, 19])
def test_a_flash_is_an_event_at_its_own_frame_and_nowhere_else(clip, frame):
    clip[0, :, frame, 2:4, 3:5] += .12
    table = energy_table(decompose(clip))
    events = find_events(table['transient'], table['residual'])
    assert [tuple(event) for event in events] == [(frame, frame, frame)]
    table = energy_table(decompose(clip), clip=1)
    assert find_events(table['transient'], table['residual']) == []


def test_an_event_has_the_first_the_strongest_and_the_last_loud_frame():
    energy = np.full(30, 4e-4)
    energy[7:12] = [4e-2, 6e-2, 9e-2, 5e-2, 3e-2]
    energy[[20, 22, 25]] = 5e-2             # 21 is one quiet frame inside, 23 and 24 are two
    assert [tuple(event) for event in find_events(energy)] == [(7, 9, 11), (20, 20, 22), (25, 25, 25)]
    assert np.sqrt(energy[7:12]).min() > event_threshold(energy) > np.sqrt(energy[0])


def test_a_higher_kappa_never_finds_more_loud_frames():
    energy = np.random.default_rng(0).gamma(.5, 1e-3, 60)
    loud = [sum(event.offset - event.onset + 1 for event in find_events(energy, kappa=kappa))
            for kappa in (.5, 2, 5, 50)]
    assert loud[0] > loud[1] > loud[2] >= loud[3] == 0


def test_restless_and_silent_clips_have_no_event():
    rng = np.random.default_rng(1)
    assert find_events((.1 * (1 + .1 * rng.standard_normal(50))) ** 2) == []
    assert find_events(np.full(9, 1e-9)) == [] and find_events(np.zeros(0)) == []
    silent = np.zeros(9)
    silent[4] = 1e-8            # a ten-thousandth of the picture
    assert find_events(silent) == []


def test_noise_alone_has_no_event():
    generator = torch.Generator().manual_seed(0)
    for channels, frames, height, width in ((3, 20, 9, 7), (3, 32, 12, 16), (64, 16, 7, 7)):
        picture = torch.rand(10, channels, 1, height, width, generator=generator)
        noise = torch.randn(10, channels, frames, height, width, generator=generator)
        parts = decompose(picture + .02 * noise, rank=frames // 4)
        tables = [energy_table(parts, clip) for clip in range(10)]
        assert not any(find_events(table['transient'], table['residual']) for table in tables)
        assert channels > 3 or any(find_events(table['transient']) for table in tables)     # what the residual is for


def test_base_directions_are_the_planted_course_of_the_base():
    rng = np.random.default_rng(2)
    course = np.stack([np.linspace(-1, 1, 16), np.cos(np.linspace(0, 2 * np.pi, 16, endpoint=False))])
    course -= course.mean(1, keepdims=True)
    course[1] -= course[0] * (course[1] @ course[0]) / (course[0] @ course[0])
    pictures = np.linalg.qr(rng.standard_normal((60, 3)))[0].T
    rows = 5 * pictures[0] + np.outer(course[0], pictures[1]) + .5 * np.outer(course[1], pictures[2])
    stable = torch.from_numpy(rows).view(1, 1, 16, 6, 10)
    none = torch.zeros_like(stable)
    base = base_directions(SimpleNamespace(stable=stable, transient=none, residual=none, frame_gate=torch.zeros(1, 16)))
    rms = np.sqrt((rows ** 2).sum() / 16)
    assert base['curves'].shape == (2, 16)      # no third direction exists
    for curve, planted in zip(base['curves'], (course[0], .5 * course[1])):
        np.testing.assert_allclose(curve * np.sign(curve @ planted), planted / rms, atol=1e-9)
        assert curve[np.abs(curve).argmax()] > 0
    weights = np.array([(course[0] ** 2).sum(), .25 * (course[1] ** 2).sum()])
    np.testing.assert_allclose(base['share'], weights / weights.sum(), rtol=1e-9)


def test_parts_of_different_grids_are_refused(clip):
    parts = decompose(clip)
    with pytest.raises(ValueError, match=r'one grid \(b, c, t, h, w\).*decompose'):
        energy_table(parts._replace(residual=parts.residual[:, :, :5]))
    with pytest.raises(ValueError, match=r'\(b, t\) = \(2, 20\), got \(2, 7\)'):
        energy_table(parts._replace(frame_gate=parts.frame_gate[:, :7]))
    with pytest.raises(ValueError, match='no clip 2 in a batch of 2'):
        energy_table(parts, clip=2)


def test_energies_and_kappa_out_of_range_are_refused():
    with pytest.raises(ValueError, match='finite and not negative'):
        find_events([.1, float('nan')])
    with pytest.raises(ValueError, match=r"energy_table\(parts\)\['transient'\]"):
        find_events(np.zeros((2, 3)))
    with pytest.raises(ValueError, match='kappa counts robust'):
        event_threshold([.1, .2], kappa=0)
