"""Metrics in MMAction2's registry."""
from .average_recall import AverageRecallMetric

__all__ = ['AverageRecallMetric']
