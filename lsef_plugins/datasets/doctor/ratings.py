"""VEATIC: each video's pair of rating files, and whether it has as many frames as ratings."""
from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np

from ..annotations import PUBLISHED, AnnotationError, natural_key, read_rating_pair
from ..frames import ClipFolders
from ..splits import first_folder
from .report import Report
from .scan import Look, count_frames, scan_clips

if TYPE_CHECKING:
    from .examine import Request

FOLDER = 'rating_averaged'
KINDS = ('valence', 'arousal')


def examine_ratings(request: Request, report: Report) -> None:
    """Examines a VEATIC folder into ``report``."""
    folder = os.path.join(request.root, FOLDER)
    files = os.listdir(folder) if os.path.isdir(folder) else []
    names = sorted({name[:-len(f'_{kind}.csv')] for name in files for kind in KINDS
                    if name.endswith(f'_{kind}.csv')}, key=natural_key)
    if not names:
        report.add('list_missing', folder, 'no <video>_valence.csv and <video>_arousal.csv there')
    elif request.expect == 'published' and len(names) != PUBLISHED['veatic']['videos']:
        report.add('count', folder, f'{len(names)} rated videos, published are {PUBLISHED["veatic"]["videos"]}')
    rated: dict[str, int] = {}
    values = []
    for name in names:
        try:
            valence, arousal = (os.path.join(folder, f'{name}_{kind}.csv') for kind in KINDS)
            ratings = read_rating_pair(valence, arousal)
        except (AnnotationError, OSError) as error:
            report.add('rating_refused', name, str(error))
            continue
        rated[name] = len(ratings.values)
        values.append(ratings.values)
    _look_at_videos(request, report, names, rated)
    if values:
        every = np.concatenate(values)
        for i, kind in enumerate(KINDS):
            report.clips[kind] = f'{every[:, i].min():.3f} .. {every[:, i].max():.3f}, mean {every[:, i].mean():.3f}'
    report.clips['rated_frames'] = sum(rated.values())
    if not request.decode:
        report.not_checked.append('whether videos decode; numbers of frames are those of their indexes (--decode)')


def _look_at_videos(request: Request, report: Report, names: list[str], rated: dict[str, int]) -> None:
    video = request.video if request.video or request.img else 'videos'
    if not request.video and not request.img:
        found = first_folder(request.root, ('videos', 'video')), first_folder(request.root, ('frames', 'frame'))
        video = os.path.basename(found[0]) if found[0] else None if found[1] else 'videos'
        frames = os.path.basename(found[1]) if found[1] else ''
    else:
        frames = request.img or ''
    root = os.path.join(request.root, video or frames)
    folders = ClipFolders(root, videos=bool(video))
    present = []
    for name in names:
        path = folders.find(name)
        if path is None:
            report.add('missing', name, f'no {"video" if video else "folder of frames"} {name} in {root}')
        else:
            present.append((name, path))
    look = Look(frames=not video, decode=request.decode, ends=request.ends)
    paths = dict(present)
    for seen in scan_clips(present, look, request.workers, request.progress):
        report.findings += seen.findings
        count, name = seen.frames, seen.name
        if count is None and not seen.findings:
            count = count_frames(paths[name], decode=False)
        if count and name in rated and count != rated[name]:
            report.add('length', name, f'{count} frames and {rated[name]} ratings')
    report.clips.update(rated_videos=len(names), on_disk=len(present))
