"""Repairs of somebody else's releases: one file each, stating fault, mend, and when to delete it."""
import importlib

REPAIRS = (
    'missing_drn',
)


def apply_repairs() -> None:
    """Apply every repair the installed host needs, once, before anything of ours registers."""
    for name in REPAIRS:
        importlib.import_module(f'{__name__}.{name}').apply()
