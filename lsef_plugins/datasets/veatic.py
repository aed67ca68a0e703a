r"""VEATIC: valence and arousal of every frame of 124 videos.

Each video is split inside itself: its first 70 % of frames train, the last 30 % test. A sample is a window of
``clip_len`` frames at a stride, wholly inside its part, and predicts

.. math::  y_t = (\text{valence}_t, \text{arousal}_t) \in [-1, 1]^2

of its last frame, or of each of its frames. With ``i`` the first and ``n`` the end of the part, the last frames are
``i + (clip_len - 1) stride, ..., n - 1``: no test window sees a training frame.

Source: split, windows and file formats are those of the authors' loader (github.com/AlbusPeter/VEATIC, WACV 2024);
protocol 'clean', per-frame targets and the search for the rating column are ours.
"""
from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import Any, Optional

import numpy as np
from mmengine.logging import print_log

from lsef_plugins.registry import DATASETS

from .annotations import AnnotationError, natural_key, read_rating_pair
from .clip_source import ClipSourceDataset
from .frames import list_frames
from .splits import check_split, first_folder

FOLDERS = {'video': ('videos', 'video'), 'img': ('frames', 'frame')}


@DATASETS.register_module()
class VEATICDataset(ClipSourceDataset):
    """Windows of VEATIC's videos with the valence and arousal of their frames.

    A sample carries ``valence_arousal``, float32 ``(2,)`` (``target='last'``) or ``(clip_len, 2)``
    (``target='all'``), in the order (valence, arousal) and no ``label``; ``video_id``; ``frame_index``, the number of
    the last frame from 0, or of all frames ``(clip_len,)``; and ``frame_inds``, ``clip_len``, ``frame_interval``,
    ``num_clips``: the pipeline needs no sampler, and one is refused, since it would part frames from targets.

    Layout under ``data_root``::

        videos/0.mp4 (or video/)               data_prefix=dict(video='videos'), found when data_prefix is None
        frames/0/0.jpg (or frame/)             data_prefix=dict(img='frames')
        rating_averaged/0_valence.csv, 0_arousal.csv

    Args:
        pipeline: Transforms without a sampler.
        split: 'train', 'val' or 'test'.
        protocol: 'paper' (val is the test part) or 'clean' (val is the last ``val_ratio`` of the training frames of
            each video).
        train_ratio: Share of each video's frames, from its start, that is for training.
        val_ratio: Share of the training frames that 'clean' holds out.
        clip_len: Frames of a window.
        frame_interval: Frames from one to the next.
        target: 'last' or 'all'.
        sample_step: Frames from the end of one window to the end of the next.
        videos: Names of the videos to take; None takes all that are rated.
        rating_dir: Folder of the ratings.
        rating_column: Column of the rating in the csv files where the evidence does not decide.
        length_tolerance: Frames by which ratings and frame folder may differ in length; the longer is cut.
        kwargs: Those of :class:`ClipSourceDataset`.
    """

    METAINFO = dict(targets=('valence', 'arousal'))

    def __init__(self, pipeline: list[Any], data_root: str = '', split: str = 'train', protocol: str = 'paper',
                 train_ratio: float = 0.7, val_ratio: float = 0.1, clip_len: int = 5, frame_interval: int = 5,
                 target: str = 'last', sample_step: int = 1, videos: Optional[Sequence[Any]] = None,
                 rating_dir: str = 'rating_averaged', rating_column: Optional[int] = None, length_tolerance: int = 0,
                 data_prefix: Optional[dict] = None, test_mode: Optional[bool] = None, **kwargs: Any) -> None:
        check_split(split, protocol, val_ratio)
        if not 0 < train_ratio < 1:
            raise ValueError(f'train_ratio={train_ratio} must be a share of the frames between 0 and 1.')
        if min(clip_len, frame_interval, sample_step) < 1:
            raise ValueError(f'clip_len={clip_len}, frame_interval={frame_interval} and sample_step={sample_step} '
                             'must be at least 1.')
        if target not in ('last', 'all'):
            raise ValueError(f"target={target!r} must be 'last' (the window predicts its last frame) or 'all'.")
        self.split, self.protocol, self.train_ratio, self.val_ratio = split, protocol, train_ratio, val_ratio
        self.clip_len, self.frame_interval, self.sample_step, self.target = (clip_len, frame_interval, sample_step,
                                                                             target)
        self.wanted = None if videos is None else [str(name) for name in videos]
        self.rating_dir, self.rating_column, self.length_tolerance = rating_dir, rating_column, length_tolerance
        self.videos: list[dict] = []
        super().__init__(pipeline, '', data_root, data_prefix or self.found_prefix(data_root),
                         test_mode=split != 'train' if test_mode is None else test_mode, **kwargs)

    @staticmethod
    def found_prefix(data_root: str) -> dict:
        """The folder of videos, or else of frames, in any of its spellings."""
        for source, names in FOLDERS.items():
            folder = first_folder(data_root, names)
            if folder:
                return {source: os.path.basename(folder)}
        raise FileNotFoundError(f'{data_root!r} holds none of videos/, video/, frames/, frame/. See '
                                'tools/data/veatic/README.md, or set data_prefix=dict(video=...).')

    def check_pipeline(self, steps: Sequence[Any]) -> None:
        """See the base class; samplers are refused."""
        for step in steps:
            if 'Sample' in type(step).__name__:
                raise ValueError(f'{type(step).__name__} would pick other frames than those whose ratings this data '
                                 'set hands over. Remove it and set clip_len and frame_interval of VEATICDataset.')
        super().check_pipeline(steps)

    def part(self, frames: int) -> tuple[int, int]:
        """First frame and end of the split's part of a video of so many frames."""
        cut = int(frames * self.train_ratio)
        kept = cut - int(cut * self.val_ratio) if self.protocol == 'clean' else cut
        if self.split == 'train':
            return 0, kept
        return (kept, cut) if self.split == 'val' and self.protocol == 'clean' else (cut, frames)

    def load_data_list(self) -> list[dict]:
        """Reads the ratings, finds the videos, and lists the windows.

        Returns:
            ``dict(video=<place in self.videos>, frame=<last frame>)`` for each window.
        """
        folder = os.path.join(self.data_root, self.rating_dir)
        names = self.rated(folder)
        paths = self.find_clips(names, folder)
        self.videos, data_list, short = [], [], []
        for place, (name, path) in enumerate(zip(names, paths)):
            valence, arousal = (os.path.join(folder, f'{name}_{kind}.csv') for kind in ('valence', 'arousal'))
            ratings = read_rating_pair(valence, arousal, self.rating_column)
            if place == 0:
                print_log('; '.join(ratings.evidence), logger='current')
            values = ratings.values[:self.usable(name, path, len(ratings.values))]
            self.videos.append(dict(video_id=name, filename=path, values=values))
            first, end = self.part(len(values))
            windows = range(first + (self.clip_len - 1) * self.frame_interval, end, self.sample_step)
            short += [] if len(windows) else [name]
            data_list += [dict(video=place, frame=frame) for frame in windows]
        self.report(len(names), len(data_list), short)
        return data_list

    def rated(self, folder: str) -> list[str]:
        """Names of the videos that have a valence file, in natural order."""
        if not os.path.isdir(folder):
            raise FileNotFoundError(f'The folder of ratings {folder!r} does not exist. See '
                                    'tools/data/veatic/README.md, or set rating_dir.')
        names = sorted((name[:-len('_valence.csv')] for name in os.listdir(folder)
                        if re.fullmatch(r'[^.].*_valence\.csv', name)), key=natural_key)
        if self.wanted is not None:
            unknown = sorted(set(self.wanted) - set(names))
            if unknown:
                raise ValueError(f'videos names {", ".join(unknown)}, which {folder} does not rate.')
            names = [name for name in names if name in self.wanted]
        if not names:
            raise AnnotationError(f'{folder} holds no <video>_valence.csv. See tools/data/veatic/README.md.')
        return names

    def usable(self, name: str, path: str, rated: int) -> int:
        """Frames that have both a picture and a rating; refuses lengths that differ by more than the tolerance."""
        if self.source == 'video' or not os.path.isdir(path):
            return rated
        frames = len(list_frames(path))
        if abs(frames - rated) > self.length_tolerance:
            raise AnnotationError(f'Video {name} has {frames} frames in {path} and {rated} ratings: ratings would be '
                                  'given to other frames than they were made for. Extract the frames again without '
                                  f'changing the frame rate, or set length_tolerance={abs(frames - rated)}.')
        return min(frames, rated)

    def report(self, videos: int, windows: int, short: Sequence[str]) -> None:
        """Prints what the split is; refuses an empty one."""
        what = {('train', 'clean'): 'the training frames without those held out',
                ('val', 'clean'): f'the last {self.val_ratio:.0%} of the training frames of each video',
                ('val', 'paper'): 'the TEST frames: an epoch picked on them is picked on the test set'}.get(
                    (self.split, self.protocol), f'the {"first" if self.split == "train" else "last"} frames (split '
                                                 f'at {self.train_ratio:.0%})')
        left_out = f'; {len(short)} videos are too short for a window' if short else ''
        print_log(f'VEATICDataset: protocol {self.protocol!r}, split {self.split!r} is {what} of {videos} videos: '
                  f'{windows} windows of {self.clip_len} frames at stride {self.frame_interval}{left_out}',
                  logger='current')
        if not windows:
            raise AnnotationError(f'No window of {self.clip_len} frames at stride {self.frame_interval} fits into '
                                  f'split {self.split!r} of any of the {videos} videos. Make the window shorter, or '
                                  'val_ratio larger.')
        self._metainfo['annotation'] = dict(data_set='veatic', split=self.split, protocol=self.protocol,
                                            train_ratio=self.train_ratio, val_ratio=self.val_ratio,
                                            videos=self.wanted)

    def get_data_info(self, idx: int) -> dict:
        """The window: frames, targets and names; see the class."""
        data = super().get_data_info(idx)
        video, last = self.videos[data.pop('video')], data.pop('frame')
        frames = last + np.arange(1 - self.clip_len, 1) * self.frame_interval
        data.update(filename=video['filename'], video_id=video['video_id'], frame_inds=frames.astype(np.int32),
                    clip_len=self.clip_len, frame_interval=self.frame_interval, num_clips=1,
                    frame_index=int(last) if self.target == 'last' else frames,
                    valence_arousal=video['values'][frames if self.target == 'all' else last].copy())
        if self.source == 'img':
            data['frame_dir'] = video['filename']
        return data
