"""Formulas of evaluation, in numpy alone."""
from .bootstrap import interval, rating_intervals, recall_intervals
from .classification import confusion_matrix, per_class_recall, predicted_classes, uar, war
from .events import Counts, event_counts, frame_counts, match_events, separation
from .regression import ccc, ccc_batch20, ccc_of_each_video, ccc_per_video, pcc, rmse, sagr_product, sagr_sign
from .robustness import (
    corruption_errors,
    corruption_means,
    flip_rate,
    mean_corrupted,
    mean_of,
    relative_errors,
    relative_performance,
)
from .subspaces import base_drift, energy_inside, span_basis, subspace_angles
from .tables import confusion_csv, confusion_table

__all__ = ['Counts', 'base_drift', 'ccc', 'ccc_batch20', 'ccc_of_each_video', 'ccc_per_video', 'confusion_csv',
           'confusion_matrix', 'confusion_table', 'corruption_errors', 'corruption_means', 'energy_inside',
           'event_counts', 'flip_rate', 'frame_counts', 'interval', 'match_events', 'mean_corrupted', 'mean_of',
           'pcc', 'per_class_recall', 'predicted_classes', 'rating_intervals', 'recall_intervals', 'relative_errors',
           'relative_performance', 'rmse', 'sagr_product', 'sagr_sign', 'separation', 'span_basis', 'subspace_angles',
           'uar', 'war']
