"""The command line: results as files, a line for each clip, what is wrong in one sentence and in the exit status."""
import importlib.util
import json
from pathlib import Path

import pytest
import torch

TOOL = Path(__file__).resolve().parents[2] / 'tools' / 'infer.py'


@pytest.fixture(scope='module')
def main():
    spec = importlib.util.spec_from_file_location('tool_infer', TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


@pytest.fixture
def files(tiny_config, tmp_path):
    from lsef_plugins.register_all import register_all
    register_all()
    from mmaction.registry import MODELS
    from mmengine.registry import init_default_scope
    cfg = tiny_config(tmp_path / 'w', model=dict(neck=dict(type='LSEFNeck', rank=2)), log_level='ERROR')
    cfg.dump(str(tmp_path / 'config.py'))
    init_default_scope('mmaction')
    torch.save(dict(state_dict=MODELS.build(cfg.model).state_dict()), tmp_path / 'best.pth')
    return [str(tmp_path / 'config.py'), str(tmp_path / 'best.pth')]


def test_a_folder_a_film_and_what_is_wrong(main, files, tiny_videos, tmp_path, capsys):
    video = str(tiny_videos.root / 'clip_0.mp4')
    (tmp_path / 'cut.mp4').write_bytes((tiny_videos.root / 'clip_0.mp4').read_bytes()[:1500])
    (tmp_path / 'names.txt').write_text('right\n\ndown\n', encoding='utf-8')
    out, table = tmp_path / 'r.json', tmp_path / 'r.csv'
    status = main([*files, video, str(tmp_path / 'cut.mp4'), '--batch-size', '2', '--out', str(out),
                   '--csv', str(table), '--classes', str(tmp_path / 'names.txt')])
    told = capsys.readouterr()
    content = json.loads(out.read_text(encoding='utf-8'))
    assert status == 1 and 'cut.mp4 cannot be read as a video: it is cut off' in told.err
    assert told.out.startswith(f'{video}: ') and 'event(s)' in told.out and 'cut.mp4' not in told.out
    label, = content['results'][0]['labels']
    assert label in ('right', 'down') and f'{label} {content["results"][0]["scores"][label]:.3f}' in told.out
    assert len(table.read_text(encoding='utf-8').splitlines()) == 3 and 'cut.mp4' in json.dumps(content['errors'])
    assert main([*files, video, '--window', '0.32', '--no-decomposition', '--csv', str(table)]) == 0
    assert len(table.read_text(encoding='utf-8').splitlines()) == 25 and 'event' not in capsys.readouterr().out
    for arguments, words in (([files[0], 'gone.pth', video], 'gone.pth does not exist'),
                             ([*files, 'gone.mp4'], 'gone.mp4 does not exist'),
                             ([*files, '--camera', '0'], 'camera 0 has no end'),
                             ([*files, video, '--window', '9', '--stride', '99'], 'stride=99 s is longer than'),
                             ([*files, video, '--fps', '5'], 'a video file knows its own')):
        assert main(arguments) == 1
        assert words in capsys.readouterr().err
    for arguments, words in ((files, 'give at least one INPUT, or --camera NUMBER'),
                             ([*files, video, '--seconds', '1'], '--seconds is of the camera')):
        with pytest.raises(SystemExit):
            main(arguments)
        assert words in capsys.readouterr().err


def test_what_was_found_is_told_though_a_file_cannot_be_written(main, files, tiny_videos, tmp_path, capsys):
    video, table = str(tiny_videos.root / 'clip_0.mp4'), tmp_path / 'r.csv'
    assert main([*files, video, '--out', str(tmp_path), '--csv', str(table)]) == 1
    told = capsys.readouterr()
    assert told.out.startswith(f'{video}: class') and f'{tmp_path} could not be written' in told.err
    assert len(table.read_text(encoding='utf-8').splitlines()) == 9


def test_a_recognizer_that_fails_is_one_line(main, files, tiny_videos, capsys, monkeypatch):
    from lsef_plugins.engine.window_reader import RecognizerReader

    def full(*args):
        raise RuntimeError('out of memory')
    monkeypatch.setattr(RecognizerReader, 'see', full)
    for count in (1, 2):
        assert main([*files, *[str(tiny_videos.root / 'clip_0.mp4')] * count]) == 1
        assert capsys.readouterr().err.splitlines()[-1] == 'error: out of memory'
