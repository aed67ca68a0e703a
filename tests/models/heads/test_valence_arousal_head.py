"""ValenceArousalHead in place of the host's heads: bounded floats, averaged as numbers, for clips and for frames."""
import copy

import pytest
import torch
from mmaction.structures import ActionDataSample
from torch import nn

from lsef_plugins.models import SitedNeck
from lsef_plugins.nn import DecompositionPooling
from lsef_plugins.registry import MODELS

NECK = dict(type='LSEFNeck')
FAMILIES = ['slowonly', 'slowfast', 'tpn-slowonly', 'tsn', 'tsm', 'swin', 'mvit', 'c3d', 'timesformer-divided',
            'videomae', 'uniformerv2', 'stgcn', 'audio']
FRAMES = 6


def with_head(make_family, name, **options):
    family = make_family(name)
    stock = family.config.cls_head
    kept = {key: stock[key] for key in ('in_channels', 'num_segments') if key in stock}
    family.config.cls_head = {'type': 'ValenceArousalHead', **kept, **options}
    return family


def rated(samples, frames=None, seed=0):
    """Data samples with ratings; the first rating of all is invalid."""
    generator = torch.Generator().manual_seed(seed)
    for index, sample in enumerate(samples):
        rating = torch.rand(*([] if frames is None else [frames]), 2, generator=generator) * 2 - 1
        if index == 0:
            rating.view(-1)[0] = float('nan')
        sample.set_field(rating, 'gt_valence_arousal')
    return samples


def predict(model, data):
    import numpy as np
    np.random.seed(0)
    with torch.no_grad():
        found = model.eval()(**copy.deepcopy(data), mode='predict')
    return torch.stack([sample.pred_valence_arousal for sample in found])


def spread(model, data):
    """Weights of which the ratings are of the order of one half, whatever the scale of random features."""
    linear, seen = model.cls_head.fc_cls, []
    hook = linear.register_forward_hook(lambda module, args, output: seen.append(output.abs().max()))
    nn.init.normal_(linear.weight, std=.3)
    predict(model, data)
    hook.remove()
    with torch.no_grad():
        linear.weight.div_(seen[0])


@pytest.mark.parametrize('frames', [None, FRAMES])
@pytest.mark.parametrize('name', FAMILIES)
def test_in_every_layout_it_rates_learns_and_copies(name, frames, make_family):
    family = with_head(make_family, name, num_frames=frames)
    model = family.build()
    data = family.batch(model)
    spread(model, data)
    ratings = predict(model, data)
    assert ratings.shape == ((2, 2) if frames is None else (2, frames, 2)) and ratings.dtype == torch.float32
    assert (ratings.abs() < 1).all() and (ratings[0] - ratings[1]).abs().max() > 1e-6, 'clips differ'
    assert torch.equal(predict(copy.deepcopy(model), data), ratings)
    model.train()
    data = family.batch(model, training=True)
    rated(data['data_samples'], frames)
    losses = model(**data, mode='loss')
    assert set(losses) >= {'loss_cls', 'ccc_batch_valence', 'ccc_batch_arousal'}
    total, _ = model.parse_losses(losses)
    total.backward()
    # DDP without find_unused_parameters: a gradient for each from the first step on.
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.cls_head.parameters())
    assert model.cls_head.fc_cls.weight.grad.abs().sum() > 0 and not model.cls_head._heard


@pytest.mark.parametrize('name', ['slowonly', 'tsn', 'tpn-slowonly', 'c3d', 'videomae', 'mvit', 'slowfast'])
def test_with_the_mean_it_reads_what_a_stock_head_reads(name, make_family):
    """The same linear layer in the host's head and in ours: ratings are tanh of its scores."""
    family = make_family(name)
    family.config.cls_head.num_classes = 2
    family.config.cls_head.average_clips = None
    stock = family.build()
    ours = with_head(make_family, name).build()
    linear = [module for module in stock.cls_head.modules() if isinstance(module, nn.Linear)]
    linear = linear[-1]
    spread(ours, family.batch(ours))
    with torch.no_grad():
        linear.weight.copy_(ours.cls_head.fc_cls.weight / 3), linear.bias.normal_()
        weight = linear.weight.roll(2048, 1) if name == 'slowfast' else linear.weight   # the host: fast before slow
        ours.cls_head.fc_cls.weight.copy_(weight), ours.cls_head.fc_cls.bias.copy_(linear.bias)
    ours.load_state_dict({key: value for key, value in stock.state_dict().items() if not key.startswith('cls_head')},
                         strict=False)
    data = family.batch(stock)
    with torch.no_grad():
        scores = torch.stack([s.pred_score for s in stock.eval()(**copy.deepcopy(data), mode='predict')])
    expected = scores.flatten(1, -2).tanh().mean(1)
    torch.testing.assert_close(predict(ours, data), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('name, channels, plain', [('slowonly', 128, 0), ('slowfast', 2304, 0), ('videomae', 32, 32),
                                                   ('c3d', 512, 4096), ('mvit', 64, 64), ('tpn-slowonly', 3072, 2048)])
def test_its_layer_is_that_of_what_it_reads(name, channels, plain, make_family):
    size = {kind: with_head(make_family, name, **options).build().cls_head.fc_cls.in_features for kind, options in
            dict(mean=dict(), frames=dict(num_frames=4), read=dict(decomposition=dict()),
                 both=dict(decomposition=dict(read=('stable', )), num_frames=4)).items()}
    assert size == dict(mean=plain or channels, frames=plain + channels, read=plain + 6 * channels,
                        both=plain + 2 * channels)


def test_a_mean_does_not_listen_in_the_backbone_and_a_place_of_the_users_own_is_read(make_family):
    model = with_head(make_family, 'videomae').build()
    assert not model.backbone.blocks[1]._forward_hooks and not model._forward_hooks
    assert model.cls_head.eval()(torch.randn(3, 32)).shape == (3, 2), 'no pass of the backbone is needed'
    assert with_head(make_family, 'videomae', num_frames=2).build().backbone.blocks[1]._forward_hooks
    site = dict(module='backbone.layer3', side='out', layout='b c t h w', channels=64)
    family = with_head(make_family, 'slowonly', site=site)
    model = family.build()
    head, read = model.cls_head.eval(), {}
    assert head.fc_cls.in_features == 128 + 64
    model.backbone.layer3.register_forward_hook(lambda module, args, output: read.update(maps=output))
    head.register_forward_pre_hook(lambda module, args: read.update(entered=args[0]))
    head.fc_cls.register_forward_pre_hook(lambda module, args: read.update(vector=args[0]))
    predict(model, family.batch(model))
    torch.testing.assert_close(read['vector'], torch.cat([read['entered'].mean((2, 3, 4)),
                                                          read['maps'].mean((2, 3, 4))], 1))


def maps(b=4, t=6, seed=0):
    return torch.randn(b, 5, t, 3, 2, generator=torch.Generator().manual_seed(seed))


def build(**options):
    torch.manual_seed(0)
    head = MODELS.build(dict(type='ValenceArousalHead', in_channels=5, **options))
    nn.init.normal_(head.fc_cls.weight, std=.5)
    return head.eval()


def samples(n, *shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    out = []
    for _ in range(n):
        out.append(ActionDataSample())
        if shape != (None, ):
            out[-1].set_field(torch.rand(*shape, 2, generator=generator) * 2 - 1, 'gt_valence_arousal')
    return out


def test_a_clip_is_one_linear_layer_over_its_mean_or_over_the_readings():
    head = build()
    expected = nn.functional.linear(maps().mean((2, 3, 4)), head.fc_cls.weight, head.fc_cls.bias).tanh()
    torch.testing.assert_close(head(maps()), expected)
    head = build(decomposition=dict(rank=1, windows=(1, 3)))
    read = DecompositionPooling(5, rank=1, windows=(1, 3))(maps())
    torch.testing.assert_close(head(maps()),
                               nn.functional.linear(read, head.fc_cls.weight, head.fc_cls.bias).tanh())


def test_each_frame_is_rated_by_its_own_mean_in_its_own_place():
    head = build(num_frames=6)
    expected = nn.functional.linear(maps().mean((3, 4)).transpose(1, 2), head.fc_cls.weight, head.fc_cls.bias).tanh()
    torch.testing.assert_close(head(maps()), expected)
    torch.testing.assert_close(head(maps().flip(2)), expected.flip(1))
    changed = maps()
    changed[:, :, 2] += 1
    assert ((head(changed) - head(maps())).abs().amax((0, 2)) > 1e-3).tolist() == [i == 2 for i in range(6)]


def test_maps_of_fewer_frames_are_interpolated_in_time_around_their_centres():
    head = build(num_frames=12)
    ramp = torch.arange(6.)[None, None, :, None, None].expand(1, 5, 6, 1, 1)
    with torch.no_grad():
        head.fc_cls.weight.fill_(.01), head.fc_cls.bias.zero_()
    found = head(ramp)[0, :, 0].atanh() / .05
    expected = ((torch.arange(12) + .5) / 2 - .5).clamp(0, 5)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_frames_with_readings_know_their_clip_and_not_its_scale():
    head = build(num_frames=6, decomposition=dict())
    assert head.fc_cls.in_features == 5 + 6 * 5
    torch.testing.assert_close(head(1000 * maps()), head(maps()), rtol=1e-3, atol=1e-4)
    assert (head(maps())[:, 0] - head(maps())[:, 1]).abs().max() > 1e-3
    flipped = maps()
    flipped[:, :, 5] += 9                               # another frame changes the readings of the clip
    assert (head(flipped)[:, 0] - head(maps())[:, 0]).abs().max() > 1e-4


def test_views_are_averaged_as_numbers_and_not_as_probabilities():
    head = build()
    ratings = head(maps(6))
    found = head.predict(maps(6), samples(2, seed=1))
    for index, sample in enumerate(found):
        torch.testing.assert_close(sample.pred_valence_arousal, ratings[3 * index:3 * index + 3].mean(0))
        assert abs(sample.pred_valence_arousal.sum() - 1) > .01, 'a softmax would add up to one'


def test_clips_of_a_video_stand_one_after_the_other_and_crops_are_averaged():
    """FormatShape leaves crops x clips, clips the faster axis."""
    head = build(num_frames=6)
    ratings = head(maps(12)).view(2, 2, 3, 6, 2)            # videos, crops, clips, frames
    expected = ratings.mean(1).flatten(1, 2)
    found = head.predict(maps(12), samples(2, 18))
    torch.testing.assert_close(torch.stack([sample.pred_valence_arousal for sample in found]), expected)
    unknown = samples(2, None)
    for sample in unknown:
        sample.set_metainfo(dict(num_clips=3, clip_len=6))
    found = head.predict(maps(12), unknown)
    torch.testing.assert_close(torch.stack([sample.pred_valence_arousal for sample in found]), expected)
    for sample in unknown:                                  # segments of Recognizer2D are frames of one clip
        sample.set_metainfo(dict(num_clips=6, clip_len=1))
    assert head.predict(maps(12), unknown)[0].pred_valence_arousal.shape == (6, 2)
    each = build().predict(maps(6), samples(2, 3))          # one rating for each clip
    torch.testing.assert_close(torch.stack([sample.pred_valence_arousal for sample in each]),
                               build()(maps(6)).view(2, 3, 2))


def test_the_loss_is_that_of_the_ratings_and_the_log_says_what_was_pooled():
    from lsef_plugins.evaluation.functional import ccc
    head = build(loss_cls=dict(type='CCCLoss', mse_weight=.3))
    truth = samples(8)
    target = torch.stack([sample.gt_valence_arousal for sample in truth])
    losses = head.loss(maps(8), truth)
    torch.testing.assert_close(losses['loss_cls'], head.loss_cls(head(maps(8)), target))
    for column, name in enumerate(('ccc_batch_valence', 'ccc_batch_arousal')):
        assert losses[name].item() == pytest.approx(ccc(target[:, column], head(maps(8))[:, column].detach()), rel=1e-4)
        assert not losses[name].requires_grad
    views = head.loss(maps(8), samples(4))                  # several clips in training: their mean
    target = torch.stack([sample.gt_valence_arousal for sample in samples(4)])
    torch.testing.assert_close(views['loss_cls'], head.loss_cls(head(maps(8)).view(4, 2, 2).mean(1), target))


def test_bounds_hold_in_half_precision_too():
    head = build(dropout_ratio=0)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        found = head(100 * maps())
        loss = head.loss(maps(8), samples(8))['loss_cls']
    assert found.dtype == torch.float32 and (found.abs() <= 1).all() and loss.dtype == torch.float32
    torch.testing.assert_close(build(dropout_ratio=0).bfloat16()(maps().bfloat16()), head(maps()), rtol=.05, atol=.05)


def test_initialisation_and_dropout():
    head = MODELS.build(dict(type='ValenceArousalHead', in_channels=2000, init_std=.02, dropout_ratio=.9))
    head.init_weights()
    assert head.fc_cls.weight.std().item() == pytest.approx(.02, rel=.1) and head.fc_cls.bias.abs().max() == 0
    x = torch.randn(2, 2000, 4, 1, 1)
    assert not torch.equal(head.train()(x), head(x)) and torch.equal(head.eval()(x), head(x))
    assert build(dropout_ratio=0).dropout is None


@pytest.mark.parametrize('name', ['slowonly', 'videomae'])
def test_it_reads_what_a_neck_of_ours_has_made(name, make_family, wake):
    family = with_head(make_family, name)
    plain, plugged = family.build(), family.build(NECK)
    plugged.load_state_dict(plain.state_dict(), strict=False)
    data = family.batch(plain)
    assert torch.equal(predict(plugged, data), predict(plain, data))     # the neck sleeps: the twins begin as one
    wake(plugged)
    assert any(isinstance(module, SitedNeck) for module in plugged.modules())
    assert not torch.equal(predict(plugged, data), predict(plain, data))


def test_segments_of_2d_recognizers_are_the_frames_that_are_rated(make_family):
    family = with_head(make_family, 'tsn', num_frames=5, num_segments=5)
    model = family.build()
    nn.init.normal_(model.cls_head.fc_cls.weight, std=.3)
    data = family.batch(model, clips=1, crops=3)
    together = predict(model, data)
    assert together.shape == (1, 5, 2)
    alone = [predict(model, dict(inputs=data['inputs'][:, 5 * i:5 * i + 5], data_samples=data['data_samples']))
             for i in range(3)]
    torch.testing.assert_close(together, torch.stack(alone).mean(0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('constructor', ['TSMOptimWrapperConstructor', 'DefaultOptimWrapperConstructor'])
def test_optimizers_take_every_parameter_once(constructor, make_family):
    from mmengine.optim import build_optim_wrapper
    model = with_head(make_family, 'tsm', decomposition=dict()).build(NECK)
    options = dict(paramwise_cfg=dict(fc_lr5=True)) if constructor.startswith('TSM') else {}
    wrapper = build_optim_wrapper(model, dict(optimizer=dict(type='SGD', lr=.01), constructor=constructor, **options))
    groups = [id(p) for group in wrapper.optimizer.param_groups for p in group['params']]
    assert all(groups.count(id(p)) == 1 for p in model.cls_head.parameters())


def test_a_target_that_does_not_fit_or_has_lost_its_fractions_is_told():
    head, truth = build(), samples(4)
    with pytest.raises(ValueError, match=r'2 of 4 data samples have no gt_valence_arousal.*PackAffectInputs'):
        head.loss(maps(), [*truth[:2], *samples(2, None)])
    with pytest.raises(ValueError, match=r'has shape \(5, 2\), and this head rates \(2,\): 1 ratings of a video came'):
        head.loss(maps(), samples(4, 5))
    with pytest.raises(ValueError, match=r'has shape \(2,\), and this head rates \(6, 2\), or a multiple of 6'):
        build(num_frames=6).loss(maps(), truth)
    with pytest.raises(ValueError, match=r'has shape \(3, 2\), and this head rates \(6, 2\)'):
        build(num_frames=6).loss(maps(), samples(4, 3))             # three frames are not pairs of six
    with pytest.raises(ValueError, match='different numbers of rated frames'):
        head.loss(maps(2), [*samples(1, 2), *samples(1, 3)])
    with pytest.raises(ValueError, match='test with batch_size=1'):
        head.predict(maps(2), [*samples(1, 2), *samples(1)])
    truth[0].set_field(torch.tensor([0, 0]), 'gt_valence_arousal')
    with pytest.raises(ValueError, match='an integer has lost its fraction'):
        head.loss(maps(), truth)


def test_options_that_make_no_sense_are_told():
    with pytest.raises(ValueError, match=r'not know num_classes, spatial_type\. It takes in_channels.*_delete_=True'):
        build(num_classes=7, spatial_type='avg')
    for average in ('prob', None):
        with pytest.raises(ValueError, match="'prob' is a softmax, which ratings do not survive"):
            build(average_clips=average)
    for frames in (0, 2.5, True):
        with pytest.raises(ValueError, match='num_frames counts the rated frames'):
            build(num_frames=frames)


@pytest.mark.slow
@pytest.mark.parametrize('name, frames', [('tsn', 6), ('videomae', None)])
def test_a_file_rates_as_pytorch_does(name, frames, make_family, tmp_path):
    from lsef_plugins.engine.export import export_onnx
    family = with_head(make_family, name, num_frames=frames)
    model = family.build()
    data = family.batch(model)
    spread(model, data)
    written = export_onnx(model, data['inputs'], str(tmp_path / 'ratings.onnx'))      # refuses a file that differs
    assert written.difference is not None and written.difference < 1e-4
