"""Which configs are measured: paths, globs of paths, or names and globs of the configs the host ships."""
from __future__ import annotations

import fnmatch
import glob
import os
from pathlib import Path
from typing import Dict, Iterator, List, Optional, Sequence

from ..insertion_matrix.catalogue import FOLDERS, Entry, entry_of, host_configs

HOST = 'mmaction::'
# One for each kind of backbone, at the size its authors publish; from small to large.
DEFAULTS = (
    'skeleton/stgcnpp/stgcnpp_8xb16-joint-u100-80e_ntu60-xsub-keypoint-2d.py',
    'recognition/tsn/tsn_imagenet-pretrained-r50_8xb32-1x1x8-100e_kinetics400-rgb.py',
    'recognition/tsm/tsm_imagenet-pretrained-r50_8xb16-1x1x8-100e_kinetics400-rgb.py',
    'recognition/slowonly/slowonly_r50_8xb16-8x8x1-256e_kinetics400-rgb.py',
    'recognition/slowfast/slowfast_r50_8xb8-4x16x1-256e_kinetics400-rgb.py',
    'recognition/i3d/i3d_imagenet-pretrained-r50_8xb8-32x2x1-100e_kinetics400-rgb.py',
    'recognition/r2plus1d/r2plus1d_r34_8xb8-8x8x1-180e_kinetics400-rgb.py',
    'recognition/x3d/x3d_m_16x5x1_facebook-kinetics400-rgb.py',
    'recognition/c3d/c3d_sports1m-pretrained_8xb30-16x1x1-45e_ucf101-rgb.py',
    'skeleton/posec3d/slowonly_r50_8xb16-u48-240e_ntu60-xsub-keypoint.py',
    'recognition/tpn/tpn-slowonly_r50_8xb8-8x8x1-150e_kinetics400-rgb.py',
    'recognition/swin/swin-tiny-p244-w877_in1k-pre_8xb8-amp-32x2x1-30e_kinetics400-rgb.py',
    'recognition/mvit/mvit-small-p244_32xb16-16x4x1-200e_kinetics400-rgb.py',
    'recognition/uniformerv2/uniformerv2-base-p16-res224_clip_8xb32-u8_kinetics400-rgb.py',
    'recognition/videomae/vit-base-p16_videomae-k400-pre_16x4x1_kinetics-400.py',
    'recognition/timesformer/timesformer_divST_8xb8-8x32x1-15e_kinetics400-rgb.py',
)


class BenchmarkError(ValueError):
    """The request cannot be served; the message says what came and how to go on."""


def chosen(wanted: Sequence[str] = (), root: Optional[Path] = None) -> List[Entry]:
    """The configs asked for, each once, in the order of the requests; none for :data:`DEFAULTS`.

    Args:
        wanted: paths or globs of config files; names or globs relative to the host's configs, with or without
            ``mmaction::`` in front.
        root: folder of the host's configs, by default that of the installed host.

    Raises:
        BenchmarkError: a request fits no file, or a file of its own name holds no recognizer.
        MatrixError: the host is not installed, or a config cannot be read.
    """
    root = host_configs() if root is None else root
    entries: Dict[Path, Entry] = {}
    for text in wanted or DEFAULTS:
        for path in _paths(text, root):
            entry = None if path in entries else entry_of(path, root)
            if entry is not None:
                entries[path] = entry if root in path.parents else entry._replace(name=os.path.relpath(path))
            elif path not in entries and not glob.has_magic(text):
                raise BenchmarkError(f'{text} holds no recognizer: it needs model with backbone and cls_head.')
    if not entries:
        raise BenchmarkError(f'None of the configs that {", ".join(wanted)} fits holds a recognizer: it needs model '
                             'with backbone and cls_head.')
    return list(entries.values())


def _paths(text: str, root: Path) -> Iterator[Path]:
    own = [] if text.startswith(HOST) else sorted(each for each in glob.glob(text, recursive=True)
                                                  if os.path.isfile(each))
    if own:
        yield from (Path(each).resolve() for each in own)
        return
    name = text[len(HOST):] if text.startswith(HOST) else text
    found = sorted(path for folder in FOLDERS for path in (root / folder).rglob('*.py')
                   if fnmatch.fnmatch(path.relative_to(root).as_posix(), name) or fnmatch.fnmatch(path.name, name))
    if not found:
        raise BenchmarkError(f'{text!r} is no config file and fits none of the configs in {root}. Give a path, or a '
                             "name or a glob such as 'mmaction::recognition/tsm/*' or '*slowfast_r50*'.")
    yield from found
