"""A full disk costs the new checkpoint, never an old one."""
import builtins
import errno
import os

import pytest

from lsef_plugins.compat import apply_repairs
from lsef_plugins.compat.whole_checkpoints import NotWrittenError, whole_open

apply_repairs()


class FullDisk:
    """``open`` for writing gives files that take ``room`` bytes and then fail as a full disk does."""

    def __init__(self, room):
        self.room = room
        self.open = builtins.open

    def __call__(self, path, mode='r', *args, **kwargs):
        file = self.open(path, mode, *args, **kwargs)
        if 'w' in mode and str(path).endswith('.partial'):
            file = Filling(file, self)
        return file


class Filling:

    def __init__(self, file, disk):
        self.file, self.disk = file, disk

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()

    def write(self, data):
        written = self.file.write(data[:self.disk.room])
        self.disk.room -= written
        if written < len(data):
            self.file.flush()
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return written


def names(folder):
    return sorted(path.name for path in folder.iterdir() if path.name.endswith(('.pth', '.partial', '_checkpoint')))


def runner_of(tiny_config, folder, epochs, **hook):
    from mmengine.runner import Runner
    cfg = tiny_config(folder, train_cfg=dict(max_epochs=epochs), default_hooks=dict(checkpoint=hook))
    return Runner.from_cfg(cfg)


def test_a_file_is_there_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / 'file'
    path.write_bytes(b'old')
    monkeypatch.setattr(builtins, 'open', FullDisk(10))
    with pytest.raises(NotWrittenError, match='No space left on device. Nothing was written.*--resume') as caught:
        with whole_open(path, 'wb') as file:
            file.write(b'x' * 100)
    assert caught.value.errno == errno.ENOSPC and caught.value.filename == str(path)
    monkeypatch.undo()
    assert path.read_bytes() == b'old' and os.listdir(tmp_path) == ['file']
    with pytest.raises(KeyboardInterrupt), whole_open(path, 'wb') as file:
        file.write(b'half')
        raise KeyboardInterrupt
    assert path.read_bytes() == b'old' and os.listdir(tmp_path) == ['file']
    with whole_open(path, 'wb') as file:
        file.write(b'new')
    assert path.read_bytes() == b'new' and os.listdir(tmp_path) == ['file']


def test_mode_links_and_pipes_stay_what_they_were(tmp_path):
    from mmengine.fileio import LocalBackend
    target, link = tmp_path / 'target', tmp_path / 'link'
    target.write_bytes(b'old')
    target.chmod(0o640)
    link.symlink_to(target)
    LocalBackend().put(b'new', link)
    assert link.is_symlink() and target.read_bytes() == b'new' and target.stat().st_mode & 0o777 == 0o640
    LocalBackend().put(b'', os.devnull)
    assert not os.path.isfile(os.devnull)
    LocalBackend().put(b'deep', tmp_path / 'a' / 'b' / 'file')
    assert (tmp_path / 'a' / 'b' / 'file').read_bytes() == b'deep'


@pytest.mark.parametrize('hook', [{}, {'max_keep_ckpts': 1}, {'save_best': 'auto', 'max_keep_ckpts': 1}],
                         ids=['keep all', 'keep one', 'best'])
def test_a_full_disk_loses_no_checkpoint_and_training_goes_on_later(tiny_config, tmp_path, monkeypatch, hook):
    runner_of(tiny_config, tmp_path, 1, **hook).train()
    before = {name: (tmp_path / name).read_bytes() for name in names(tmp_path)}
    assert 'epoch_1.pth' in before and before['last_checkpoint'].endswith(b'epoch_1.pth')

    runner = runner_of(tiny_config, tmp_path, 2, **hook)
    runner._resume = True
    with monkeypatch.context() as patch:
        patch.setattr(builtins, 'open', FullDisk(100_000))
        with pytest.raises(NotWrittenError, match=r"Nothing was written.*epoch_2\.pth"):
            runner.train()
    assert {name: (tmp_path / name).read_bytes() for name in names(tmp_path)} == before

    runner = runner_of(tiny_config, tmp_path, 2, **hook)
    runner._resume = True
    runner.train()
    assert (tmp_path / 'last_checkpoint').read_text(encoding='utf-8').endswith('epoch_2.pth')
    assert ('epoch_1.pth' in names(tmp_path)) == ('max_keep_ckpts' not in hook)
    assert 'epoch_2.pth' in names(tmp_path)


def test_last_checkpoint_survives_a_disk_that_fills_up_just_before_it(tiny_config, tmp_path, monkeypatch):
    runner_of(tiny_config, tmp_path, 1).train()
    size = (tmp_path / 'epoch_1.pth').stat().st_size
    runner = runner_of(tiny_config, tmp_path, 2, save_optimizer=False)
    runner._resume = True
    disk = FullDisk(size * 2)
    stock = runner.save_checkpoint

    def save_and_fill(*args, **kwargs):
        stock(*args, **kwargs)
        disk.room = 0

    runner.save_checkpoint = save_and_fill
    monkeypatch.setattr(builtins, 'open', disk)
    with pytest.raises(NotWrittenError, match='last_checkpoint'):
        runner.train()
    monkeypatch.undo()
    assert (tmp_path / 'last_checkpoint').read_text(encoding='utf-8').endswith('epoch_1.pth')


def test_old_checkpoints_go_once_the_new_one_is_there(tiny_config, tmp_path):
    runner_of(tiny_config, tmp_path, 4, max_keep_ckpts=2, save_best='acc/top1', rule='less').train()
    kept = [name for name in names(tmp_path) if name.startswith('epoch')]
    assert kept == ['epoch_3.pth', 'epoch_4.pth']
    assert sum(name.startswith('best') for name in names(tmp_path)) == 1
