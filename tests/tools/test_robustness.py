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


def test_numbers_tables_and_a_picture_and_a_second_start_that_measures_nothing(tool, tiny_config, tmp_path, capsys):
    import json

    import torch
    from mmaction.registry import MODELS
    from mmengine.registry import init_default_scope
    cfg = tiny_config(tmp_path / 'w', test_evaluator=dict(_delete_=True, type='AverageRecallMetric'))
    cfg.dump(str(tmp_path / 'config.py'))
    init_default_scope('mmaction')
    torch.manual_seed(0)
    torch.save(dict(state_dict=MODELS.build(cfg.model).state_dict(), meta={}), tmp_path / 'weights.pth')
    out = tmp_path / 'r.json'
    arguments = [str(tmp_path / 'config.py'), str(tmp_path / 'weights.pth'), '--kinds', 'jpeg', 'flicker',
                 '--severities', '5', '--out', str(out), '--windows', '2']
    tool.main(arguments)
    first, text = json.loads(out.read_text()), capsys.readouterr().out
    assert list(first['conditions']) == ['clean', 'jpeg/5', 'flicker/5'] and '[3/3] flicker/5: acc/war' in text
    assert set(first['summary']['curves']) == {'jpeg', 'flicker'} and (tmp_path / 'r.png').stat().st_size > 5000
    assert (tmp_path / 'r.md').read_text().strip() in text and '| metric | clean | mPC | rPC |' in text
    tool.main([*arguments, '--reference', str(out)])
    again, text = json.loads(out.read_text()), capsys.readouterr().out
    assert '[1/' not in text and again['conditions'] == first['conditions']
    assert again['summary']['mce'] == 1 and '| 100.0 % |' in text, 'against itself'
    other = tmp_path / 'other.json'
    other.write_text(json.dumps({**first, 'conditions': {name: {'acc/top1': .5} for name in first['conditions']}}))
    for more, words in ((['--metric', 'acc/typo'], '--metric acc/typo is not among the metrics of the test'),
                        (['--reference', str(other)], 'acc/uar is not among the metrics of the reference')):
        with pytest.raises(SystemExit, match=words):
            tool.main([*arguments, *more])
        assert '[1/' not in capsys.readouterr().out


def test_wrong_input_is_told_in_one_sentence(tool, tiny_config, tmp_path):
    config, cut = tmp_path / 'config.py', tmp_path / 'cut.pth'
    tiny_config(tmp_path / 'w').dump(str(config))
    cut.write_bytes(b'x')
    for arguments, words in (([str(config), str(cut)], 'cut.pth (1 bytes) is incomplete'),
                             ([str(config), 'gone.pth'], 'gone.pth does not exist'),
                             ([str(config), str(cut), '--kinds', 'sneeze'], 'sneeze'),
                             ([str(config), str(cut), '--severities', '6'], 'severity=6 must be an integer'),
                             ([str(config), str(cut), '--out', 'r.txt'], 'Let it end in .json'),
                             ([str(config), str(cut), '--reference', 'gone.json'], 'gone.json does not exist'),
                             ([str(config), str(cut), '--fold', '2'], 'no data set of'),
                             ([str(config), str(cut), '--windows', '0'], '--windows 0'),
                             (['gone.py', str(cut)], 'gone.py does not exist')):
        with pytest.raises(SystemExit) as caught:
            tool.main(arguments)
        message = str(caught.value)
        assert message.startswith('error: ') and words in message and '\n' not in message
