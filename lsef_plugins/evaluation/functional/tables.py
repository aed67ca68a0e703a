"""A confusion matrix for people and for spreadsheets.

Rows are the true class, columns the predicted one, in the order of the labels. Text only.
"""
from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from .classification import check_confusion, per_class_recall, uar, war


def confusion_table(matrix: Any, names: Sequence[str]) -> str:
    """Lines of aligned columns: counts, the number of clips, recall in percent; WAR and UAR below.

    Args:
        matrix: ``(k, k)`` counts, rows the true class.
        names: k class names.
    """
    matrix, names = check_confusion(matrix), _check_names(matrix, names)
    recall = ['-' if np.isnan(value) else f'{100 * value:.1f}' for value in per_class_recall(matrix)]
    rows = [['true \\ predicted', *names, 'clips', 'recall %']]
    rows += [[name, *map(str, counts), str(counts.sum()), found] for name, counts, found in zip(names, matrix, recall)]
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = ['  '.join([row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:]))])
             for row in rows]
    return '\n'.join([*lines, f'WAR {100 * war(matrix):.2f} %, UAR {100 * uar(matrix):.2f} %, {matrix.sum()} clips'])


def confusion_csv(matrix: Any, names: Sequence[str]) -> str:
    """Comma separated counts: a header ``true,<predicted names>``, then a row for each true class.

    A name that a spreadsheet would take for a formula (``=...``, ``+``, ``-``, ``@``) is written behind an apostrophe.

    Args:
        matrix: ``(k, k)`` counts, rows the true class.
        names: k class names.
    """
    matrix, names = check_confusion(matrix), [_no_formula(name) for name in _check_names(matrix, names)]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator='\n')
    writer.writerow(['true', *names])
    writer.writerows([name, *map(int, counts)] for name, counts in zip(names, matrix))
    return text.getvalue()


def _no_formula(name: str) -> str:
    return f"'{name}" if name.startswith(('=', '+', '-', '@', '\t', '\r')) else name


def _check_names(matrix: np.ndarray, names: Sequence[str]) -> list[str]:
    if len(names) != len(matrix):
        raise ValueError(f'{len(names)} names ({", ".join(map(str, names))}) came for {len(matrix)} classes.')
    return [str(name) for name in names]
