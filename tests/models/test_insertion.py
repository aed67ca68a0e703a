"""The bare line ``neck=dict(type='LSEFNeck')`` in recognizers the host ships: nothing changes but what must."""
import copy
import io

import pytest
import torch
from mmaction.models.recognizers.base import BaseRecognizer
from mmaction.registry import MODELS
from torch.utils.hooks import RemovableHandle

from lsef_plugins.models import LSEFNeck, insert_neck, install

NECK = dict(type='LSEFNeck')


def lsef_of(model):
    return next(module for module in model.modules() if isinstance(module, LSEFNeck))


def test_plugged_output_is_the_stock_output_bit_for_bit_and_only_the_neck_is_missing(family, stock, plug_like):
    plugged, missing = plug_like(family, stock)
    assert missing and all(key.startswith('neck.') for key in missing)
    expected = family.scores(stock)
    assert expected.std() > 0
    assert torch.equal(family.scores(plugged), expected)


def test_an_awake_neck_changes_the_output(family, stock, plug_like, wake):
    """Without this law a neck that is never reached would pass the one above."""
    plugged, _ = plug_like(family, stock)
    assert not torch.allclose(family.scores(wake(plugged)), family.scores(stock), atol=1e-7)


def test_every_neck_parameter_learns_within_two_steps(family, stock, plug_like):
    plugged, _ = plug_like(family, stock)
    plugged.train()
    optimizer = torch.optim.SGD(plugged.parameters(), lr=1e-2)
    moved = set()
    for _ in range(2):
        losses = plugged(**family.batch(plugged, training=True), mode='loss')
        loss, logged = plugged.parse_losses(losses)
        assert torch.isfinite(loss)
        assert {'lsef/rank', 'lsef/density', 'lsef/consistency', 'lsef/reconstruction'} <= set(logged)
        optimizer.zero_grad()
        loss.backward()
        for name, parameter in lsef_of(plugged).named_parameters():
            assert torch.isfinite(parameter.grad).all(), name
            if parameter.grad.abs().sum() > 0:
                moved.add(name)
        optimizer.step()
    assert moved == {name for name, _ in lsef_of(plugged).named_parameters()}


@pytest.mark.parametrize('name', ['tsn', 'timesformer-divided', 'timesformer-joint', 'timesformer-space', 'videomae',
                                  'uniformerv2'])
def test_a_still_video_is_a_still_map_where_nothing_else_knows_of_time(name, make_family):
    """A layout that takes places for moments would see movement in it."""
    family = make_family(name)
    model, seen = family.build(NECK).eval(), []
    if name == 'videomae':                      # its positions count time: without them it has no notion of it
        model.backbone.pos_embed.zero_()
    model.neck.register_forward_pre_hook(lambda module, args: seen.append(args[0].detach()))
    data = family.batch(model, clips=2)
    axis = 1 if name == 'tsn' else 3            # (b, segments, c, h, w) and (b, clips, c, t, h, w)
    with torch.no_grad():
        model(**data, mode='predict')
        still = dict(data, inputs=data['inputs'].narrow(axis, 0, 1).expand_as(data['inputs']).contiguous())
        model(**still, mode='predict')
    moving, still = seen
    assert moving.shape[2] == {'tsn': 5}.get(name, 8)
    spread = moving.std(2).mean()
    assert spread > 1e-3 and still.std(2).max() < 1e-4 * spread.clamp(min=1)
    assert still.shape[-2:].numel() == 1 or still.flatten(3).std(3).mean() > 1e-3


@pytest.mark.parametrize('name', ['slowonly', 'tsm', 'tpn-tsm'])
def test_crops_and_clips_are_never_mixed(name, make_family, wake):
    """Several views of a video in one forward give what each view gives alone."""
    family = make_family(name)
    # TPN's own head reads several crops with fcn_test only.
    model = wake(family.build(NECK, test_cfg=dict(fcn_test=True) if name == 'tpn-tsm' else None)).eval()
    seen = []
    lsef_of(model).register_forward_hook(lambda module, args, output: seen.append(
        output[0][-1].detach() if name == 'tpn-tsm' else output[0].detach()))
    data = family.batch(model, clips=1, crops=3)
    views, per_clip = data['inputs'], (1 if name == 'slowonly' else family.shape[0])
    with torch.no_grad():
        model(**data, mode='predict')
        together = seen.pop()
        assert together.shape[0] == views.shape[1] // per_clip and together.shape[2] == 8
        for index in range(together.shape[0]):
            view = views[:, index * per_clip:(index + 1) * per_clip]
            model(inputs=view, data_samples=copy.deepcopy(data['data_samples']), mode='predict')
            alone = seen.pop()      # rounding is that of the largest values: another batch is summed in another order
            torch.testing.assert_close(together[index:index + 1], alone, rtol=0, atol=1e-5 * float(alone.abs().max()))


def test_temporal_pooling_of_tsm_leaves_half_of_the_frames_of_each_clip(make_family):
    family = make_family('tsm')
    family.config.backbone.temporal_pool = family.config.cls_head.temporal_pool = True
    model, seen = family.build(NECK).eval(), []
    model.neck.register_forward_hook(lambda module, args, output: seen.append(output[0].shape))
    assert family.scores(model, clips=2).shape == (2, 7)
    assert seen[0][:3] == (2, 512, 4)


@pytest.mark.parametrize('name, test_cfg, crops', [
    ('slowonly', dict(max_testing_views=2), 2),
    ('tsm', dict(fcn_test=True, num_segs=8), 1),
    ('tsn', None, 3),
    ('tpn-slowonly', dict(fcn_test=True), 2)])
def test_the_ways_of_testing_keep_stock_scores(name, test_cfg, crops, make_family, plug_like):
    family = make_family(name)
    if test_cfg is not None and test_cfg.get('fcn_test') and name == 'tsm':
        # TSM's own head cannot read maps; the host's convolutional head for this way of testing is TPN's.
        family.config.cls_head.update(type='TPNHead')
        for key in ('is_shift', 'num_segments', 'temporal_pool'):
            family.config.cls_head.pop(key, None)
    stock = family.build(test_cfg=test_cfg)
    plugged, _ = plug_like(family, stock, test_cfg=test_cfg)
    options = dict(clips=1, crops=crops)
    assert torch.equal(family.scores(plugged, **options), family.scores(stock, **options))


def test_initialisation_by_the_runner_leaves_the_identity_inside_tpn(make_family, plug_like):
    """TPN.init_weights draws every convolution below it anew; the neck inside it has to begin as the identity."""
    family = make_family('tpn-tsm')
    stock = family.build()
    plugged = family.build(NECK, seed=1)
    plugged.backbone.pretrained2d = False
    plugged.init_weights()
    plugged.load_state_dict(stock.state_dict(), strict=False)
    assert torch.equal(family.scores(plugged), family.scores(stock))


def test_a_child_neck_merged_over_tpn_keeps_both(make_family):
    family = make_family('tpn-slowonly')
    model = family.build(NECK)
    assert type(model.neck).__name__ == 'TPN' and isinstance(model.neck.lsef, LSEFNeck)
    assert model.neck.lsef.in_channels == (1024, 2048)
    assert model.with_neck


def test_a_recognizer_without_the_line_is_untouched(family):
    model = family.build()
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    own = ['data_preprocessor', 'backbone', *(['neck'] if 'neck' in family.config else []), 'cls_head']
    assert [name for name, _ in model.named_children()] == own
    assert model.with_neck == ('neck' in family.config)


def test_installing_twice_wraps_once():
    init, with_neck = BaseRecognizer.__init__, BaseRecognizer.with_neck
    install()
    assert BaseRecognizer.__init__ is init and BaseRecognizer.with_neck is with_neck


def test_a_copy_has_hooks_of_its_own(make_family, wake):
    """EMA deep-copies the recognizer: the copy must listen to its own neck, and outlive the original's changes."""
    family = make_family('slowonly')
    model = wake(family.build(NECK))
    model.train()
    losses = model(**family.batch(model, training=True), mode='loss')
    twin = copy.deepcopy(model)
    assert losses and not model.neck._collected
    before = family.scores(twin)
    with torch.no_grad():
        for parameter in model.neck.parameters():
            parameter.zero_()
    assert torch.equal(family.scores(twin), before)
    assert not torch.equal(family.scores(model), before)


def test_losses_with_a_weight_join_the_loss_and_nothing_else_does(make_family):
    family = make_family('slowonly')
    plain, weighted = family.build(NECK), family.build(dict(NECK, aux_loss=dict(rank=0.5, density=0.25)))
    weighted.load_state_dict(plain.state_dict())
    for model in (plain, weighted):
        model.train()
    torch.manual_seed(0)
    total, logged = plain.parse_losses(plain(**family.batch(plain, training=True), mode='loss'))
    torch.manual_seed(0)
    other, more = weighted.parse_losses(weighted(**family.batch(weighted, training=True), mode='loss'))
    expected = total + 0.5 * logged['lsef/rank'] + 0.25 * logged['lsef/density']
    torch.testing.assert_close(other, expected)
    assert set(more) - set(logged) == {'loss_lsef_rank', 'loss_lsef_density'}
    assert logged['lsef/rank'] > 0 and logged['lsef/density'] > 0


def test_auxiliary_losses_reach_the_backbone(make_family):
    family = make_family('slowonly')
    model = family.build(dict(NECK, aux_loss=dict(rank=1.0)))
    model.train()
    losses = model(**family.batch(model, training=True), mode='loss')
    losses['loss_lsef_rank'].backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in model.backbone.parameters())


def test_the_neck_is_registered_before_the_head_and_owns_only_convolutions(make_family):
    """What TSMOptimWrapperConstructor needs: it takes the last linear layer for the classifier."""
    model = make_family('tsm').build(NECK)
    names = [name for name, _ in model.named_children()]
    assert names.index('neck') < names.index('cls_head')
    for module in model.neck.modules():
        if list(module.parameters(recurse=False)):
            assert isinstance(module, torch.nn.Conv3d)


@pytest.mark.parametrize('constructor, paramwise', [
    ('TSMOptimWrapperConstructor', dict(fc_lr5=True)), ('DefaultOptimWrapperConstructor', None),
    ('SwinOptimWrapperConstructor', dict(absolute_pos_embed=dict(decay_mult=0.)))])
def test_the_hosts_constructors_take_every_neck_parameter_once(constructor, paramwise, make_family):
    from mmengine.optim import build_optim_wrapper
    model = make_family('tsm').build(NECK)
    wrapper = build_optim_wrapper(model, dict(
        constructor=constructor, paramwise_cfg=paramwise, optimizer=dict(type='SGD', lr=0.01, weight_decay=1e-4)))
    groups = [id(p) for group in wrapper.optimizer.param_groups for p in group['params']]
    assert all(groups.count(id(p)) == 1 for p in model.neck.parameters())
    if constructor == 'TSMOptimWrapperConstructor':
        rate = {id(p): group['lr'] for group in wrapper.optimizer.param_groups for p in group['params']}
        assert rate[id(model.cls_head.fc_cls.weight)] == pytest.approx(0.05)
        assert all(rate[id(p)] <= 0.02 + 1e-9 for p in model.neck.parameters())


def test_tensor_mode_and_counting_operations_still_work(make_family):
    from mmengine.analysis import get_model_complexity_info
    family = make_family('slowonly')
    model = family.build(NECK).eval()
    inputs = family.batch(model)['inputs']
    with torch.no_grad():
        assert model(inputs, mode='tensor').dim() == 5
        assert model(inputs, mode='tensor', stage='head')[0].shape[-1] == family.classes
    assert get_model_complexity_info(model, inputs=(inputs[:1, :1], ), show_table=False)['flops'] > 0


def test_bfloat16_autocast_keeps_the_identity(make_family, plug_like):
    family = make_family('slowonly')
    stock = family.build()
    plugged, _ = plug_like(family, stock)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        assert torch.equal(family.scores(plugged), family.scores(stock))
    plugged.train()
    with torch.autocast('cpu', dtype=torch.bfloat16):
        loss, _ = plugged.parse_losses(plugged(**family.batch(plugged, training=True), mode='loss'))
    loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in plugged.neck.parameters())


# ---- what a user can get wrong -----------------------------------------------------------------------------------


def test_a_channel_count_given_by_hand_is_checked_against_the_recognizer(make_family):
    with pytest.raises(ValueError, match=r'in_channels=512 by hand.*have \(128,\) channels.*bare line'):
        make_family('slowonly').build(dict(NECK, in_channels=512))
    assert make_family('slowonly').build(dict(NECK, in_channels=128)).neck.in_channels == (128, )


def test_a_recognizer_without_a_known_site_names_the_ways_out(make_family):
    class Foreign(torch.nn.Module):             # neither the host's nor a child of anything of the host's
        def __init__(self):
            super().__init__()
            self.backbone = torch.nn.Sequential(torch.nn.Linear(2, 2))

    with pytest.raises(ValueError, match=r'no place with a time axis in Foreign with backbone Sequential.*site=.*'
                                         r'such as backbone, backbone.0'):
        insert_neck(Foreign(), NECK)


def test_a_backbone_of_images_is_not_taken_for_the_hosts_video_backbone_of_that_name(make_family):
    """timm, torchvision and mmpretrain have a VisionTransformer too."""
    family = make_family('tsn')

    @MODELS.register_module(name='Namesake', force=True)
    class VisionTransformer(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = torch.nn.Conv2d(3, 512, 32)

        def forward(self, x):
            return self.conv(x)

    try:
        family.config.backbone = dict(type='Namesake')
        model = family.build(NECK)
        assert family.scores(model).shape == (2, 7)
    finally:
        MODELS._module_dict.pop('Namesake')


def test_an_image_passes_and_the_losses_of_two_videos_add_up(wake):
    """RecognizerOmni trains on several sources in one step."""
    from mmaction.structures import ActionDataSample
    config = dict(type='RecognizerOmni', backbone=dict(type='OmniResNet'), data_preprocessor=None,
                  cls_head=dict(type='OmniHead', image_classes=3, video_classes=3, in_channels=2048),
                  neck=dict(NECK, aux_loss=dict(rank=1.0)))
    torch.manual_seed(0)
    model = wake(MODELS.build(config)).train()
    changed = []
    model.cls_head.register_forward_pre_hook(lambda module, args: changed.append(args[0].dim()))
    samples = [ActionDataSample().set_gt_label(index) for index in range(2)]
    image, video = torch.rand(2, 3, 32, 32), torch.rand(2, 3, 8, 32, 32)

    def losses(*sources):
        return model(*[dict(inputs=source, data_samples=samples) for source in sources], mode='loss')

    assert not any('lsef' in name for name in losses(image))
    one, two, both = losses(video), losses(video, image), losses(video, video)
    assert one['loss_lsef_rank'] > 0
    torch.testing.assert_close(two['loss_lsef_rank'], one['loss_lsef_rank'])
    torch.testing.assert_close(both['loss_lsef_rank'], 2 * one['loss_lsef_rank'])
    torch.testing.assert_close(both['lsef/rank'], one['lsef/rank'])
    assert set(changed) == {4, 5}


@pytest.mark.parametrize('name', ['slowonly', 'tpn-slowonly'])     # TPN draws anew whatever lies below it
def test_the_same_seed_makes_the_same_backbone_with_and_without_the_neck(name, make_family):
    family = make_family(name)
    stock, plugged = family.build(), family.build(NECK)
    for model in (stock, plugged):
        torch.manual_seed(3)
        model.init_weights()
    weights = plugged.state_dict()
    for name, value in stock.state_dict().items():
        assert torch.equal(weights[name], value), name
    after_stock = torch.manual_seed(1) and family.build(seed=5) and torch.rand(3)
    after_plugged = torch.manual_seed(1) and family.build(NECK, seed=5) and torch.rand(3)
    assert torch.equal(after_stock, after_plugged)


def test_a_head_that_does_not_tell_its_channels_asks_for_them(make_family):
    model = make_family('slowonly').build()
    del model.cls_head.in_channels
    with pytest.raises(ValueError, match=r'LSEFNeck needs in_channels.*Set neck=dict'):
        insert_neck(model, NECK)


def test_wrong_channels_at_run_time_name_what_came(make_family):
    family = make_family('slowonly')
    model = family.build(dict(NECK, site=dict(module='backbone.layer3', channels=512)))
    with pytest.raises(ValueError, match=r'backbone.layer3 was built for maps of \(512,\).*got \(64,\)'):
        family.scores(model)


def test_a_users_own_site_works_anywhere(make_family, plug_like, wake):
    family = make_family('slowonly')
    stock = family.build()
    neck = dict(NECK, site=dict(module='backbone.layer3', side='out', layout='b c t h w', channels=64))
    plugged, missing = plug_like(family, stock, neck)
    assert all(key.startswith('neck.') for key in missing)
    assert torch.equal(family.scores(plugged), family.scores(stock))
    assert not torch.allclose(family.scores(wake(plugged)), family.scores(stock), atol=1e-7)


def test_a_site_among_frames_learns_their_number_from_the_neck(make_family):
    family = make_family('tsm')
    neck = dict(NECK, site=dict(module='backbone.layer3', layout='(b t) c h w', channels=256))
    with pytest.raises(ValueError, match=r'cannot read \(16, 256, 2, 2\).*sizes=dict\(t=<frames of one clip>\)'):
        family.scores(family.build(neck))
    model, seen = family.build(dict(neck, num_segments=8)), []
    model.neck.register_forward_hook(lambda module, args, output: seen.append(output[0].shape))
    family.scores(model)
    assert seen[0][:3] == (2, 256, 8)


def test_a_site_that_is_called_by_name_only_is_told(make_family):
    model = make_family('slowonly').build(dict(NECK, site=dict(module='backbone.layer3', side='in', channels=32)))
    with pytest.raises(ValueError, match=r'first positional argument of backbone\.layer3.*called with input by name'):
        model.backbone.layer3(input=torch.zeros(1, 32, 4, 2, 2))


@pytest.mark.parametrize('mode', ['loss', 'predict'])
def test_a_head_that_goes_past_the_hooks_is_told_instead_of_training_without_the_neck(mode, make_family):
    family = make_family('slowonly')
    model = family.build(NECK)
    head = model.cls_head
    head.loss = lambda feats, samples, **kwargs: head.loss_by_feat(head.forward(feats), samples)
    head.predict = lambda feats, samples, **kwargs: head.predict_by_feat(head.forward(feats), samples)
    with pytest.raises(ValueError, match=r"not reached: this Recognizer3D.*without calling 'cls_head'.*self\(x\)"):
        model(**family.batch(model, training=True), mode=mode)


@pytest.mark.parametrize('options, message', [
    (dict(num_segments=0), 'segments of one clip, an integer >= 1, got 0'),
    (dict(aux_loss=0.1), r'aux_loss is a dict of weights such as dict\(rank=0.01\), got 0.1'),
    (dict(aux_loss=dict(rank='0.1')), "weights of aux_loss are numbers, got {'rank': '0.1'}"),
    (dict(aux_loss=dict(ranks=0.1)), 'aux_loss knows reconstruction, rank, density, consistency; got ranks')])
def test_options_that_cannot_be_are_told_at_construction(options, message):
    with pytest.raises(ValueError, match=message):
        LSEFNeck(in_channels=4, **options)


def test_features_that_are_not_finite_name_clip_and_frames(make_family):
    family = make_family('slowonly')
    model = family.build(NECK)
    with torch.no_grad():
        model.backbone.conv1.conv.weight.fill_(float('nan'))
    with pytest.raises(ValueError, match=r'clips entering LSEF hold NaN or Inf.*frame\(s\).*learning rate'):
        family.scores(model)


def test_a_rank_above_the_number_of_frames_works_and_says_so_once(make_family, plug_like):
    family = make_family('slowonly')
    stock = family.build()
    plugged, _ = plug_like(family, stock, dict(NECK, rank=12))
    with pytest.warns(UserWarning, match=r'rank 12 is not below the 8 frame\(s\)') as caught:
        for _ in range(2):
            assert torch.equal(family.scores(plugged), family.scores(stock))
    assert len([w for w in caught if 'rank 12' in str(w.message)]) == 1


def test_another_number_of_views_than_in_training_is_told_where_the_head_cannot_know(make_family):
    family = make_family('tsn')
    model = family.build(NECK)
    model.train()
    model(**family.batch(model, training=True), mode='loss')
    with pytest.warns(UserWarning, match=r'trained with 5 segments per clip and now gets 15.*num_segments'):
        family.scores(model, crops=3)
    with pytest.warns(UserWarning, match=r'does not know the segments of one clip and gets 15'):
        family.scores(family.build(NECK), crops=3)      # a test in a process of its own
    told = family.build(dict(NECK, num_segments=5))
    seen = []
    told.neck.register_forward_hook(lambda module, args, output: seen.append(output[0].shape))
    family.scores(told, clips=1, crops=3)
    assert seen[0][:3] == (3, 512, 5)


def test_an_unknown_option_over_tpn_is_ours_to_tell(make_family):
    with pytest.raises(ValueError, match=r"LSEFNeck does not know the option 'ranks' \(did you mean 'rank'\?\)"):
        make_family('tpn-slowonly').build(dict(NECK, ranks=3))


def test_auxiliary_losses_that_would_train_nothing_are_refused(make_family):
    """MMEngine checkpoints activations in the reentrant way, whose forward knows no gradients."""
    from mmengine.runner.activation_checkpointing import turn_on_activation_checkpointing
    family = make_family('timesformer-divided')
    for neck, refused in ((dict(NECK, aux_loss=dict(rank=1.0)), True), (NECK, False)):
        model = family.build(neck).train()
        turn_on_activation_checkpointing(model, ['backbone.transformer_layers'])
        if refused:
            with pytest.raises(ValueError, match='would train nothing: reentrant activation checkpointing'):
                model(**family.batch(model, training=True), mode='loss')
        else:
            model.parse_losses(model(**family.batch(model, training=True), mode='loss'))[0].backward()
            assert model.neck.streams[0].cim.out.weight.grad.abs().sum() > 0


@pytest.mark.parametrize('name, head', [('tsn', False), ('videomae', True)])
def test_a_recognizer_pickled_whole_keeps_its_hooks_beside_later_ones(name, head, make_family, monkeypatch, wake):
    """In a fresh process the numbers of hooks begin at zero: a later hook would take the place of one of ours."""
    monkeypatch.setattr(RemovableHandle, 'next_id', 0)
    family = make_family(name)
    model = family.with_head(type='LSEFHead').build() if head else wake(family.build(NECK))
    expected = family.scores(model.eval())
    packed = io.BytesIO()
    torch.save(model, packed)
    packed.seek(0)
    monkeypatch.setattr(RemovableHandle, 'next_id', 0)
    again = torch.load(packed, weights_only=False)
    module = again.get_submodule(again.cls_head._listens if head else again.neck._module_name)
    for _ in range(50):
        if head:
            module.register_forward_hook(lambda module, args, output: None)
        else:
            module.register_forward_pre_hook(lambda module, args: None)
    assert torch.equal(family.scores(again), expected)
