"""Laws of the numpy corruptions: nothing is mutated, severities are nested, what is named happens."""
import os
import subprocess
import sys

import numpy as np
import pytest

from lsef_plugins.datasets.transforms.corruptions import (
    TEMPORAL_CORRUPTIONS,
    corrupt_clip,
    drop_sources,
    freeze_sources,
    sample_rng,
)

KINDS = tuple(TEMPORAL_CORRUPTIONS)
LENGTHS = (2, 3, 5, 8, 16, 32, 47)


def video(t=16, h=9, w=13, seed=0):
    """Frames (h, w, 3) of a smooth moving pattern, all different, none black."""
    rng = np.random.RandomState(seed)
    base = rng.randint(60, 180, (h, w, 3))
    return [np.clip(base + 3 * i + rng.randint(-9, 10, (h, w, 3)), 1, 255).astype(np.uint8) for i in range(t)]


def touched(clip, out):
    return np.array([new is not old for new, old in zip(out, clip)])


def change(clip, out):
    return np.mean([np.abs(new.astype(float) - old).mean() for new, old in zip(out, clip)])


@pytest.mark.parametrize('kind', KINDS)
def test_severity_zero_is_the_identity(kind):
    clip = video()
    assert not touched(clip, corrupt_clip(clip, kind, 0, sample_rng('a'))).any()


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('t', LENGTHS)
@pytest.mark.parametrize('severity', (1, 3, 5))
def test_inputs_are_not_written_to_and_outputs_share_no_memory(kind, t, severity):
    clip = video(t)
    clip[t // 2] = clip[0]  # looped indices alias frames
    before = [frame.copy() for frame in clip]
    out = corrupt_clip(clip, kind, severity, sample_rng(t))
    assert all(np.array_equal(a, b) for a, b in zip(clip, before))
    assert [(f.shape, f.dtype) for f in out] == [(f.shape, f.dtype) for f in clip]
    new = [f for f, old in zip(out, clip) if f is not old]
    assert new, 'every severity from 1 on does something'
    for i, frame in enumerate(new):
        assert not any(np.shares_memory(frame, other) for other in clip + new[:i])


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('t', LENGTHS)
def test_a_stronger_severity_goes_on_where_a_weaker_one_stopped(kind, t):
    for sample in range(5):
        clip = video(t, seed=sample)
        masks = [touched(clip, corrupt_clip(clip, kind, s, sample_rng(sample))) for s in range(6)]
        for weak, strong in zip(masks, masks[1:]):
            assert (weak <= strong).all()


@pytest.mark.parametrize('kind', ('noise_burst', 'flicker'))
def test_noise_and_flicker_move_each_pixel_at_least_as_far_when_stronger(kind):
    clip = video(16)
    moved = [np.abs(np.stack(corrupt_clip(clip, kind, s, sample_rng(7))).astype(int) - np.stack(clip))
             for s in range(6)]
    for weak, strong in zip(moved, moved[1:]):
        assert (weak <= strong).all() and weak.sum() < strong.sum()


@pytest.mark.parametrize('kind', KINDS)
def test_the_mean_change_grows_with_severity(kind):
    clips = [video(16, seed=i) for i in range(40)]
    means = [np.mean([change(c, corrupt_clip(c, kind, s, sample_rng(i))) for i, c in enumerate(clips)])
             for s in range(6)]
    assert all(a < b for a, b in zip(means, means[1:])), means


@pytest.mark.parametrize('kind, counts', [
    ('frame_drop', [0, 2, 4, 6, 8, 10]), ('frame_freeze', [0, 2, 4, 6, 8, 10]),
    ('black_frames', [0, 1, 2, 3, 4, 6]), ('noise_burst', [0, 1, 2, 3, 4, 5]), ('flicker', [0] + 5 * [16])])
def test_the_share_of_touched_frames_is_the_level(kind, counts):
    clip = video(16)
    assert [touched(clip, corrupt_clip(clip, kind, s, sample_rng(3))).sum() for s in range(6)] == counts


@pytest.mark.parametrize('t', LENGTHS)
@pytest.mark.parametrize('severity', (1, 2, 3, 4, 5))
def test_a_dropped_frame_holds_the_last_one_that_arrived(t, severity):
    clip = video(t)
    out = corrupt_clip(clip, 'frame_drop', severity, sample_rng(t, severity))
    mask = touched(clip, out)
    assert not mask[0]
    for i in np.flatnonzero(mask):
        last = max(j for j in range(i) if not mask[j])
        assert np.array_equal(out[i], clip[last])


@pytest.mark.parametrize('t', LENGTHS)
@pytest.mark.parametrize('severity', (1, 2, 3, 4, 5))
def test_a_freeze_is_one_run_that_shows_the_frame_before_it(t, severity):
    starts = set()
    for sample in range(40):
        clip = video(t)
        mask = touched(clip, out := corrupt_clip(clip, 'frame_freeze', severity, sample_rng(sample)))
        first, last = np.flatnonzero(mask)[[0, -1]]
        assert first > 0 and mask[first:last + 1].all()
        assert all(np.array_equal(out[i], clip[first - 1]) for i in range(first, last + 1))
        starts.add(first)
    assert len(starts) > 1 or mask.sum() == t - 1, 'it hangs at different moments'


def test_drop_and_freeze_reach_every_place_but_the_first():
    for sources in (drop_sources, freeze_sources):
        seen = sum(sources(8, 0.25, sample_rng(i)) != np.arange(8) for i in range(200))
        assert seen[0] == 0 and (seen[1:] > 0).all()


def test_black_is_black_and_nothing_else_is():
    clip = video(16)
    out = corrupt_clip(clip, 'black_frames', 5, sample_rng(1))
    assert all((frame == 0).all() == hit for frame, hit in zip(out, touched(clip, out)))


@pytest.mark.parametrize('t', LENGTHS)
def test_noise_hits_isolated_frames_with_the_sigma_of_the_level(t):
    clip = [np.full((40, 40, 3), 128, np.uint8) for _ in range(t)]
    for severity, (_, sigma) in enumerate(TEMPORAL_CORRUPTIONS['noise_burst'].levels, start=1):
        out = corrupt_clip(clip, 'noise_burst', severity, sample_rng(t))
        places = np.flatnonzero(touched(clip, out))
        assert len(places) == 1 or np.diff(places).min() > 1
        z = np.random.RandomState(0).standard_normal(200_000)
        expected = np.clip(sigma * z, -128, 127).std()  # what is left of sigma after clipping to 0..255
        assert out[places[0]].std() == pytest.approx(expected, rel=0.05)


def test_flicker_multiplies_each_frame_by_one_gain_of_mean_one():
    clip = [np.full((4, 4, 3), 100, np.uint8) for _ in range(16)]
    for severity, amplitude in enumerate(TEMPORAL_CORRUPTIONS['flicker'].levels, start=1):
        out = np.stack(corrupt_clip(clip, 'flicker', severity, sample_rng(2))).astype(float)
        assert (out == out[:, :1, :1, :1]).all()
        gains = out[:, 0, 0, 0] / 100
        assert np.abs(gains - 1).max() == pytest.approx(amplitude, abs=0.006)
        assert gains.mean() == pytest.approx(1, abs=0.006)


@pytest.mark.parametrize('kind', KINDS)
def test_one_frame_has_no_time_to_be_broken_in(kind):
    clip = video(1)
    assert corrupt_clip(clip, kind, 5, sample_rng(0))[0] is clip[0]


def test_the_random_state_depends_on_each_part_and_on_their_borders():
    draws = {parts: tuple(sample_rng(*parts).randint(0, 2 ** 31 - 1, 4)) for parts in
             [('a', 'b'), ('ab',), ('a', 'b', ''), ('b', 'a'), ('a', 'c'), (1, 'a'), (2, 'a')]}
    assert len(set(draws.values())) == len(draws)


def test_the_random_state_is_the_same_in_every_process():
    code = ('from lsef_plugins.datasets.transforms.corruptions import sample_rng;'
            'print(sample_rng(0, "val/00001.mp4", "frame_drop").randint(0, 2**31 - 1, 3).tolist())')
    for hash_seed in ('1', '2'):
        env = dict(os.environ, PYTHONHASHSEED=hash_seed, LSEF_PLUGINS_REGISTER='0')
        out = subprocess.run([sys.executable, '-c', code], env=env, capture_output=True, text=True, check=True)
        # Written down once: a change of the stream would change everybody's corrupted test sets.
        assert out.stdout.strip() == '[1353525984, 882142332, 283446635]'


def test_the_formulas_need_no_openmmlab():
    code = ('import sys, lsef_plugins.datasets.transforms.corruptions, lsef_plugins.evaluation.functional;'
            'print([m for m in ("mmaction", "mmengine", "mmcv") if m in sys.modules])')
    env = dict(os.environ, LSEF_PLUGINS_REGISTER='0')
    out = subprocess.run([sys.executable, '-c', code], env=env, capture_output=True, text=True, check=True)
    assert out.stdout.strip() == '[]'


@pytest.mark.parametrize('severity', (-1, 6, 2.0, True, '3', None))
def test_a_severity_outside_0_to_5_is_refused(severity):
    with pytest.raises(ValueError, match=r'must be an integer from 0 .* to 5'):
        corrupt_clip(video(4), 'flicker', severity, sample_rng(0))


def test_an_unknown_kind_lists_the_known_ones():
    with pytest.raises(ValueError, match="'frame_dorp' is not .* known: frame_drop, frame_freeze"):
        corrupt_clip(video(4), 'frame_dorp', 1, sample_rng(0))
