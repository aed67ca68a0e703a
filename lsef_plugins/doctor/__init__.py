"""What a bug report needs to say about a machine: ``python -m lsef_plugins doctor``.

It works without MMAction2, without OpenCV and without a compiler, and names what a part of it could not find out.
"""
from .findings import FAULT, GOOD, NOTE, Finding
from .report import examine, render

__all__ = ['FAULT', 'GOOD', 'NOTE', 'Finding', 'examine', 'render']
