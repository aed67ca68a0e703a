"""What the command line of the benchmark of backbones refuses; what it measures is tested with its package."""
import runpy
from pathlib import Path

import pytest

TOOL = runpy.run_path(str(Path(__file__).parents[2] / 'tools' / 'benchmark_backbones.py'))


@pytest.mark.parametrize('arguments, words', [
    (['absent.py'], 'absent.py'), (['--dtype', 'int8'], "--dtype 'int8' is unknown"),
    (['--neck-options', '[1]'], '--neck-options is a JSON object'),
    (['--timeout', '0'], '--timeout is positive, got 0.0'),
    (['--device', 'abacus'], "--device 'abacus' is unknown")])
def test_a_request_that_cannot_be_served_ends_with_2_and_a_word(arguments, words, capsys):
    if '--timeout' in arguments:
        arguments = ['mmaction::*c3d_sports1m*', *arguments]
    assert TOOL['main'](arguments) == 2
    assert words in capsys.readouterr().err


def test_the_list_names_families(capsys):
    assert TOOL['main'](['--list', 'mmaction::*c3d_sports1m*']) == 0
    assert capsys.readouterr().out.startswith('Recognizer3D / C3D / I3DHead: recognition/c3d/c3d_sports1m')
