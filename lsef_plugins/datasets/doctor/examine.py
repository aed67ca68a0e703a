"""From a data set's folder to a report: lists first, then what they say together, then every clip on disk."""
import dataclasses
import os
import time
from collections.abc import Sequence
from typing import Any, Optional

import numpy as np

from ..annotations import PUBLISHED, AnnotationError, AnnotationList, ClipRecord, PathRules, read_clips
from ..annotations.classes import CLASSES
from ..annotations.evidence import OFF, Hypothesis, distance_to_published
from ..annotations.forms import read_raw
from ..frames import ClipFolders
from ..splits import dfew_list, ferv39k_list
from .ratings import examine_ratings
from .report import Finding, Report
from .scan import ENDS, Look, clip_sha256, scan_clips

DATA_SETS = ('dfew', 'ferv39k', 'veatic')
PREFIX = {'dfew': 'Clip/clip_224x224', 'ferv39k': '2_ClipsforFaceCrop'}
KEEP = {'dfew': 1, 'ferv39k': 3}


@dataclasses.dataclass(frozen=True)
class Request:
    """What to examine, and how closely.

    Attributes:
        data_set: 'dfew', 'ferv39k' or 'veatic'.
        root: folder of the data set.
        train, test: lists of your own instead of the official ones ('' for none).
        folds: DFEW: official folds to examine.
        img, video: folder of frame folders or of videos under the root; None takes the official one.
        strip_prefix, label_base, class_order, label_index, allow_outside: see :func:`annotations.read_clips`.
        expect: 'published' compares numbers of clips and class shares with the publication, 'any' does not.
        min_frames: clips with fewer frames are too short; None takes the shortest published clip.
        decode: decode everything.
        ends: of which frames the first and last bytes are read, which finds truncated pictures without decoding:
            'none', 'some' (first, last, and those clearly smaller than the others of their clip) or 'all'.
        workers: processes.
        progress: print progress to stderr.
    """
    data_set: str
    root: str
    train: str = ''
    test: str = ''
    folds: tuple[int, ...] = (1, 2, 3, 4, 5)
    img: Optional[str] = None
    video: Optional[str] = None
    strip_prefix: Any = None
    label_base: Optional[int] = None
    class_order: Any = None
    label_index: Optional[str] = None
    allow_outside: bool = False
    expect: str = 'published'
    min_frames: Optional[int] = None
    decode: bool = False
    ends: str = 'some'
    workers: int = 1
    progress: bool = False


def check_request(request: Request) -> None:
    """ValueError where a request is impossible, before anything is read."""
    if request.data_set not in DATA_SETS:
        raise ValueError(f'data set {request.data_set!r} must be one of {", ".join(DATA_SETS)}.')
    if not os.path.isdir(request.root):
        raise ValueError(f'{request.root!r} is not a folder: give the root of the data set.')
    if request.img and request.video:
        raise ValueError('give either a folder of frame folders (img) or a folder of videos (video).')
    if request.expect not in ('published', 'any'):
        raise ValueError(f"expect={request.expect!r} must be 'published' or 'any'.")
    if request.ends not in ENDS:
        raise ValueError(f"ends={request.ends!r} must be one of {', '.join(map(repr, ENDS))}.")
    if request.workers < 1:
        raise ValueError(f'workers={request.workers} must be at least 1.')
    for name in (request.train, request.test, request.label_index):
        if name and not os.path.isfile(name):
            raise ValueError(f'the list {name!r} does not exist.')


def examine(request: Request) -> Report:
    """Examines a data set; reads only.

    Raises:
        ValueError: the request is impossible (what is wrong with the data is in the report).
    """
    check_request(request)
    begun = time.monotonic()
    report = Report(request.data_set, request.root)
    if request.data_set == 'veatic':
        examine_ratings(request, report)
    else:
        lists = read_lists(request, report)
        compare_lists(request, report, lists)
        look_at_clips(request, report, lists)
    report.seconds = time.monotonic() - begun
    return report


Lists = dict[tuple[int, str], AnnotationList]


def read_lists(request: Request, report: Report) -> Lists:
    """Reads every list; those that are refused become findings."""
    places: dict[tuple[int, str], str] = {}
    if request.train or request.test:
        places = {(0, split): name for split, name in (('train', request.train), ('test', request.test)) if name}
    else:
        for fold in request.folds if request.data_set == 'dfew' else (0,):
            for split in ('train', 'test'):
                try:
                    places[fold, split] = (dfew_list(request.root, split, fold) if request.data_set == 'dfew'
                                           else ferv39k_list(request.root, split))
                except (FileNotFoundError, ValueError) as error:
                    report.add('list_missing', f'{split} fold {fold}' if fold else split, str(error))
    rules = PathRules(request.strip_prefix, KEEP[request.data_set], os.path.abspath(request.root),
                      request.allow_outside)
    found: Lists = {}
    for (fold, split), path in places.items():
        partner = places.get((fold, 'test' if split == 'train' else 'train'))
        try:
            companions = [partner] if partner and _readable(partner) else []
            found[fold, split] = read_clips(
                path, request.data_set, label_base=request.label_base, class_order=request.class_order,
                label_index=request.label_index, rules=rules, companions=companions,
                check_counts=request.expect == 'published')
        except (AnnotationError, OSError) as error:
            report.add('list_refused', path, str(error))
            continue
        report.lists.append(describe(fold, split, found[fold, split]))
    return found


def _readable(path: str) -> bool:
    """Whether a list can be read at all: a damaged one is its own finding, not its partner's."""
    try:
        return bool(read_raw(path).entries)
    except (AnnotationError, OSError):
        return False


def describe(fold: int, split: str, found: AnnotationList) -> dict[str, Any]:
    """What was understood of a list, in plain types."""
    counts = found.class_counts()
    return dict(path=found.path, fold=fold or None, split=split, form=found.form, clips=len(found.records),
                skipped=found.skipped, label_base=found.class_map.base, label_order=found.class_map.order,
                class_map=dict(found.class_map.names), evidence=list(found.class_map.evidence),
                class_counts=counts, class_shares={name: round(count / len(found.records), 4)
                                                   for name, count in counts.items()},
                sha256=found.sha256, content_sha256=found.content_sha256(), summary=str(found))


def compare_lists(request: Request, report: Report, lists: Lists) -> None:
    """Numbers of clips, repetitions, overlaps, and classes that lists disagree about: one finding per clip and kind."""
    label_of: dict[str, tuple[int, str]] = {}
    conflicts: dict[str, str] = {}
    for (fold, split), found in lists.items():
        if request.expect == 'published':
            _counts(request.data_set, report, fold, split, found)
        for identity in found.repeated:
            report.add('repeated', identity, f'listed more than once in {found.path}')
        for record in found.records:
            before = label_of.setdefault(record.identity, (record.label, found.path))
            if before[0] != record.label:
                conflicts.setdefault(record.identity, f'{CLASSES[before[0]]} in {before[1]}, {CLASSES[record.label]} '
                                                      f'in {found.path}')
    for identity, what in conflicts.items():
        report.add('label_conflict', identity, what)
    for identity, reasons in overlaps(lists).items():
        report.add('overlap', identity, '; '.join(reasons))


def overlaps(lists: Lists) -> dict[str, list[str]]:
    """Clips that are trained on and tested in one fold, or tested in two."""
    names = {key: {record.identity for record in found.records} for key, found in lists.items()}
    tested: dict[str, int] = {}
    reasons: dict[str, list[str]] = {}
    for fold, split in names:
        if split == 'test':
            for identity in sorted(names[fold, split]):
                if identity in names.get((fold, 'train'), ()):
                    reasons.setdefault(identity, []).append('in training and in test' + (
                        f' of fold {fold}' if fold else ''))
                if identity in tested:
                    reasons.setdefault(identity, []).append(f'in the test lists of folds {tested[identity]} and {fold}')
                tested.setdefault(identity, fold)
    return reasons


def _counts(data_set: str, report: Report, fold: int, split: str, found: AnnotationList) -> None:
    folds = PUBLISHED[data_set]['folds']
    expected = folds[max(fold, 1) - 1][split == 'test']
    if fold or data_set != 'dfew':
        if len(found.records) != expected:
            report.add('count', found.path, f'{len(found.records)} clips, published are {expected}')
    elif len(found.records) not in {size for pair in folds for size in pair} | {11697, 12059}:
        report.add('count', found.path, f'{len(found.records)} clips, which is no published number of DFEW')
    scenes = {record.scene for record in found.records}
    if split == 'train' and len(scenes) != PUBLISHED[data_set].get('scenes', len(scenes)):
        report.add('count', found.path, f'{len(scenes)} scenes, published are {PUBLISHED[data_set]["scenes"]}')
    if 'shares' in PUBLISHED[data_set]:
        distance = distance_to_published([record.label for record in found.records], Hypothesis(CLASSES, 0))
        if distance > OFF:
            report.add('label_shares', found.path, f'total variation distance {distance:.0%}')


def look_at_clips(request: Request, report: Report, lists: Lists) -> None:
    """Every listed clip on disk."""
    folder = os.path.join(request.root, request.video or request.img or PREFIX[request.data_set])
    folders = ClipFolders(folder, videos=bool(request.video))
    listed: dict[str, ClipRecord] = {}
    for found in lists.values():
        for record in found.records:
            listed.setdefault(record.identity, record)
    present: list[tuple[str, str]] = []
    for identity, record in listed.items():
        try:
            path = folders.find(record.path)
        except ValueError as error:
            report.add('ambiguous', identity, str(error))
            continue
        if path is None:
            report.add('missing', identity, f'{os.path.join(folder, record.path)} does not exist')
        else:
            present.append((identity, path))
    shortest = PUBLISHED[request.data_set]['frames'][0]
    look = Look(frames=not request.video, decode=request.decode, ends=request.ends,
                min_frames=shortest if request.min_frames is None else request.min_frames)
    lengths = []
    alike: dict[int, list[str]] = {}
    for seen in scan_clips(sorted(present), look, request.workers, request.progress):
        report.findings += seen.findings
        if seen.frames:
            lengths.append(seen.frames)
            told = listed[seen.name].num_frames
            if told is not None and told != seen.frames:
                report.add('frame_count', seen.name, f'the list says {told} frames, {seen.frames} are there')
        if seen.signature is not None:
            alike.setdefault(seen.signature, []).append(seen.name)
    find_twins(report, alike, dict(present), lists)
    report.clips.update(listed=len(listed), on_disk=len(present), **_lengths(lengths))
    if request.data_set == 'dfew':
        report.clips['on_disk_not_listed'] = len(folders.names()) - len(present)
    report.not_checked += not_checked(request)


def find_twins(report: Report, alike: dict[int, list[str]], paths: dict[str, str], lists: Lists) -> None:
    """Clips with the same frames, byte for byte, under two names. Only clips whose files agree in size are read."""
    names = {key: {record.identity for record in found.records} for key, found in lists.items()}
    for clips in alike.values():
        first: dict[str, str] = {}
        for clip in clips if len(clips) > 1 else ():
            twin = first.setdefault(clip_sha256(paths[clip]), clip)
            if twin != clip:
                leaks = [fold for fold, split in names if split == 'test' and any(
                    a in names[fold, 'test'] and b in names.get((fold, 'train'), ())
                    for a, b in ((clip, twin), (twin, clip)))]
                report.add('twins', clip, f'the same frames as {twin}' + (
                    '; one is trained on and the other tested' if leaks else ''))


def _lengths(lengths: Sequence[int]) -> dict[str, Any]:
    if not lengths:
        return {}
    return dict(frames=int(np.sum(lengths)), frames_shortest=int(min(lengths)),
                frames_median=float(np.median(lengths)), frames_longest=int(max(lengths)),
                clips_under_16_frames=int(np.sum(np.array(lengths) < 16)))


def not_checked(request: Request) -> list[str]:
    """What was not looked at."""
    missing = [] if request.decode else ['whether files decode, and sizes of frames (--decode)']
    if request.video and not request.decode:
        missing.append('lengths of videos (--decode)')
    if not request.video and not request.decode and request.ends != 'all':
        missing.append({'none': 'truncated frames (leave out --names-only)',
                        'some': 'frames of ordinary size inside clips for truncation (--ends opens every frame)'}[
                            request.ends])
    return missing


__all__ = ['Finding', 'Request', 'examine']
