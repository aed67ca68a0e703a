"""Clips that are folders of frames or videos, behind one data set; and pipelines that fit them.

``data_prefix=dict(img=...)`` names a folder of frame folders: frames are listed in natural order, no filename template,
decoded by ``ListedFrameDecode``. ``data_prefix=dict(video=...)`` names a folder of videos: ``DecordInit``,
``DecordDecode``. Both give ``total_frames`` and ``start_index=0``, which MMAction2's samplers work on.

SampleFrames loops clips that are too short for it by default: the jump from the last frame back to the first is a
transient that never happened (about 10 % of FERV39k's clips have fewer than 16 frames). A pipeline that loops is
therefore refused here. ``UniformSample`` never loops; ``SampleFrames`` holds the last frame with
``out_of_bound_opt='repeat_last'``.
"""
from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Optional

from mmaction.datasets.transforms import SampleFrames

from .clip_list import SHOWN, ClipListDataset
from .frames import ClipFolders, list_frames
from .integrity import UnreadableClipError, video_fault


class ClipSourceDataset(ClipListDataset):
    """Base of the affective data sets: finds clips, lists frames, and checks that the pipeline fits.

    Args:
        pipeline: Transforms.
        data_root: Folder of the data set.
        data_prefix: ``dict(img=...)`` or ``dict(video=...)``, relative to ``data_root``.
        check_files: 'error' looks for every clip (and into every video's container) when the list is read;
            'off' leaves that to the worker that meets the clip.
        allow_looping: Take a pipeline whose SampleFrames loops short clips.
        kwargs: Those of ClipListDataset.
    """

    def __init__(self, pipeline: list[Any], ann_file: str = '', data_root: str = '',
                 data_prefix: Optional[dict] = None, allow_looping: bool = False, **kwargs: Any) -> None:
        prefix = dict(data_prefix or {})
        if sorted(prefix) not in (['img'], ['video']):
            raise ValueError(f'data_prefix={data_prefix!r} must be dict(img=<folder of frame folders>) or '
                             'dict(video=<folder of videos>).')
        self.source = next(iter(prefix))
        self.allow_looping = allow_looping
        super().__init__(ann_file, pipeline, data_root=data_root, data_prefix=prefix, **kwargs)

    @property
    def clip_root(self) -> str:
        """The folder that holds the clips."""
        return self.data_prefix[self.source]

    def full_init(self) -> None:
        """Checks the pipeline, then reads the list."""
        if not self._fully_initialized:
            self.check_pipeline(getattr(self.pipeline, 'transforms', []))
        super().full_init()

    def check_pipeline(self, steps: Sequence[Any]) -> None:
        """ValueError where a step cannot work on this source, or loops short clips."""
        for step in steps:
            name = type(step).__name__
            if self.source == 'img' and (name.endswith('Init') or name == 'RawFrameDecode'):
                raise ValueError(f"{name} cannot read frame folders whose files carry any names. Use "
                                 "dict(type='ListedFrameDecode') in its place (and no ...Init step), or videos: "
                                 'data_prefix=dict(video=...).')
            if self.source == 'video' and name in ('ListedFrameDecode', 'RawFrameDecode'):
                raise ValueError(f'{name} reads frame folders, and data_prefix names videos. Use DecordInit and '
                                 'DecordDecode, or data_prefix=dict(img=...).')
            loops = isinstance(step, SampleFrames) and step.out_of_bound_opt == 'loop'
            if loops and not self.allow_looping:
                raise ValueError(f"{name} loops clips that are too short, and the jump back to the first frame is a "
                                 "transient that never happened. Add out_of_bound_opt='repeat_last' to it, use "
                                 'UniformSample, or set allow_looping=True to reproduce such a setting.')

    def find_clips(self, paths: Sequence[str], where: str) -> list[str]:
        """The full path of each clip.

        Raises:
            FileNotFoundError: some are not there. UnreadableClipError: videos are empty or cut off.
        """
        folders = ClipFolders(self.clip_root, videos=self.source == 'video')
        found = [folders.find(path) for path in paths]
        full = [one or os.path.join(self.clip_root, path) for one, path in zip(found, paths)]
        if self.check_files == 'off':
            return full
        faults = {path: 'does not exist' for path, one in zip(full, found) if one is None}
        missing = len(faults)
        if self.source == 'video':
            for one in dict.fromkeys(filter(None, found)):
                fault = video_fault(one)
                if fault:
                    faults[one] = fault
        if faults:
            shown = ''.join(f'\n  {name} {fault}' for name, fault in list(faults.items())[:SHOWN])
            more = f'\n  ... and {len(faults) - SHOWN} more' if len(faults) > SHOWN else ''
            raise (FileNotFoundError if missing else UnreadableClipError)(
                f'{len(faults)} of {len(set(full))} clips of {where} cannot be used ({missing} missing, '
                f'{len(faults) - missing} empty, cut off or no video):{shown}{more}\n'
                f'Check data_root={self.data_root!r} and data_prefix={dict(self.data_prefix)!r}; '
                'tools/data/check_dataset.py examines the whole data set.')
        return full

    def look_at(self, data: dict) -> dict:
        """Lists the frames of a clip, or judges the container of its video."""
        if self.source == 'video':
            return super().look_at(data)
        folder = data['frame_dir']
        try:
            names = list_frames(folder)
        except OSError as error:
            raise UnreadableClipError(self.unreadable(folder, f'cannot be opened ({error.strerror})')) from error
        if not names:
            raise UnreadableClipError(self.unreadable(folder, 'holds no frames (.jpg, .png, ...)'))
        data.update(frame_names=names, total_frames=len(names))
        return data

    def run_step(self, step: Any, data: dict, filename: str) -> Any:
        """One step of the pipeline; ListedFrameDecode words its own errors."""
        return step(data) if self.source == 'img' else super().run_step(step, data, filename)

    def unreadable(self, filename: str, fault: str) -> str:
        """The message for a clip that cannot be read."""
        kind = 'folder of frames' if self.source == 'img' else 'video'
        return (f'The {kind} {filename!r} {fault}. Extract or copy it again, or remove its line from the list; '
                'tools/data/check_dataset.py finds all of them.')
