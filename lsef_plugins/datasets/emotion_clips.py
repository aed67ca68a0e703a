"""DFEW and FERV39k: clips of one emotion each, over any dialect of their lists.

What was understood (classes, base, order, protocol, clips of each class) is printed once when the data set is built,
and kept in ``metainfo['annotation']``, so that it is stored with checkpoints. (mmengine's ConcatDataset wants equal
metainfo: join data sets with ``ignore_keys=['annotation']``.)

Source: layouts, folds and counts are those of the releases of DFEW (ACM MM 2020) and FERV39k (CVPR 2022); protocol
'clean' is ours.
"""
from __future__ import annotations

import os
from typing import Any, Optional

from mmengine.logging import print_log

from lsef_plugins.registry import DATASETS

from .annotations import CLASSES, AnnotationList, PathRules, read_clips
from .clip_source import ClipSourceDataset
from .splits import check_split, dfew_list, ferv39k_list, select, source_split


class EmotionClipDataset(ClipSourceDataset):
    """Base of DFEWDataset and FERV39kDataset.

    Each sample carries ``label`` (place of its class in ``metainfo['classes']``, DFEW's order, whatever the list
    says), ``video_id`` (the clip in every dialect), ``scene`` (FERV39k), ``filename``, ``start_index`` and, for
    frame folders, ``frame_dir``, ``frame_names`` and ``total_frames``.

    Args:
        pipeline: Transforms; see :class:`ClipSourceDataset` about samplers.
        ann_file: A list in any dialect instead of the official one. With ``protocol='clean'`` train and val name
            the same (training) list.
        split: 'train', 'val' or 'test'.
        protocol: 'paper' (val is the test list, the field's habit) or 'clean' (val is held out of train).
        val_ratio: Share of each class that 'clean' holds out.
        val_seed: Another seed holds out other clips.
        label_base, class_order, label_index, check_counts: See :func:`annotations.read_clips`; needed only where
            the evidence does not decide.
        strip_prefix: Text cut off in front of the list's paths, or 'auto'.
        allow_outside_root: Take paths that lead out of ``data_root``.
        test_mode: None is True for every split but 'train'.
        kwargs: data_root, data_prefix, check_files, allow_looping, ...
    """

    NAME = ''
    KEEP = 1
    PREFIX: dict[str, str] = {}
    fold: Optional[int] = None

    def __init__(self, pipeline: list[Any], ann_file: str = '', split: str = 'train', protocol: str = 'paper',
                 val_ratio: float = 0.1, val_seed: int = 0, label_base: Optional[int] = None,
                 class_order: Any = None, label_index: Optional[str] = None, strip_prefix: Any = None,
                 allow_outside_root: bool = False, check_counts: bool = True, test_mode: Optional[bool] = None,
                 data_prefix: Optional[dict] = None, **kwargs: Any) -> None:
        check_split(split, protocol, val_ratio)
        self.split, self.protocol, self.val_ratio, self.val_seed = split, protocol, val_ratio, val_seed
        self.reading = dict(label_base=label_base, class_order=class_order, label_index=label_index,
                            check_counts=check_counts)
        self.strip_prefix = strip_prefix
        kwargs.setdefault('classes', CLASSES)
        if tuple(kwargs['classes']) != CLASSES:
            raise ValueError(f'classes={kwargs["classes"]!r}: labels of this data set always come in the order '
                             f'{", ".join(CLASSES)}; how the list numbers them is said by class_order.')
        super().__init__(pipeline, ann_file, data_prefix=data_prefix or dict(self.PREFIX),
                         test_mode=split != 'train' if test_mode is None else test_mode,
                         allow_outside_root=allow_outside_root, **kwargs)

    def official_list(self, split: str) -> str:
        """The official list of 'train' or 'test'."""
        raise NotImplementedError

    def read(self) -> AnnotationList:
        """Reads the list behind the split; the other official list is evidence for the label base."""
        split = source_split(self.split, self.protocol)
        root = os.path.abspath(self.data_root or self.clip_root)
        rules = PathRules(self.strip_prefix, self.KEEP, root, self.allow_outside_root)
        companions: list[str] = []
        path = self.ann_file
        if not path:
            path = self.official_list(split)
            companions = [self.official_list('test' if split == 'train' else 'train')]
        return read_clips(path, self.NAME, rules=rules, companions=companions, **self.reading)

    def load_data_list(self) -> list[dict]:
        """Reads the list, takes the clips of the split, finds them, and prints what was understood.

        Returns:
            A dict for each clip.
        """
        found = self.read()
        records = found.records
        chosen = [records[i] for i in select([record.identity for record in records],
                                             [record.label for record in records], self.split, self.protocol,
                                             self.val_ratio, self.val_seed)]
        paths = self.find_clips([record.path for record in chosen], found.path)
        self._metainfo['annotation'] = dict(
            data_set=self.NAME, fold=self.fold, split=self.split, protocol=self.protocol, val_ratio=self.val_ratio,
            val_seed=self.val_seed, list_sha256=found.sha256, list_content_sha256=found.content_sha256(),
            label_base=found.class_map.base, label_order=found.class_map.order)
        print_log(self.summary(found, len(chosen)), logger='current')
        data_list = []
        for record, path in zip(chosen, paths):
            data = dict(filename=path, label=record.label, video_id=record.identity)
            if self.source == 'img':
                data['frame_dir'] = path
            if record.scene is not None:
                data['scene'] = record.scene
            data_list.append(data)
        return data_list

    def summary(self, found: AnnotationList, clips: int) -> str:
        """What was understood, and which clips the protocol gives this split."""
        what = {('train', 'paper'): 'the whole training list',
                ('train', 'clean'): f'the training list without the {self.val_ratio:.0%} held out for validation',
                ('val', 'paper'): 'the TEST list: an epoch picked on it is picked on the test set',
                ('val', 'clean'): f'the {self.val_ratio:.0%} of the training list that are held out (seed '
                                  f'{self.val_seed})'}.get((self.split, self.protocol), 'the test list')
        return (f'{type(self).__name__} {self.label()}: protocol {self.protocol!r}, split {self.split!r} is {what}: '
                f'{clips} of {len(found.records)} clips\n{found}')

    def label(self) -> str:
        """Which part of the data set this is, for the log."""
        return ''

    def get_cat_ids(self, idx: int) -> list[int]:
        """The class of a clip, for mmengine's ClassBalancedDataset."""
        return [int(self.get_data_info(idx)['label'])]


@DATASETS.register_module()
class DFEWDataset(EmotionClipDataset):
    """DFEW: 11,697 clips of seven emotions in five folds.

    Official layout under ``data_root``::

        Clip/clip_224x224/00001/00001_00001.jpg          data_prefix=dict(img='Clip/clip_224x224'), the default
        Clip/original/00001.mp4                          data_prefix=dict(video='Clip/original')
        EmoLabel_DataSplit/train(single-labeled)/set_1.csv

    Args:
        fold: 1 to 5 (fd1 .. fd5); the list is found in both spellings of its folder. None with ``ann_file``.
        kwargs: Those of :class:`EmotionClipDataset`.

    Example:
        ``dict(type='DFEWDataset', data_root='data/dfew', fold=1, split='train', protocol='clean', pipeline=...)``
    """

    NAME = 'dfew'
    PREFIX = {'img': 'Clip/clip_224x224'}

    def __init__(self, pipeline: list[Any], fold: Optional[int] = None, ann_file: str = '', **kwargs: Any) -> None:
        if (fold is None) == (not ann_file):
            raise ValueError(f'DFEWDataset needs either fold=1..5 (official lists) or ann_file (a list of your own), '
                             f'got fold={fold!r} and ann_file={ann_file!r}.')
        self.fold = fold
        super().__init__(pipeline, ann_file, **kwargs)

    def official_list(self, split: str) -> str:
        """The fold's list in EmoLabel_DataSplit."""
        return dfew_list(self.data_root, split, self.fold or 0)

    def label(self) -> str:
        """The fold."""
        return f'fold {self.fold}' if self.fold else 'own list'


@DATASETS.register_module()
class FERV39kDataset(EmotionClipDataset):
    """FERV39k: 38,935 clips of seven emotions in 22 scenes; the scene of each clip is in its results.

    Official layout under ``data_root``::

        2_ClipsforFaceCrop/Action/Happy/0267/00.jpg      data_prefix=dict(img='2_ClipsforFaceCrop'), the default
        4_setups/All_scenes/train_All.csv

    Args:
        kwargs: Those of :class:`EmotionClipDataset`.

    Example:
        ``dict(type='FERV39kDataset', data_root='data/ferv39k', split='test', pipeline=...)``
    """

    NAME = 'ferv39k'
    KEEP = 3
    PREFIX = {'img': '2_ClipsforFaceCrop'}

    def official_list(self, split: str) -> str:
        """The list over all scenes."""
        return ferv39k_list(self.data_root, split)
