"""Formulas of evaluation, in numpy alone."""
from .classification import confusion_matrix, per_class_recall, predicted_classes, uar, war

__all__ = ['confusion_matrix', 'per_class_recall', 'predicted_classes', 'uar', 'war']
