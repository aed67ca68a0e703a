"""Metrics in MMAction2's registry."""
from .average_recall import AverageRecallMetric
from .decomposition_recovery import DecompositionRecoveryMetric
from .valence_arousal import ValenceArousalMetric

__all__ = ['AverageRecallMetric', 'DecompositionRecoveryMetric', 'ValenceArousalMetric']
