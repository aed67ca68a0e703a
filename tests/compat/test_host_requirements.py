"""What is missing is said in one sentence with its pip line, what fails with who imported it."""
import importlib.util
import os
import subprocess
import sys

import pytest

from lsef_plugins.compat import host_requirements


def without(monkeypatch, *missing):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None if name in missing else find_spec(name))


@pytest.mark.parametrize('package, cure', [
    ('mmaction', r'MMAction2 is not installed.*pip install "mmaction2'),
    ('mmengine', r'mmengine is not.*pip install "mmengine>=0\.10\.3'),
    ('mmcv', r'mmcv \(or mmcv-lite\) is not.*pip install "mmcv-lite>=2\.1,<2\.2"'),
    ('importlib_metadata', 'pip install importlib_metadata'),
])
def test_a_missing_package_comes_with_its_pip_line(monkeypatch, package, cure):
    without(monkeypatch, package)
    with pytest.raises(ImportError, match=cure):
        host_requirements.apply()


@pytest.mark.parametrize('version', ['2.2.0', '2.2.0+cu118', '3.0', '1.7.1'])
def test_an_mmcv_that_mmaction_refuses_comes_with_the_pip_line(monkeypatch, version):
    import mmcv
    monkeypatch.setattr(mmcv, '__version__', version)
    with pytest.raises(ImportError, match=rf'below 2\.2, but {version.replace("+", ".")}.*is installed.*mmcv-lite'):
        host_requirements.apply()


@pytest.mark.parametrize('version', ['2.0.0', '2.1.0', '2.1.0+cu121', '2.1.99'])
def test_every_mmcv_mmaction_takes_is_taken(monkeypatch, version):
    import mmcv
    monkeypatch.setattr(mmcv, '__version__', version)
    host_requirements.apply()


def test_an_mmengine_too_old_is_named(monkeypatch):
    import mmengine
    monkeypatch.setattr(mmengine, '__version__', '0.10.2')
    with pytest.raises(ImportError, match=r'mmengine of at least 0\.10\.3.*0\.10\.2 is installed'):
        host_requirements.apply()


def test_a_package_of_the_host_that_fails_is_named_with_its_importers(tmp_path):
    """A torchvision of another torch: its RuntimeError came through three packages without a word of what to do."""
    for package, line in (('mmpretrain', 'import torchvision'), ('torchvision', 'raise RuntimeError("no nms")')):
        (tmp_path / package).mkdir()
        (tmp_path / package / '__init__.py').write_text(line)

    def done(command, register):
        paths = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
        environment = dict(os.environ, PYTHONPATH=paths, LSEF_PLUGINS_REGISTER=register)
        return subprocess.run([sys.executable, '-W', 'ignore', '-c', command], env=environment, capture_output=True,
                              text=True)

    said = done('import lsef_plugins', '1').stderr
    assert 'ImportError: MMAction2 cannot be imported here: RuntimeError: no nms ' in said
    assert '(mmaction, mmpretrain, torchvision)' in said and 'python -m lsef_plugins doctor' in said
    assert not done('import lsef_plugins.nn', '0').returncode
