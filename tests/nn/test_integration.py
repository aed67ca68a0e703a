"""Laws of CIM: the formula, the identity at the start, and an event whose sign varies is seen."""
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lsef_plugins.functional import base_bands, transient_scales
from lsef_plugins.nn import ConsistencyIntegrationModule, TransientPart, default_hidden_channels

B, C, T, H, W = 2, 5, 7, 2, 3


def inputs(seed=0):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(B, C, T, H, W, generator=g)
    stable = torch.randn(B, C, T, H * W, generator=g)
    residual = torch.randn(B, C, T, H * W, generator=g)
    scale = 0.2 + 0.3 * torch.rand(B, C, 1, 1, generator=g)
    return x, stable, TransientPart(residual, residual, scale, 1.5 * scale)


def randomised(module):
    g = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for p in module.parameters():
            p.add_(0.3 * torch.randn(p.shape, generator=g))
    return module


def given(cim, x, stable, parts, *rest):
    """The arguments of forward: of the two parts those that the module merges."""
    return (x, None if cim.from_stable is None else stable, parts if cim.needs_transient else None, *rest)


def naive(cim, x, stable, parts, exponent):
    """The formula of the docstring, term by term and without grouped convolutions."""
    hidden = cim.gains.out_channels
    terms = []
    if cim.from_stable is not None:
        if cim.bands_of == 'restored':
            limit = math.inf if cim.influence_clip is None else cim.influence_clip
            stable = stable + parts.residual.sign() * torch.minimum(parts.residual.abs(), limit * parts.scale)
        half, mapped = cim.kernel // 2, torch.zeros(B, hidden, T, H * W)
        for k in range(cim.kernel):             # the frame k - half away, nothing beyond the ends
            for t in range(max(0, half - k), min(T, T + half - k)):
                mapped[:, :, t] += torch.einsum('mc,bcn->bmn', cim.from_stable.weight[:, :, k, 0, 0],
                                                stable[:, :, t + k - half])
        mapped = mapped + cim.from_stable.bias[:, None, None]
        terms += [torch.einsum('ts,bmsn->bmtn', band, mapped) for band in base_bands(T, cim.windows)]
    if cim.from_transient is not None:
        scales = list(transient_scales(parts.residual, parts.threshold, parts.scale, cim.windows, exponent,
                                       cim.influence_clip))
        bias = 0 if cim.from_transient.bias is None else cim.from_transient.bias[:, None, None]
        terms += [torch.einsum('mc,bctn->bmtn', cim.from_transient.weight.flatten(1), s) + bias for s in scales]
        terms += [torch.einsum('mc,bctn->bmtn', cim.from_magnitude.weight.flatten(1), s.abs()) for s in scales]
    gains = cim.gains.weight.view(hidden, len(terms))
    merged = sum(gains[:, i, None, None] * term for i, term in enumerate(terms))
    out = torch.einsum('cm,bmtn->bctn', cim.out.weight.flatten(1), F.gelu(merged))
    return x + out.view_as(x)


ARGUMENTS = [dict(), dict(windows=(1,)), dict(windows=(1, 5)), dict(hidden_channels=3), dict(influence_clip=None),
             dict(influence_clip=0.5), dict(stable=False), dict(transient=False), dict(bands_of='stable'),
             dict(bands_of='stable', kernel=1), dict(kernel=1), dict(kernel=1, influence_clip=0.5),
             dict(bands_of='restored', influence_clip=None, transient=False),
             dict(bands_of='restored', kernel=5, transient=False)]


@pytest.mark.parametrize('exponent', [1.0, 2.0, math.inf])
@pytest.mark.parametrize('options', ARGUMENTS, ids=str)
def test_the_output_is_the_formula(options, exponent):
    x, stable, parts = inputs()
    cim = randomised(ConsistencyIntegrationModule(C, **options))
    y = cim(*given(cim, x, stable, parts, exponent))
    torch.testing.assert_close(y, naive(cim, x, stable, parts, exponent), rtol=0, atol=2e-5)
    assert (y - x).abs().max() > 0.1


@pytest.mark.parametrize('options', ARGUMENTS, ids=str)
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_at_the_start_the_output_is_the_input_bit_for_bit(options, dtype):
    x, stable, parts = inputs()
    x = x.to(dtype)
    cim = ConsistencyIntegrationModule(C, **options).to(dtype)
    y = cim(*given(cim, x, stable, parts))
    assert y.dtype == dtype and torch.equal(y, x)


@pytest.mark.parametrize('options', ARGUMENTS, ids=str)
def test_every_parameter_learns_once_the_way_out_is_open(options):
    x, stable, parts = inputs()
    cim = ConsistencyIntegrationModule(C, **options)
    cim(*given(cim, x, stable, parts)).square().sum().backward()
    for name, p in cim.named_parameters():
        assert p.grad is not None, name
        assert (p.grad.abs().max() > 0) == (name == 'out.weight'), name
    cim.zero_grad()
    nn.init.normal_(cim.out.weight)
    cim(*given(cim, x, stable, parts)).square().sum().backward()
    for name, p in cim.named_parameters():
        assert p.grad.abs().max() > 0, name


def test_parameters_live_in_convolutions_only():
    """Optimizer constructors of the host silently skip parameters of any other leaf."""
    for module in ConsistencyIntegrationModule(C).modules():
        if list(module.parameters(recurse=False)):
            assert isinstance(module, nn.Conv3d) and not list(module.children())


def test_the_start_weighs_bands_fully_and_scales_evenly():
    cim = ConsistencyIntegrationModule(C, windows=(1, 3, 5, 7), hidden_channels=2, bands_of='stable')
    assert cim.gains.weight.view(2, 12).tolist() == [[1.0] * 4 + [0.25] * 8] * 2
    # Bands of weight one are the stable part itself: an average hides nothing at the start.
    x, stable, parts = inputs()
    nn.init.normal_(cim.out.weight)
    nn.init.zeros_(cim.from_transient.weight)
    nn.init.zeros_(cim.from_magnitude.weight)
    expected = x + cim.out(F.gelu(cim.from_stable(stable.view_as(x))))
    torch.testing.assert_close(cim(x, stable, parts), expected, rtol=0, atol=1e-5)


def hidden_of(cim, *args):
    caught = []
    handle = cim.gains.register_forward_hook(lambda module, inputs, output: caught.append(output.detach()))
    cim(*args)
    handle.remove()
    return caught[0]


@pytest.mark.parametrize('magnitude', [True, False])
def test_an_event_of_random_sign_is_seen_through_its_magnitude_only(magnitude):
    """Without |S| the merge is odd in the residual: over both signs the event averages to nothing."""
    x, stable, parts = inputs()
    cim = randomised(ConsistencyIntegrationModule(C))
    if not magnitude:
        nn.init.zeros_(cim.from_magnitude.weight)
    none, up, down = (hidden_of(cim, x, stable, parts._replace(residual=sign * parts.residual))
                      for sign in (0.0, 1.0, -1.0))
    seen = ((up + down) / 2 - none).abs().max().item()
    assert (seen > 0.1) if magnitude else (seen < 1e-5)
    assert (up - none).abs().max() > 0.1, 'while each sign alone is seen either way'


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_autocast_does_not_reach_the_time_scales(dtype):
    """Thresholds are compared in float32: what enters the merge is the same bit for bit."""
    x, stable, parts = inputs()
    cim = randomised(ConsistencyIntegrationModule(C))
    caught = []
    cim.from_transient.register_forward_pre_hook(lambda module, args: caught.append(args[0]))
    cim(x, stable, parts)
    with torch.autocast('cpu', dtype=dtype):
        cim(x, stable, parts)
    plain, cast = (torch.cat(half) for half in (caught[:len(caught) // 2], caught[len(caught) // 2:]))
    assert torch.equal(plain, cast) and len(cast) == 3 * len(x), 'all scales of all clips'


@pytest.mark.parametrize('options', [dict(), dict(kernel=1), dict(bands_of='stable')], ids=str)
def test_reversing_time_reverses_the_output_but_for_the_kernel_which_knows_before_from_after(options):
    x, stable, parts = inputs()
    cim = randomised(ConsistencyIntegrationModule(C, **options))
    y = cim(x, stable, parts)
    reversed_ = x.flip(2), stable.flip(2), parts._replace(residual=parts.residual.flip(2))
    assert torch.allclose(cim(*reversed_).flip(2), y, rtol=0, atol=1e-5) == (cim.kernel == 1)
    with torch.no_grad():
        cim.from_stable.weight.copy_(cim.from_stable.weight.flip(2))
    torch.testing.assert_close(cim(*reversed_).flip(2), y, rtol=0, atol=1e-5)


def test_a_threshold_on_frames_replaces_that_on_elements():
    x, stable, parts = inputs()
    cim = randomised(ConsistencyIntegrationModule(C, bands_of='stable'))
    never = parts._replace(frame_threshold=torch.full((B, 1, 1, 1), 1e3))
    silent = parts._replace(residual=0 * parts.residual)
    torch.testing.assert_close(cim(x, stable, never), cim(x, stable, silent), rtol=0, atol=1e-6)
    assert (cim(x, stable, parts) - cim(x, stable, silent)).abs().max() > 0.1


def test_one_frame_is_merged_without_neighbours():
    x, stable, parts = inputs()
    cim = randomised(ConsistencyIntegrationModule(C))
    one = cim(x[:, :, :1], stable[:, :, :1], parts._replace(residual=parts.residual[:, :, :1]))
    assert one.shape == (B, C, 1, H, W) and one.isfinite().all()


@pytest.mark.parametrize('channels, one, three', [(3, 8, 5), (64, 8, 5), (120, 15, 10), (256, 29, 19), (2048, 29, 19)])
def test_the_width_is_an_eighth_between_8_and_29_and_as_many_weights_with_a_kernel(channels, one, three):
    assert default_hidden_channels(channels, 1) == one and default_hidden_channels(channels) == three
    assert default_hidden_channels(channels, 999) == 1
    for kernel, hidden in ((None, three), (1, one), (3, three)):
        cim = ConsistencyIntegrationModule(channels, kernel=kernel)
        assert cim.gains.out_channels == hidden
        assert cim.out.weight.numel() == channels * hidden
        if channels >= 64:      # as many weights as four maps of width `one`, but for what is rounded down
            held = sum(p.numel() for p in cim.parameters()) - cim.gains.weight.numel()
            assert 0.93 * 4 * channels * one < held <= 4 * channels * one + one


def test_at_2048_channels_it_stays_under_one_per_cent_of_tsn_r50():
    assert sum(p.numel() for p in ConsistencyIntegrationModule(2048).parameters()) + 2048 < 0.01 * 24.33e6


@pytest.mark.parametrize('options, bands_of, kernel', [
    (dict(), 'restored', 3), (dict(transient=False), 'stable', 3), (dict(stable=False), 'stable', 1)], ids=str)
def test_what_is_not_said_follows_from_what_is_merged(options, bands_of, kernel):
    cim = ConsistencyIntegrationModule(C, **options)
    assert (cim.bands_of, cim.kernel) == (bands_of, kernel)


@pytest.mark.parametrize('options, message', [
    (dict(windows=(3, 5)), 'ascending from 1'), (dict(windows=(1, 4)), 'odd numbers of frames'),
    (dict(windows=()), r'for example \(1, 3, 5\)'), (dict(windows=3), r'for example \(1, 3, 5\); got 3'),
    (dict(stable=False, transient=False), 'CIM has nothing to merge'),
    (dict(influence_clip=0.0), 'standard deviations and positive, or None, got 0.0'),
    (dict(influence_clip=-4.0), 'got -4.0'), (dict(hidden_channels=0), 'width of the merge and at least 1, got 0')],
    ids=str)
def test_an_argument_out_of_its_range_is_refused_at_construction(options, message):
    with pytest.raises(ValueError, match=message):
        ConsistencyIntegrationModule(C, **options)


@pytest.mark.parametrize('options, missing', [(dict(), 'stable'), (dict(), 'parts'), (dict(stable=False), 'none'),
                                              (dict(transient=False), 'none')], ids=str)
def test_a_part_it_was_not_built_for_or_lacks_is_refused(options, missing):
    x, stable, parts = inputs()
    with pytest.raises(ValueError, match='just the parts it was built to merge'):
        ConsistencyIntegrationModule(C, **options)(x, None if missing == 'stable' else stable,
                                                   None if missing == 'parts' else parts)


def test_it_prints_its_arguments():
    assert 'windows=(1, 5), influence_clip=2.5' in repr(ConsistencyIntegrationModule(C, (1, 5), influence_clip=2.5))


@pytest.mark.parametrize('windows', [(1, ), (1, 3, 5)])
def test_limited_spikes_leave_nothing_of_a_flash_and_all_of_an_event(windows):
    """A flash stands alone in time, an event has neighbours; without the limit both are merged."""
    x = torch.zeros(1, C, T, 1, 2)
    one = torch.ones(1, C, 1, 1)

    def added(frames, **options):
        residual = torch.zeros(1, C, T, 2)
        residual[:, :2, frames] = 20
        torch.manual_seed(0)
        cim = randomised(ConsistencyIntegrationModule(C, windows, stable=False, **options))
        with torch.no_grad():
            quiet = cim(x, None, TransientPart(0 * residual, 0 * residual, one, one))
            return (cim(x, None, TransientPart(residual, residual, one, one)) - quiet).abs().max().item()

    assert added([3], limit_spikes=True) < 0.1 * added([3])
    assert added([3, 4], limit_spikes=True) == added([3, 4]) > 0.1
