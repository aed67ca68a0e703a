"""The list of clips: what it takes, what it refuses, and that every refusal names the place and the way out."""
import os
import re
import struct

import numpy as np
import pytest

pytest.importorskip('mmaction')

import cv2
from mmengine.registry import DefaultScope
from mmengine.runner import Runner

import lsef_plugins  # noqa: F401
from lsef_plugins.datasets.clip_list import UnreadableClipError, video_fault
from lsef_plugins.files.video import container_fault
from lsef_plugins.registry import DATASETS

PIPELINE = [dict(type='DecordInit'), dict(type='UniformSample', clip_len=8, num_clips=1, test_mode=True),
            dict(type='DecordDecode'), dict(type='FormatShape', input_format='NCTHW'),
            dict(type='PackActionInputs', meta_keys=('filename',))]


def boxes(data, start=0, end=None):
    """(type, start, length) of each box of an MP4 file; written apart from the code it tests."""
    end = len(data) if end is None else end
    while start + 8 <= end:
        length, kind = struct.unpack('>I4s', data[start:start + 8])
        yield kind, start, length
        start += length


def index_in_front(data):
    """The same film with moov before mdat ('faststart'): chunk offsets grow by the length of moov."""
    at = {kind: (start, length) for kind, start, length in boxes(data)}
    start, length = at[b'moov']
    moov = bytearray(data[start:start + length])

    def shift(begin, end):
        for kind, s, n in boxes(moov, begin, end):
            if kind in (b'trak', b'mdia', b'minf', b'stbl'):
                shift(s + 8, s + n)
            elif kind == b'stco':
                count, = struct.unpack('>I', moov[s + 12:s + 16])
                offsets = struct.unpack(f'>{count}I', moov[s + 16:s + 16 + 4 * count])
                moov[s + 16:s + 16 + 4 * count] = struct.pack(f'>{count}I', *(o + length for o in offsets))

    shift(8, length)
    head = at[b'ftyp'][1]
    return bytes(data[:head] + moov + data[head:start] + data[start + length:])


@pytest.fixture(scope='module')
def films(tmp_path_factory):
    """Bytes of one real film, with its index at the end and in front."""
    path = tmp_path_factory.mktemp('film') / 'film.mp4'
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'mp4v'), 25, (64, 48))
    rng = np.random.RandomState(0)
    for _ in range(30):
        writer.write(rng.randint(0, 255, (48, 64, 3)).astype(np.uint8))
    writer.release()
    data = path.read_bytes()
    front = index_in_front(data)
    assert [kind for kind, *_ in boxes(front)][:2] == [b'ftyp', b'moov']
    return {'end': data, 'front': front}


@pytest.fixture(autouse=True)
def host_scope():
    """Names of transforms are looked up in MMAction2's registry, as a Runner would."""
    with DefaultScope.overwrite_default_scope('mmaction'):
        yield


@pytest.fixture
def folder(tmp_path, films):
    """Three good clips, one of them with spaces in its path."""
    (tmp_path / 'a folder').mkdir()
    for name in ('0.mp4', '1.mp4', 'a folder/clip 2.mp4'):
        (tmp_path / name).write_bytes(films['end'])
    return tmp_path


GOOD = '0.mp4 0\n1.mp4 6\na folder/clip 2.mp4 3\n'


def build(folder, text=GOOD, **kwargs):
    if text is not None:
        (folder / 'list.txt').write_bytes(text if isinstance(text, bytes) else text.encode())
    return DATASETS.build(dict(dict(type='ClipListDataset', ann_file='list.txt', data_root=str(folder),
                                    data_prefix=dict(video=''), pipeline=PIPELINE, num_classes=7), **kwargs))


def content(dataset):
    return [(os.path.basename(dataset.get_data_info(i)['filename']), dataset.get_data_info(i)['label'])
            for i in range(len(dataset))]


EXPECTED = [('0.mp4', 0), ('1.mp4', 6), ('clip 2.mp4', 3)]


@pytest.mark.parametrize('text', [
    GOOD, GOOD.replace('\n', '\r\n'), '\ufeff' + GOOD, '\n\n' + GOOD + '  \n', GOOD.rstrip(), GOOD.replace(' 3', '\t3'),
], ids=('plain', 'crlf', 'bom', 'blank lines', 'no last newline', 'tab'))
def test_lists_of_all_editors_say_the_same(folder, text):
    assert content(build(folder, text)) == EXPECTED


def test_another_delimiter(folder):
    assert content(build(folder, GOOD.replace(' 0\n', ',0\n').replace(' 6', ', 6').replace(' 3', ',3'),
                         delimiter=',')) == EXPECTED


def test_it_reads_what_the_hosts_data_set_reads(folder):
    text = '0.mp4 0\n1.mp4 6\n'
    for extra in (dict(), dict(serialize_data=False), dict(test_mode=True), dict(indices=1),
                  dict(start_index=2, modality='Flow'), dict(lazy_init=True)):
        ours = build(folder, text, **extra)
        theirs = DATASETS.build(dict(type='VideoDataset', ann_file='list.txt', data_root=str(folder),
                                     data_prefix=dict(video=''), pipeline=PIPELINE, num_classes=7, **extra))
        ours.full_init(), theirs.full_init()
        assert [ours.get_data_info(i) for i in range(len(ours))] == \
            [theirs.get_data_info(i) for i in range(len(theirs))]
    item, other = ours[1], theirs[1]
    assert (item['inputs'] == other['inputs']).all() and item['data_samples'].gt_label.item() == 6


def test_several_labels_per_clip(folder):
    dataset = build(folder, '0.mp4 0 3\na folder/clip 2.mp4 1 2 6\n', multi_class=True)
    assert [dataset.get_data_info(i)['label'].nonzero().flatten().tolist() for i in range(2)] == [[0, 3], [1, 2, 6]]
    assert dataset.get_data_info(1)['filename'].endswith('clip 2.mp4')
    with pytest.raises(ValueError, match=r'list\.txt:1: label 7 '):
        build(folder, '0.mp4 7 3\n', multi_class=True)


def test_a_test_list_may_have_no_labels_at_all(folder):
    assert content(build(folder, '0.mp4\n1.mp4\n', test_mode=True)) == [('0.mp4', -1), ('1.mp4', -1)]
    with pytest.raises(ValueError, match=r'list\.txt:2: expected "path label"'):
        build(folder, '0.mp4 1\n1.mp4\n', test_mode=True)
    with pytest.raises(ValueError, match=r'list\.txt:1: expected "path label"'):
        build(folder, '0.mp4\n1.mp4\n')


def test_class_names_travel_in_the_metainfo(folder, tmp_path):
    names = ['a', 'b', 'c', 'd', 'e', 'f', 'g']
    (tmp_path / 'names.txt').write_text('\n'.join(names))
    for given in (dict(classes=names), dict(metainfo=dict(classes=names)), dict(classes=str(tmp_path / 'names.txt'))):
        dataset = build(folder, num_classes=None, **given)
        assert list(dataset.metainfo['classes']) == names and dataset.num_classes == 7
    with pytest.raises(ValueError, match=r'label 6 .* expected 0\.\.1 \(a, b\)'):
        build(folder, num_classes=None, classes=['a', 'b'])


@pytest.mark.parametrize('given, message', [
    (dict(classes=['a', 'b']), r'num_classes=7 and 2 class names \(a, b\) disagree'),
    (dict(classes=['a'] * 7), 'names a class twice'),
    (dict(classes='no/such/file.txt'), "classes='no/such/file.txt' is not a file"),
    (dict(check_files='warn'), "check_files='warn' must be 'error'"),
])
def test_settings_that_contradict_are_refused(folder, given, message):
    with pytest.raises(ValueError, match=message):
        build(folder, **given)


@pytest.mark.parametrize('text', ['', '\n \n\r\n', '\ufeff'])
def test_an_empty_list_is_refused(folder, text):
    with pytest.raises(ValueError, match=r"list\.txt' is empty: .* Expected one line"):
        build(folder, text)


def test_a_missing_list_is_named_with_the_place_looked_at(folder):
    with pytest.raises(FileNotFoundError, match=re.escape(str(folder)) + r'.*Check ann_file and data_root='):
        build(folder, None)


def test_a_list_that_is_not_text_is_refused(folder):
    with pytest.raises(ValueError, match='is not UTF-8 text'):
        build(folder, b'PK\x03\x04\xff\xfe\x00 0\n')


@pytest.mark.parametrize('line, message', [
    ('1.mp4', 'expected "path label" split by \' \', got \'1.mp4\''),
    ('1.mp4,3', r"got '1\.mp4,3'.*delimiter=','"),
    ('1.mp4 Happy', "the label 'Happy' of '1.mp4 Happy' is not an integer"),
    ('1.mp4 1.0', "the label '1.0' .* is not an integer"),
    ('1.mp4 -1', r'label -1 .* is out of range, expected 0\.\.6\. Check'),
    ('1.mp4 7', r'label 7 .* expected 0\.\.6\. The list may count from 1: subtract 1'),
    ('1.mp4 12', r'label 12 .* expected 0\.\.6\. Check'),
])
def test_a_wrong_line_is_named_by_file_and_number(folder, line, message):
    with pytest.raises(ValueError, match=r'list\.txt:3: .*' + message):
        build(folder, f'0.mp4 0\n\n{line}\n0.mp4 1\n')


def test_without_a_number_of_classes_negative_labels_are_still_refused(folder):
    assert content(build(folder, '0.mp4 99\n', num_classes=None)) == [('0.mp4', 99)]
    with pytest.raises(ValueError, match='expected a number from 0'):
        build(folder, '0.mp4 -2\n', num_classes=None)


def test_missing_videos_are_counted_and_the_first_few_shown(folder):
    text = GOOD + ''.join(f'gone/{i}.mp4 1\n' for i in range(9)) + 'gone/0.mp4 2\n'
    with pytest.raises(FileNotFoundError) as caught:
        build(folder, text)
    message = str(caught.value)
    assert re.search(r'9 of 12 videos of .*list\.txt cannot be used \(9 missing, 0 empty, cut off or no', message)
    assert f'{folder}/gone/0.mp4 does not exist' in message and 'and 4 more' in message
    assert 'gone/5.mp4' not in message and 'data_prefix=' in message and 'data_root=' in message
    assert len(build(folder, text, check_files='off')) == 13


def test_cut_off_and_empty_videos_are_told_before_training(folder, films):
    (folder / '0.mp4').write_bytes(films['end'][:-100])
    (folder / '1.mp4').write_bytes(b'')
    with pytest.raises(UnreadableClipError, match=r'2 of 3 videos .*\(0 missing, 2 empty, cut off or no') as caught:
        build(folder)
    assert '0.mp4 is cut off' in str(caught.value) and '1.mp4 is empty' in str(caught.value)


@pytest.mark.parametrize('where', ('end', 'front'))
def test_every_cut_is_seen_and_no_whole_film_is_called_cut(tmp_path, films, where):
    path = tmp_path / 'film.mp4'
    whole = films[where]
    path.write_bytes(whole)
    assert container_fault(str(path)) is None
    for kept in [1 - 2 ** -k for k in range(1, 12)] + [k / 23 for k in range(1, 23)]:
        path.write_bytes(whole[:int(len(whole) * kept)])
        assert 'cut off' in container_fault(str(path)), kept
    path.write_bytes(whole[:-1])
    assert 'cut off' in container_fault(str(path))


def test_a_cut_exactly_between_two_boxes_is_seen(tmp_path, films):
    path = tmp_path / 'film.mp4'
    for where, word in (('end', 'no index'), ('front', 'no pictures')):
        data = films[where]
        ends = {kind: start + length for kind, start, length in boxes(data)}
        path.write_bytes(data[:ends[b'mdat' if where == 'end' else b'moov']])
        assert word in container_fault(str(path))


def test_what_follows_a_whole_film_or_is_no_mp4_is_not_judged(tmp_path, films):
    path = tmp_path / 'film.mp4'
    for tail in (b'\0' * 5, b'\0' * 64, b'some other program wrote this', struct.pack('>I4s', 999, b'junk')):
        for data in films.values():
            path.write_bytes(data + tail)
            assert container_fault(str(path)) is None
    path.write_bytes(b'RIFF\x10\0\0\0AVI LIST')
    assert container_fault(str(path)) is None


def test_long_and_open_boxes_are_read(tmp_path):
    def box(kind, body, form='short'):
        if form == 'long':
            return struct.pack('>I4sQ', 1, kind, len(body) + 16) + body
        return struct.pack('>I4s', 0 if form == 'open' else len(body) + 8, kind) + body

    head = box(b'ftyp', b'isom') + box(b'moov', b'x' * 40)
    path = tmp_path / 'film.mp4'
    for form in ('long', 'open'):
        path.write_bytes(head + box(b'mdat', b'y' * 100, form))
        assert container_fault(str(path)) is None
    path.write_bytes((head + box(b'mdat', b'y' * 100, 'long'))[:-1])
    assert 'cut off' in container_fault(str(path))
    fragment = box(b'moof', b'z' * 30) + box(b'mdat', b'y' * 50)
    path.write_bytes(head + fragment * 2)
    assert container_fault(str(path)) is None
    path.write_bytes((head + fragment * 2)[:-20])
    assert 'cut off' in container_fault(str(path))


def test_storage_of_other_machines_is_not_looked_at(folder):
    assert video_fault('s3://bucket/clip.mp4') is None
    assert video_fault(str(folder / 'none.mp4')) == 'does not exist'
    assert video_fault(str(folder / '0')) is None, 'DecordInit adds .mp4 to a bare name'
    assert video_fault(str(folder / 'a folder')) == 'is a folder'


def loader(dataset_cfg, workers):
    return Runner.build_dataloader(dict(batch_size=2, num_workers=workers, dataset=dataset_cfg,
                                        sampler=dict(type='DefaultSampler', shuffle=False)))


def exhaust(batches):
    """Reads all batches. A loader that failed and is left to the garbage collector costs PyTorch 5 s a worker."""
    iterator = iter(batches)
    try:
        return list(iterator)
    finally:
        if hasattr(iterator, '_shutdown_workers'):
            iterator._shutdown_workers()


def config(folder, **kwargs):
    return dict(dict(type='ClipListDataset', ann_file='list.txt', data_root=str(folder), data_prefix=dict(video=''),
                     pipeline=PIPELINE, classes=list('abcdefg')), **kwargs)


@pytest.mark.parametrize('workers', (0, 2))
def test_clips_come_through_the_runners_loader(folder, workers):
    (folder / 'list.txt').write_text(GOOD)
    batches = exhaust(loader(config(folder), workers))
    assert [len(b['inputs']) for b in batches] == [2, 1] and batches[0]['inputs'][0].shape == (1, 3, 8, 48, 64)
    samples = [s for b in batches for s in b['data_samples']]
    assert [s.gt_label.item() for s in samples] == [0, 6, 3]
    assert samples[2].filename.endswith('a folder/clip 2.mp4')


def damaged(films, how):
    if how == 'cut, index in front':
        return films['front'][:len(films['front']) * 7 // 10]
    if how == 'cut, index at the end':
        return films['end'][:len(films['end']) * 7 // 10]
    if how == 'last bytes gone':
        return films['front'][:-40]
    if how == 'hole':  # the structure is whole and the pictures are not
        data = bytearray(films['end'])
        data[len(data) // 4:len(data) * 3 // 4] = bytes(len(data) * 3 // 4 - len(data) // 4)
        return bytes(data)
    return {'empty': b'', 'page': b'<html>404 not found</html>' * 9}[how]


@pytest.mark.parametrize('workers', (0, 2))
@pytest.mark.parametrize('how', ('cut, index in front', 'cut, index at the end', 'last bytes gone', 'hole', 'empty',
                                 'page'))
def test_a_broken_video_is_named_by_the_worker_that_meets_it(folder, films, how, workers):
    (folder / 'list.txt').write_text(GOOD)
    (folder / '1.mp4').write_bytes(damaged(films, how))
    ways_out = r'1\.mp4. (is|cannot be) .*Create or copy it again, or remove its line from .*list\.txt'
    with pytest.raises(UnreadableClipError, match=ways_out):
        exhaust(loader(config(folder, check_files='off'), workers))


@pytest.mark.parametrize('workers', (0, 2))
def test_a_video_that_vanishes_after_the_check_is_named(folder, workers):
    (folder / 'list.txt').write_text(GOOD)
    batches = loader(config(folder), workers)
    (folder / '1.mp4').unlink()
    with pytest.raises(UnreadableClipError, match=r'1\.mp4. does not exist'):
        exhaust(batches)


def test_the_decoders_own_error_is_the_cause(folder, films):
    (folder / '1.mp4').write_bytes(damaged(films, 'hole'))
    with pytest.raises(UnreadableClipError, match=r'cannot be decoded \(DecordDecode: DECORDError') as caught:
        build(folder)[1]
    assert type(caught.value.__cause__).__name__ == 'DECORDError'


def test_a_video_without_frames_is_named(folder):
    class NoneInit:
        def __call__(self, results):
            return dict(results, total_frames=0)

    with pytest.raises(UnreadableClipError, match=r'0\.mp4. holds no frames \(NoneInit counts 0\)'):
        build(folder, pipeline=[NoneInit()])[0]


def test_errors_of_other_steps_pass_as_they_are(folder):
    """Bad settings are no reason to throw a video away."""
    step = dict(type='TemporalCorruption', kind='flicker', severity=1)
    with pytest.raises(ValueError, match='after the Decode step'):
        build(folder, pipeline=[PIPELINE[0], step])[0]

    class LateDecode:
        def __call__(self, results):
            raise KeyError('a fault of this step')

    with pytest.raises(KeyError, match='a fault of this step'):
        build(folder, pipeline=PIPELINE[:3] + [LateDecode()])[0]

    class LibraryInit:
        def __call__(self, results):
            raise ImportError('pip install decord')

    with pytest.raises(ImportError, match='pip install decord'):
        build(folder, pipeline=[LibraryInit()])[0]


def test_a_step_that_gives_up_makes_training_draw_another_clip(folder):
    seen = []

    class Picky:
        def __call__(self, results):
            seen.append(results['label'])
            return None if len(seen) < 4 else results

    np.random.seed(0)
    assert build(folder, pipeline=[Picky()])[0]['label'] == seen[3]
    with pytest.raises(Exception, match='should not get `None`'):
        build(folder, pipeline=[lambda results: None], test_mode=True)[0]


# ---- where a list may lead -------------------------------------------------------------------------------------------

def write(path, text):
    path.write_text(text, encoding='utf-8')
    return path


def made(ann, **kwargs):
    """A data set whose root is only what the arguments say."""
    return DATASETS.build(dict(dict(type='ClipListDataset', ann_file=str(ann), pipeline=[], num_classes=7), **kwargs))


OUTSIDE = ('../2.mp4', 'a/../../2.mp4', '..\\2.mp4', '/etc/2.mp4', 'C:/2.mp4', 'C:\\2.mp4', '\\\\host\\2.mp4',
           'http://127.0.0.1/2.mp4', 's3://bucket/2.mp4')


@pytest.mark.parametrize('where', ['data_root', 'data_prefix'])
def test_a_listed_path_does_not_leave_the_data_folder(folder, where):
    root = {'data_root': dict(data_root=str(folder)), 'data_prefix': dict(data_prefix=dict(video=str(folder)))}[where]
    ann = write(folder / 'list.txt', '0.mp4,0\n../2.mp4,1\n')
    with pytest.raises(ValueError, match=r'list\.txt:2: .*leads out of the data folder .*allow_outside_root=True'):
        made(ann, delimiter=',', check_files='off', **root)
    fenced = made(write(folder / 'list.txt', '0.mp4,0\n'), delimiter=',', **root)
    for path in OUTSIDE:
        with pytest.raises(ValueError, match='leads out of the data folder'):
            fenced.check_path(1, path)
    write(folder / 'list.txt', ''.join(f'{path},1\n' for path in OUTSIDE))
    assert len(made(ann, delimiter=',', check_files='off', allow_outside_root=True, **root)) == len(OUTSIDE)


def test_a_list_may_name_everything_inside_the_root_and_anything_where_there_is_none(folder):
    (folder / 'lists').mkdir()
    ann = write(folder / 'lists' / 'list.txt', f'../0.mp4 0\n{folder}/1.mp4 1\n../a folder/../0.mp4 1\n')
    inside = made(ann, data_root=str(folder), data_prefix=dict(video='lists'))
    assert len(inside) == 3, "the fence is data_root, also where paths start deeper"
    ann = write(folder / 'absolute.txt', f'{folder}/0.mp4 0\n')
    assert len(made(ann, data_prefix=dict(video=''))) == 1, 'no root, no fence'
    beside = folder.parent / f'{folder.name}2'
    ann = write(folder / 'list.txt', f'{beside}/0.mp4 0\n')
    with pytest.raises(ValueError, match='leads out'):
        made(ann, data_root=str(folder), check_files='off')


def test_a_link_inside_the_folder_is_the_users_own(folder, tmp_path_factory, films):
    other = tmp_path_factory.mktemp('disk')
    (other / 'film.mp4').write_bytes(films['end'])
    (folder / 'disk').symlink_to(other)
    ann = write(folder / 'list.txt', 'disk/film.mp4 0\n')
    assert len(made(ann, data_root=str(folder))) == 1


@pytest.mark.parametrize('path', ['a\x00.mp4', '\x1b[2J.mp4', 'a\x7f.mp4'])
def test_control_characters_are_not_handed_to_anybody(folder, path):
    ann = write(folder / 'list.txt', f'{path},1\n')
    with pytest.raises(ValueError, match=r'list\.txt:1: the path .* holds a control character') as error:
        made(ann, delimiter=',', check_files='off')
    assert path not in str(error.value), 'a terminal obeys what it is shown'


def test_a_line_that_is_a_whole_file_is_told_without_being_shown(folder):
    ann = write(folder / 'list.txt', '0.mp4 0\n' + '9' * 5000 + ' ' + '1' * 5000 + '\n')
    with pytest.raises(ValueError, match='line 2 of more than 4200 characters') as error:
        made(ann, check_files='off')
    assert len(str(error.value)) < 500
