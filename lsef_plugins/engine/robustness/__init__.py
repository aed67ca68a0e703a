"""One checkpoint on clean and on corrupted clips: measuring, condition by condition, and the numbers made of it."""
from .report import Summary, chosen_metric, read_reference, summarise, write_report
from .run import CLEAN, fingerprint_of, measure, name_of, with_corruption
from .windows import ViewClasses, windows_of

__all__ = ['CLEAN', 'Summary', 'ViewClasses', 'chosen_metric', 'fingerprint_of', 'measure', 'name_of',
           'read_reference', 'summarise', 'windows_of', 'with_corruption', 'write_report']
