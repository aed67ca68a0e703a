"""Metrics in MMAction2's registry."""
from .average_recall import AverageRecallMetric
from .valence_arousal import ValenceArousalMetric

__all__ = ['AverageRecallMetric', 'ValenceArousalMetric']
