"""Laws of the linear maps over time."""
import math

import pytest
import torch

from lsef_plugins.functional import base_bands, check_windows, dct_basis, moving_average, neighbour_predictor

FRAMES = (1, 2, 3, 5, 8, 13)
WINDOWS = [(1,), (1, 3), (1, 3, 5), (1, 5, 9, 31)]


@pytest.mark.parametrize('frames', FRAMES)
@pytest.mark.parametrize('window', [1, 3, 5, 31])
def test_the_moving_average_averages_the_frames_that_exist(frames, window):
    x = torch.randn(frames, 3, generator=torch.Generator().manual_seed(frames), dtype=torch.float64)
    expected = torch.stack([x[max(0, t - window // 2):t + window // 2 + 1].mean(0) for t in range(frames)])
    average = moving_average(frames, window, torch.float64)
    torch.testing.assert_close(average @ x, expected, rtol=0, atol=1e-14)
    torch.testing.assert_close((average @ x.flip(0)).flip(0), expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize('windows', WINDOWS)
@pytest.mark.parametrize('frames', FRAMES)
def test_the_bands_sum_to_the_identity(frames, windows):
    bands = base_bands(frames, windows, torch.float64)
    assert bands.shape == (len(windows), frames, frames)
    torch.testing.assert_close(bands.sum(0), torch.eye(frames, dtype=torch.float64), rtol=0, atol=1e-15)


@pytest.mark.parametrize('windows', WINDOWS)
def test_the_bands_go_from_fine_to_coarse(windows):
    """A constant lies in the last band alone; a one-frame flash mostly in the first."""
    bands = base_bands(13, windows, torch.float64)
    constant = bands.sum(-1)
    torch.testing.assert_close(constant[:-1], torch.zeros_like(constant[:-1]), rtol=0, atol=1e-15)
    torch.testing.assert_close(constant[-1], torch.ones_like(constant[-1]), rtol=0, atol=1e-15)
    centre = bands[:, 6, 6]
    assert centre[0] == centre.max()


@pytest.mark.parametrize('build', [lambda: moving_average(1, 5), lambda: base_bands(1, (1, 3, 5)).sum(0),
                                   lambda: dct_basis(1, 1)])
def test_one_frame_is_its_own_average(build):
    assert build().tolist() == [[1.0]]


@pytest.mark.parametrize('window', [0, -3, 4])
def test_an_average_without_a_centre_is_refused(window):
    with pytest.raises(ValueError, match=f'odd window >= 1 .in frames., got {window}'):
        moving_average(8, window)


@pytest.mark.parametrize('windows', [(), (3, 5), (1, 5, 3), (1, 1), (1, 4), (1, 3, 3), (1, 3.5), 5, '135'])
def test_windows_that_cannot_sum_to_the_identity_are_refused(windows):
    with pytest.raises(ValueError, match=r'ascending from 1 .*for example \(1, 3, 5\)'):
        check_windows(windows)
    with pytest.raises(ValueError, match='ascending from 1'):
        base_bands(8, windows)


@pytest.mark.parametrize('frames, size', [(1, 1), (8, 8), (9, 4), (16, 3)])
def test_the_cosines_are_orthonormal_and_the_slowest(frames, size):
    basis = dct_basis(frames, size)
    torch.testing.assert_close(basis.T @ basis, torch.eye(size, dtype=torch.float64), rtol=0, atol=1e-14)
    sign_changes = (basis[1:].sign() * basis[:-1].sign() < 0).sum(0)
    assert sign_changes.tolist() == list(range(size))
    # Reversing time changes nothing but signs: the space of slow curves is the same.
    torch.testing.assert_close(basis.flip(0) @ basis.flip(0).T, basis @ basis.T, rtol=0, atol=1e-14)


def test_the_neighbour_predictor_is_its_formula():
    weights = torch.rand(2, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    predictor = neighbour_predictor(weights, 1.7)
    for b in range(2):
        for t in range(6):
            row = [0.0 if s == t else math.exp(-(t - s) ** 2 / (2 * 1.7 ** 2)) * weights[b, s].item()
                   for s in range(6)]
            expected = torch.tensor(row, dtype=torch.float64) / sum(row)
            torch.testing.assert_close(predictor[b, t], expected, rtol=1e-13, atol=0)


@pytest.mark.parametrize('bandwidth', [1e-3, 0.1, 2.0, 100.0])
def test_the_neighbour_predictor_averages_the_others_at_any_bandwidth(bandwidth):
    """Rows sum to 1 although the kernel of far neighbours underflows."""
    predictor = neighbour_predictor(torch.full((1, 9), 1 / 9, dtype=torch.float64), bandwidth)
    torch.testing.assert_close(predictor.sum(-1), torch.ones(1, 9, dtype=torch.float64), rtol=1e-12, atol=0)
    assert predictor.diagonal(dim1=1, dim2=2).abs().max() == 0
    torch.testing.assert_close(predictor.flip(1, 2), predictor, rtol=0, atol=1e-14)
