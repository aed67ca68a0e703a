"""A line that counts: in a terminal in place, elsewhere every tenth."""
import sys

from .timeline import Progress


def progress_of(name: str) -> Progress:
    """Where the progress of ``name`` goes: standard error."""
    def progress(done: int, total: int) -> None:
        if sys.stderr.isatty():
            print(f'\r{name}: {done} of {total}', end='\n' if done == total else '', file=sys.stderr, flush=True)
        elif done * 10 // total > (done - 1) * 10 // total:
            print(f'{name}: {done} of {total}', file=sys.stderr, flush=True)
    return progress
