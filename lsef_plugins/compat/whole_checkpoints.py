"""Fault: a full disk, or a kill at the wrong moment, leaves half a checkpoint under its final name.

MMEngine (up to 0.10.7) writes checkpoints, dumped predictions and ``last_checkpoint`` straight into the
final file, and with ``max_keep_ckpts`` or ``save_best`` it deletes the old checkpoint *before* it writes
the new one: a failed write can leave nothing to go back to.

Mend: a file is written whole or not at all (a temporary name in the same folder, then ``os.replace``), and
old checkpoints are deleted after the new one is there. The price: one checkpoint more on the disk while it
is written.

Delete when: mmengine does both itself.
"""
import builtins
import contextlib
import functools
import os
import shutil


class NotWrittenError(OSError):
    """A file could not be written completely, so it was not written at all."""


def reason() -> str:
    return 'MMEngine writes checkpoints straight into their final file'


def apply() -> None:
    from mmengine.fileio.backends.local_backend import LocalBackend
    from mmengine.hooks import CheckpointHook, checkpoint_hook
    if getattr(LocalBackend.put, 'of_lsef_plugins', False):
        return
    LocalBackend.put = _whole_put(LocalBackend.put)
    for name in ('_save_checkpoint_with_step', '_save_best_checkpoint'):
        setattr(CheckpointHook, name, _deleting_last(getattr(CheckpointHook, name)))
    # the hook writes last_checkpoint with open(path, 'w'): this shadows the builtin in that one module
    checkpoint_hook.open = whole_open  # type: ignore[attr-defined]


def _whole_put(stock):

    @functools.wraps(stock)
    def put(self, obj, filepath):
        target = os.path.realpath(os.fspath(filepath))
        if os.path.exists(target) and not os.path.isfile(target):
            return stock(self, obj, filepath)  # a pipe or a device: nothing to replace
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with whole_open(target, 'wb') as file:
            file.write(obj)

    put.of_lsef_plugins = True  # type: ignore[attr-defined]
    return put


@contextlib.contextmanager
def whole_open(path, mode='r', *args, **kwargs):
    """``open`` for a ``with`` statement; in modes ``'w'`` and ``'wb'`` the file appears whole or not at all.

    The temporary name is always the same, so what a killed process left is overwritten by the next attempt.

    Raises:
        NotWrittenError: the file could not be written; what was there under its name is untouched.
    """
    if mode not in ('w', 'wb'):
        with builtins.open(path, mode, *args, **kwargs) as file:
            yield file
        return
    target = os.path.realpath(os.fspath(path))
    partial = os.path.join(os.path.dirname(target), f'.{os.path.basename(target)}.partial')
    try:
        with builtins.open(partial, mode, *args, **kwargs) as file:
            yield file
        if os.path.exists(target):
            shutil.copymode(target, partial)
        os.replace(partial, target)
    except OSError as error:
        _remove(partial)
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise NotWrittenError(
            error.errno, f'{reason}. Nothing was written; earlier files are untouched. Free some space or choose '
            'another folder, then go on with --resume', os.fspath(path)) from error
    except BaseException:
        _remove(partial)
        raise


def _remove(path: str) -> None:
    with contextlib.suppress(OSError):
        os.remove(path)


class _DeletingLast:
    """A file backend that keeps deletions back until they are carried out."""

    def __init__(self, backend):
        self.backend = backend
        self.kept_back = []

    def __getattr__(self, name):
        return getattr(self.backend, name)

    def remove(self, path):
        self.kept_back.append((self.backend.remove, path))

    def rmtree(self, path):
        self.kept_back.append((self.backend.rmtree, path))

    def carry_out(self, keep: set) -> None:
        for delete, path in self.kept_back:
            if path not in keep:
                delete(path)


def _deleting_last(stock):

    @functools.wraps(stock)
    def wrapper(self, *args, **kwargs):
        backend = self.file_backend
        self.file_backend = _DeletingLast(backend)
        try:
            result = stock(self, *args, **kwargs)
            late = self.file_backend
        finally:
            self.file_backend = backend
        best = getattr(self, 'best_ckpt_path_dict', None) or {}
        late.carry_out(keep={self.last_ckpt, getattr(self, 'best_ckpt_path', None), *best.values()})
        return result

    return wrapper
