"""Clips: lists of them, generated ones, and ways to break them.

Whatever registers is imported where MMAction2 is used; what lies beside it works without OpenMMLab too.
"""
import importlib.util
import os

if os.environ.get('LSEF_PLUGINS_REGISTER', '1') != '0' and importlib.util.find_spec('mmaction'):
    from .clip_list import ClipListDataset, UnreadableClipError
    from .emotion_clips import DFEWDataset, FERV39kDataset
    from .veatic import VEATICDataset

    __all__ = ['ClipListDataset', 'DFEWDataset', 'FERV39kDataset', 'UnreadableClipError', 'VEATICDataset']
