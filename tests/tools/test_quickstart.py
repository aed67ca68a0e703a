"""The quick start on the smallest preset: ends with a table and a picture; a second start reuses, a third goes on."""
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def quickstart(folder, *options):
    done = subprocess.run(
        [sys.executable, str(ROOT / 'tools' / 'quickstart.py'), '--preset', 'easy', '--epochs', '1',
         '--data', str(folder / 'data'), '--out', str(folder / 'out'), *options],
        cwd=folder, capture_output=True, text=True, timeout=900)
    return done


def load():
    sys.path.insert(0, str(ROOT / 'tools'))
    try:
        import quickstart
    finally:
        sys.path.pop(0)
    return quickstart


@pytest.mark.slow
def test_the_quick_start_ends_with_a_table_and_reuses_what_is_there(tmp_path):
    first = quickstart(tmp_path)
    assert first.returncode == 0, first.stdout[-3000:] + first.stderr[-3000:]
    table = (tmp_path / 'out' / 'results.md').read_text()
    assert table.strip() in first.stdout
    rows = [line for line in table.splitlines() if line.startswith('| ') and '---' not in line]
    assert [row.split('|')[1].strip() for row in rows[1:3]] == ['clean', '**corrupted, mean**'] and len(rows) == 8
    assert all(0 <= float(cell) <= 100 for row in rows[1:] for cell in row.split('|')[2:6])
    assert (tmp_path / 'out' / 'decomposed_clip.png').stat().st_size > 20_000
    assert first.stdout.count('Epoch(train)') >= 2

    second = quickstart(tmp_path)
    assert second.returncode == 0 and 'Epoch(train)' not in second.stdout
    assert second.stdout.count('already trained, reused') == 2 and '/6] clean' not in second.stdout
    assert (tmp_path / 'out' / 'results.md').read_text() == table

    # Stopped after its last checkpoint, before it was marked as finished: goes on, trains nothing twice.
    stopped = next((tmp_path / 'out').rglob('finished.json'))
    stopped.unlink()
    third = quickstart(tmp_path)
    assert third.returncode == 0 and '--resume: going on from' in third.stdout
    assert (tmp_path / 'out' / 'results.md').read_text() == table


def test_other_settings_keep_the_old_training_aside(tmp_path):
    module = load()
    work_dir = tmp_path / 'training'
    work_dir.mkdir()
    (work_dir / 'settings.json').write_text('others')
    (work_dir / 'epoch_1.pth').write_text('weights')
    calls = []
    module.run, run = (lambda *arguments: calls.append(arguments)), module.run
    try:
        module.train(Path('config.py'), work_dir, ['a=1'], 0, tmp_path)
        module.train(Path('config.py'), work_dir, ['a=1'], 0, tmp_path)
    finally:
        module.run = run
    aside = [path for path in tmp_path.iterdir() if path.name.startswith('training.')]
    assert len(aside) == 1 and (aside[0] / 'epoch_1.pth').read_text() == 'weights'
    assert len(calls) == 1 and calls[0][0] == 'tools/train.py'


def test_several_seeds_give_mean_spread_and_paired_difference(tmp_path):
    module = load()
    plain = [{'clean': {'acc/war': 0.2, 'acc/uar': 0.1}, 'a/3': {'acc/war': 0.1, 'acc/uar': 0.0},
              'b/3': {'acc/war': 0.3, 'acc/uar': 0.2}},
             {'clean': {'acc/war': 0.4, 'acc/uar': 0.3}, 'a/3': {'acc/war': 0.1, 'acc/uar': 0.0},
              'b/3': {'acc/war': 0.3, 'acc/uar': 0.2}}]
    better = [{name: {key: value + 0.05 for key, value in found.items()} for name, found in seed.items()}
              for seed in plain]
    rows = [[part.strip() for part in line.split('|')[1:-1]]
            for line in module.table_of({'stock': plain, 'neck': better}).splitlines()]
    assert rows[2] == ['clean', '30.0 ± 14.1', '20.0 ± 14.1', '35.0 ± 14.1', '25.0 ± 14.1', '+5.0 ± 0.0', '+5.0 ± 0.0']
    assert rows[3][:3] == ['**corrupted, mean**', '20.0 ± 0.0', '10.0 ± 0.0']
    assert rows[4][0] == 'a, severity 3'


def test_what_is_added_stands_beside_the_stock_recognizer_with_its_own_difference(tmp_path):
    """Three recognizers: each difference is from the first, and its columns are its own."""
    module = load()
    results = {name: [{'clean': {'acc/war': war, 'acc/uar': uar}, 'a/3': {'acc/war': war / 2, 'acc/uar': uar / 2}}]
               for name, war, uar in (('stock', 0.2, 0.1), ('neck', 0.3, 0.4), ('both', 0.8, 0.6))}
    head, _, clean, *_ = [[part.strip() for part in line.split('|')[2:-1]]
                          for line in module.table_of(results).splitlines()]
    assert head == ['stock: WAR', 'stock: UAR', 'neck: WAR', 'neck: UAR', 'difference: WAR', 'difference: UAR',
                    'both: WAR', 'both: UAR', 'difference: WAR', 'difference: UAR']
    assert clean == ['20.0', '10.0', '30.0', '40.0', '+10.0', '+30.0', '80.0', '60.0', '+60.0', '+50.0']


@pytest.mark.parametrize('options, trained', [
    ([], {'framewise-r18': 'framewise', 'lsef-head_framewise-r18': 'framewise + LSEFNeck + LSEFHead'}),
    (['--ours', 'neck'], {'framewise-r18': 'framewise', 'lsef_framewise-r18': 'framewise + LSEFNeck'}),
    (['--ours', 'neck', 'head', 'neck+head', 'neck', '--backbone', 'slowonly'],
     {'slowonly-r18': 'slowonly', 'lsef_slowonly-r18': 'slowonly + LSEFNeck',
      'lsef-headonly_slowonly-r18': 'slowonly + LSEFHead',
      'lsef-head_slowonly-r18': 'slowonly + LSEFNeck + LSEFHead'})])
def test_each_recognizer_asked_for_is_trained_once_from_a_config_that_exists(tmp_path, monkeypatch, options, trained):
    """``trained``: configs in their order, and under which name the scores of each are shown."""
    module = load()
    seen = []

    def score_of(config):
        return (1 + list(trained).index(Path(config).name.split('-w16')[0])) / 10

    def train(config, work_dir, *_):
        assert config.is_file()
        seen.append(config.name.split('-w16')[0])
        work_dir.mkdir(parents=True)

    def run(tool, *arguments):
        if tool == 'tools/robustness.py':
            score = dict.fromkeys(('acc/war', 'acc/uar'), score_of(arguments[0]))
            Path(arguments[arguments.index('--out') + 1]).write_text(
                json.dumps({'conditions': {'clean': score, 'flicker/3': score}}))

    monkeypatch.setattr(module, 'train', train)
    monkeypatch.setattr(module, 'run', run)
    monkeypatch.setattr(module, 'newest', lambda work_dir: work_dir / 'epoch_10.pth')
    monkeypatch.setattr(module, 'a_telling_clip', lambda data: data)
    assert module.main(['--out', str(tmp_path), '--data', str(tmp_path), *options]) == 0
    assert seen == list(trained)
    head, _, clean, *_ = [[part.strip() for part in line.split('|')[2:-1]]
                          for line in (tmp_path / 'results.md').read_text().splitlines()]
    scores = {title: value for title, value in zip(head, clean) if not title.startswith('difference')}
    assert scores == {f'{name}: {metric}': f'{100 * score_of(config):.1f}'
                      for config, name in trained.items() for metric in ('WAR', 'UAR')}
    assert head.count('difference: UAR') == len(trained) - 1
