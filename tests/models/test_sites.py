"""Sites: a place with a time axis, named by the recognizer's family or by the user."""
import pytest
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
