"""Windows and their classes: what the sampler says, crops averaged, windows in their order."""
from types import SimpleNamespace

import pytest
import torch
from torch import nn

import lsef_plugins  # noqa: F401
from lsef_plugins.engine.robustness import ViewClasses, windows_of


@pytest.mark.parametrize('steps, count, words', [
    ([dict(type='DecordInit'), dict(type='SampleFrames', clip_len=8, num_clips=10)], 10, ''),
    ([dict(type='UniformSample', clip_len=16, num_clips=2, test_mode=True)], 2, ''),
    ([dict(type='UniformSample', clip_len=16)], 1, 'UniformSample takes one clip of a video; --windows N'),
    ([dict(type='SampleFrames', clip_len=1, num_clips=8)], 1, r'SampleFrames takes single frames \(clip_len=1\)'),
    ([dict(type='DecordDecode')], 1, 'the data set gives each sample as one window')])
def test_the_sampler_says_how_many_windows_there_are(steps, count, words):
    import re
    found, why = windows_of(steps)
    assert found == count and (re.match(words, why) if words else why == '')


class Head(nn.Module):
    """Gives what it gets; ``average_clips`` as the host's."""

    def __init__(self, average_clips='score'):
        super().__init__()
        self.average_clips = average_clips

    def forward(self, scores):
        return scores


def counted(scores, videos, windows, average_clips='score', samples=None):
    model = SimpleNamespace(cls_head=Head(average_clips))
    hook = ViewClasses(model, windows)
    hook.before_test_epoch(None)
    for batch in scores:
        model.cls_head(batch)
        hook.after_test_iter(None, 0, None, samples or [{'pred_score': 0}] * videos)
    return hook


def one_hot(*classes):
    return torch.eye(5)[list(classes)]


def test_windows_keep_their_order_and_crops_are_averaged():
    """Rows of a video: crop by crop, window by window, as ThreeCrop and FormatShape lay them."""
    first = torch.cat([one_hot(0, 1, 1), 0.2 * one_hot(4, 4, 4)])       # two crops of three windows; the first is surer
    second = torch.cat([one_hot(2, 2, 2), 0.2 * one_hot(0, 1, 3)])
    hook = counted([torch.cat([first, second])], 2, 3)
    assert hook.classes[0].tolist() == [[0, 1, 1], [2, 2, 2]]
    assert hook.rate() == pytest.approx(1 / 4)


def test_crops_are_averaged_as_the_head_averages():
    rows = torch.tensor([[9., 0., 0.], [0., 4., 0.], [0., 4., 0.], [0., 1., 0.], [0., 1., 0.], [0., 1., 0.]])
    # Scores of window 0: 9 against 4 + 4 and so on; as probabilities two sure crops outvote one.
    views = torch.cat([rows[[0]], rows[[3]], rows[[1]], rows[[4]], rows[[2]], rows[[5]]])   # 3 crops x 2 windows
    assert counted([views], 1, 2, 'score').classes[0].tolist() == [[0, 1]]
    assert counted([views], 1, 2, 'prob').classes[0].tolist() == [[1, 1]]


def test_batches_add_up_and_a_new_test_starts_anew():
    hook = counted([one_hot(0, 1), one_hot(2, 2)], 1, 2)
    assert hook.rate() == pytest.approx(0.5)
    hook.before_test_epoch(None)
    assert hook.rate() is None


def test_without_classes_or_a_second_window_there_is_no_rate():
    assert counted([one_hot(0)], 1, 1).rate() is None, 'one window'
    ratings = counted([torch.rand(2, 2)], 1, 2, samples=[{'pred_valence_arousal': 0}])
    assert ratings.rate() is None
    assert counted([one_hot(0, 1, 2)], 1, 2).rate() is None, 'three rows are not two windows'
    assert ViewClasses(SimpleNamespace(), 2).rate() is None, 'no head'
