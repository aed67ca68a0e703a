"""A whole clip is what the config's own test says of it, a film is its windows, a broken clip does not end the rest."""
import pickle
import re

import cv2
import numpy as np
import pytest
import torch

from lsef_plugins.apis import Inference, LSEFInferencer
from lsef_plugins.visualization.energy import energy_table


def hosts_own(config, checkpoint, video):
    from mmaction.apis import inference_recognizer, init_recognizer
    return inference_recognizer(init_recognizer(config, checkpoint, device='cpu'), video)


def views(cfg):
    """Three clips of three crops each, two at a time; scores, not probabilities."""
    cfg.test_pipeline[1].update(num_clips=3)
    cfg.test_pipeline[3:4] = [dict(type='Resize', scale=(48, 32), keep_ratio=False),
                              dict(type='ThreeCrop', crop_size=32)]
    cfg.model.cls_head.average_clips = 'score'
    cfg.model.test_cfg = dict(max_testing_views=2)


def segments(cfg):
    cfg.test_pipeline[1] = dict(type='UniformSample', clip_len=6, test_mode=True)
    cfg.test_pipeline[4]['input_format'] = 'NCHW'
    cfg.model = dict(
        type='Recognizer2D', neck=dict(type='LSEFNeck', rank=2), backbone=dict(type='ResNet', depth=18),
        cls_head=dict(type='TSNHead', num_classes=2, in_channels=512, consensus=dict(type='AvgConsensus', dim=1),
                      average_clips='prob'),
        data_preprocessor=dict(type='ActionDataPreprocessor', mean=[114.75] * 3, std=[57.375] * 3, format_shape='NCHW'))


def rated(frames=None):
    def change(cfg):
        cfg.model.cls_head = dict(type='ValenceArousalHead', in_channels=64, num_frames=frames)
    return change


@pytest.fixture(scope='module')
def others(tiny_door):
    """``others(name, change)``: config, checkpoint and inferencer of a changed config, made once."""
    made = {}

    def build(name, change):
        if name not in made:
            files = tiny_door.build(tiny_door.folder / name, change)
            made[name] = (*files, LSEFInferencer(*files))
        return made[name]
    return build


# ---- a clip as one thing ----

def test_scores_of_a_whole_clip_are_those_of_the_host(tiny_door, inferencer):
    sample = hosts_own(tiny_door.config, tiny_door.checkpoint, tiny_door.video)
    found = inferencer(tiny_door.video, progress=False)
    assert list(found.scores.values()) == sample.pred_score.tolist() and set(found.scores) == {'right', 'down'}
    assert found.labels == (list(found.scores)[int(sample.pred_label)],) and found.label == found.labels[0]
    assert found.probabilities == found.scores and found.valence is None


@pytest.mark.parametrize('change', [views, segments])
def test_so_they_are_with_several_views_and_with_segments(tiny_door, others, change):
    config, checkpoint, inferencer = others(change.__name__, change)
    sample = hosts_own(config, checkpoint, tiny_door.video)
    found = inferencer(tiny_door.video, progress=False)
    np.testing.assert_allclose(list(found.scores.values()), sample.pred_score, rtol=0, atol=1e-6)
    assert sum(found.probabilities.values()) == pytest.approx(1)
    assert (sum(found.scores.values()) == pytest.approx(1)) == (change is segments)     # scores stay the head's own
    pair = inferencer([tiny_door.video] * 2, batch_size=2, progress=False)
    for each in pair:
        np.testing.assert_allclose(list(each.scores.values()), list(found.scores.values()), atol=1e-6)
    assert len(found.times) == len(np.unique(found.times)) == len(found.decomposition['stable'])
    assert (np.diff(found.times) > 0).all()


CHILDREN = {      # what a child config may change of one pipeline that is named twice
    'nothing': '', 'the variable': "test_pipeline = [dict(type='SampleFrames', clip_len=4)]",
    'the data set': "_base_.test_pipeline[1].update(frame_interval=1)\n"
                    'test_dataloader = dict(dataset=dict(pipeline=_base_.test_pipeline))'}


@pytest.mark.parametrize('change', CHILDREN)
def test_scores_of_a_folder_are_those_of_a_test(tiny_door, tmp_path, capsys, change):
    from lsef_plugins.engine import launch
    config = tmp_path / 'child.py'
    config.write_text(f"_base_ = [{tiny_door.config!r}]\n{CHILDREN[change]}\n", encoding='utf-8')
    launch.test(str(config), tiny_door.checkpoint, work_dir=str(tmp_path), dump=str(tmp_path / 'scores.pkl'))
    tested = pickle.loads((tmp_path / 'scores.pkl').read_bytes())
    inferencer = LSEFInferencer(str(config), tiny_door.checkpoint)
    capsys.readouterr()
    found = inferencer(tiny_door.root, batch_size=4)
    assert 'clips: 8 of 8' in capsys.readouterr().err and not found.errors
    assert [each.name[-10:] for each in found] == [f'clip_{k}.mp4' for k in range(8)]
    for sample, each in zip(tested, found):
        np.testing.assert_allclose(list(each.scores.values()), sample['pred_score'], rtol=0, atol=1e-6)


def test_a_video_its_frames_an_array_and_a_tensor_are_one_clip(tiny_door, inferencer, clip, tmp_path):
    for index, frame in enumerate(clip):
        cv2.imwrite(str(tmp_path / f'{index}.png'), frame[..., ::-1])
    found = inferencer([tiny_door.video, tmp_path, clip, torch.from_numpy(clip)], progress=False)
    assert [each.scores for each in found] == [found[0].scores] * 4
    assert len({each.name for each in found}) == 4 and found[2].fps == 25.
    assert inferencer(clip, progress=False, fps=50.).times[-1] == found[0].times[-1] / 2


def test_curves_are_those_of_the_sampled_frames(tiny_door, inferencer, clip):
    found = inferencer(tiny_door.video, progress=False)
    indices = np.arange(4, 20, 2)               # what SampleFrames takes from the middle of 24
    assert np.array_equal(found.times, indices / 25.)
    seen = inferencer.reader([clip[i] for i in indices], indices)
    table = energy_table(seen.parts)
    for name, own in (('base', 'stable'), ('transient', 'transient'), ('residual', 'residual'),
                      ('frame_gate', 'frame_gate')):
        np.testing.assert_allclose(found.decomposition[own], table[name], rtol=1e-9)
    assert found.decomposition['event'].max() == len(found.events)
    assert np.array_equal(found.curves['right'], np.full(8, found.scores['right']))
    assert inferencer(tiny_door.video, progress=False, decomposition=False).decomposition is None


def test_each_frame_of_several_clips_has_the_energy_of_a_clip_it_lies_in(tiny_door, others):
    _, _, inferencer = others('views', views)
    found = inferencer(tiny_door.video, progress=False)
    reader, source = inferencer.reader, np.stack
    sampled = reader.sampled(24, 25.)
    assert sampled.clips == 3 and sampled.clip_len == 8
    from lsef_plugins.visualization.energy import frame_squares
    from lsef_plugins.visualization.source import open_source
    frames = source(open_source(tiny_door.video).read(range(24)))
    seen, = reader.see([reader.pack([frames[i] for i in sampled.indices], sampled)], [sampled])
    assert seen.parts.stable.shape[0] == 3
    middle = (seen.inputs[-3:].float() - 114.75) / 57.375               # crops are left, right, middle, each of 3 clips
    with torch.no_grad():
        torch.testing.assert_close(seen.parts.stable + seen.parts.transient + seen.parts.residual,
                                   reader.recognizer.backbone(middle), rtol=1e-4, atol=1e-5)
    place = np.arange(8)
    for frame, energy in zip(found.timeline.indices, found.timeline.squares['transient']):
        clips = [(abs(t - 3.5), k, t) for k in range(3) for t in place if sampled.indices[k * 8 + t] == frame]
        _, k, t = min(clips)        # the most central one
        assert energy == pytest.approx(frame_squares(seen.parts, k)['transient'][t], rel=1e-9)


def test_a_clip_shorter_than_the_sampler_is_a_clip(inferencer, clip):
    found = inferencer(clip[:5], progress=False)
    assert np.array_equal((found.times * 25).round(), np.arange(5))        # 0 2 4 1 3 0 2 4: each once, in order
    with pytest.raises(ValueError, match=r'array 0 has 5 frames, fewer than the 8 of one window .* Leave window= out'):
        inferencer(clip[:5], window=1., progress=False)


def test_ratings_are_told_as_valence_and_arousal(tiny_door, others):
    for name, frames, count in (('rated', None, 1), ('rated_frames', 4, 4)):
        config, checkpoint, inferencer = others(name, rated(frames))
        ratings = hosts_own(config, checkpoint, tiny_door.video).pred_valence_arousal.reshape(-1, 2).numpy()
        found = inferencer(tiny_door.video, progress=False)
        assert len(ratings) == count and found.labels == () and found.label is None and found.scores == {}
        np.testing.assert_allclose(np.stack([found.curves['valence'], found.curves['arousal']], 1),
                                   np.repeat(ratings, 8 // count, 0), rtol=1e-6)
        np.testing.assert_allclose([found.valence, found.arousal], ratings.mean(0), rtol=1e-5)
        assert set(found.to_dict()) >= {'valence', 'arousal', 'frames'} and 'labels' not in found.to_dict()


def test_without_a_neck_there_are_scores_and_no_decomposition(tiny_door, others, tmp_path):
    config, checkpoint, inferencer = others('stock', lambda cfg: cfg.model.pop('neck'))
    for window in (None, 'auto'):
        found = inferencer(tiny_door.video, window=window, progress=False)
        assert found.decomposition is None and found.events == [] and found.label
        found.to_json(tmp_path / 'a.json')
        assert 'base_energy_ratio' not in found.columns() and 'p_class 0' in found.columns()


# ---- films ----

def test_a_film_is_its_windows_whatever_the_batch(tiny_door, inferencer, clip):
    found = inferencer(tiny_door.video, window=.32, stride=.16, progress=False)
    assert [(window.start, window.stop) for window in found.timeline.windows] == [(k, k + 8) for k in range(0, 17, 4)]
    for window, probabilities in zip(found.timeline.windows, found.timeline.probabilities):
        indices = np.arange(window.start, window.stop)
        seen = inferencer.reader([clip[i] for i in indices], indices)
        np.testing.assert_allclose(probabilities, seen.probabilities, rtol=1e-9)
    np.testing.assert_allclose(list(found.scores.values()), found.timeline.probabilities.mean(0), rtol=1e-12)
    assert np.ptp(found.timeline.probabilities[:, 0]) > 0
    batched = inferencer(tiny_door.video, window=.32, stride=.16, batch_size=3, progress=False)
    np.testing.assert_allclose(batched.timeline.probabilities, found.timeline.probabilities, atol=1e-6)
    np.testing.assert_allclose(batched.decomposition['stable'], found.decomposition['stable'], rtol=1e-4)


def test_windows_are_as_long_as_asked_for(tiny_door, inferencer):
    spans = {window: inferencer(tiny_door.video, window=window, progress=False).timeline.windows
             for window in ('auto', .32, 5.)}
    assert [spans[key][0].stop for key in spans] == [8, 8, 8]
    times = {window: inferencer(tiny_door.video, window=window, progress=False).times for window in spans}
    assert np.diff(times['auto'])[0] == pytest.approx(.08) and np.diff(times[.32])[0] == pytest.approx(.04)
    assert np.diff(times[5.])[0] == pytest.approx(.12)                  # shrunk to the clip: 23 // 7 frames apart


def test_a_window_of_the_whole_clip_is_the_whole_clip(inferencer, clip):
    whole = inferencer(clip[4:19], progress=False)                      # 15 frames: exactly one clip of 8 at 2
    film = inferencer(clip[4:19], window='auto', progress=False)
    assert whole.scores == film.scores and np.array_equal(whole.times, film.times)
    assert np.array_equal(whole.decomposition['transient'], film.decomposition['transient'])


def test_progress_counts_windows_of_one_film_and_clips_of_several(tiny_door, inferencer):
    told = []
    inferencer(tiny_door.video, window='auto', progress=lambda *each: told.append(each))
    assert told == [(1, 2), (2, 2)]
    told.clear()
    inferencer([tiny_door.video] * 3, window='auto', progress=lambda *each: told.append(each))
    assert told == [(1, 3), (2, 3), (3, 3)]


# ---- streams ----

class Frame(np.ndarray):
    """A frame that is counted while it lives."""
    alive = most = 0

    @classmethod
    def of(cls, picture):
        frame = picture.copy().view(cls)
        frame.counted = True
        cls.alive += 1
        cls.most = max(cls.most, cls.alive)
        return frame

    def __del__(self):
        if self.__dict__.get('counted'):
            Frame.alive -= 1


def test_moments_of_a_stream_are_the_windows_of_the_film(inferencer, clip):
    film = inferencer(clip, window=.32, progress=False)
    moments = list(inferencer.stream((frame for frame in clip), window=.32))
    assert len(moments) == len(film.timeline.windows) and all(isinstance(each, Inference) for each in moments)
    for moment, (first, last), probabilities in zip(moments, film.timeline.window_times(), film.timeline.probabilities):
        assert moment.times[0] == first and moment.times[-1] == pytest.approx(last)
        assert list(moment.probabilities.values()) == probabilities.tolist()
        assert moment.decomposition['stable'].shape == (8,)
    assert inferencer((frame for frame in clip), window=.32, progress=False).scores == film.scores


def test_a_moment_is_there_with_its_last_frame_and_no_more_frames_are_held(inferencer, clip):
    read = []

    def forever():
        while True:
            read.append(1)
            yield Frame.of(clip[len(read) % 24])
    stream = inferencer.stream(forever(), window='auto', stride=.32)
    for number in range(12):
        next(stream)
        assert len(read) == 15 + 8 * number             # 8 frames, 2 apart; the next window 4 sampled frames later
    stream.close()
    assert Frame.most <= 2 * 8 + 2


class Camera:
    """What OpenCV opens: number 1 gives 40 frames, others do not exist."""
    opened = []

    def __init__(self, number):
        self.number, self.count, self.released = number, 0, False
        Camera.opened.append(self)

    def isOpened(self):
        return self.number == 1

    def get(self, what):
        return 10. if what == cv2.CAP_PROP_FPS else 0.

    def read(self):
        self.count += 1
        picture = np.zeros((32, 32, 3), np.uint8)
        picture[..., 0] = 5 * self.count                # blue, as OpenCV has it
        return (True, picture) if self.count <= 40 and not self.released else (False, None)

    def release(self):
        self.released = True


@pytest.fixture
def camera(monkeypatch):
    from lsef_plugins.visualization import frame_stream
    monkeypatch.setattr(frame_stream.cv2, 'VideoCapture', Camera)
    Camera.opened.clear()
    return Camera


def test_a_camera_is_read_as_long_as_asked_for_and_given_back(inferencer, camera):
    found = inferencer(1, seconds=2., window=.8, progress=False)
    assert found.name == 'camera 1' and found.fps == 10. and np.allclose(found.times, np.arange(20) / 10)
    assert camera.opened[-1].count == 20 and camera.opened[-1].released
    blue = np.zeros((20, 32, 32, 3), np.uint8)
    blue[..., 2] = 5 * np.arange(1, 21)[:, None, None]  # RGB
    assert inferencer(blue, window=.8, fps=10., progress=False).scores == found.scores
    assert len(inferencer(1, frames=16, progress=False).times) == 8         # 'auto': every second frame
    moments = inferencer.stream(1)
    next(moments)
    assert not camera.opened[-1].released
    moments.close()
    assert camera.opened[-1].released
    assert len(list(inferencer.stream(1, window=.8))) == 9          # it ends with its frames


def test_a_camera_that_is_absent_endless_or_too_short_is_told(inferencer, camera):
    with pytest.raises(ValueError, match='camera 0 cannot be opened: none of that number is connected'):
        inferencer(0, seconds=1., progress=False)
    with pytest.raises(ValueError, match=r'camera 1 has no end: give seconds= or frames=, .*inferencer.stream\(1\)'):
        inferencer(1, progress=False)
    with pytest.raises(ValueError, match='camera 1 ended before one window of 8 frames, 2 apart'):
        inferencer(1, frames=5, progress=False)
    for short in (1, iter(np.zeros((5, 32, 32, 3), np.uint8))):
        with pytest.raises(ValueError, match='ended before one window of 8 frames, 2 apart'):
            list(inferencer.stream(short, frames=5))
    with pytest.raises(ValueError, match='seconds of a camera are positive'):
        inferencer(1, seconds=-1., progress=False)
    assert all(each.released for each in camera.opened)


# ---- several inputs ----

def test_one_broken_clip_is_told_and_the_others_are_done(tiny_door, inferencer, tmp_path):
    for name in ('1.mp4', '3.mp4', 'deep/er/4.mp4'):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes((tiny_door.root / 'clip_0.mp4').read_bytes())
    (tmp_path / '2.mp4').write_bytes((tiny_door.root / 'clip_0.mp4').read_bytes()[:1500])
    alone = inferencer(tiny_door.video, progress=False)
    with pytest.warns(UserWarning, match=r'1 of 3 inputs failed, see .errors. The first: .*2.mp4 .*cut off'):
        found = inferencer(tmp_path, batch_size=2, progress=False)
    assert [each.name for each in found] == [str(tmp_path / '1.mp4'), str(tmp_path / '3.mp4')]
    assert [each.scores for each in found] == [alone.scores] * 2
    assert list(found.errors) == [str(tmp_path / '2.mp4')]
    with pytest.warns(UserWarning, match='1 of 4'):
        assert len(inferencer(str(tmp_path), recursive=True, progress=False)) == 3
    with pytest.warns(UserWarning, match='1 of 2'):                 # the recognizer fails, not the reading
        found = inferencer([tiny_door.video, np.zeros((3, 8, 8, 3))], batch_size=2, progress=False)
    assert len(found) == 1 and 'frames are RGB pictures' in found.errors['array 1']
    with pytest.raises(ValueError, match='2.mp4 cannot be read as a video: it is cut off'):
        inferencer(tmp_path / '2.mp4', progress=False)


def test_a_fault_of_a_batch_is_that_of_one_clip(tiny_door, inferencer, clip, monkeypatch):
    stock = inferencer.reader.see

    def see(items, *rest):
        if any(item['inputs'].float().mean() < 1 for item in items):
            raise RuntimeError('out of memory')
        return stock(items, *rest)
    monkeypatch.setattr(inferencer.reader, 'see', see)
    with pytest.warns(UserWarning, match='1 of 3'):
        found = inferencer([clip, np.zeros_like(clip), clip], batch_size=3, progress=False)
    assert [each.name for each in found] == ['array 0', 'array 2'] and found.errors == {'array 1': 'out of memory'}


def test_clips_of_other_sizes_are_not_padded_in_a_batch(tiny_door, others, clip):
    def unresized(cfg):
        cfg.test_pipeline.pop(3)
    _, _, inferencer = others('unresized', unresized)
    inputs = [clip, clip[:, :32, :48], clip]
    batched = inferencer(inputs, batch_size=3, progress=False)
    for one, each in zip(inputs, batched):
        np.testing.assert_allclose(list(inferencer(one, progress=False).scores.values()), list(each.scores.values()),
                                   atol=1e-6)


# ---- what does not fit ----

def test_what_is_asked_wrongly_is_told(tiny_door, inferencer, clip, tmp_path):
    for options, words in ((dict(window=0), "window is a positive number of seconds, 'auto', or None"),
                           (dict(window='long'), "got 'long'"), (dict(stride=1.), "Add window='auto'"),
                           (dict(window=.32, stride=-1), 'stride is a positive number'),
                           (dict(window=.32, stride=3.), r'stride=3 s is longer than a window \(0.32 s\)'),
                           (dict(window=float('inf')), 'got inf'), (dict(seconds=1.), 'bound cameras and generators'),
                           (dict(frames=9), 'there is none among the inputs'),
                           (dict(batch_size=0), 'batch_size counts'), (dict(fps=0), 'fps counts frames per second')):
        with pytest.raises(ValueError, match=words):
            inferencer(clip, progress=False, **options)
    with pytest.raises(ValueError, match='fps=5 is of inputs that do not know theirs .* a video file knows its own'):
        inferencer([tiny_door.video] * 2, fps=5, progress=False)
    assert len(inferencer([tiny_door.video, clip], fps=5, progress=False)) == 2
    assert len(inferencer([tiny_door.video, iter(clip)], seconds=.8, progress=False)) == 2
    for wrong, words in (({}, 'dict cannot be looked at. Give the path'), (True, 'bool cannot be looked at'),
                         (clip[0], 'frames are RGB pictures'), (iter([clip[0], clip[0][:9]]), 'frames 0: frame 1 is'),
                         (tmp_path, 'holds no videos')):
        with pytest.raises(ValueError, match=words):
            inferencer(wrong, progress=False)
    with pytest.raises(FileNotFoundError, match='gone.mp4 does not exist'):
        inferencer('gone.mp4', progress=False)
    with pytest.raises(ValueError, match='a stream is one camera'):
        inferencer.stream([clip, clip])


def test_a_step_that_refuses_the_frames_is_named(others, clip):
    def strict(cfg):
        cfg.test_pipeline[3:4] = [dict(type='Resize', scale=(48, 40), keep_ratio=False),
                                  dict(type='ThreeCrop', crop_size=32)]
    with pytest.raises(ValueError, match=r'a step of the test pipeline refuses frames of 64 x 64 .*Resize, ThreeCrop'):
        others('strict', strict)[2](clip, progress=False)


def test_what_cannot_be_loaded_is_told(tiny_door, tmp_path):
    from mmengine.config import Config
    state = torch.load(tiny_door.checkpoint)['state_dict']
    torch.save(dict(state_dict={k: v for k, v in state.items() if not k.startswith('neck')}), tmp_path / 'stock.pth')
    with pytest.raises(ValueError, match=r'stock.pth has no weights of the neck'):
        LSEFInferencer(tiny_door.config, tmp_path / 'stock.pth')
    with pytest.raises(ValueError, match='classes names each of the 2 classes .* got 3 names: a, b, c'):
        LSEFInferencer(tiny_door.config, tiny_door.checkpoint, classes='abc')
    with pytest.raises(ValueError, match='gone.py does not exist'):
        LSEFInferencer('gone.py', tiny_door.checkpoint)
    cfg = Config.fromfile(tiny_door.config)
    before = cfg.pretty_text
    with pytest.warns(UserWarning, match=re.escape(f'{tiny_door.config} was given without a checkpoint')):
        LSEFInferencer(cfg)
    assert cfg.pretty_text == before                                    # and a Config stays what it was


# ---- what comes out ----

def test_files_hold_what_was_said(tiny_door, inferencer, tmp_path):
    import csv
    import json
    one = inferencer(tiny_door.video, window=.32, progress=False)
    told = json.loads(one.to_json(tmp_path / 'one.json').read_text(encoding='utf-8'))
    assert told['labels'] == [one.label] and told['scores'] == one.scores and len(told['windows']) == 5
    with open(one.to_csv(tmp_path / 'one.csv'), newline='', encoding='utf-8') as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 24 == len(told['frames']['time_s'])
    np.testing.assert_allclose([float(row['transient_energy_ratio']) for row in rows], one.decomposition['transient'],
                               rtol=1e-5)
    (tmp_path / 'no.mp4').write_text('')
    with pytest.warns(UserWarning, match='inputs failed'):
        both = inferencer([tiny_door.video, tmp_path / 'no.mp4'], progress=False)
    told = json.loads(both.to_json(tmp_path / 'both.json').read_text(encoding='utf-8'))
    assert len(told['results']) == 1 and 'it is empty' in told['errors'][str(tmp_path / 'no.mp4')]
    with open(both.to_csv(tmp_path / 'both.csv'), newline='', encoding='utf-8') as file:
        good, bad = csv.DictReader(file)
    assert good['label'] == both[0].label and float(good['score_down']) == both[0].scores['down'] and not good['error']
    assert bad['input'].endswith('no.mp4') and 'it is empty' in bad['error'] and not bad['label']
