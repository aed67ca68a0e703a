"""tools/environment.sh: what a half-made or foreign virtual environment does to the two README commands."""
import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
STAND_IN = """#!/bin/sh
case "$*" in
    *"-m venv"*) mkdir -p "$LSEF_VENV/bin" && cp "$0" "$LSEF_VENV/bin/python" && touch "$LSEF_VENV/made";;
    *"-m pip --version"*) test -e "$LSEF_VENV/made";;
    *"-m pip install"*) echo "$*" >> "$LSEF_VENV/installs";;
    *version_info*) echo VERSION;;
    *) echo "Python VERSION";;
esac
"""


@pytest.fixture
def environment(tmp_path):
    """``environment(version, name)``: what make_environment says, with a stand-in for Python that installs nothing."""

    def make(version='3.11', name='with space/venv'):
        python = tmp_path / f'python {version}'
        python.write_text(STAND_IN.replace('VERSION', version))
        python.chmod(0o755)
        return subprocess.run(
            ['bash', '-c', 'set -euo pipefail; source tools/environment.sh; make_environment quickstart'], cwd=ROOT,
            env={**os.environ, 'PYTHON': str(python), 'LSEF_VENV': str(tmp_path / name)}, capture_output=True,
            text=True)

    return make


def test_a_second_start_installs_nothing_and_a_place_with_spaces_works(environment, tmp_path):
    first, second = environment(), environment()
    assert first.returncode == second.returncode == 0, first.stderr + second.stderr
    assert 'installing requirements/quickstart.txt' in first.stdout and 'is up to date' in second.stdout
    installs = (tmp_path / 'with space' / 'venv' / 'installs').read_text().splitlines()
    assert [line.split()[-1] for line in installs] == ['requirements/quickstart.txt', '.']


def test_a_virtual_environment_whose_making_was_interrupted_is_made_again(environment, tmp_path):
    assert environment().returncode == 0
    venv = tmp_path / 'with space' / 'venv'
    for name in ('made', 'installed-quickstart'):
        (venv / name).unlink()
    assert environment().returncode == 0 and (venv / 'made').exists()


def test_another_python_than_the_environments_is_told(environment):
    assert environment('3.11').returncode == 0
    other = environment('3.12')
    assert other.returncode == 2
    assert 'was made with Python 3.11, but Python 3.12 is asked for. Delete' in other.stderr


def test_no_python_is_told(tmp_path):
    done = subprocess.run(['/bin/bash', '-c', 'source tools/environment.sh; make_environment quickstart'], cwd=ROOT,
                          env={'PATH': str(tmp_path)}, capture_output=True, text=True)
    assert done.returncode == 2 and 'no Python 3.10 to 3.13 was found' in done.stderr
