"""File lists for the host's own data sets, from the official lists, through the tool."""
import importlib.util
import os
from pathlib import Path

import pytest

from lsef_plugins.datasets.annotations import read_clips
from lsef_plugins.datasets.file_list import file_list
from lsef_plugins.datasets.frames import list_frames
from lsef_plugins.datasets.splits import dfew_list
from lsef_plugins.datasets.synthetic.layouts import write_layout

TOOL = Path(__file__).resolve().parents[2] / 'tools' / 'data' / 'write_file_list.py'


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    return write_layout('dfew', tmp_path_factory.mktemp('lists') / 'dfew', 30, size=16, videos=True)


@pytest.fixture(scope='module')
def tool():
    before = os.environ.get('LSEF_PLUGINS_REGISTER')
    spec = importlib.util.spec_from_file_location('write_file_list', TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    if before is None:
        os.environ.pop('LSEF_PLUGINS_REGISTER', None)


def test_a_written_list_is_read_back_as_the_same_clips_and_classes(tool, root, tmp_path, capsys):
    official = read_clips(dfew_list(str(root), 'train', 2), 'dfew')
    for form in ('rawframes', 'videos'):
        out = tmp_path / 'new' / f'{form}.txt'
        assert tool.main(['dfew', str(root), '--fold', '2', '--form', form, '--out', str(out)]) == 0
        back = read_clips(out, 'dfew')
        assert back.content_sha256() == official.content_sha256() and back.class_map.base == 0
        assert f'{out}: 24 clips, train of protocol paper' in capsys.readouterr().out
    first = read_clips(tmp_path / 'new' / 'rawframes.txt', 'dfew').records[0]
    assert first.num_frames == len(list_frames(str(root / 'Clip/clip_224x224' / first.path)))


def test_protocols_reach_the_list_and_errors_the_user(tool, root, tmp_path, capsys):
    lines = {}
    for split in ('train', 'val'):
        line = ['dfew', str(root), '--split', split, '--protocol', 'clean', '--val-ratio', '.3', '--out',
                str(tmp_path / split)]
        assert tool.main(line) == 0
        lines[split] = (tmp_path / split).read_text().splitlines()
    assert len(lines['train'] + lines['val']) == len({*lines['train'], *lines['val']}) == 24 and len(lines['val']) >= 6
    assert tool.main(['dfew', str(root), '--clips', 'nowhere', '--out', str(tmp_path / 'x')]) == 1
    assert '24 of 24 clips are not in' in capsys.readouterr().err and not (tmp_path / 'x').exists()


def test_lines_that_would_not_read_back_are_refused(root, tmp_path):
    records = read_clips(dfew_list(str(root), 'test', 1), 'dfew').records
    with pytest.raises(ValueError, match="form='csv' must be one of"):
        file_list(records, str(root), 'csv')
    (tmp_path / records[0].path).mkdir()
    with pytest.raises(ValueError, match='holds no frames'):
        file_list(records[:1], str(tmp_path), 'rawframes')
    (tmp_path / 'a b' / '1').mkdir(parents=True)
    import dataclasses
    with pytest.raises(ValueError, match="'a b/1' holds blanks"):
        file_list([dataclasses.replace(records[0], path='a b/1')], str(tmp_path), 'rawframes')
