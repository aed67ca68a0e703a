"""A name with '::' is a config that a package brings; everything else is a path."""
from pathlib import Path

import pytest

from lsef_plugins.engine.config_names import config_file


def test_a_path_stays_and_a_name_is_found_with_and_without_py():
    assert config_file('a/b.py') == 'a/b.py'
    name = 'dfew/slowonly-r50_8xb8-u8-50e_dfew-fd1-rgb'
    found = Path(config_file(f'lsef_plugins::{name}'))
    assert found.is_file() and found.name == f'{Path(name).name}.py'
    assert config_file(f'lsef_plugins::{name}.py') == str(found)
    host = config_file('mmaction::_base_/default_runtime')
    assert Path(host).is_file() and 'mmaction' in host


def test_what_is_not_there_is_told():
    with pytest.raises(ValueError, match="no package 'gone' is installed here"):
        config_file('gone::a.py')
    with pytest.raises(ValueError, match="no package 'no.name' is installed"):
        config_file('no.name::a.py')
    with pytest.raises(ValueError, match='there is no dfew/other.*The name is a path below that folder'):
        config_file('lsef_plugins::dfew/other')
    with pytest.raises(ValueError, match='there is no ../setup.py'):
        config_file('lsef_plugins::../setup.py')
