"""Procedural schematic-face clips with planted truth: a controlled instrument for base-and-transient models.

``generate('default', 'data/synthetic_faces')`` writes real .mp4 files, annotation lists in MMAction2's
VideoDataset form and, beside every clip, the curves it was drawn from. Needs numpy and OpenCV only.
"""
from .design import CLASSES, EVENTS, TONES
from .presets import PRESETS, Preset, label_ceilings
from .truth import Truth, load_truth
from .writer import draw_clip, generate

__all__ = ['CLASSES', 'EVENTS', 'PRESETS', 'TONES', 'Preset', 'Truth', 'draw_clip', 'generate',
           'label_ceilings', 'load_truth']
