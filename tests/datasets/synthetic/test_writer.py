"""The folder: complete or known to be incomplete, never in between."""
import dataclasses
import errno
import json
import os
import subprocess
import sys

import numpy as np
import pytest

from lsef_plugins.datasets.synthetic import CLASSES, PRESETS, draw_clip, generate, load_truth, writer
from lsef_plugins.datasets.synthetic.video import decode
from lsef_plugins.datasets.synthetic.writer import is_complete

TINY = dataclasses.replace(PRESETS['easy'], frames=20, size=32, clips=(9, 5))


def make(out, preset=TINY, **options):
    return generate(preset, out, **{'workers': 1, 'progress': False, **options})


def contents(root):
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob('*') if path.is_file()}


@pytest.fixture(scope='module')
def made(tmp_path_factory):
    return make(tmp_path_factory.mktemp('made'))


def test_the_folder_holds_videos_lists_truth_and_meta(made):
    assert made.name == 'easy'
    names = set(contents(made))
    expected = {f'{folder}/{split}/{index:05d}.{ending}' for split, number in (('train', 9), ('val', 5))
                for index in range(number) for folder, ending in (('videos', 'mp4'), ('truth', 'npz'))}
    assert names == expected | {'train.txt', 'val.txt', 'settings.json', 'meta.json'}


def test_lists_name_every_clip_with_its_label(made):
    lines = (made / 'val.txt').read_text().splitlines()
    assert len(lines) == 5
    for index, line in enumerate(lines):
        name, label = line.split(' ')
        assert (made / 'videos' / name).is_file()
        assert int(label) == load_truth(made / 'truth' / 'val' / f'{index:05d}.npz').label


def test_meta_says_what_is_there(made):
    meta = json.loads((made / 'meta.json').read_text())
    assert meta['classes'] == list(CLASSES) and meta['clips'] == {'train': 9, 'val': 5} and meta['seed'] == 0
    assert sum(meta['counts']['train'].values()) == 9
    assert meta['ceilings']['base'] == pytest.approx(.379, abs=.001)
    assert meta['preset']['size'] == 32 and meta['generator'] == writer.GENERATOR
    assert len(meta['frames_sha256']['val']) == len(meta['signals_sha256']['val']) == 64


def test_files_are_what_draw_clip_draws(made):
    frames, truth = draw_clip(TINY, 'val', 3)
    stored = load_truth(made / 'truth' / 'val' / '00003.npz')
    assert stored.signals_sha256() == truth.signals_sha256()
    assert np.abs(decode(made / 'videos' / 'val' / '00003.mp4').astype(float) - frames).mean() < 6


def test_every_run_and_any_number_of_workers_make_the_same_bytes(made, tmp_path):
    assert contents(make(tmp_path, workers=2)) == contents(made)


def test_a_clip_does_not_depend_on_how_many_are_asked_for(made, tmp_path):
    few = contents(make(tmp_path, clips=(3, 2)))
    more = contents(made)
    clips = [name for name in few if name.startswith(('videos', 'truth'))]
    assert len(clips) == 10 and all(few[name] == more[name] for name in clips)


def test_another_seed_makes_other_clips(made, tmp_path):
    other = contents(make(tmp_path, seed=1))
    assert not [name for name, content in contents(made).items()
                if name.startswith(('videos', 'truth')) and other[name] == content]


def test_a_second_start_reuses_what_is_there(made, monkeypatch):
    before = {path: path.stat().st_mtime_ns for path in made.rglob('*')}
    monkeypatch.setattr(writer, 'draw_clip', lambda *args: pytest.fail('a clip was drawn again'))
    make(made.parent)
    assert {path: path.stat().st_mtime_ns for path in made.rglob('*')} == before


def test_an_interrupted_start_goes_on_and_ends_with_the_same_bytes(made, tmp_path, monkeypatch):
    drawn = []

    def stop_at_the_sixth(preset, split, index, seed):
        drawn.append((split, index))
        if len(drawn) == 6:
            raise KeyboardInterrupt
        return draw_clip(preset, split, index, seed)
    monkeypatch.setattr(writer, 'draw_clip', stop_at_the_sixth)
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path)
    root = tmp_path / 'easy'
    assert not is_complete(root) and not (root / 'meta.json').exists()
    (root / 'videos' / 'train' / '.00005.999.tmp.mp4').write_bytes(b'what a killed process leaves')
    make(tmp_path)
    assert drawn[6:] == [('train', index) for index in range(5, 9)] + [('val', index) for index in range(5)]
    assert contents(root) == contents(made)


@pytest.mark.parametrize('damage', ['shorten', 'remove'])
@pytest.mark.parametrize('victim', ['videos/train/00002.mp4', 'truth/val/00001.npz', 'train.txt'])
def test_damage_is_noticed_and_mended(made, tmp_path, victim, damage):
    root = make(tmp_path)
    if damage == 'remove':
        (root / victim).unlink()
    else:
        (root / victim).write_bytes((root / victim).read_bytes()[:-9])
    assert not is_complete(root)
    assert contents(make(tmp_path)) == contents(made)


@pytest.mark.parametrize('options, difference', [
    ({'seed': 7}, 'seed: 0 there, 7 asked for'), ({'clips': (4, 5)}, "clips: {'train': 9, 'val': 5} there"),
    ({'preset': dataclasses.replace(TINY, noise=9.)}, 'noise: 1.5 there, 9.0 asked for')])
def test_other_settings_in_the_same_folder_are_refused_with_the_way_out(made, options, difference):
    before = contents(made)
    with pytest.raises(FileExistsError, match=f'{difference}.*another --out.*--overwrite'):
        make(made.parent, **options)
    assert contents(made) == before


def test_overwrite_replaces_a_data_set_and_nothing_else(tmp_path):
    root = make(tmp_path)
    (root / 'notes.txt').write_text('mine')
    make(tmp_path, seed=3, clips=(2, 1), overwrite=True)
    assert json.loads((root / 'meta.json').read_text())['seed'] == 3
    assert (root / 'notes.txt').read_text() == 'mine' and not (root / 'videos' / 'train' / '00002.mp4').exists()


def test_somebody_elses_folder_is_not_touched(tmp_path):
    (tmp_path / 'easy').mkdir()
    (tmp_path / 'easy' / 'train.txt').write_text('mine')
    with pytest.raises(FileExistsError, match='files that this generator did not leave there'):
        make(tmp_path)
    assert contents(tmp_path) == {'easy/train.txt': b'mine'}


def test_a_full_disk_stops_the_run_and_a_second_start_finishes_it(made, tmp_path, monkeypatch):
    write = writer.write_clip

    def full(video, *rest):
        if video.name == '00004.mp4':
            raise OSError(errno.ENOSPC, 'No space left on device')
        return write(video, *rest)
    monkeypatch.setattr(writer, 'write_clip', full)
    with pytest.raises(OSError, match='No space left'):
        make(tmp_path)
    assert not is_complete(tmp_path / 'easy')
    monkeypatch.undo()
    assert contents(make(tmp_path)) == contents(made)


def test_a_full_disk_while_meta_is_written_leaves_no_mark(tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, 'No space left on device')
    monkeypatch.setattr(type(tmp_path), 'write_text', full)
    with pytest.raises(OSError, match='meta.json could not be written.*complete clips are kept'):
        make(tmp_path)
    assert 'meta.json' not in os.listdir(tmp_path / 'easy')


def test_an_error_in_a_worker_reaches_the_caller(tmp_path, monkeypatch):
    """A worker of its own process meets the system's limit on file sizes."""
    code = ('import resource, sys; from pathlib import Path;'
            'from lsef_plugins.datasets.synthetic import generate;'
            'resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))\n'
            'if __name__ == "__main__": generate("easy", "out", clips=(30, 2), workers=2)')
    (tmp_path / 'script.py').write_text(code)
    done = subprocess.run([sys.executable, 'script.py'], capture_output=True, text=True, cwd=tmp_path,
                          env={**os.environ, 'LSEF_PLUGINS_REGISTER': '0'})
    assert done.returncode != 0 and 'No half file is left' in done.stderr
    assert not [name for name in contents(tmp_path / 'out') if name.endswith(('.mp4', 'npz', 'meta.json'))]


def test_va_lists_pair_every_clip_with_its_curves(tmp_path):
    root = make(tmp_path, dataclasses.replace(PRESETS['va'], size=32, frames=24), clips=(3, 2))
    for split, number in (('train', 3), ('val', 2)):
        pairs = [line.split(' ') for line in (root / f'{split}_va.txt').read_text().splitlines()]
        assert len(pairs) == number
        for movie, curves in pairs:
            truth = load_truth(root / 'truth' / curves)
            assert len(truth.valence) == len(truth.arousal) == len(decode(root / 'videos' / movie)) == 24
    (root / 'train_va.txt').unlink()
    assert not is_complete(root)


@pytest.mark.parametrize('options, message', [
    ({'clips': (0, 5)}, r'clips is \(0, 5\); it must be'), ({'clips': (3,)}, 'two whole numbers'),
    ({'clips': (2.5, 1)}, 'two whole numbers'), ({'seed': -1}, 'seed is -1'), ({'seed': .5}, 'seed is 0.5'),
    ({'workers': 0}, 'workers is 0; it must be at least 1'), ({'preset': 'huge'}, "no preset 'huge'")])
def test_impossible_settings_are_refused_before_anything_is_written(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        make(tmp_path / 'out', **options)
    assert not (tmp_path / 'out').exists()


def test_progress_is_a_line_now_and_then_where_no_terminal_is(tmp_path, capsys):
    make(tmp_path, clips=(2, 1), progress=True)
    lines = capsys.readouterr().err.splitlines()
    assert '3/3 clips' in lines[-2] and '2 train and 1 val clips' in lines[-1]
    make(tmp_path, clips=(2, 1), progress=True)
    assert capsys.readouterr().err.strip().endswith('complete, reused')


@pytest.mark.parametrize('before', [None, '1'])
def test_workers_are_born_without_mmaction2_and_the_environment_is_given_back(tmp_path, monkeypatch, before):
    if before is None:
        monkeypatch.delenv('LSEF_PLUGINS_REGISTER', raising=False)
    else:
        monkeypatch.setenv('LSEF_PLUGINS_REGISTER', before)
    with writer.worker_pool(1) as pool:
        asked = pool.submit(os.getenv, 'LSEF_PLUGINS_REGISTER').result()
    assert asked == '0' and os.environ.get('LSEF_PLUGINS_REGISTER') == before
