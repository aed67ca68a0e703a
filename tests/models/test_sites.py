"""Sites: a place with a time axis, named by the recognizer's family or by the user."""
import pytest
import torch
from mmaction.registry import MODELS

from lsef_plugins.models import find_site


@pytest.fixture(scope='module')
def recognizer(make_family):
    return make_family('slowonly').build()


def test_a_subclass_keeps_the_site_of_its_parent(make_family):
    family = make_family('slowonly')
    parent = MODELS.get('Recognizer3D')

    @MODELS.register_module(name='MyRecognizer3D', force=True)
    class MyRecognizer3D(parent):
        pass

    try:
        family.config.type = 'MyRecognizer3D'
        model = family.build(dict(type='LSEFNeck'))
        assert model.neck.in_channels == (128, )
        family.config.type = MyRecognizer3D  # the new style of configs hands over the class itself
        assert family.build(dict(type=type(model.neck))).neck.in_channels == (128, )
    finally:
        MODELS._module_dict.pop('MyRecognizer3D')


@pytest.mark.parametrize('site, message', [
    ('backbone.layer3', "site is a dict such as .* got 'backbone.layer3'"),
    (dict(side='in'), 'module is required'),
    (dict(module='backbone.layer3', place='in'), 'site takes the keys'),
    (dict(module='backbone.layer3', side='left'), "side is 'in' .* or 'out'"),
    (dict(module='backbone.layer9'), r"'backbone.layer9' is no module of Recognizer3D; some of its modules: .*"),
    (dict(module='backbone.layer3', layout='n c h w'), 'must name the axes b, c and t')])
def test_a_site_that_cannot_be_is_told_why(site, message, recognizer):
    with pytest.raises(ValueError, match=message):
        find_site(recognizer, site)


def test_the_site_of_slowfast_has_both_streams(make_family):
    site = find_site(make_family('slowfast').build())
    assert site.module == 'cls_head' and site.channels == (2048, 256)


def test_segments_are_told_by_the_backbone_where_the_head_does_not(make_family):
    family = make_family('tsm')
    for key in ('is_shift', 'num_segments', 'temporal_pool'):
        family.config.cls_head.pop(key, None)
    family.config.cls_head.type = 'TSNHead'
    assert find_site(family.build()).layout.segments == 8
    assert find_site(family.build(), num_segments=4).layout.segments == 4
    assert find_site(make_family('tsn').build()).layout.segments is None


def test_a_backbone_of_ones_own_with_tokens_takes_the_neck_where_its_config_says(make_family, wake):
    """The example of docs/own_backbone.md: time is gone at the head, the site lies inside."""
    family = make_family('videomae')

    @MODELS.register_module(name='MyVideoTransformer', force=True)
    class MyVideoTransformer(torch.nn.Module):
        def __init__(self, channels=32):
            super().__init__()
            self.patches = torch.nn.Conv3d(3, channels, (2, 16, 16), (2, 16, 16))
            self.class_token = torch.nn.Parameter(torch.zeros(1, 1, channels))
            self.blocks = torch.nn.ModuleList(
                torch.nn.TransformerEncoderLayer(channels, 2, 64, dropout=0.0, batch_first=True) for _ in range(2))

        def forward(self, x):
            tokens = self.patches(x).flatten(2).transpose(1, 2)                 # b (t h w) c
            tokens = torch.cat([self.class_token.expand(len(tokens), -1, -1), tokens], 1)
            for block in self.blocks:
                tokens = block(tokens)
            return tokens[:, 0]                                                 # b c: no time left

    try:
        family.config.backbone = dict(type='MyVideoTransformer')
        with pytest.raises(ValueError, match=r"got \(4, 32\).*site=dict\(module='backbone.<layer>'"):
            family.scores(family.build(dict(type='LSEFNeck')))
        model = family.build(dict(type='LSEFNeck', site=dict(
            module='backbone.blocks.1', side='in', layout='b (t h) c', sizes=dict(t=8), class_tokens=1, channels=32)))
        seen = []
        model.neck.register_forward_pre_hook(lambda module, args: seen.append(args[0].shape))
        stock = family.build()
        assert torch.equal(family.scores(model), family.scores(stock))
        assert seen == [(4, 32, 8, 9, 1)]
        assert not torch.allclose(family.scores(wake(model)), family.scores(stock), atol=1e-7)
    finally:
        MODELS._module_dict.pop('MyVideoTransformer')
