"""The command line: what is wrong is told in one sentence."""
import importlib.util
from pathlib import Path

import pytest

TOOL = Path(__file__).resolve().parents[2] / 'tools' / 'robustness.py'


@pytest.fixture(scope='module')
def tool():
    spec = importlib.util.spec_from_file_location('tool_robustness', TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_wrong_input_is_told_in_one_sentence(tool, tiny_config, tmp_path):
    config, cut = tmp_path / 'config.py', tmp_path / 'cut.pth'
    tiny_config(tmp_path / 'w').dump(str(config))
    cut.write_bytes(b'x')
    for arguments, words in (([str(config), str(cut)], 'cut.pth (1 bytes) is incomplete'),
                             ([str(config), 'gone.pth'], 'gone.pth does not exist'),
                             ([str(config), str(cut), '--kinds', 'sneeze'], 'sneeze'),
                             (['gone.py', str(cut)], 'gone.py does not exist')):
        with pytest.raises(SystemExit) as caught:
            tool.main(arguments)
        message = str(caught.value)
        assert message.startswith('error: ') and words in message and '\n' not in message
