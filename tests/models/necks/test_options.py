"""A misspelt option is told by name before anything is built."""
import pytest

from lsef_plugins.models.necks import LSEFNeck, SitedNeck, StabilityEncodingNeck, check_options, neck_options
from lsef_plugins.registry import MODELS


class Swallows(SitedNeck):

    def __init__(self, in_channels=(1, ), **kwargs):
        super().__init__(in_channels)


def test_an_unknown_option_names_the_neck_the_nearest_and_all_known_ones():
    with pytest.raises(ValueError, match=r"LSEFNeck does not know the option 'ranks' \(did you mean 'rank'\?\)\. It "
                                         r'takes in_channels, num_segments, site, rank, .*aux_loss, init_cfg\.$'):
        check_options(LSEFNeck, dict(type='LSEFNeck', ranks=3))
    with pytest.raises(ValueError, match=r"DDM does not know the options 'kapa' \(did you mean 'kappa'\?\), 'zzz'\."):
        check_options(MODELS.get('DDM'), dict(type='DDM', kapa=3, zzz=1, kappa=2))
    with pytest.raises(ValueError, match='^StabilityEncodingNeck does not know'):
        check_options(StabilityEncodingNeck, dict(type=StabilityEncodingNeck, exponent=1))


@pytest.mark.parametrize('name', ['LSEFNeck', 'SEM', 'DDM', 'CIM'])
def test_every_option_a_neck_names_is_one_it_accepts(name):
    cls = MODELS.get(name)
    known = neck_options(cls)
    check_options(cls, {'type': name, '_scope_': 'mmaction', **dict.fromkeys(known)})
    assert 'channels' not in known and {'in_channels', 'num_segments', 'site', 'init_cfg'} <= set(known)
    for option in known:
        try:
            cls(in_channels=4, **({} if option == 'in_channels' else {option: object()}))
        except TypeError as error:
            assert 'unexpected keyword' not in str(error)
        except ValueError:
            pass


def test_without_a_class_the_options_are_those_of_lsef():
    assert neck_options() == neck_options(LSEFNeck)
    assert {'rank', 'iterations', 'sem', 'ddm', 'cim', 'aux_loss'} <= set(neck_options())
    assert 'self' not in neck_options()


def test_a_neck_that_takes_anything_judges_its_options_itself():
    check_options(Swallows, dict(type='Swallows', anything=1))


@pytest.mark.parametrize('neck, message', [
    (dict(type='LSEFNeck', ranks=3), r"LSEFNeck does not know the option 'ranks' \(did you mean 'rank'\?\)"),
    (dict(type='SEM', kappa=3), r"SEM does not know the option 'kappa' .*\. It takes in_channels")])
def test_a_recognizer_config_with_an_unknown_option_is_told(neck, message, make_family):
    with pytest.raises(ValueError, match=message):
        make_family('slowonly').build(neck)


def test_a_part_merged_over_tpn_takes_its_own_options_and_leaves_tpn_its_own(make_family):
    model = make_family('tpn-slowonly').build(dict(type='DDM', kappa=2.5))
    assert type(model.neck).__name__ == 'TPN' and model.neck.lsef.streams[1].ddm.start_kappa == 2.5
