"""Formulas of evaluation, in numpy alone."""
from .bootstrap import interval, rating_intervals, recall_intervals
from .classification import confusion_matrix, per_class_recall, predicted_classes, uar, war
from .regression import ccc, ccc_batch20, ccc_of_each_video, ccc_per_video, pcc, rmse, sagr_product, sagr_sign
from .tables import confusion_csv, confusion_table

__all__ = ['ccc', 'ccc_batch20', 'ccc_of_each_video', 'ccc_per_video', 'confusion_csv', 'confusion_matrix',
           'confusion_table', 'interval', 'pcc', 'per_class_recall', 'predicted_classes', 'rating_intervals',
           'recall_intervals', 'rmse', 'sagr_product', 'sagr_sign', 'uar', 'war']
