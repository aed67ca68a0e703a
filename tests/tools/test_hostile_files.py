"""The command lines refuse a hostile checkpoint and a hostile list in one sentence, and run nothing of them."""
import importlib.util
import os
import sys
from pathlib import Path

import pytest

pytest.importorskip('mmaction')
import torch

ROOT = Path(__file__).resolve().parents[2]
NECK = dict(neck=dict(type='LSEFNeck'))


class Shell:

    def __init__(self, canary):
        self.command = f'touch {canary}'

    def __reduce__(self):
        return os.system, (self.command, )


@pytest.fixture(scope='module')
def hostile(tiny_config, tmp_path_factory):
    """A config file, a hostile checkpoint of it, and the file that exists once it has run."""
    folder = tmp_path_factory.mktemp('hostile')
    cfg = tiny_config(folder / 'work', log_level='ERROR', model=NECK)
    cfg.pop('custom_imports')
    (folder / 'tiny.py').write_text(cfg.pretty_text, encoding='utf-8')
    canary = folder / 'canary'
    torch.save(dict(state_dict={}, meta=dict(epoch=1), message_hub=Shell(canary)), folder / 'evil.pth')
    return str(folder / 'tiny.py'), str(folder / 'evil.pth'), canary


def main_of(name):
    spec = importlib.util.spec_from_file_location(f'tool_{name}', ROOT / 'tools' / f'{name}.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


def said_by(main, arguments, capsys):
    """What a command line says before it ends with a failure."""
    with pytest.raises(SystemExit) as ended:
        sys.exit(main([str(each) for each in arguments]))
    said = f'{ended.value.code}\n{capsys.readouterr().err}'
    assert ended.value.code not in (0, None)
    return said


@pytest.mark.parametrize('name, arguments', [
    ('test', ['{config}', '{checkpoint}']),
    ('train', ['{config}', '--resume', '{checkpoint}']),
    ('train', ['{config}', '--cfg-options', 'load_from={checkpoint}']),
    ('robustness', ['{config}', '{checkpoint}', '--out', '{folder}/r.json', '--kinds', 'black_frames']),
    ('visualize_decomposition', ['{video}', '--config', '{config}', '--checkpoint', '{checkpoint}', '--out',
                                 '{folder}/a.png']),
], ids=['test', 'train --resume', 'load_from', 'robustness', 'visualize'])
def test_each_tool_refuses_a_hostile_checkpoint_by_name(hostile, tiny_videos, tmp_path, capsys, name, arguments):
    config, checkpoint, canary = hostile
    words = dict(config=config, checkpoint=checkpoint, folder=tmp_path, video=tiny_videos.root / 'clip_0.mp4')
    said = said_by(main_of(name), [each.format(**words) for each in arguments], capsys)
    assert 'evil.pth asks for' in said and 'system, which is not among the things' in said, said
    assert 'Only if you trust the file' in said and not canary.exists()


def test_a_hostile_yaml_config_calls_nothing(tmp_path, capsys):
    canary = tmp_path / 'canary'
    (tmp_path / 'a.yaml').write_text(f'model: !!python/object/apply:os.system ["touch {canary}"]\n', encoding='utf-8')
    said = said_by(main_of('train'), [tmp_path / 'a.yaml'], capsys)
    assert 'a.yaml cannot be read' in said and 'could not determine a constructor' in said and not canary.exists()


def test_the_converter_of_lists_does_not_follow_a_list_out_of_the_data_folder(tmp_path, capsys):
    (tmp_path / 'dfew' / 'Clip' / 'clip_224x224' / '00001').mkdir(parents=True)
    (tmp_path / 'evil.csv').write_text('video_name,label\n00001,1\n../../../etc/00002,2\n', encoding='utf-8')
    spec = importlib.util.spec_from_file_location('write_file_list', ROOT / 'tools' / 'data' / 'write_file_list.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    arguments = ['dfew', tmp_path / 'dfew', '--ann', tmp_path / 'evil.csv', '--out', tmp_path / 'o.txt']
    said = said_by(module.main, arguments, capsys)
    assert 'evil.csv:3' in said and 'leads out of the data folder' in said and not (tmp_path / 'o.txt').exists()
