"""LSEFHead in place of the host's heads: one score for each clip, read where the features still have time."""
import copy

import pytest
import torch
from torch import nn

from lsef_plugins.models import LSEFHead, SitedHead, SitedNeck
from lsef_plugins.nn import DecompositionPooling
from lsef_plugins.nn.pooling import READINGS
from lsef_plugins.registry import MODELS

NECK = dict(type='LSEFNeck')


def with_head(make_family, name, **options):
    return make_family(name).with_head(type='LSEFHead', **options)


def heard_or_entered(model, inputs):
    """What enters the head, and what leaves and enters every module, while a batch is predicted."""
    seen = {}

    def enters(name):
        return lambda module, args, kwargs: seen.update({name: args[0]} if args else {})

    def leaves(name):
        return lambda module, args, output: seen.update({f'{name} out': output})

    handles = [hook for name, module in model.named_modules() if name
               for hook in (module.register_forward_pre_hook(enters(name), with_kwargs=True),
                            module.register_forward_hook(leaves(name)))]
    with torch.no_grad():
        model.eval()(**inputs, mode='predict')
    for handle in handles:
        handle.remove()
    return seen


def test_in_every_family_it_scores_learns_and_copies(family, make_family):
    ours = with_head(make_family, family.name)
    model = ours.build()
    head = model.cls_head
    scores = ours.scores(model)
    assert scores.shape == (2, 7) and torch.isfinite(scores).all() and scores.std() > 0
    torch.testing.assert_close(scores.sum(1), torch.ones(2))
    assert torch.equal(ours.scores(copy.deepcopy(model)), scores)
    model.train()
    loss, _ = model.parse_losses(model(**ours.batch(model, training=True), mode='loss'))
    loss.backward()
    assert torch.isfinite(loss)
    # DDP without find_unused_parameters: a gradient for each from the first step on.
    assert all(p.grad is not None and p.grad.isfinite().all() for p in head.parameters())
    assert head.fc_cls.weight.grad.abs().sum() > 0
    assert not head._heard
    again = ours.build(seed=1)
    again.load_state_dict(model.state_dict())
    assert torch.equal(ours.scores(again), ours.scores(model))


@pytest.mark.parametrize('name, channels, plain', [
    ('slowonly', (128, ), 0), ('slowfast', (2048, 256), 0), ('tpn-slowonly', (1024, 2048), 2048), ('mvit', (64, ), 64),
    ('c3d', (512, ), 4096), ('videomae', (32, ), 32), ('stgcn', (32, ), 0)])
def test_its_layers_are_those_of_the_site_and_of_what_enters_it(name, channels, plain, make_family):
    head = with_head(make_family, name).build().cls_head
    assert [pooling.channels for pooling in head.poolings] == list(channels)
    assert head.fc_cls.in_features == 6 * sum(channels) + plain
    only = with_head(make_family, name, read=('stable', 'transient'), windows=(1, 3)).build().cls_head
    assert only.fc_cls.in_features == 3 * sum(channels)     # and nothing of what enters it


def test_at_its_entrance_it_is_one_linear_layer_over_the_readings(make_family):
    family = with_head(make_family, 'slowonly')
    model = family.build()
    seen = heard_or_entered(model, family.batch(model))
    maps, head = seen['cls_head'], model.cls_head
    expected = nn.functional.linear(DecompositionPooling(128)(maps), head.fc_cls.weight, head.fc_cls.bias)
    torch.testing.assert_close(seen['cls_head out'], expected)
    assert maps.shape[2] == 8


def test_inside_a_token_backbone_it_reads_the_patches_and_joins_what_enters_it(make_family):
    family = with_head(make_family, 'videomae')
    model = family.build()
    seen = heard_or_entered(model, family.batch(model))
    patches, plain, head = seen['backbone.blocks.1 out'], seen['cls_head'], model.cls_head
    frames = model.backbone.pos_embed.shape[1] // (model.backbone.grid_size[0] * model.backbone.grid_size[1])
    maps = patches.unflatten(1, (frames, -1)).permute(0, 3, 1, 2).unsqueeze(-1)
    vector = torch.cat([plain / plain.square().mean(1, keepdim=True).sqrt(), DecompositionPooling(32)(maps)], 1)
    torch.testing.assert_close(seen['cls_head out'],
                               nn.functional.linear(vector, head.fc_cls.weight, head.fc_cls.bias))


def test_mvits_class_token_joins_its_map(make_family):
    family = with_head(make_family, 'mvit')
    model = family.build()
    seen = heard_or_entered(model, family.batch(model))
    maps, token = seen['cls_head'][-1]
    vector = torch.cat([token / token.square().mean(1, keepdim=True).sqrt(), DecompositionPooling(64)(maps)], 1)
    head = model.cls_head
    torch.testing.assert_close(seen['cls_head out'],
                               nn.functional.linear(vector, head.fc_cls.weight, head.fc_cls.bias))


def test_persons_are_averaged_whatever_their_order(make_family):
    model = with_head(make_family, 'stgcn').build().eval()
    joints = torch.randn(2, 3, 32, 8, 17, generator=torch.Generator().manual_seed(0))
    together = model.cls_head(joints)
    assert together.shape == (2, 7)
    torch.testing.assert_close(model.cls_head(joints[:, [2, 0, 1]]), together)
    torch.testing.assert_close(torch.stack([model.cls_head(joints[:, m:m + 1]) for m in range(3)]).mean(0), together)


@pytest.mark.parametrize('name', ['tsn', 'tsm'])
def test_the_crops_of_a_video_become_clips_whose_scores_are_averaged(name, make_family):
    family = with_head(make_family, name, num_segments=make_family(name).shape[0])
    model = family.build().eval()
    clip = family.shape[0]
    data = family.batch(model, clips=1, crops=3)
    together = model(**copy.deepcopy(data), mode='predict')[0].pred_score
    alone = [model(inputs=data['inputs'][:, i * clip:(i + 1) * clip], data_samples=copy.deepcopy(data['data_samples']),
                   mode='predict')[0].pred_score for i in range(3)]
    torch.testing.assert_close(together, torch.stack(alone).mean(0), rtol=1e-3, atol=1e-5)


def test_temporal_pooling_of_tsm_leaves_half_of_the_frames_of_each_clip(make_family):
    family = with_head(make_family, 'tsm')
    family.config.backbone.temporal_pool = True
    model, read = family.build(), []
    model.cls_head.poolings[0].register_forward_hook(lambda module, args, output: read.append(args[0].shape))
    assert family.scores(model).shape == (2, 7) and read[0][:3] == (2, 512, 4)


@pytest.mark.parametrize('name', ['slowonly', 'c3d'])
def test_views_that_come_a_few_at_a_time_give_what_they_give_together(name, make_family):
    family = with_head(make_family, name)
    scores = []
    for test_cfg in (None, dict(max_testing_views=2)):
        model = family.build(test_cfg=test_cfg)
        scores.append(family.scores(model, clips=1, crops=3))
    torch.testing.assert_close(scores[1], scores[0], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize('name, test_cfg', [('tsm', dict(fcn_test=True, num_segs=8)),
                                            ('slowonly', dict(fcn_test=True))])
def test_fully_convolutional_testing_is_read_as_maps(name, test_cfg, make_family):
    family = with_head(make_family, name)
    assert family.scores(family.build(test_cfg=test_cfg), clips=1).shape == (1, 7)


@pytest.mark.parametrize('name', ['slowonly', 'videomae', 'timesformer-joint', 'tpn-slowonly'])
def test_it_reads_what_a_neck_of_ours_has_made(name, make_family, wake):
    family = with_head(make_family, name)
    plain, plugged = family.build(), family.build(NECK)
    plugged.load_state_dict(plain.state_dict(), strict=False)
    assert torch.equal(family.scores(plugged), family.scores(plain))     # the same site, and the neck sleeps
    wake(plugged)
    neck = next(module for module in plugged.modules() if isinstance(module, SitedNeck))
    made, read = [], []
    neck.register_forward_hook(lambda module, args, output: made.append(output[0]))
    plugged.cls_head.poolings[0].register_forward_hook(lambda module, args, output: read.append(args[0]))
    family.scores(plugged)
    assert torch.equal(read[0], made[0] if isinstance(made[0], torch.Tensor) else made[0][0])


def test_a_head_that_listens_forgets_between_passes(make_family):
    family = with_head(make_family, 'videomae')
    model = family.build().eval()
    inputs = family.batch(model)['inputs']
    with torch.no_grad():
        model(inputs, mode='tensor')                        # stage 'backbone': the head is not reached
        assert not model.cls_head._heard
        for _ in range(3):                                  # outside of forward only the last pass counts
            feats, _ = model.extract_feat(inputs, stage='backbone')
        assert model.cls_head(feats).shape == (len(feats), 7)
        with pytest.raises(ValueError, match=r"LSEFHead reads maps at 'backbone.blocks.1', which was not called"):
            model.cls_head(feats)
        model.extract_feat(inputs, stage='backbone')
        assert copy.deepcopy(model).cls_head._heard == [] and model.cls_head._heard


def test_a_copy_listens_for_itself(make_family):
    family = with_head(make_family, 'videomae')
    model = family.build()
    twin = copy.deepcopy(model)
    expected = family.scores(model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert torch.equal(family.scores(twin), expected)


@pytest.fixture(scope='module', params=[None, dict(NECK, aux_loss=dict(rank=1.0))], ids=['alone', 'over a neck'])
def omni(request):
    """RecognizerOmni, whose two label spaces become one: its head is one linear layer for images and videos."""
    torch.manual_seed(0)
    config = dict(type='RecognizerOmni', backbone=dict(type='OmniResNet'), data_preprocessor=None,
                  cls_head=dict(type='LSEFHead', num_classes=3, in_channels=2048, dropout_ratio=0.0,
                                average_clips='prob'))
    model = MODELS.build({**config, **({} if request.param is None else dict(neck=request.param))})
    generator = torch.Generator().manual_seed(1)
    image, video = torch.rand(2, 3, 128, 128, generator=generator), torch.rand(2, 3, 8, 32, 32, generator=generator)
    return model, image, video


def test_the_recognizer_of_images_and_videos_learns_both_in_one_label_space(omni):
    model, image, video = omni
    model.train().zero_grad()
    alone = []
    for source in (image, video):
        alone.append(model(dict(inputs=source, data_samples=samples([0, 2])), mode='loss')['loss_cls_0'])
    sources = [dict(inputs=source, data_samples=samples([0, 2])) for source in (image, video)]
    losses = model(*sources, mode='loss')
    torch.testing.assert_close([losses['loss_cls_0'], losses['loss_cls_1']], alone)
    model.parse_losses(losses)[0].backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.cls_head.parameters())


def test_an_image_is_read_as_a_clip_that_does_not_move(omni):
    """One frame or eight equal ones: the same base, and nothing comes or goes."""
    model, image, _ = omni
    model.eval()
    with torch.no_grad():
        maps = model.extract_feat(image)
        assert maps.shape[2:] == (4, 4)
        scores = model.cls_head(maps)
        still = model.cls_head(maps[:, :, None].expand(-1, -1, 8, -1, -1).contiguous())
        read = model.cls_head.poolings[0](maps[:, :, None])
        found = model(dict(inputs=image, data_samples=samples([0, 2])), mode='predict')
    torch.testing.assert_close(still, scores, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(torch.stack([each.pred_score for each in found]), scores.softmax(1))
    assert read[:, 2 * 2048:].abs().max() == 0 and read[:, :2048].std() > 0.1


def test_tensor_mode_gives_scores(make_family):
    family = with_head(make_family, 'slowonly')
    model = family.build().eval()
    inputs = family.batch(model)['inputs']
    with torch.no_grad():
        assert model(inputs, mode='tensor', stage='head').shape == (4, 7)


def test_bfloat16_autocast_reaches_the_linear_layer_alone(make_family):
    family = with_head(make_family, 'slowonly')
    model = family.build()
    expected = family.scores(model)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        torch.testing.assert_close(family.scores(model).float(), expected, rtol=0.1, atol=0.05)
        loss, _ = model.train().parse_losses(model(**family.batch(model, training=True), mode='loss'))
    loss.backward()
    assert all(p.grad.isfinite().all() for p in model.cls_head.parameters())


@pytest.mark.parametrize('constructor', ['TSMOptimWrapperConstructor', 'DefaultOptimWrapperConstructor'])
def test_optimizers_take_every_parameter_once_and_the_linear_layer_for_the_classifier(constructor, make_family):
    from mmengine.optim import build_optim_wrapper
    model = with_head(make_family, 'tsm', read=READINGS).build(NECK)
    options = dict(paramwise_cfg=dict(fc_lr5=True)) if constructor.startswith('TSM') else {}
    wrapper = build_optim_wrapper(model, dict(optimizer=dict(type='SGD', lr=0.01, weight_decay=1e-4),
                                              constructor=constructor, **options))
    groups = [id(p) for group in wrapper.optimizer.param_groups for p in group['params']]
    assert all(groups.count(id(p)) == 1 for p in model.cls_head.parameters())
    if constructor.startswith('TSM'):
        rate = {id(p): group['lr'] for group in wrapper.optimizer.param_groups for p in group['params']}
        assert rate[id(model.cls_head.fc_cls.weight)] == pytest.approx(0.05)
        assert rate[id(model.cls_head.poolings[0].separation.ddm.offset.weight)] <= 0.02 + 1e-9


def build_head(**options):
    return MODELS.build({**dict(type='LSEFHead', num_classes=3, in_channels=6), **options})


def maps(b=4, seed=0):
    return torch.randn(b, 6, 8, 3, 3, generator=torch.Generator().manual_seed(seed))


def samples(labels):
    from mmaction.structures import ActionDataSample
    return [ActionDataSample().set_gt_label(label) for label in labels]


def test_losses_of_the_host_are_kept():
    feats = maps()
    plain = build_head(dropout_ratio=0.0)
    losses = plain.loss(feats, samples([0, 1, 2, 1]))
    assert set(losses) == {'top1_acc', 'top5_acc', 'loss_cls'} and torch.isfinite(losses['loss_cls'])
    expected = nn.functional.cross_entropy(plain(feats), torch.tensor([0, 1, 2, 1]))
    torch.testing.assert_close(losses['loss_cls'], expected)
    assert set(build_head(topk=1).loss(feats, samples([0, 1, 2, 1]))) == {'top1_acc', 'loss_cls'}
    smooth = build_head(dropout_ratio=0.0, label_smooth_eps=0.1)
    smooth.load_state_dict(plain.state_dict())
    assert not torch.allclose(smooth.loss(feats, samples([0, 1, 2, 1]))['loss_cls'], expected)
    several = build_head(loss_cls=dict(type='BCELossWithLogits'), multi_class=True)
    targets = samples([0, 1, 2, 1])
    for sample in targets:
        sample.set_gt_label(torch.tensor([1.0, 0.0, 1.0]))
    loss = several.loss(feats, targets)['loss_cls']
    assert torch.isfinite(loss)


@pytest.mark.parametrize('average, shape', [('prob', (3, )), ('score', (3, )), (None, (2, 3))])
def test_views_are_averaged_as_the_host_does(average, shape):
    head = build_head(average_clips=average).eval()
    found = head.predict(maps(), samples([0, 1]))
    assert found[0].pred_score.shape == shape
    scores = head(maps())
    expected = {'prob': scores[:2].softmax(1).mean(0), 'score': scores[:2].mean(0), None: scores[:2]}[average]
    torch.testing.assert_close(found[0].pred_score, expected)


def test_initialisation_and_dropout():
    head = build_head(num_classes=50, init_std=0.02, dropout_ratio=0.9, read=READINGS)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.fill_(3)
    head.init_weights()
    assert head.fc_cls.weight.std().item() == pytest.approx(0.02, rel=0.1) and head.fc_cls.bias.abs().max() == 0
    assert head.poolings[0].separation.ddm.offset.weight.abs().max() == 0
    assert not torch.equal(head.train()(maps()), head(maps())) and torch.equal(head.eval()(maps()), head(maps()))
    assert build_head(dropout_ratio=0).dropout is None
    own = build_head(init_cfg=dict(type='Constant', val=0.5, layer='Linear'))
    own.init_weights()
    assert (own.fc_cls.weight == 0.5).all()


@pytest.mark.parametrize('factor', [1e-3, 1e3])
def test_what_enters_beside_the_maps_is_of_the_order_of_one_too(factor):
    head = build_head(num_classes=50).eval()
    head.rebuild((6, ), 4)
    plain = torch.randn(4, 4, generator=torch.Generator().manual_seed(1))
    expected = head.score([maps()], plain)
    torch.testing.assert_close(head.score([maps()], factor * plain), expected)
    assert not torch.allclose(head.score([maps()], -plain), expected)
    assert torch.isfinite(head.score([maps()], 0 * plain)).all()


def test_no_argument_of_the_readings_is_lost_on_the_way():
    options = dict(read=['pool', 'transient'], windows=[1, 7], rank=3, sem=dict(mode='hard'), ddm=dict(exponent=1.0),
                   influence_clip=2.0, limit_spikes=False, on_nonfinite='isolate', reach=0.5)
    pooling = build_head(**options).poolings[0]
    assert repr(pooling) == repr(DecompositionPooling(6, **options))
    assert pooling.separation.on_nonfinite == 'isolate' and pooling.reach == 0.5


def test_options_of_another_head_are_told_how_to_be_dropped():
    with pytest.raises(ValueError, match=r'LSEFHead does not know consensus, spatial_type\. It takes num_classes, '
                                         r'in_channels, .*topk.*_delete_=True'):
        build_head(spatial_type='avg', consensus=dict(type='AvgConsensus', dim=1))


def test_maps_of_other_channels_are_told_where_the_number_comes_from():
    with pytest.raises(ValueError, match=r'LSEFHead was built for maps of \(6,\) channels and got \(5,\).*in_channels'):
        build_head()(torch.zeros(1, 5, 8, 2, 2))


def test_a_listening_head_of_other_channels_than_enter_it_names_those(make_family):
    family = with_head(make_family, 'videomae', in_channels=48)
    model = family.build()
    with pytest.raises(ValueError, match='built with in_channels=48 and is handed a vector of 32 numbers.*=32,'):
        family.scores(model.eval())


def test_an_interrupted_pass_leaves_no_maps_behind(make_family, monkeypatch):
    family = with_head(make_family, 'videomae')
    model = family.build().eval()

    def stop(*args, **kwargs):
        raise RuntimeError('out of memory')

    monkeypatch.setattr(model.cls_head, 'score', stop)
    heard = []
    model.cls_head.register_forward_pre_hook(lambda head, args: heard.append(len(head._heard)))
    with pytest.raises(RuntimeError, match='out of memory'):
        family.scores(model)
    assert heard == [1] and not model.cls_head._heard and not model.cls_head._inside


def test_a_site_of_the_users_own_works_and_a_wrong_one_is_told(make_family):
    site = dict(module='backbone.layer3', side='out', layout='b c t h w', channels=64)
    family = with_head(make_family, 'slowonly', site=site)
    head = family.build().cls_head
    assert head._listens == 'backbone.layer3' and head.fc_cls.in_features == 6 * 64 + 128
    assert family.scores(family.build()).shape == (2, 7)
    with pytest.raises(ValueError, match=r"'backbone.layer9' is no module"):
        with_head(make_family, 'slowonly', site=dict(site, module='backbone.layer9')).build()
    inner = with_head(make_family, 'slowonly', site=dict(site, side='in', channels=32)).build()
    with pytest.raises(ValueError, match=r'takes the first positional argument of backbone\.layer3.*input by name'):
        inner.backbone.layer3(input=torch.zeros(1, 32, 4, 2, 2))


def test_a_subclass_says_what_it_must_implement():
    class Half(SitedHead):
        pass

    half = Half(3, 6)
    with pytest.raises(NotImplementedError, match=r'Half must implement build\(channels, plain\)'):
        half.rebuild((6, ))
    with pytest.raises(NotImplementedError, match=r'Half must implement score\(maps, plain\)'):
        half.score([], None)
    assert issubclass(LSEFHead, SitedHead)


def test_it_reads_the_segments_that_only_its_neck_was_told(make_family):
    family = with_head(make_family, 'tsn')
    model = family.build(dict(NECK, num_segments=5)).eval()
    nn.init.normal_(model.cls_head.fc_cls.weight, std=0.2)
    data = family.batch(model, clips=1, crops=3)
    with torch.no_grad():
        features, options = model.extract_feat(data['inputs'], test_mode=True)
        together = model.cls_head(features, **options)
        assert together.shape == (3, 7)
        for crop in range(3):
            features, options = model.extract_feat(data['inputs'][:, 5 * crop:5 * crop + 5], test_mode=True)
            torch.testing.assert_close(model.cls_head(features, **options), together[crop:crop + 1],
                                       rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize('name, layout', [('tsn', '(b t) c h w'), ('stgcn', 'b c t h')])
def test_a_site_of_its_own_is_refused_where_no_score_would_be_a_clips(name, layout, make_family):
    family = with_head(make_family, name, site=dict(module='backbone', layout=layout, channels=8))
    for neck in (None, NECK):
        with pytest.raises(ValueError, match='LSEFHead takes no site of its own in Recognizer'):
            family.build(neck)


def test_activation_checkpointing_trains_it_rightly_or_not_at_all(make_family):
    """The reentrant way of MMEngine hides the maps from autograd; the other gives the gradients of no checkpoint."""
    from mmengine.runner.activation_checkpointing import turn_on_activation_checkpointing
    from torch.utils.checkpoint import checkpoint
    family = with_head(make_family, 'timesformer-divided', dropout_ratio=0)
    gradients = []
    for way in ('none', 'other', 'reentrant'):
        model = family.build().train()
        for module in model.modules():
            if type(module).__name__ in ('DropPath', 'Dropout'):
                module.eval()
        layers = model.backbone.transformer_layers
        if way == 'reentrant':
            turn_on_activation_checkpointing(model, ['backbone.transformer_layers'])
            with pytest.raises(ValueError, match='reentrant activation checkpointing would train it wrongly'):
                model(**family.batch(model, training=True), mode='loss')
            continue
        if way == 'other':
            stock = layers.forward
            layers.forward = lambda *args, stock=stock: checkpoint(stock, *args, use_reentrant=False)
        model.parse_losses(model(**family.batch(model, training=True), mode='loss'))[0].backward()
        assert model.cls_head._heard == []
        gradients.append({key: value.grad for key, value in model.named_parameters() if value.grad is not None})
    assert gradients[0].keys() == gradients[1].keys() and len(gradients[0]) > 30
    for key, value in gradients[0].items():
        torch.testing.assert_close(gradients[1][key], value, rtol=1e-4, atol=1e-7)
