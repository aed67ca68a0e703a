"""Which checkpoint a training goes on from, and that all processes take the same one."""
import os
from types import SimpleNamespace

import pytest
import torch

from lsef_plugins.engine import resuming
from lsef_plugins.engine.launch_error import LaunchError


@pytest.fixture
def work_dir(tmp_path):
    for epoch in (1, 2, 10):
        torch.save({'weight': torch.ones(100)}, tmp_path / f'epoch_{epoch}.pth')
        os.utime(tmp_path / f'epoch_{epoch}.pth', (epoch, epoch))
    (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'epoch_10.pth'))
    return tmp_path


def test_a_checkpoint_that_is_cut_off_is_passed_over(work_dir, capsys):
    assert resuming.newest_checkpoint(str(work_dir)) == str(work_dir / 'epoch_10.pth')
    whole = (work_dir / 'epoch_10.pth').read_bytes()
    (work_dir / 'epoch_10.pth').write_bytes(whole[:-100])
    (work_dir / '.epoch_11.pth.partial').write_bytes(whole[:300])     # what a killed writer leaves
    assert resuming.newest_checkpoint(str(work_dir)) == str(work_dir / 'epoch_2.pth')
    told = capsys.readouterr().out
    assert f'epoch_10.pth ({len(whole) - 100} bytes) is incomplete; the newest complete one is' in told


def test_where_no_other_is_whole_the_loader_tells(work_dir):
    for path in work_dir.glob('*.pth'):
        path.write_bytes(path.read_bytes()[:-100])
    assert resuming.newest_checkpoint(str(work_dir)) == str(work_dir / 'epoch_10.pth')


def test_a_folder_is_a_checkpoint_too(work_dir):
    (work_dir / 'epoch_11.pth').mkdir()
    (work_dir / 'last_checkpoint').write_text(str(work_dir / 'epoch_11.pth'))
    assert resuming.newest_checkpoint(str(work_dir)) == str(work_dir / 'epoch_11.pth')


def agreed(monkeypatch, first, own, seen_elsewhere):
    """What a process whose own choice is ``own`` loads, where the first one chose ``first``."""
    monkeypatch.setattr(resuming, 'broadcast_object_list', lambda data: data.__setitem__(0, first))
    monkeypatch.setattr(resuming, 'all_gather_object', lambda mine: [(seen_elsewhere, '0 on other'), mine])
    runner = SimpleNamespace(_load_from=own[0], _resume=own[1])
    resuming.agree_on_checkpoint(runner)
    return runner._load_from, runner._resume


def test_all_processes_load_what_the_first_one_chose(work_dir, monkeypatch):
    first = (str(work_dir / 'epoch_2.pth'), True)
    for own in ((str(work_dir / 'epoch_1.pth'), True), (None, False), first):
        assert agreed(monkeypatch, first, own, True) == first
    assert agreed(monkeypatch, (None, False), first, True) == (None, False)
    assert agreed(monkeypatch, ('https://a/b.pth', False), (None, False), True) == ('https://a/b.pth', False)


def test_a_machine_that_does_not_see_the_checkpoint_is_told(work_dir, monkeypatch):
    gone = str(work_dir / 'epoch_3.pth')
    with pytest.raises(LaunchError, match=r'loads .*epoch_3.pth, which process 0 on \S+ does not see'):
        agreed(monkeypatch, (gone, True), (None, False), True)
    with pytest.raises(LaunchError, match='process 0 on other does not see. Put the work_dir'):
        agreed(monkeypatch, (str(work_dir / 'epoch_2.pth'), True), (None, False), False)
    with pytest.raises(LaunchError, match='epoch_3.pth does not exist'):
        agreed(monkeypatch, (gone, True), (None, False), False)
