"""The doctor on trees with planted faults: each found, at its place, and nothing else."""
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from lsef_plugins.datasets.doctor import Request, examine
from lsef_plugins.datasets.doctor.report import MEANING
from lsef_plugins.datasets.synthetic.layouts import write_layout


@pytest.fixture(scope='module')
def healthy(tmp_path_factory):
    base = tmp_path_factory.mktemp('healthy')
    for layout, clips in (('dfew', 35), ('ferv39k', 20), ('veatic', 3)):
        write_layout(layout, base / layout, clips, size=32, videos=True)
    return base


@pytest.fixture
def tree(healthy, tmp_path):

    def copy(layout):
        return Path(shutil.copytree(healthy / layout, tmp_path / layout))

    return copy


def look(data_set, root, **options):
    return examine(Request(data_set, str(root), **{'expect': 'any', **options}))


def told(report):
    return sorted((finding.code, finding.where) for finding in report.findings)


def folder(root, clip):
    return root / 'Clip/clip_224x224' / clip


def frames(root, clip):
    return sorted(folder(root, clip).iterdir())


def lists(root, split, fold=1):
    return root / f'EmoLabel_DataSplit/{split}(single-labeled)/set_{fold}.csv'


# ---- one fault each: plant(root) -> where it is --------------------------------------------------------------------


def missing(root):
    shutil.rmtree(folder(root, '00001'))
    return '00001'


def empty(root):
    for frame in frames(root, '00002'):
        frame.unlink()
    (folder(root, '00002') / 'Thumbs.db').touch()
    return '00002'


def too_short(root):
    for frame in frames(root, '00003')[5:]:
        frame.unlink()
    return '00003'


def truncated(root):
    frame = frames(root, '00004')[7]
    frame.write_bytes(frame.read_bytes()[:len(frame.read_bytes()) // 2])
    return '00004'


def unreadable(root):
    frames(root, '00005')[-1].write_bytes(b'<html>quota exceeded</html>')
    return '00005'


def duplicate_frame(root):
    cv2.imwrite(str(folder(root, '00006') / '00006_00003.png'), np.zeros((32, 32, 3), np.uint8))
    return '00006'


def foreign_frame(root):
    shutil.copy(frames(root, '00008')[0], folder(root, '00007'))
    return '00007'


def unnatural_order(root):
    for frame in frames(root, '00009'):
        clip, number = frame.stem.split('_')
        frame.rename(frame.with_name(f'{clip}_{int(number)}.jpg'))
    return '00009'


def gap(root):
    frames(root, '00010')[4].unlink()
    return '00010'


def overlap(root):
    with open(lists(root, 'test'), 'a') as file:
        file.write(lists(root, 'train').read_text().splitlines()[3] + '\n')
    return lists(root, 'train').read_text().splitlines()[3].split(',')[0]


TEN = (missing, empty, too_short, truncated, unreadable, duplicate_frame, foreign_frame, unnatural_order, gap, overlap)


def repeated(root):
    path = lists(root, 'train', 2)
    path.write_text(path.read_text() + path.read_text().splitlines()[1] + '\n')
    return path.read_text().splitlines()[1].split(',')[0]


def label_conflict(root):
    path = lists(root, 'train', 3)
    rows = path.read_text().splitlines()
    clip, label = rows[5].split(',')
    rows[5] = f'{clip},{int(label) % 7 + 1}'
    path.write_text('\n'.join(rows) + '\n')
    return clip


def ambiguous(root):
    folder(root, '00011').rename(folder(root, '11'))
    shutil.copytree(folder(root, '00012'), folder(root, '011'))
    return '00011'


def list_missing(root):
    lists(root, 'test', 4).unlink()
    return 'test fold 4'


def list_refused(root):
    path = lists(root, 'train', 5)
    path.write_text(path.read_text() + '00001\n')
    return str(path)


def strange_clip(root):
    """All frames are named after another clip."""
    for frame in frames(root, '00013'):
        frame.rename(frame.with_name(frame.name.replace('00013_', '00999_')))
    return '00013'


def twins(root):
    """Clip 16 holds the frames of clip 17 under its own names."""
    for frame in frames(root, '00016'):
        frame.unlink()
    for frame in frames(root, '00017'):
        shutil.copy(frame, folder(root, '00016') / frame.name.replace('00017_', '00016_'))
    return '00017'


def empty_frame(root):
    frames(root, '00015')[3].write_bytes(b'')
    return '00015'


ONE = {**{plant.__name__: plant for plant in (*TEN, repeated, label_conflict, ambiguous, list_missing, list_refused,
                                            twins)},
       'foreign_frame whole': strange_clip, 'truncated empty': empty_frame}


def test_lists_of_two_releases_are_both_refused(tree):
    root = tree('dfew')
    rows = [line.split(',') for line in lists(root, 'test').read_text().splitlines()[1:]]
    lists(root, 'test').write_text('video_name,label\n' + ''.join(f'{a},{int(b) - 1}\n' for a, b in rows))
    report = look('dfew', root)
    assert told(report) == [('list_refused', str(lists(root, split))) for split in ('test', 'train')]
    assert all('official lists count from 1' in finding.what for finding in report.findings)


def test_healthy_trees_are_healthy_at_every_closeness(healthy):
    for data_set in ('dfew', 'ferv39k', 'veatic'):
        for options in (dict(), dict(ends='none'), dict(ends='all'), dict(decode=True)):
            report = look(data_set, healthy / data_set, **options)
            assert told(report) == [] and report.healthy and report.to_text().splitlines()[-1].startswith('HEALTHY')
    report = look('dfew', healthy / 'dfew', video='Clip/original', decode=True)
    assert told(report) == [] and report.clips['frames'] == look('dfew', healthy / 'dfew').clips['frames']


@pytest.mark.parametrize('name', ONE)
def test_one_fault_gives_one_finding_at_its_place(tree, name):
    root = tree('dfew')
    where = ONE[name](root)
    report = look('dfew', root)
    assert told(report) == [(name.split()[0], where)]
    severity, meaning = MEANING[name.split()[0]]
    assert report.healthy == (severity == 'warning')
    assert f'{severity.upper()} {name.split()[0]}: 1.' in report.to_text() and where in report.to_text()


@pytest.mark.parametrize('options', [dict(), dict(ends='all'), dict(decode=True), dict(workers=2)])
def test_ten_planted_faults_are_ten_findings(tree, options):
    root = tree('dfew')
    planted = sorted((plant.__name__, plant(root)) for plant in TEN)
    report = look('dfew', root, **options)
    assert told(report) == planted and len(report.findings) == 10 and not report.healthy
    assert '8 faults, 2 warnings' in report.to_text()


def test_decoding_finds_what_bytes_do_not_show(tree):
    root = tree('dfew')
    cv2.imwrite(str(frames(root, '00001')[3]), np.zeros((20, 32, 3), np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 100])
    whole = frames(root, '00002')[3].read_bytes()
    frames(root, '00002')[3].write_bytes(b'\xff\xd8' + bytes(len(whole)) + b'\xff\xd9')
    assert told(look('dfew', root, ends='all')) == []
    assert told(look('dfew', root, decode=True)) == [('frame_sizes', '00001'), ('unreadable', '00002')]


def test_a_slightly_cut_frame_inside_a_clip_needs_every_frame_opened_and_the_report_says_so(tree):
    root = tree('dfew')
    frame = frames(root, '00004')[7]
    frame.write_bytes(frame.read_bytes()[:-20])
    report = look('dfew', root)
    assert told(report) == [] and any('--ends opens every frame' in what for what in report.not_checked)
    assert told(look('dfew', root, ends='all')) == [('truncated', '00004')]
    last = frames(root, '00003')[-1]
    last.write_bytes(last.read_bytes()[:-20])
    assert told(look('dfew', root)) == [('truncated', '00003')]


def test_published_numbers_are_expected_unless_told_otherwise(tree, healthy):
    report = look('dfew', healthy / 'dfew', expect='published')
    assert [finding.code for finding in report.findings].count('count') == 10 and not report.healthy
    assert any('28 clips, published are 9356' in finding.what for finding in report.findings)
    report = look('ferv39k', healthy / 'ferv39k', expect='published')
    whats = ' '.join(finding.what for finding in report.findings if finding.code == 'count')
    assert 'published are 31088' in whats and 'published are 7847' in whats and 'scenes, published are 22' in whats
    assert told(look('veatic', healthy / 'veatic', expect='published'))[0][0] == 'count'


def test_a_list_of_ones_own_is_compared_with_the_disk(tree, tmp_path):
    root = tree('dfew')
    count = len(frames(root, '00001'))
    mine = tmp_path / 'mine.txt'
    mine.write_text(f'/home/x/00001 {count} 0\n/home/x/2 {len(frames(root, "00002")) + 1} 6\n')
    report = look('dfew', root, train=str(mine), strip_prefix='/home/x')
    assert told(report) == [('frame_count', '00002')] and report.healthy
    assert 'on_disk_not_listed' in report.clips and report.clips['on_disk_not_listed'] == 33
    report = look('dfew', root, train=str(mine))
    assert told(report) == [('list_refused', str(mine))] and "strip_prefix='/home/x/'" in report.to_text()


def test_videos_are_judged_by_their_container_and_by_decoding(tree):
    root = tree('dfew')
    films = sorted((root / 'Clip/original').iterdir())
    films[0].write_bytes(films[0].read_bytes()[:-300])
    films[1].write_bytes(b'')
    films[2].unlink()
    planted = [('missing', '00003'), ('truncated', '00001'), ('truncated', '00002')]
    assert told(look('dfew', root, video='Clip/original')) == planted
    assert told(look('dfew', root, video='Clip/original', decode=True)) == planted


def test_veatics_faults_are_found_each_at_its_video(tree):
    root = tree('veatic')
    ratings = root / 'rating_averaged'
    (ratings / '0_arousal.csv').unlink()
    for kind in ('valence', 'arousal'):
        path = ratings / f'1_{kind}.csv'
        path.write_text('\n'.join(path.read_text().splitlines()[:-3]) + '\n')
    (root / 'videos/2.mp4').write_bytes((root / 'videos/2.mp4').read_bytes()[:-900])
    for kind in ('valence', 'arousal'):
        shutil.copy(ratings / f'2_{kind}.csv', ratings / f'9_{kind}.csv')
    planted = [('length', '1'), ('missing', '9'), ('rating_refused', '0'), ('truncated', '2')]
    assert told(look('veatic', root)) == planted == told(look('veatic', root, decode=True))


def test_veatics_frame_folders_are_counted_too(tree):
    root = tree('veatic')
    for name in ('0', '1', '2'):
        film = cv2.VideoCapture(str(root / f'videos/{name}.mp4'))
        (root / 'frames' / name).mkdir(parents=True)
        for t, (_, frame) in enumerate(iter(film.read, (False, None))):
            cv2.imwrite(str(root / f'frames/{name}/{t}.jpg'), frame)
    report = look('veatic', root, img='frames')
    assert {finding.code for finding in report.findings} == {'unnatural_order'} and report.healthy
    (root / 'frames/1' / max(frame.name for frame in (root / 'frames/1').iterdir())).unlink()
    found = told(look('veatic', root, img='frames'))
    assert ('length', '1') in found
    shutil.rmtree(root / 'videos')
    assert told(look('veatic', root)) == found
    shutil.rmtree(root / 'rating_averaged')
    assert told(look('veatic', root)) == [('list_missing', str(root / 'rating_averaged'))]


def test_nothing_on_disk_changes(tree):
    root = tree('dfew')
    for plant in TEN:
        plant(root)
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in root.rglob('*') if path.is_file()}
    look('dfew', root, decode=True)
    assert before == {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in root.rglob('*') if path.is_file()}


def test_the_report_for_machines_holds_everything_in_plain_types(tree):
    root = tree('dfew')
    truncated(root)
    told = json.loads(json.dumps(look('dfew', root).to_dict()))
    assert told['healthy'] is False and told['summary'] == {'truncated': 1}
    assert told['findings'][0]['severity'] == 'fault' and '00004_00008.jpg is cut off' in told['findings'][0]['what']
    first = told['lists'][0]
    assert (first['fold'], first['split'], first['clips'], first['label_base']) == (1, 'train', 28, 1)
    assert first['class_map']['1'] == 'Happy' and sum(first['class_counts'].values()) == 28
    assert abs(sum(first['class_shares'].values()) - 1) < .001 and len(first['sha256']) == 64
    assert told['clips']['listed'] == 35 and told['clips']['frames_shortest'] >= 16


def test_a_clip_in_training_and_test_of_one_fold_is_found_without_the_other_folds(tree, tmp_path):
    root = tree('dfew')
    clip = overlap(root)
    report = look('dfew', root, folds=(1,))
    assert told(report) == [('overlap', clip)] and report.findings[0].what == 'in training and in test of fold 1'
    ferv = tree('ferv39k')
    train, test = (ferv / f'4_setups/All_scenes/{split}_All.csv' for split in ('train', 'test'))
    first = train.read_text().splitlines()[0]
    test.write_text(test.read_text() + first + '\n')
    assert told(look('ferv39k', ferv, min_frames=8)) == [('overlap', first.split()[0])]


def test_twins_across_train_and_test_are_said_to_be(tree):
    root = tree('dfew')
    twins(root)     # clips 16 and 17 are tested in different folds, so each is trained on where the other is tested
    assert 'the same frames as 00016; one is trained on and the other tested' in look('dfew', root).to_text()
    frame = frames(root, '00016')[3]
    content = bytearray(frame.read_bytes())
    content[len(content) // 2] ^= 1
    frame.write_bytes(content)      # of the same size, another picture
    assert told(look('dfew', root)) == []


def test_only_the_first_findings_of_a_kind_are_printed(tree):
    root = tree('dfew')
    for clip in range(1, 11):
        shutil.rmtree(folder(root, f'{clip:05d}'))
    text = look('dfew', root).to_text()
    assert 'FAULT missing: 10.' in text and '... and 5 more (--json lists all)' in text
    assert text.count('does not exist') == 5


@pytest.mark.parametrize('options, message', [
    (dict(data_set='afew'), 'must be one of dfew, ferv39k, veatic'), (dict(root='/nowhere'), 'is not a folder'),
    (dict(img='a', video='b'), 'either a folder of frame folders'), (dict(expect='all'), "expect='all' must be"),
    (dict(ends='few'), "ends='few' must be one of 'none', 'some', 'all'"), (dict(workers=0), 'workers=0 must be'),
    (dict(train='/nowhere.csv'), "the list '/nowhere.csv' does not exist")])
def test_an_impossible_request_is_refused(healthy, options, message):
    with pytest.raises(ValueError, match=message):
        examine(Request(**{'data_set': 'dfew', 'root': str(healthy / 'dfew'), **options}))


def test_progress_goes_to_stderr_when_asked_for(healthy, capsys):
    look('dfew', healthy / 'dfew', progress=True)
    assert '35/35 clips' in capsys.readouterr().err
    look('dfew', healthy / 'dfew')
    assert capsys.readouterr().err == ''
