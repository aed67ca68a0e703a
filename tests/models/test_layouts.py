"""Layouts: values become maps (b, c, t, h, w) and back without a number moved or lost."""
import pytest
import torch

from lsef_plugins.models.layouts import FeatureMaps, FramesOfClips, MapAndToken, PatternLayout, Persons, VideosAndImages


def numbered(*shape):
    return torch.arange(torch.Size(shape).numel(), dtype=torch.float32).view(shape)


@pytest.mark.parametrize('pattern, sizes, shape', [
    ('b c t h w', {}, (2, 3, 4, 5, 6)), ('(b t) c h w', dict(t=4), (8, 3, 5, 6)),
    ('b (t h w) c', dict(t=4, h=5), (2, 120, 3)),
    ('b t c', {}, (2, 4, 3)), ('t b c h', {}, (4, 2, 3, 5)), ('b t (h w) c', dict(h=5), (2, 4, 30, 3))])
def test_a_pattern_and_back_is_the_identity(pattern, sizes, shape):
    value = numbered(*shape)
    layout = PatternLayout(pattern, sizes)
    maps = layout.to_maps(value)
    assert maps[0].dim() == 5 and maps[0].shape[1:3] == (3, 4)
    assert torch.equal(layout.from_maps(value, maps), value)


def test_a_pattern_puts_each_frame_in_its_place():
    value = numbered(6, 2, 1, 1)  # 2 clips of 3 frames
    clips = PatternLayout('(b t) c h w', dict(t=3)).to_maps(value)[0]
    assert torch.equal(clips[1, :, 2, 0, 0], value[5, :, 0, 0])


@pytest.mark.parametrize('pattern', ['b c h w', 'b c t q', 'b c t t h', 't c h w'])
def test_a_pattern_without_its_axes_is_refused(pattern):
    with pytest.raises(ValueError, match='must name the axes b, c and t'):
        PatternLayout(pattern)


def test_a_value_that_does_not_fit_its_pattern_says_so():
    with pytest.raises(ValueError, match=r"cannot read \(7, 3, 5, 6\) as layout '\(b t\) c h w' with sizes"):
        PatternLayout('(b t) c h w', dict(t=4)).to_maps(numbered(7, 3, 5, 6))
    with pytest.raises(ValueError, match='expected a tensor of layout .* got tuple'):
        PatternLayout('b c t h w').to_maps((numbered(1, 1, 1, 1, 1), ))


@pytest.mark.parametrize('pattern, sizes, shape, axis', [
    ('b (h t) c', dict(t=4), (2, 13, 3), 1), ('(b t) h c', dict(t=4), (8, 4, 3), 1),
    ('h (b t) c', dict(t=4), (4, 8, 3), 0),
    ('b t c', {}, (2, 5, 3), 1)])
def test_class_tokens_pass_and_patches_come_back(pattern, sizes, shape, axis):
    value = numbered(*shape)
    layout = PatternLayout(pattern, sizes, class_tokens=1)
    maps = layout.to_maps(value)
    assert maps[0].shape == (2, 3, 4, 3 if 'h' in pattern else 1, 1)
    assert torch.equal(layout.from_maps(value, maps), value)
    changed = layout.from_maps(value, [maps[0] + 1]) - value
    assert changed.select(axis, 0).abs().max() == 0 and (changed.narrow(axis, 1, shape[axis] - 1) == 1).all()


def test_class_tokens_that_cannot_be_are_refused():
    for wrong in (-1, 0.5, True):
        with pytest.raises(ValueError, match='class_tokens counts the tokens before the patches'):
            PatternLayout('b (t h) c', dict(t=2), class_tokens=wrong)
    with pytest.raises(ValueError, match=r'cannot read \(2, 12, 3\) as layout .b \(h t\) c. with sizes'):
        PatternLayout('b (h t) c', dict(t=8), class_tokens=1).to_maps(numbered(2, 13, 3))
    with pytest.raises(ValueError, match=r'which has 3 axes'):
        PatternLayout('b (h t) c', dict(t=8)).to_maps(numbered(2, 16, 3, 1))


def test_the_class_token_takes_the_mean_change_of_its_map():
    first, last, token = numbered(1, 2, 2, 2, 2), numbered(2, 3, 4, 2, 1), numbered(2, 3)
    layout, value = MapAndToken(), ([first, token], [last, token])
    assert torch.equal(layout.to_maps(value)[0], last)
    change = torch.rand(2, 3, 4, 2, 1, generator=torch.Generator().manual_seed(0))
    back = layout.from_maps(value, [last + change])
    assert back[0] is value[0] and type(back) is tuple
    torch.testing.assert_close(back[1][1], token + change.mean((2, 3, 4)))
    same = layout.from_maps(value, [last])
    assert torch.equal(same[1][1], token)
    assert layout.from_maps((first, last), layout.to_maps((first, last)))[1] is last      # a network without token
    with pytest.raises(ValueError, match=r'expected the stages .* got Tensor'):
        layout.to_maps(last)


def test_each_person_is_a_clip_of_joints():
    value = numbered(2, 3, 4, 5, 6)         # b m c t v
    maps = Persons().to_maps(value)
    assert maps[0].shape == (6, 4, 5, 6, 1) and torch.equal(maps[0][4, :, 2, :, 0], value[1, 1, :, 2])
    assert torch.equal(Persons().from_maps(value, maps), value)
    with pytest.raises(ValueError, match=r'expected the joints \(b, m, c, t, v\).*got \(2, 3\)'):
        Persons().to_maps(numbered(2, 3))


def test_a_video_is_a_map_and_an_image_is_none():
    video, image, layout = numbered(1, 2, 3, 4, 4), numbered(1, 2, 4, 4), VideosAndImages()
    assert layout.to_maps(video)[0] is video and layout.from_maps(video, [video * 2]).max() == 2 * video.max()
    assert layout.to_maps(image) == [] and layout.from_maps(image, []) is image
    with pytest.raises(ValueError, match=r'expected videos .* got \(2, 3\)'):
        layout.to_maps(numbered(2, 3))


def test_maps_keep_their_container():
    one, two = numbered(1, 2, 3, 1, 1), numbered(1, 4, 3, 1, 1)
    layout = FeatureMaps()
    assert layout.from_maps(one, layout.to_maps(one)) is one
    for container in (list, tuple):
        value = container([one, two])
        back = layout.from_maps(value, layout.to_maps(value))
        assert type(back) is container and back[0] is one and back[1] is two


@pytest.mark.parametrize('value', [numbered(2, 3), (numbered(2, 3, 4, 5), )])
def test_a_map_without_time_names_the_way_out(value):
    with pytest.raises(ValueError, match=r'given up its time axis before this site.*site=dict'):
        FeatureMaps().to_maps(value)


def test_frames_of_a_clip_follow_one_another():
    value = numbered(6, 2, 1, 1)
    layout = FramesOfClips(3)
    maps = layout.to_maps(value, num_segs=6)
    assert maps[0].shape == (2, 2, 3, 1, 1)
    assert torch.equal(maps[0][0, :, 1, 0, 0], value[1, :, 0, 0])
    assert torch.equal(layout.from_maps(value, maps), value)
    assert FramesOfClips().to_maps(value, num_segs=6)[0].shape == (1, 2, 6, 1, 1)


def test_maps_that_already_have_time_pass():
    value = numbered(1, 2, 3, 4, 4)
    assert FramesOfClips(8).to_maps(value)[0] is value


def test_frames_without_a_count_or_with_a_wrong_one_are_refused():
    with pytest.raises(ValueError, match='cannot tell how many of the frames'):
        FramesOfClips().to_maps(numbered(6, 2, 1, 1))
    with pytest.raises(ValueError, match='a clip has 4 segments, but 6 frames came'):
        FramesOfClips(4).to_maps(numbered(6, 2, 1, 1))
    with pytest.raises(ValueError, match='a clip has 2 segments, but 3 came for each video'):
        FramesOfClips(2).to_maps(numbered(6, 2, 1, 1), num_segs=3)  # 6 frames are a multiple: clips would mix
    with pytest.raises(ValueError, match=r'expected the frames \(\(b t\), c, h, w\).*got \(6, 2\)'):
        FramesOfClips(3).to_maps(numbered(6, 2))
