"""The registered steps: seeds, clips, containers, and their place in the host's pipelines."""
import hashlib

import numpy as np
import pytest

pytest.importorskip('mmaction')

import cv2

import lsef_plugins  # noqa: F401
from lsef_plugins.datasets.transforms.corruptions import CORRUPTIONS, GROUPS, TEMPORAL_CORRUPTIONS
from lsef_plugins.registry import TRANSFORMS

KINDS = tuple(CORRUPTIONS)
SHORT_NAMES = {'FrameDrop': 'frame_drop', 'FrameFreeze': 'frame_freeze', 'BlackFrames': 'black_frames',
               'NoiseBurst': 'noise_burst', 'Flicker': 'flicker', 'FrameJumble': 'frame_jumble',
               'FrameRate': 'frame_rate', 'LoopedTail': 'looped_tail', 'GaussianNoise': 'gaussian_noise',
               'ShotNoise': 'shot_noise', 'MotionBlur': 'motion_blur', 'Defocus': 'defocus',
               'LowResolution': 'low_resolution', 'JPEGCompression': 'jpeg', 'LightDrift': 'light_drift',
               'CameraShake': 'camera_shake', 'MouthOcclusion': 'mouth_occlusion', 'EyesOcclusion': 'eyes_occlusion',
               'MovingOcclusion': 'moving_occlusion', 'BriefOcclusion': 'brief_occlusion'}


def sample(name='data/val/00001.mp4', clips=1, clip_len=8, crops=1, seed=0):
    rng = np.random.RandomState(seed)
    imgs = [rng.randint(20, 230, (6, 7, 3)).astype(np.uint8) for _ in range(crops * clips * clip_len)]
    return dict(filename=name, imgs=imgs, clip_len=clip_len, num_clips=clips, label=3, img_shape=(6, 7))


def run(results=None, **cfg):
    return TRANSFORMS.build(dict(dict(type='VideoCorruption', severity=3), **cfg))(results or sample())


def same(a, b):
    return len(a) == len(b) and all(np.array_equal(x, y) for x, y in zip(a, b))


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('name', ('VideoCorruption', 'RandomVideoCorruption'))
def test_severity_zero_is_bit_identical(kind, name):
    cfg = dict(kind=kind, severity=0) if name == 'VideoCorruption' else dict(kinds=[kind], severities=[0], prob=1)
    out = TRANSFORMS.build(dict(type=name, **cfg))(given := sample(clips=2))
    assert same(out['imgs'], sample(clips=2)['imgs']) and not out['corruption']['touched'].any()
    assert out is given


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('severity', (1, 5))
def test_only_pictures_change_and_the_input_list_is_kept(kind, severity):
    given = sample(clips=3)
    frames = given['imgs']
    out = run(given, kind=kind, severity=severity)
    assert same(frames, sample(clips=3)['imgs']), 'the frames that came are not written to'
    assert not same(out['imgs'], frames)
    assert [(f.shape, f.dtype) for f in out['imgs']] == [(f.shape, f.dtype) for f in frames]
    assert {k: v for k, v in out.items() if k not in ('imgs', 'corruption')} == \
        {k: v for k, v in sample(clips=3).items() if k != 'imgs'}
    assert (out['corruption']['kind'], out['corruption']['severity']) == (kind, severity)
    hit = [not np.array_equal(a, b) for a, b in zip(frames, out['imgs'])]
    touched = out['corruption']['touched'].tolist()
    # A gain or a drift may round to the picture itself, and a patch may lie on its own colour.
    assert all(touched) if kind in ('flicker', 'light_drift') else touched == hit


@pytest.mark.parametrize('kind', KINDS)
def test_a_stacked_array_stays_one_and_gets_the_same_corruption(kind):
    given = dict(sample(clips=2), imgs=np.stack(sample(clips=2)['imgs']))
    out = run(given, kind=kind)['imgs']
    assert isinstance(out, np.ndarray) and out.dtype == np.uint8
    assert same(out, run(sample(clips=2), kind=kind)['imgs'])


@pytest.mark.parametrize('kind', KINDS)
def test_a_sample_is_broken_alike_whatever_came_before_and_another_differently(kind):
    first = run(kind=kind)['imgs']
    np.random.seed(5)
    step = TRANSFORMS.build(dict(type='VideoCorruption', kind=kind, severity=3))
    for i in range(3):
        step(sample(f'data/val/{i + 2:05}.mp4'))
    assert same(step(sample())['imgs'], first)
    if kind in ('looped_tail', 'defocus', 'low_resolution', 'jpeg'):    # nothing is drawn
        return
    others = [step(sample(f'data/val/{i + 2:05}.mp4'))['imgs'] for i in range(20)]
    assert sum(not same(first, other) for other in others) >= 12
    seeds = [run(kind=kind, seed=s)['imgs'] for s in range(1, 21)]
    assert sum(not same(first, other) for other in seeds) >= 12


# As the first release of the step gave them: seed, name and clip decide, and quick-start figures hang on it.
FROZEN = {'frame_drop': '296476d16a566f2a', 'frame_freeze': 'ddba3394ad5035ba', 'black_frames': 'f89191b2acffcfa5',
          'noise_burst': '9ec1981a9148ca1c', 'flicker': '40b42c2169406115'}


@pytest.mark.parametrize('name', ('TemporalCorruption', 'VideoCorruption'))
@pytest.mark.parametrize('kind', FROZEN)
def test_a_seeded_sample_has_the_pixels_of_every_release(kind, name):
    digest = hashlib.blake2b(digest_size=8)
    for severity in (1, 3, 5):
        given = sample(clips=3, crops=2)
        for frame in TRANSFORMS.build(dict(type=name, kind=kind, severity=severity))(given)['imgs']:
            digest.update(frame.tobytes())
    assert digest.hexdigest() == FROZEN[kind]


def test_a_data_set_may_move():
    first = run(kind='frame_drop')['imgs']
    for name in ('/mnt/disk/val/00001.mp4', 'val/00001.mp4', r'D:\sets\val\00001.mp4', 'a//val//00001.mp4'):
        assert same(run(sample(name), kind='frame_drop')['imgs'], first)
    moved = [run(sample(f'data/train{i}/00001.mp4'), kind='frame_drop')['imgs'] for i in range(5)]
    assert not all(same(first, other) for other in moved)


def test_raw_frame_folders_have_names_too():
    given = sample()
    given['frame_dir'] = given.pop('filename')
    assert same(run(given, kind='noise_burst')['imgs'], run(kind='noise_burst')['imgs'])


def test_without_a_seed_each_call_draws_anew_from_numpys_state():
    np.random.seed(0)
    a, b = (run(kind='noise_burst', seed=None)['imgs'] for _ in range(2))
    np.random.seed(0)
    assert not same(a, b) and same(a, run(kind='noise_burst', seed=None)['imgs'])


@pytest.mark.parametrize('kind', KINDS)
def test_each_clip_is_corrupted_on_its_own(kind):
    """Frames of one clip never reach another one, and the clips of a sample differ in where they are hit."""
    clips, t = 6, 8
    given = sample(clips=clips, clip_len=t)
    out = run(given, kind=kind, severity=2)
    alone = []
    for i in range(clips):
        one = dict(sample(), imgs=sample(clips=clips)['imgs'][i * t:(i + 1) * t])
        touched = out['corruption']['touched'][i * t:(i + 1) * t]
        assert touched.any()
        if kind.startswith('frame_') or kind == 'looped_tail':
            held = out['imgs'][i * t:(i + 1) * t]
            assert all(any(np.array_equal(f, g) for g in one['imgs']) for f in held)
        alone.append(tuple(touched))
    places = ('frame_drop', 'frame_freeze', 'frame_rate', 'black_frames', 'noise_burst', 'brief_occlusion')
    assert kind not in places or len(set(alone)) > 1


def test_the_crops_of_a_clip_are_the_same_moments():
    out = run(sample(clips=2, crops=3), kind='frame_drop')
    touched = out['corruption']['touched'].reshape(3, 2, 8)
    assert (touched == touched[:1]).all() and (touched[0, 0] != touched[0, 1]).any()


def test_single_frames_of_a_2d_sampler_are_one_clip():
    out = run(sample(clips=8, clip_len=1), kind='frame_freeze', severity=5)
    assert out['corruption']['touched'].sum() == 5
    assert same(out['imgs'], run(sample(clips=1, clip_len=8), kind='frame_freeze', severity=5)['imgs'])


def test_without_a_sampler_all_frames_are_one_clip():
    given = sample()
    del given['clip_len'], given['num_clips']
    assert same(run(given, kind='frame_drop')['imgs'], run(kind='frame_drop')['imgs'])


def test_clip_lengths_by_modality_count_rgb():
    given = dict(sample(), clip_len=dict(RGB=8, Pose=32))
    assert same(run(given, kind='frame_drop')['imgs'], run(kind='frame_drop')['imgs'])


@pytest.mark.parametrize('name, kind', SHORT_NAMES.items())
def test_the_short_names_are_the_kinds(name, kind):
    step = TRANSFORMS.build(dict(type=name, severity=4, seed=9))
    assert same(step(sample())['imgs'], run(kind=kind, severity=4, seed=9)['imgs'])
    assert repr(step) == f'{name}(severity=4, seed=9)'


def test_every_kind_has_a_short_name():
    assert set(SHORT_NAMES.values()) == set(KINDS)


def test_the_reprs_are_complete():
    assert repr(TRANSFORMS.build(dict(type='TemporalCorruption', kind='flicker', severity=2))) == \
        "TemporalCorruption(kind='flicker', severity=2, seed=0)"
    assert repr(TRANSFORMS.build(dict(type='RandomTemporalCorruption', kinds=['flicker'], severities=[1, 2]))) == \
        "RandomTemporalCorruption(kinds=('flicker',), severities=(1, 2), prob=0.5, seed=None)"


@pytest.mark.parametrize('name, kinds, known', [
    ('RandomTemporalCorruption', None, tuple(TEMPORAL_CORRUPTIONS)), ('RandomVideoCorruption', None, KINDS),
    ('RandomVideoCorruption', ['occlusion', 'jpeg'], (*GROUPS['occlusion'], 'jpeg'))])
def test_random_corruption_covers_its_share_kinds_and_severities(name, kinds, known):
    step = TRANSFORMS.build(dict(type=name, prob=0.3, severities=(1, 3), kinds=kinds))
    assert step.kinds == known
    np.random.seed(0)
    drawn = [step.choose(np.random) for _ in range(6000)]
    hit = [pair for pair in drawn if pair[1]]
    assert len(hit) / 6000 == pytest.approx(0.3, abs=0.03)
    assert set(hit) == {(kind, severity) for kind in known for severity in (1, 3)}
    assert min(hit.count(pair) for pair in set(hit)) > 0.5 * len(hit) / len(set(hit))


def test_without_a_seed_the_crops_of_a_clip_are_still_the_same_moments():
    np.random.seed(0)
    step = TRANSFORMS.build(dict(type='RandomVideoCorruption', prob=1, kinds='noise_burst'))
    drawn = [step(sample(clips=2, crops=3))['corruption']['touched'].reshape(3, 16) for _ in range(6)]
    assert all((crops == crops[0]).all() for crops in drawn)
    assert len({tuple(crops[0]) for crops in drawn}) > 1


def test_windows_of_one_video_are_broken_each_in_its_own_way():
    frames = [run(dict(sample(), frame_index=index), kind='noise_burst')['imgs'] for index in range(6)]
    assert sum(not same(frames[0], other) for other in frames) == 5
    last = run(dict(sample(), frame_index=np.arange(3, 6)), kind='noise_burst')['imgs']
    assert same(last, frames[5]), 'rated frames are named by their last one'
    assert not same(run(kind='noise_burst')['imgs'], frames[0])


def test_a_seeded_random_corruption_is_a_property_of_the_sample():
    half, all_ = (TRANSFORMS.build(dict(type='RandomTemporalCorruption', prob=p, seed=1)) for p in (0.5, 1))
    names = [f'val/{i:05}.mp4' for i in range(40)]
    once = [half(sample(n))['imgs'] for n in names]
    assert all(same(a, half(sample(n))['imgs']) for a, n in zip(once, names))
    hit = [not same(a, sample()['imgs']) for a in once]
    assert 10 < sum(hit) < 30
    assert all(same(a, all_(sample(n))['imgs']) for a, n, h in zip(once, names, hit) if h)


def test_the_temporal_steps_know_the_kinds_in_time_and_give_the_same_pixels():
    for kind in TEMPORAL_CORRUPTIONS:
        temporal = TRANSFORMS.build(dict(type='TemporalCorruption', kind=kind, severity=2))
        assert same(temporal(sample())['imgs'], run(kind=kind, severity=2)['imgs'])
    for cfg in (dict(type='TemporalCorruption', kind='jpeg', severity=2),
                dict(type='RandomTemporalCorruption', kinds=['flicker', 'jpeg'])):
        with pytest.raises(ValueError, match="kind='jpeg' is not a temporal corruption; known: frame_drop"):
            TRANSFORMS.build(cfg)


@pytest.mark.parametrize('cfg, message', [
    (dict(kind='frame_drop', severity=True), 'severity=True must be'),
    (dict(kind='frame_drop', severity=6), 'severity=6 must be an integer from 0'),
    (dict(kind='frame_drop', severity=1.5), 'severity=1.5 must be'),
    (dict(kind='fog', severity=1), "kind='fog' is not .* known: frame_drop, frame_freeze, black_frames"),
    (dict(kind='flicker', severity=1, seed='a'), "seed='a' must be an integer"),
])
def test_wrong_settings_are_refused_at_construction(cfg, message):
    with pytest.raises(ValueError, match=message):
        TRANSFORMS.build(dict(type='TemporalCorruption', **cfg))


@pytest.mark.parametrize('cfg, message', [
    (dict(prob=1.2), 'prob=1.2 must be a share'),
    (dict(kinds=[]), 'at least one each'),
    (dict(severities=()), 'at least one each'),
    (dict(kinds=['flicker', 'fog']), "kind='fog'"),
    (dict(severities=[1, 7]), 'severity=7'),
])
def test_wrong_settings_of_the_random_step_are_refused(cfg, message):
    with pytest.raises(ValueError, match=message):
        TRANSFORMS.build(dict(type='RandomTemporalCorruption', **cfg))


@pytest.mark.parametrize('change, message', [
    (dict(imgs=None), 'FrameDrop found no decoded frames.*after the Decode step'),
    (dict(imgs=[]), 'after the Decode step'),
    (dict(imgs=[np.zeros((4, 4, 3), np.float32)] * 8), r'got \(4, 4, 3\) float32.*before FormatShape'),
    (dict(imgs=[np.zeros((4, 4), np.uint8)] * 8), 'optical flow is not supported'),
    (dict(imgs=np.zeros((1, 3, 8, 4, 4), np.uint8)), 'before FormatShape'),
    (dict(imgs=np.zeros((8, 3, 4, 4), np.uint8), input_shape=(8, 3, 4, 4)), 'before FormatShape'),
    (dict(clip_len=3), '8 frames, which is not a multiple of clip_len=3'),
    (dict(filename=None), r'needs one of the keys filename, frame_dir.*seed=None'),
])
def test_a_wrong_place_in_the_pipeline_is_named(change, message):
    with pytest.raises(ValueError, match=message):
        TRANSFORMS.build(dict(type='FrameDrop', severity=1))(dict(sample(), **change))


@pytest.fixture(scope='module')
def mp4(tmp_path_factory):
    path = tmp_path_factory.mktemp('clips') / 'moving.mp4'
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'mp4v'), 25, (64, 48))
    for i in range(40):
        frame = np.full((48, 64, 3), 90, np.uint8)
        cv2.circle(frame, (8 + i, 24), 6, (200, 220, 30), -1)
        writer.write(frame)
    writer.release()
    return str(path)


def pipeline(path, sampler, place, tail):
    from mmengine.dataset import Compose
    corrupt = dict(type='TemporalCorruption', kind='black_frames', severity=3)
    steps = [dict(type='DecordInit'), sampler, dict(type='DecordDecode'),
             dict(type='Resize', scale=(-1, 32)), *tail,
             dict(type='PackActionInputs', meta_keys=('filename', 'corruption'))]
    steps.insert(place, corrupt)
    steps = [TRANSFORMS.build(dict(step)) for step in steps]
    return Compose(steps)(dict(filename=path, label=1, start_index=0, modality='RGB'))


@pytest.mark.parametrize('place', (3, 4, 5), ids=('after decoding', 'after Resize', 'after the crop'))
@pytest.mark.parametrize('sampler, shape, per_clip', [
    (dict(type='SampleFrames', clip_len=8, frame_interval=2, num_clips=3, test_mode=True), (9, 3, 8, 32, 32), 2),
    (dict(type='UniformSample', clip_len=16, num_clips=1, test_mode=True), (3, 3, 16, 32, 32), 3),
    (dict(type='SampleFrames', clip_len=1, frame_interval=1, num_clips=8, test_mode=True), (24, 3, 32, 32), 2),
], ids=('multi-clip', 'uniform', '2D'))
def test_it_works_in_the_hosts_pipelines(mp4, place, sampler, shape, per_clip):
    form = 'NCHW' if sampler.get('clip_len') == 1 else 'NCTHW'
    tail = [dict(type='ThreeCrop', crop_size=32), dict(type='FormatShape', input_format=form)]
    packed = pipeline(mp4, sampler, place, tail)
    inputs = packed['inputs'].numpy()
    assert inputs.shape == shape and inputs.dtype == np.uint8
    t = 8 if form == 'NCHW' else shape[2]
    frames = inputs.reshape(-1, t, *shape[1:]) if form == 'NCHW' else inputs.swapaxes(1, 2)
    black = (frames.reshape(*frames.shape[:2], -1) == 0).all(axis=2)
    assert (black.sum(axis=1) == per_clip).all()
    assert packed['data_samples'].metainfo['corruption']['touched'].sum() > 0
    assert packed['data_samples'].gt_label.item() == 1


def test_the_workers_and_their_number_change_nothing(mp4, tmp_path):
    from mmengine.registry import DefaultScope
    from mmengine.runner import Runner
    (tmp_path / 'list.txt').write_text(''.join(f'{mp4} {i % 7}\n' for i in range(1)) + f'{mp4} 1\n' * 4)
    pipe = [dict(type='DecordInit'), dict(type='UniformSample', clip_len=8, num_clips=1, test_mode=True),
            dict(type='DecordDecode'), dict(type='TemporalCorruption', kind='noise_burst', severity=4),
            dict(type='Resize', scale=(32, 24), keep_ratio=False), dict(type='FormatShape', input_format='NCTHW'),
            dict(type='PackActionInputs')]
    seen = []
    with DefaultScope.overwrite_default_scope('mmaction'):
        for workers in (0, 2):
            loader = Runner.build_dataloader(dict(
                batch_size=1, num_workers=workers, sampler=dict(type='DefaultSampler', shuffle=False),
                dataset=dict(type='VideoDataset', ann_file=str(tmp_path / 'list.txt'), pipeline=pipe, test_mode=True)),
                seed=workers)
            seen.append([batch['inputs'][0].numpy() for batch in loader])
    assert len(seen[0]) == 5 and same(seen[0], seen[1])
