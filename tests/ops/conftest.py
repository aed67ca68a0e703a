"""``compiled``: the operators have their compiled bodies, built here if need be. ``computed_by``: both ways in turn."""
import os

import pytest

from lsef_plugins import ops
from lsef_plugins.ops import build


@pytest.fixture(scope='session')
def library(tmp_path_factory):
    """The status of the loaded library."""
    if os.environ.get('LSEF_OPS') == 'off':
        pytest.skip('the compiled operators are switched off by LSEF_OPS=off')
    if ops.status()['library'] is None:
        try:
            path = build.build(tmp_path_factory.mktemp('ops'))
        except build.BuildError as error:
            pytest.skip(f'the compiled operators cannot be built here: {error}')
        ops.load(str(path))
    status = ops.status()
    assert status['library'], status['reason']
    return status


@pytest.fixture
def compiled(library):
    with ops.backend('compiled'):
        yield library


@pytest.fixture(params=['reference', 'compiled'])
def computed_by(request):
    if request.param == 'compiled':
        request.getfixturevalue('library')
    with ops.backend(request.param):
        yield request.param
