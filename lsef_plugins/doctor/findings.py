"""One line of the doctor's report, and a guard under which a part of it may fail alone."""
from typing import Callable, Iterable, List, NamedTuple

GOOD, NOTE, FAULT = 'ok', 'note', 'FAULT'


class Finding(NamedTuple):
    """``name``, what was found, and ``state``: as it should be, worth knowing, or broken."""
    name: str
    value: str
    state: str = GOOD


def guarded(name: str, look: Callable[[], Iterable[Finding]]) -> List[Finding]:
    """What ``look`` finds; where it fails itself, that is the finding."""
    try:
        return list(look())
    except Exception as error:      # a doctor that dies of what it looks for is of no use
        text = ' '.join(str(error).split())
        return [Finding(name, f'{type(error).__name__}: {text}', FAULT)]
