"""The doctor: looks at a data set on disk and says what is wrong with it. Never changes anything.

``examine(Request('dfew', 'data/dfew'))`` gives a :class:`Report`; ``tools/data/check_dataset.py`` prints it. Needs
numpy and OpenCV only.
"""
from .examine import Request, examine
from .report import Finding, Report

__all__ = ['Finding', 'Report', 'Request', 'examine']
