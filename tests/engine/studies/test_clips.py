"""Clips as arrays: disjoint splits, means of pixels, the labels that were asked for."""
import numpy as np
import torch

import lsef_plugins  # noqa: F401
from lsef_plugins.engine.studies import clips, start


def test_splits_do_not_overlap_and_frames_are_means():
    ranges = [(source, set(range(first, first + count))) for source, first, count in clips.SPLITS.values()]
    ranges.append(('train', set(range(start.FIRST, start.FIRST + start.CLIPS))))
    for index, (source, numbers) in enumerate(ranges):
        for other, others in ranges[index + 1:]:
            assert source != other or not numbers & others
    frames = np.zeros((32, 64, 64, 3), np.uint8)
    frames[2, :2, :2] = 100
    frames[6, 0, 0] = 100
    found = clips.SMALL.of(frames)
    assert found.shape == (8, 32, 32, 3) and found[0, 0, 0, 0] == 100 and found[1, 0, 0, 0] == 25 and found.sum() == 375


def test_wrong_labels_are_as_many_as_asked_for_and_never_the_right_ones():
    labels = np.arange(700) % 7
    wrong = clips.wrong_labels(labels, 0.4, seed=1)
    assert (wrong != labels).sum() == 280 and set(wrong) == set(range(7))
    assert (clips.wrong_labels(labels, 0.4, 1) == wrong).all() and (clips.wrong_labels(labels, 0.4, 2) != wrong).any()


def test_clips_are_drawn_once_and_seen_as_they_are(few_clips):
    path = clips.prepare(few_clips, 'default', 'train')
    before = path.stat().st_mtime_ns
    assert clips.prepare(few_clips, 'default', 'train') == path and path.stat().st_mtime_ns == before
    data = clips.SmallClips(str(path), wrong=0.4, seed=3)
    frames, labels = clips.load(str(path))
    assert len(data) == 14 and data[3]['inputs'].shape == (1, 3, 8, 32, 32)
    assert torch.equal(data[3]['inputs'][0, :, 5], torch.from_numpy(frames[3, 5]).permute(2, 0, 1))
    assert [int(data[i]['data_samples'].gt_label) for i in range(14)] == list(clips.wrong_labels(labels, 0.4, 3))
    torch.manual_seed(0)
    turned = clips.SmallClips(str(path), mirror=True)
    seen = [turned[3]['inputs'] for _ in range(12)]
    mirrored = [torch.equal(each, data[3]['inputs'].flip(-1)) for each in seen]
    assert any(mirrored) and not all(mirrored)


def test_a_view_sees_the_whole_of_a_longer_clip():
    view = clips.View(4, 2)
    assert list(view.moments(np.arange(40))) == [5, 15, 25, 35]
    assert view.of(np.zeros((40, 6, 6, 3), np.uint8)).shape == (4, 2, 2, 3)
    assert clips.SMALL.name == '' and view.name == '_4x2'       # views do not share files


def test_half_of_the_clips_come_from_broken_files(few_clips):
    path = clips.prepare(few_clips, 'default', 'train')
    frames, labels = clips.load(str(path))
    broken = few_clips / 'broken.npz'
    np.savez(broken, frames=255 - frames, labels=labels)
    torch.manual_seed(0)
    data = clips.SmallClips(str(path), broken=(str(broken), ))
    clean = torch.from_numpy(frames[2, 0]).permute(2, 0, 1)
    assert 8 < sum(torch.equal(data[2]['inputs'][0, :, 0], clean) for _ in range(40)) < 32
    whole = {int(data[2]['inputs'][0, 0, 0, 0, 0]) for _ in range(40)}
    assert whole == {int(frames[2, 0, 0, 0, 0]), 255 - int(frames[2, 0, 0, 0, 0])}
