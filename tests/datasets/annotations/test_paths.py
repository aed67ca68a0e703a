"""Paths of lists: prefixes, slashes, and nothing that leaves the data folder by itself."""
import pytest

from lsef_plugins.datasets.annotations import AnnotationError, PathRules, natural_key


def test_numbers_sort_by_value_and_ties_by_text():
    names = ['a_10.jpg', 'a_2.jpg', 'a_1.jpg', 'a_01.jpg', 'b_0.jpg']
    assert sorted(names, key=natural_key) == ['a_01.jpg', 'a_1.jpg', 'a_2.jpg', 'a_10.jpg', 'b_0.jpg']
    sixteen = [f'00123_{i}.jpg' for i in range(1, 17)]
    assert sorted(sorted(sixteen), key=natural_key) == sixteen != sorted(sixteen)
    assert sorted(['1', 'a', '', '2a', 'a2', 'a1b'], key=natural_key)     # text and numbers never compare


@pytest.mark.parametrize('path, prefix, out', [
    ('/home/x/00001', '/home/x', '00001'), ('/home/x/00001', '/home/x/', '00001'), ('a\\b\\00001', 'a/b', '00001'),
    ('a//b/./00001', 'a/b', '00001'), ('C:\\data\\00001', 'C:/data', '00001'),
    ('/home/x/y/1', ['/home/x', '/home/x/y'], '1'), ('/any/where/A/Happy/1', 'auto', 'A/Happy/1'),
    ('A/Happy/1', None, 'A/Happy/1')])
def test_the_prefix_is_cut_off_whole(path, prefix, out):
    assert PathRules(prefix, keep=3, root='/data').apply(path, 'l:1') == out


def test_a_prefix_that_is_not_there_is_told():
    with pytest.raises(AnnotationError, match="list.csv:4: '/home/xy/1' does not begin with strip_prefix '/home/x'"):
        PathRules('/home/x', root='/data').apply('/home/xy/1', 'list.csv:4')


@pytest.mark.parametrize('path', ['../1', 'a/../../1', '..', '..\\1', 'a\\..\\..\\1'])
def test_a_path_that_climbs_out_is_refused(path):
    with pytest.raises(AnnotationError, match='list.csv:4.*leads out of the data folder'):
        PathRules(root='/data').apply(path, 'list.csv:4')
    assert PathRules(root='/data', allow_outside=True).apply(path, 'list.csv:4')


@pytest.mark.parametrize('path', ['/etc/1', 'C:/x/1', 'C:\\x\\1', '//host/x/1', '/data/../etc/1', '/database/1'])
def test_an_absolute_path_outside_is_refused(path):
    with pytest.raises(AnnotationError, match='absolute path outside the data folder'):
        PathRules(root='/data').apply(path, 'list.csv:4')


def test_climbing_and_absolute_paths_inside_are_fine():
    assert PathRules(root='/data').apply('a/../1', 'l:1') == '1'
    assert PathRules(root='/data/').apply('/data/a/1', 'l:1') == '/data/a/1'


def test_the_prefix_cannot_smuggle_a_climb():
    with pytest.raises(AnnotationError, match='does not begin with'):
        PathRules('a', root='/data').apply('a/../../1', 'l:1')


def test_control_characters_are_refused():
    with pytest.raises(AnnotationError, match='control character'):
        PathRules().apply('a\x00b', 'l:1')
