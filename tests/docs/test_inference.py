"""The blocks of docs/inference.md run as they stand there, one after the other, and so does that of README.md."""
import re
import shutil
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / 'docs' / 'inference.md').read_text(encoding='utf-8')
MARKED = re.compile(r'<!-- executed by tests/docs/test_inference.py -->\n```python\n(.*?)```', re.S)
BLOCKS = MARKED.findall(TEXT)


@pytest.fixture
def place(tiny_config, tiny_videos, tmp_path, monkeypatch):
    from lsef_plugins.register_all import register_all
    register_all()
    from mmaction.registry import MODELS
    from mmengine.registry import init_default_scope
    cfg = tiny_config(tmp_path / 'w', model=dict(neck=dict(type='LSEFNeck', rank=2)))
    cfg.dump(str(tmp_path / 'my_config.py'))
    init_default_scope('mmaction')
    torch.save(dict(state_dict=MODELS.build(cfg.model).state_dict()), tmp_path / 'best.pth')
    (tmp_path / 'videos').mkdir()
    for target in ('clip.mp4', 'film.mp4', 'videos/1.mp4', 'videos/2.mp4'):
        shutil.copy(tiny_videos.root / 'clip_0.mp4', tmp_path / target)
    (tmp_path / 'videos' / 'broken.mp4').write_text('')
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_block_runs_and_says_what_the_page_says(place, capsys):
    block, = MARKED.findall((ROOT / 'README.md').read_text(encoding='utf-8'))
    names: dict = {}
    exec(block.replace('CONFIG', 'my_config.py').replace('work_dirs/mine/epoch_10.pth', 'best.pth'), names)
    assert names['result'].label in names['result'].scores and names['result'].decomposition is not None
    names = {}
    assert len(BLOCKS) == 6 and sum(len(line) > 0 for line in BLOCKS[0].splitlines()) == 3, 'three lines'
    for block in BLOCKS[:3]:
        exec(block, names)
    assert names['result'].label in names['result'].scores and (place / 'clip.json').stat().st_size > 500
    assert len((place / 'clip.csv').read_text().splitlines()) == 1 + len(names['result'].times)
    with pytest.warns(UserWarning, match='1 of 3 inputs failed'):
        exec(BLOCKS[3], names)
    assert len(names['results']) == 2 and list(names['results'].errors) == ['videos/broken.mp4']
    capsys.readouterr()
    exec(BLOCKS[4], names)
    assert len(capsys.readouterr().out.splitlines()) == 5           # windows of 8 frames, 2 apart, over 48: each half
    exec(BLOCKS[5], names)
    label, scores = names['rec']('clip.mp4')['predictions'][0].values()
    assert scores[0] == list(names['inferencer']('clip.mp4', progress=False).scores.values()) and label[0][0] in (0, 1)


def test_its_links_and_commands_exist():
    for link in re.findall(r'\]\(([^)#]+)\)', TEXT):
        assert (ROOT / 'docs' / link).is_file(), link
    from importlib.util import module_from_spec, spec_from_file_location
    spec = spec_from_file_location('tool_infer', ROOT / 'tools' / 'infer.py')
    tool = module_from_spec(spec)
    spec.loader.exec_module(tool)
    commands = re.findall(r'^python tools/infer.py (.*)$', TEXT, re.M)
    assert len(commands) == 3
    for command in commands:
        tool.parse_args(command.split())
