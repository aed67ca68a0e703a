"""Where a training goes on: which checkpoint is the newest, and that all processes take the same one.

A checkpoint appears whole or not at all (``compat/whole_checkpoints.py``), so a killed job leaves a usable one. A
machine that lost its power can still lose the end of a file that was there: such a file is passed over.
"""
from __future__ import annotations

import glob
import os
import os.path as osp
import socket
import zipfile
from typing import Any, Optional

from mmengine.config import Config
from mmengine.dist import all_gather_object, broadcast_object_list, get_rank

from .launch_error import LaunchError


def set_resume(cfg: Config, resume: str) -> None:
    """``load_from`` and ``resume`` of a config: ``'auto'`` for the newest checkpoint of its work_dir, or a path."""
    if resume != 'auto':
        must_exist(resume)
        cfg.load_from, cfg.resume = resume, True
        return
    newest = newest_checkpoint(cfg.work_dir)
    if newest is None:
        _say(f'--resume: no checkpoint in {cfg.work_dir}, training starts from the beginning.')
        cfg.resume = False
        return
    _say(f'--resume: going on from {newest}.')
    cfg.load_from, cfg.resume = newest, True


def newest_checkpoint(work_dir: str) -> Optional[str]:
    """The checkpoint ``work_dir/last_checkpoint`` names, also after the folder was moved; None without one.

    Where that one is cut off, the newest of the others that is not.

    Raises:
        LaunchError: the file names a checkpoint that is not there.
    """
    pointer = osp.join(work_dir, 'last_checkpoint')
    if not osp.isfile(pointer):
        return None
    with open(pointer, encoding='utf-8') as file:
        named = file.read().strip()
    for path in (named, osp.join(work_dir, osp.basename(named))):
        if named and osp.exists(path):  # FSDP's and DeepSpeed's checkpoints may be folders
            return path if osp.isdir(path) or zipfile.is_zipfile(path) else _an_earlier_one(path)
    raise LaunchError(f'{pointer} names the checkpoint {named!r}, which does not exist. Give the one to go on '
                      f'from: --resume PATH, or delete {pointer} to start from the beginning.')


def _an_earlier_one(cut_off: str) -> str:
    """The newest whole checkpoint beside one that is not; the same path where there is none, for the loader to tell."""
    folder = osp.dirname(cut_off) or '.'
    others = [path for kind in ('epoch', 'iter') for path in glob.glob(osp.join(glob.escape(folder), f'{kind}_*.pth'))
              if osp.isfile(path) and zipfile.is_zipfile(path)]
    if not others:
        return cut_off
    newest = max(others, key=osp.getmtime)
    _say(f'--resume: {cut_off} ({osp.getsize(cut_off)} bytes) is incomplete; the newest complete one is {newest}.')
    return newest


def _say(message: str) -> None:
    if os.environ.get('RANK', os.environ.get('SLURM_PROCID', '0')) == '0':
        print(message, flush=True)


def must_exist(checkpoint: str) -> None:
    """Raises LaunchError where a path, not a URL, leads nowhere."""
    if '://' not in checkpoint and not osp.exists(osp.expanduser(checkpoint)):
        raise LaunchError(f'Checkpoint {checkpoint} does not exist (looked from {os.getcwd()}). A work_dir names '
                          'its newest one in the text file last_checkpoint.')


def agree_on_checkpoint(runner: Any) -> None:
    """All processes load what the first one chose; called after the process group is there.

    Each reads ``last_checkpoint`` for itself, and a network file system may show it late, or a machine not at all:
    processes that start at different iterations would wait for each other for ever.

    Raises:
        LaunchError: in every process, where one does not see the file.
    """
    choice = [(runner._load_from, runner._resume)]
    broadcast_object_list(choice)
    runner._load_from, runner._resume = path, _ = choice[0]
    seen = not isinstance(path, str) or '://' in path or osp.exists(osp.expanduser(path))
    everywhere = all_gather_object((seen, f'{get_rank()} on {socket.gethostname()}'))
    blind = [where for sees, where in everywhere if not sees]
    if len(blind) == len(everywhere):
        must_exist(path)
    if blind:
        raise LaunchError(f'The first process loads {path}, which process {", ".join(blind)} does not see. Put the '
                          'work_dir and the checkpoint where all machines see them under the same path.')
