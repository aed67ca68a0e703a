"""Mean, maximum and deviation, of the means over space."""
import numpy as np
import torch
from mmaction.registry import MODELS
from mmengine.registry import init_default_scope

import lsef_plugins  # noqa: F401
from lsef_plugins.engine.neck_study import statistics_head


def test_the_statistics_are_numpys():
    x = torch.randn(2, 5, 7, 2, 3, generator=torch.Generator().manual_seed(0))
    z = x.numpy().mean((3, 4))
    expected = np.concatenate([z.mean(2), z.max(2), z.std(2)], 1)
    assert np.allclose(statistics_head.statistics(x).numpy(), expected, atol=1e-6)


def test_over_their_size_they_do_not_know_the_scale():
    init_default_scope('mmaction')
    head = MODELS.build(dict(type='MeanMaxDeviationHead', num_classes=7, in_channels=5, over_size=True)).eval()
    head.init_weights()
    x = torch.randn(2, 5, 7, 2, 3)
    assert torch.allclose(head(9 * x), head(x), atol=1e-5)
    vector = statistics_head.statistics(x)
    expected = head.fc_cls(vector / vector.square().mean(1, keepdim=True).sqrt())
    assert torch.allclose(head(x), expected, atol=1e-5)


def test_a_constant_clip_has_a_gradient():
    x = torch.ones(1, 3, 4, 2, 2, requires_grad=True)
    found = statistics_head.statistics(x)
    found.sum().backward()
    assert x.grad.isfinite().all() and found[0, 6:].max() < 0.002


def test_the_order_of_the_frames_does_not_matter_and_an_event_does():
    init_default_scope('mmaction')
    torch.manual_seed(0)
    head = MODELS.build(dict(type='MeanMaxDeviationHead', num_classes=7, in_channels=5)).eval()
    head.init_weights()
    x = torch.randn(2, 5, 7, 2, 3)
    order = torch.randperm(7)
    assert head(x, num_segs=1).shape == (2, 7) and torch.allclose(head(x), head(x[:, :, order]), atol=1e-5)
    event = x - 0.5
    event[:, :, 3] += 3.5                           # the same mean
    assert torch.allclose(event.mean(2), x.mean(2), atol=1e-5) and not torch.allclose(head(event), head(x), atol=1e-3)


def excursion_head(**options):
    init_default_scope('mmaction')
    torch.manual_seed(0)
    head = MODELS.build(dict(dict(type='MeanExcursionHead', num_classes=7, in_channels=5), **options)).eval()
    head.init_weights()
    return head


def test_the_excursion_head_reads_what_its_formulas_say():
    x = torch.randn(2, 5, 7, 2, 3, generator=torch.Generator().manual_seed(0)) + 1
    head = excursion_head(windows=(1, 3))
    unit = x.mean(2).square().mean((1, 2, 3)).sqrt()[:, None]
    z = x.mean((3, 4)).numpy()
    d = (z - z.mean(2, keepdims=True)) / unit[..., None].numpy()
    slow = np.stack([d[..., max(t - 1, 0):t + 2].mean(2) for t in range(7)], 2)
    moved = np.concatenate([d.max(2), -d.min(2), slow.max(2), -slow.min(2), np.sqrt((d ** 2).mean(2))], 1)
    moved = moved / np.sqrt((moved ** 2).mean(1, keepdims=True) + 0.3 ** 2)
    vector = np.concatenate([z.mean(2) / unit.numpy(), moved], 1)
    assert torch.allclose(head(x), head.fc_cls(torch.from_numpy(vector)), atol=1e-5)
    assert torch.allclose(head(1e3 * x), head(x), atol=1e-5) and torch.allclose(head(x.flip(2)), head(x), atol=1e-5)


def test_it_reads_as_many_numbers_as_lsefhead_and_the_same_where_nothing_is_to_be_separated():
    """A steady clip with one small event: SEM's base is then near the mean."""
    x = torch.randn(2, 5, 1, 4, 4, generator=torch.Generator().manual_seed(0)) + 1
    x = x.repeat(1, 1, 16, 1, 1)
    x[:, 2, 8] += 0.5
    plain = excursion_head()
    ours = MODELS.build(dict(type='LSEFHead', num_classes=7, in_channels=5)).eval()
    ours.load_state_dict(plain.state_dict())
    assert (ours(x) - plain(x)).abs().max() < 0.15 * plain(x).abs().max()


def test_a_silent_clip_has_a_gradient():
    x = torch.zeros(2, 5, 7, 2, 3, requires_grad=True)
    excursion_head()(x).sum().backward()
    assert x.grad.isfinite().all()
