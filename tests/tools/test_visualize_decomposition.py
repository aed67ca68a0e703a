"""The command line: a picture and a table for a video, error lines with status 1, and the same bytes twice."""
import csv
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

TOOL = Path(__file__).resolve().parents[2] / 'tools' / 'visualize_decomposition.py'


@pytest.fixture(scope='module')
def tool():
    before = os.environ.get('LSEF_PLUGINS_REGISTER')
    spec = importlib.util.spec_from_file_location('visualize_decomposition', TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    if before is None:
        os.environ.pop('LSEF_PLUGINS_REGISTER', None)


def rows_of(path):
    with open(path, newline='') as file:
        return list(csv.DictReader(file))


def test_a_video_gives_a_picture_and_a_row_for_each_sampled_frame_twice_the_same(tool, tiny_videos, tmp_path, capsys):
    video = str(tiny_videos.root / 'clip_0.mp4')
    outs = [tmp_path / 'deep' / name for name in ('a.png', 'b.png')]
    for out in outs:
        assert tool.main([video, '--frames', '12', '--out', str(out), '--width', '1300']) == 0
    assert f'12 frames, {len({row["event"] for row in rows_of(outs[0].with_suffix(".csv"))} - {""})} event(s); wrote' \
        in capsys.readouterr().out
    assert cv2.imread(str(outs[0])).shape[1] == 1300
    rows = rows_of(outs[0].with_suffix('.csv'))
    assert [int(row['frame']) for row in rows] == np.round(np.linspace(0, 23, 12)).astype(int).tolist()
    assert [float(row['time_s']) for row in rows] == pytest.approx([int(row['frame']) / 25 for row in rows])
    for suffix in ('.png', '.csv'):
        assert outs[0].with_suffix(suffix).read_bytes() == outs[1].with_suffix(suffix).read_bytes()
    assert sorted(path.name for path in (tmp_path / 'deep').iterdir()) == ['a.csv', 'a.png', 'b.csv', 'b.png']


def test_rank_kappa_and_the_stretch_arrive(tool, tiny_videos, tmp_path):
    video, tables = str(tiny_videos.root / 'clip_1.mp4'), []
    for options in ([], ['--rank', '1'], ['--kappa', '9'], ['--start', '.2', '--duration', '.4']):
        table = tmp_path / 'elsewhere.csv'
        assert tool.main([video, '--out', str(tmp_path / 'a.png'), '--csv', str(table), *options]) == 0
        tables.append(rows_of(table))
    plain, low, high, part = tables
    base = [sum(float(row['base_energy_ratio']) for row in rows) for rows in (plain, low)]
    loud = [sum(float(row['transient_energy_ratio']) for row in rows) for rows in (plain, high)]
    assert base[1] < base[0] and loud[1] < loud[0]
    assert [int(row['frame']) for row in part] == list(range(5, 15))
    assert not (tmp_path / 'a.csv').exists()


def test_what_goes_wrong_is_one_line_and_status_one_and_leaves_nothing(tool, tiny_videos, tmp_path, capsys):
    good = str(tiny_videos.root / 'clip_0.mp4')
    (tmp_path / 'file').write_text('')
    for arguments, words in (
            ([str(tmp_path / 'no.mp4')], 'does not exist'), ([str(tmp_path / 'file')], 'cannot be read as a video'),
            ([good, '--frames', '2'], 'needs at least 4'), ([good, '--rank', '0'], 'rank is the largest rank'),
            ([good, '--out', str(tmp_path / 'file' / 'a.png')], 'could not be written'),
            ([good, '--out', str(tmp_path / 'a.jpg')], 'ends in .png'), ([good, '--width', '3'], 'width is 3')):
        if '--out' not in arguments:
            arguments = [*arguments, '--out', str(tmp_path / 'a.png')]
        assert tool.main(arguments) == 1
        said = capsys.readouterr().err
        assert any(line.startswith('error: ') and words in line for line in said.splitlines()), said
        assert 'Traceback' not in said and [path.name for path in tmp_path.iterdir()] == ['file']


def test_options_that_would_be_ignored_are_refused(tool, capsys):
    for arguments, words in ((['a.mp4', '--config', 'c.py', '--rank', '2'], '--rank: with --config'),
                             (['a.mp4', '--checkpoint', 'c.pth'], '--checkpoint needs its --config')):
        with pytest.raises(SystemExit):
            tool.main(arguments)
        assert words in capsys.readouterr().err


def test_pixels_need_no_openmmlab_package(tiny_videos, tmp_path):
    (tmp_path / 'mmaction.py').write_text('raise ImportError("not here")')
    (tmp_path / 'mmengine.py').write_text('raise ImportError("not here")')
    environment = {**os.environ, 'PYTHONPATH': os.pathsep.join([str(tmp_path), str(TOOL.parents[1])])}
    environment.pop('LSEF_PLUGINS_REGISTER', None)
    subprocess.run([sys.executable, str(TOOL), str(tiny_videos.root / 'clip_0.mp4'), '--frames', '8', '--out',
                    str(tmp_path / 'a.png')], check=True, env=environment)
    assert (tmp_path / 'a.png').exists() and (tmp_path / 'a.csv').exists()


def test_a_recognizers_own_features_are_those_its_neck_receives(tool, tiny_videos, tiny_config, tmp_path, capsys):
    import torch
    from mmaction.apis import init_recognizer
    config = tmp_path / 'with_neck.py'
    tiny_config(tmp_path, model=dict(neck=dict(type='LSEFNeck', rank=3))).dump(config)
    checkpoint = tmp_path / 'weights.pth'
    recognizer = init_recognizer(str(config), device='cpu')
    with torch.no_grad():
        recognizer.backbone.conv1.conv.weight.mul_(3)
    torch.save(dict(state_dict=recognizer.state_dict()), checkpoint)
    arguments = tool.parse_args([str(tiny_videos.root / 'clip_0.mp4'), '--config', str(config), '--checkpoint',
                                 str(checkpoint)])
    found = tool.of_features(arguments)
    # 8 frames at interval 2 from the middle of 24: 4, 6, ... 18
    assert found.indices.tolist() == list(range(4, 20, 2)) and not found.pixels
    np.testing.assert_allclose(found.times, found.indices / 25)
    assert found.frames.shape == (8, 32, 32, 3) and found.parts.stable.shape == (1, 64, 8, 1, 1)
    clip = torch.from_numpy(found.frames).permute(3, 0, 1, 2).float()[None]
    with torch.no_grad():
        features = recognizer.backbone((clip - 114.75) / 57.375)
    whole = found.parts.stable + found.parts.transient + found.parts.residual
    torch.testing.assert_close(whole, features, rtol=1e-4, atol=1e-5)
    assert 'rank 3' in found.subtitle and 'weights.pth' in found.caption
    out = tmp_path / 'features.png'
    assert tool.main([arguments.video, '--config', str(config), '--out', str(out)]) == 0
    assert len(rows_of(out.with_suffix('.csv'))) == 8
    first = out.read_bytes()
    assert tool.main([arguments.video, '--config', str(config), '--out', str(out)]) == 0
    assert out.read_bytes() == first        # an untrained recognizer is seeded


def test_a_recognizer_of_segments_shows_one_frame_for_each(tool, tiny_videos, tiny_config, tmp_path):
    config = tiny_config(tmp_path, model=dict(
        _delete_=True, type='Recognizer2D', neck=dict(type='LSEFNeck'),
        backbone=dict(type='ResNet', depth=18, norm_eval=False),
        cls_head=dict(type='TSNHead', num_classes=2, in_channels=512, consensus=dict(type='AvgConsensus', dim=1)),
        data_preprocessor=dict(type='ActionDataPreprocessor', mean=[114.75] * 3, std=[57.375] * 3,
                               format_shape='NCHW')))
    steps = config.test_dataloader.dataset.pipeline
    steps[1] = dict(type='SampleFrames', clip_len=1, frame_interval=1, num_clips=6, test_mode=True)
    steps[4]['input_format'] = 'NCHW'
    config.dump(tmp_path / 'tsn.py')
    found = tool.of_features(tool.parse_args([str(tiny_videos.root / 'clip_0.mp4'), '--config',
                                              str(tmp_path / 'tsn.py')]))
    assert found.indices.tolist() == [2, 6, 10, 14, 18, 22]
    assert found.parts.stable.shape[:3] == (1, 512, 6) and found.frames.shape == (6, 32, 32, 3)


def test_of_several_crops_the_middle_one_is_shown_and_decomposed(tool, tiny_videos, tiny_config, tmp_path):
    found = []
    for crop in ('ThreeCrop', 'CenterCrop'):
        config = tiny_config(tmp_path, model=dict(neck=dict(type='LSEFNeck')))
        steps = config.test_dataloader.dataset.pipeline
        steps[3]['scale'] = (64, 32)
        steps.insert(4, dict(type=crop, crop_size=32))
        config.dump(tmp_path / 'crops.py')
        found.append(tool.of_features(tool.parse_args([str(tiny_videos.root / 'clip_0.mp4'), '--config',
                                                       str(tmp_path / 'crops.py')])))
    several, one = found
    assert np.array_equal(several.frames, one.frames)
    for field in ('stable', 'transient', 'residual', 'frame_gate'):
        np.testing.assert_allclose(getattr(several.parts, field), getattr(one.parts, field), atol=1e-5)


@pytest.mark.parametrize('sampler', [
    dict(type='SampleFrames', clip_len=8, frame_interval=2, num_clips=3, test_mode=True),
    dict(type='UniformSample', clip_len=8, num_clips=4, test_mode=True),
    dict(type='DenseSampleFrames', clip_len=8, frame_interval=2, num_clips=1, test_mode=True)])
def test_of_several_clips_one_is_shown(tool, tiny_videos, tiny_config, tmp_path, sampler):
    config = tiny_config(tmp_path, model=dict(neck=dict(type='LSEFNeck')))
    config.test_dataloader.dataset.pipeline[1] = sampler
    config.dump(tmp_path / 'several.py')
    out = tmp_path / 'a.png'
    assert tool.main([str(tiny_videos.root / 'clip_0.mp4'), '--config', str(tmp_path / 'several.py'), '--out',
                      str(out)]) == 0
    frames = [int(row['frame']) for row in rows_of(out.with_suffix('.csv'))]
    assert len(frames) == 8 and set(np.diff(frames)) <= {2, 3}, 'one stretch of time, forward'


def test_a_feature_map_of_fewer_frames_gets_the_frames_in_its_middle(tool):
    assert (np.arange(12) * 10)[tool.middle_frames(12, 4)].tolist() == [10, 40, 70, 100]


def test_a_report_of_a_recognizer_has_classes_pages_and_curves(tool, tiny_videos, tiny_config, tmp_path, capsys):
    import json
    tiny_config(tmp_path, model=dict(neck=dict(type='LSEFNeck'))).dump(tmp_path / 'neck.py')
    assert tool.main([str(tiny_videos.root / 'clip_0.mp4'), '--config', str(tmp_path / 'neck.py'), '--report',
                      str(tmp_path / 'out'), '--interval', '1', '--stride', '8', '--width', '1000']) == 0
    told = json.loads((tmp_path / 'out' / 'clip_0.json').read_text())
    assert len(told['windows']) == 3 and set(told['windows'][0]['probabilities']) == {'class 0', 'class 1'}
    assert len(told['frames']['frame']) == 24 and len(told['frames']['p_class 1']) == 24
    names = {path.name for path in (tmp_path / 'out').iterdir()}
    assert names == {'clip_0.html', 'clip_0.png', 'clip_0_surfaces.png', 'clip_0.csv', 'clip_0.json', 'index.html'}
    said = capsys.readouterr()
    assert 'clip_0.mp4: 3 of 3' in said.err and 'clip_0.html' in said.out
    assert 'mostly class' in said.out


def test_a_folder_gives_an_index_and_its_broken_file_a_line_at_the_end(tool, tiny_videos, tmp_path, capsys):
    clips = tmp_path / 'clips'
    clips.mkdir()
    whole = (tiny_videos.root / 'clip_0.mp4').read_bytes()
    (clips / 'good.mp4').write_bytes(whole)
    (clips / 'cut.mp4').write_bytes(whole[:len(whole) // 2])
    assert tool.main([str(clips), '--report', str(tmp_path / 'out'), '--width', '1000']) == 1
    said = capsys.readouterr()
    assert 'cut.mp4: failed' in said.out and 'good.mp4: 0.96 s' in said.out and '1 of 2 clips' in said.out
    last = said.err.strip().splitlines()[-1]
    assert last.startswith('error: ') and 'cut.mp4 cannot be read as a video: it is cut off' in last
    assert (tmp_path / 'out' / 'index.html').exists() and (tmp_path / 'out' / 'good.html').exists()
    assert not list((tmp_path / 'out').glob('cut*'))


def test_what_a_report_cannot_start_with_is_one_line(tool, tiny_videos, tmp_path, capsys, monkeypatch):
    from lsef_plugins.visualization import face_box
    video, out = str(tiny_videos.root / 'clip_0.mp4'), ['--report', str(tmp_path / 'out')]
    monkeypatch.setattr(face_box.os.path, 'isfile', lambda path: not str(path).endswith('.xml'))
    monkeypatch.setattr(face_box.importlib.util, 'find_spec', lambda name: None)
    for arguments, words in (([video, *out, '--face-crop'], 'holds no face detector'),
                             ([video, *out, '--window', '30'], 'Choose --window, --stride and --interval'),
                             ([str(tmp_path), *out], 'no videos'), ([video, *out, '--rank', '0'], 'rank is 0'),
                             ([str(tmp_path / 'no.mp4'), *out], 'does not exist')):
        assert tool.main(arguments) == 1
        said = capsys.readouterr().err
        assert any(line.startswith('error: ') and words in line for line in said.splitlines()), said
    assert not [path for path in tmp_path.rglob('*') if path.suffix != '.html' and path.is_file()]


def test_options_of_the_other_mode_are_refused(tool, tmp_path, capsys):
    for arguments, words in ((['a.mp4', '--video'], '--video: for reports; add --report'),
                             (['a.mp4', '--face-crop', '--stride', '3'], '--face-crop, --stride: for reports'),
                             ([str(tmp_path), '--out', 'a.png'], '--out: for the picture of one clip'),
                             (['a.mp4', '--report', 'o', '--config', 'c', '--window', '8'], '--window: with --config'),
                             (['a.mp4', '--report', 'o', '--span', '2'], '--span is for a sampler of a --config')):
        with pytest.raises(SystemExit):
            tool.main(arguments)
        assert words in capsys.readouterr().err
    assert tool.parse_args([str(tmp_path)]).report == f'{tmp_path.name}_decomposition'


@pytest.mark.parametrize('module, words', [('cv2', 'pip install opencv-python, or opencv-python-headless'),
                                           ('matplotlib', 'pip install matplotlib.')])
def test_a_missing_package_is_one_line_with_its_pip_line(tool, tiny_videos, tmp_path, capsys, monkeypatch, module,
                                                         words):
    monkeypatch.setitem(sys.modules, module, None)
    assert tool.main([str(tiny_videos.root / 'clip_0.mp4'), '--out', str(tmp_path / 'a.png')]) == 1
    said = capsys.readouterr().err
    assert said.startswith(f'error: {module} cannot be imported') and words in said and 'Traceback' not in said


def test_a_config_that_cannot_be_shown_is_told_why(tool, tiny_videos, tiny_config, tmp_path, capsys):
    tiny_config(tmp_path).dump(tmp_path / 'plain.py')
    tiny_config(tmp_path, model=dict(neck=dict(type='LSEFNeck'))).dump(tmp_path / 'neck.py')
    frames = tiny_config(tmp_path, model=dict(neck=dict(type='LSEFNeck')))
    frames.test_dataloader.dataset.pipeline.pop(1)      # as of a data set that makes windows itself
    frames.test_dataloader.dataset.clip_len = 8
    frames.dump(tmp_path / 'frames.py')
    tiny_config(tmp_path, model=dict(neck=dict(type='NoNeck'))).dump(tmp_path / 'unknown.py')
    (tmp_path / 'syntax.py').write_text('model = dict(')
    video = str(tiny_videos.root / 'clip_0.mp4')
    for options, words in ((['--config', 'frames.py'], 'no step of its test pipeline samples; its data set makes'),
                           (['--config', 'unknown.py'], 'its model cannot be built: NoNeck is not in'),
                           (['--config', 'syntax.py'], 'syntax.py cannot be read: line 1'),
                           (['--config', 'neck.py', '--device', 'none'], '--device none cannot be used here'),
                           (['--config', 'plain.py'], "has no LSEFNeck. Add neck=dict(type='LSEFNeck')"),
                           (['--config', 'none.py'], 'none.py'),
                           (['--config', 'neck.py', '--stream', '1'], '--stream 1: this recognizer has 1'),
                           (['--config', 'neck.py', '--checkpoint', str(tmp_path / 'no.pth')], 'no.pth')):
        options[1] = str(tmp_path / options[1])
        assert tool.main([video, *options, '--out', str(tmp_path / 'a.png')]) == 1
        assert any(line.startswith('error: ') and words in line for line in capsys.readouterr().err.splitlines())
    assert tool.main([str(tmp_path / 'no.mp4'), '--config', str(tmp_path / 'neck.py')]) == 1
    assert 'does not exist' in capsys.readouterr().err
    assert not (tmp_path / 'a.png').exists()
