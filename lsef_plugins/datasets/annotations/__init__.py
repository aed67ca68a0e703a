"""Annotation lists of affective video, in every dialect that circulates: pure Python and numpy.

``read_clips`` reads lists of emotion clips (DFEW, FERV39k), ``read_rating``, ``read_rating_pair`` and
``read_aff_wild2`` read valence and arousal per frame (VEATIC, Aff-Wild2).
"""
from .classes import CLASSES, ORDERS
from .clips import AnnotationList, ClipRecord, clip_identity, read_clips
from .paths import PathRules, natural_key
from .published import PUBLISHED
from .ratings import Ratings, read_aff_wild2, read_rating, read_rating_pair
from .text import AnnotationError

__all__ = ['CLASSES', 'ORDERS', 'PUBLISHED', 'AnnotationError', 'AnnotationList', 'ClipRecord', 'PathRules', 'Ratings',
           'clip_identity', 'natural_key', 'read_aff_wild2', 'read_clips', 'read_rating', 'read_rating_pair']
