"""Laws of the corruptions in time: which frame is shown where."""
import numpy as np
import pytest

from lsef_plugins.datasets.transforms.corruptions import (
    TEMPORAL_CORRUPTIONS,
    corrupt_clip,
    drop_sources,
    freeze_sources,
    jumble_sources,
    loop_sources,
    rate_sources,
    sample_rng,
)

LENGTHS = (2, 3, 5, 8, 16, 32, 47)


def video(t=16, h=9, w=13, seed=0):
    """Frames (h, w, 3) of a smooth moving pattern, all different, none black."""
    rng = np.random.RandomState(seed)
    base = rng.randint(60, 180, (h, w, 3))
    return [np.clip(base + 3 * i + rng.randint(-9, 10, (h, w, 3)), 1, 255).astype(np.uint8) for i in range(t)]


def touched(clip, out):
    return np.array([new is not old for new, old in zip(out, clip)])


@pytest.mark.parametrize('kind, counts', [
    ('frame_drop', [0, 2, 4, 6, 8, 10]), ('frame_freeze', [0, 2, 4, 6, 8, 10]),
    ('black_frames', [0, 1, 2, 3, 4, 6]), ('noise_burst', [0, 1, 2, 3, 4, 5]), ('looped_tail', [0, 2, 4, 6, 8, 10]),
    ('flicker', [0] + 5 * [16])])
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


@pytest.mark.parametrize('t', LENGTHS)
@pytest.mark.parametrize('window', (2, 3, 4, 6, 8))
def test_a_jumble_is_a_permutation_within_windows_that_moves_every_frame(t, window):
    orders = set()
    for sample in range(30):
        sources = jumble_sources(t, window, sample_rng(sample))
        orders.add(tuple(sources))
        assert sorted(sources) == list(range(t))
        windows = np.arange(t) // window
        windows[-1] = windows[-2]       # no frame is alone
        assert (windows[sources] == windows).all() and (sources != np.arange(t)).all()
    assert len(orders) > 1 or t == 2 or (window == 2 and t % 2 == 0)


@pytest.mark.parametrize('t', (25, 50, 100))
@pytest.mark.parametrize('fps', (20, 16, 12, 9, 6))
def test_a_frame_rate_holds_earlier_frames_evenly_at_its_rate(t, fps):
    first_holds = set()
    for sample in range(30):
        sources = rate_sources(t, fps / 25, sample_rng(sample))
        assert (sources <= np.arange(t)).all() and (np.diff(sources) >= 0).all()
        new = np.flatnonzero(sources == np.arange(t))
        assert set(sources) == set(new), 'only frames that were new at their own place are held'
        assert abs(len(new) - t * fps / 25) <= 1 and len(new) < t
        runs = np.diff(new)[1:]     # the first run started before the clip
        assert runs.min() >= int(25 / fps) and runs.max() <= np.ceil(25 / fps)
        first_holds.add(int(np.argmax(sources != np.arange(t))))
    assert len(first_holds) > 1, 'the phase is drawn'


def test_every_place_but_the_first_is_held_by_some_phase():
    held = sum(rate_sources(8, 20 / 25, sample_rng(i)) != np.arange(8) for i in range(300))
    assert held[0] == 0 and (held[1:] > 0).all()


@pytest.mark.parametrize('t', LENGTHS)
@pytest.mark.parametrize('severity', (1, 2, 3, 4, 5))
def test_a_looped_tail_plays_the_clip_from_its_start_again(t, severity):
    clip = video(t)
    out = corrupt_clip(clip, 'looped_tail', severity, sample_rng(0))
    mask = touched(clip, out)
    end = int(np.argmax(mask))
    assert 0 < end < t and not mask[:end].any() and mask[end:].all()
    assert all(np.array_equal(out[i], out[i - end]) for i in range(end, t))
    assert np.array_equal(out[end], clip[0])


def test_a_loop_longer_than_what_is_left_repeats_it_twice():
    assert loop_sources(8, 0.7).tolist() == [0, 1, 0, 1, 0, 1, 0, 1]
