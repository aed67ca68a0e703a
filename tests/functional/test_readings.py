"""Readings of a decomposition: equal to their formulas on planted parts, blind to the features' scale."""
import pytest
import torch

from lsef_plugins.functional.readings import (
    energy_ratios,
    frame_energies,
    gate_ratio,
    stable_rank,
    temporal_factors,
    threshold_readings,
)
from lsef_plugins.nn import LSEF


def mean(reading):
    total, count = reading
    return float(total) / float(count)


@pytest.fixture
def clips():
    return torch.randn(3, 5, 9, 4, generator=torch.Generator().manual_seed(0))


def test_energies_are_shares_of_each_clip_and_a_missing_part_has_none(clips):
    stable, transient = .5 * clips, .25 * clips
    found = energy_ratios(clips, stable, transient)
    assert {name: round(mean(each), 5) for name, each in found.items()} == dict(
        stable_ratio=.25, transient_ratio=.0625, residual_ratio=.0625)
    alone = energy_ratios(clips, stable, None)
    assert mean(alone['transient_ratio']) == 0 and mean(alone['residual_ratio']) == pytest.approx(.25)
    assert mean(energy_ratios(clips, None, None)['residual_ratio']) == pytest.approx(1)


def test_a_clip_without_energy_counts_nowhere(clips):
    with_silence = torch.cat([clips, torch.zeros(2, 5, 9, 4)])
    for name, (total, count) in energy_ratios(with_silence, .5 * with_silence, None).items():
        assert count == 3 and total == energy_ratios(clips, .5 * clips, None)[name][0]
    eye = torch.eye(9, dtype=torch.float64).expand(5, 9, 9)
    gram = torch.einsum('bctn,bcsn->bts', with_silence.double(), with_silence.double())
    assert stable_rank(eye, gram)[1] == 3


def test_rank_is_that_of_the_stable_part():
    curves, _ = torch.linalg.qr(torch.randn(9, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1)))
    eye = torch.eye(9, dtype=torch.float64)[None]
    for energies, rank in (((1., 1.), 2.), ((1., 0.), 1.), ((3., 1.), 1.6)):
        gram = (curves * torch.tensor(energies, dtype=torch.float64)) @ curves.T
        assert mean(stable_rank(eye, gram[None])) == pytest.approx(rank)
        # The operator takes its part: with half of everything the rank is the same, with one curve it is one.
        assert mean(stable_rank(eye / 2, gram[None])) == pytest.approx(rank)
        assert mean(stable_rank((curves[:, :1] @ curves[:, :1].T)[None], gram[None])) == pytest.approx(1)


def test_thresholds_are_told_against_the_channel_and_channels_at_the_floor_are_counted():
    x = torch.zeros(2, 4, 8, 3)
    x[:, 0], x[:, 1], x[0, 2] = 2., 10., 1.                 # channel 2 is silent in clip 1, channel 3 in both
    scale = torch.tensor([[.4, .01, .5, 0.], [.002, .01, 0., 0.]])[..., None, None]
    found = threshold_readings(x, scale, 3 * scale)
    assert found['floor_ratio'][1] == 5 and found['floor_ratio'][0] == 3
    expected = 3 * (.2 + .001 + .5 + .001 + .001) / 5
    assert mean(found['threshold_ratio']) == pytest.approx(expected)


def test_gates_are_averaged_over_all_frames():
    assert mean(gate_ratio(torch.tensor([[0., 1., .5, .5], [0., 0., 0., 0.]]))) == pytest.approx(.25)


@pytest.mark.parametrize('factor', [2.0 ** -30, 7.0, 2.0 ** 30])
def test_nothing_depends_on_the_scale_of_the_features(clips, factor):
    lsef = LSEF(5)

    def readings(x):
        parts = lsef.decompose(x[..., None])
        flat = parts.stable.flatten(3), parts.transient.flatten(3)
        scales = parts.scale[..., None, None], parts.threshold[..., None, None]
        found = {**energy_ratios(x, *flat), **threshold_readings(x, *scales)}
        return [mean(each) for each in found.values()] + [mean(stable_rank(parts.operator, parts.gram))]

    assert readings(factor * clips) == pytest.approx(readings(clips), rel=1e-4)


def test_temporal_factors_span_the_stable_part_and_carry_its_energy(clips):
    parts = LSEF(5, rank=2).decompose(clips[..., None])
    factors = temporal_factors(parts.operator, parts.gram, 2)
    rows = parts.stable.transpose(1, 2).flatten(2).double()                   # (b, t, c n)
    left = torch.linalg.svd(rows)[0][..., :2]
    basis = torch.linalg.qr(factors)[0]
    assert torch.allclose(basis @ basis.mT, left @ left.mT, atol=1e-4)
    frame = clips.double().square().sum((1, 3)).mean(1)
    assert torch.allclose(factors.square().sum((1, 2)) * frame, rows.square().sum((1, 2)), rtol=1e-5)
    assert torch.allclose(factors.square().sum(2) * frame[:, None], frame_energies(parts.stable.flatten(3)), rtol=1e-4)
    silent = temporal_factors(parts.operator, torch.zeros_like(parts.gram), 2)
    assert torch.equal(silent, torch.zeros_like(silent))
