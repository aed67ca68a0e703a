"""Recognizers as MMAction2 ships them, plain and plugged (families: host_families.py)."""
import pytest
import torch
from host_families import FAMILIES, Family

import lsef_plugins  # noqa: F401  (first: it repairs the host before anything of it is imported)

NECK = dict(type='LSEFNeck')


def _plug_like(family, stock, neck=NECK, **changes):
    plugged = family.build(neck, seed=1, **changes)
    missing, unexpected = plugged.load_state_dict(stock.state_dict(), strict=False)
    assert not unexpected
    return plugged, missing


def _wake(model, seed=0):
    from lsef_plugins.models import SitedNeck
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, SitedNeck):
            with torch.no_grad():
                for parameter in module.parameters():
                    parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model


@pytest.fixture(scope='session')
def plug_like():
    """``plug_like(family, stock)``: a plugged model with the stock model's weights, and the keys those lacked."""
    return _plug_like


@pytest.fixture(scope='session')
def wake():
    """``wake(model)`` moves the neck away from its identity start, so that what it does shows."""
    return _wake


@pytest.fixture(scope='session')
def make_family():
    return Family


@pytest.fixture(scope='session', autouse=True)
def scope():
    from mmengine.registry import init_default_scope
    init_default_scope('mmaction')


@pytest.fixture(scope='module', params=list(FAMILIES))
def family(request):
    return Family(request.param)


@pytest.fixture(scope='module')
def stock(family):
    return family.build()
