"""The quick start on the smallest preset: ends with a table and a picture; a second start reuses, a third goes on."""
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


@pytest.mark.slow
def test_the_quick_start_ends_with_a_table_and_reuses_what_is_there(tmp_path):
    first = quickstart(tmp_path)
    assert first.returncode == 0, first.stdout[-3000:] + first.stderr[-3000:]
    table = (tmp_path / 'out' / 'results.md').read_text()
    assert table.strip() in first.stdout
    rows = [line for line in table.splitlines() if line.startswith('| ') and '---' not in line]
    assert [row.split('|')[1].strip() for row in rows[1:3]] == ['clean', '**corrupted, mean**'] and len(rows) == 8
    assert all(0 <= float(cell) <= 100 for row in rows[1:] for cell in row.split('|')[2:-1])
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
    sys.path.insert(0, str(ROOT / 'tools'))
    try:
        import quickstart as module
    finally:
        sys.path.pop(0)
    work_dir = tmp_path / 'training'
    work_dir.mkdir()
    (work_dir / 'settings.json').write_text('others')
    (work_dir / 'epoch_1.pth').write_text('weights')
    calls = []
    module.run, run = (lambda *arguments: calls.append(arguments)), module.run
    try:
        module.train(Path('config.py'), work_dir, ['a=1'], 0)
        module.train(Path('config.py'), work_dir, ['a=1'], 0)
    finally:
        module.run = run
    aside = [path for path in tmp_path.iterdir() if path.name.startswith('training.')]
    assert len(aside) == 1 and (aside[0] / 'epoch_1.pth').read_text() == 'weights'
    assert len(calls) == 1 and calls[0][0] == 'tools/train.py'
