"""From the bytes of a list to numbered lines and cells: encodings, line ends, delimiters."""
import csv
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Optional, Union

DELIMITERS = (',', ';', '\t')
#: Characters of a line: more than a path may have (4096 bytes), fewer than the digits that Python reads as a number.
LONGEST = 4200


class AnnotationError(ValueError):
    """A list cannot be read, or contradicts itself; the message names the place and the next step."""


def read_lines(path: Union[str, Path]) -> tuple[list[tuple[int, str]], str]:
    """The lines of a text file that are not blank.

    A byte order mark, CRLF, CR and blank lines are tolerated.

    Returns:
        ``(line number from 1, text)`` of each line, and the SHA-256 of the file.

    Raises:
        FileNotFoundError: there is no such file.
        AnnotationError: it is a spreadsheet, not UTF-8, empty, or has a line that no list has.
    """
    content = Path(path).read_bytes()
    if content[:4] == b'PK\x03\x04' or content[:4] == b'\xd0\xcf\x11\xe0':
        raise AnnotationError(f'{path} is a spreadsheet or an archive, not text. Open it and save the sheet as "CSV '
                              'UTF-8" (annotation.xlsx: keep its header and all of its columns).')
    encoding = 'utf-16' if content[:2] in (b'\xff\xfe', b'\xfe\xff') else 'utf-8-sig'
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        raise AnnotationError(f'{path} is not UTF-8 text: {error}. Save the list as UTF-8.') from error
    if '\0' in text:
        raise AnnotationError(f'{path} holds zero bytes: it is damaged, or UTF-16 without its mark. Save the list as '
                              'UTF-8.')
    lines = text.replace('\r\n', '\n').replace('\r', '\n').split('\n')
    kept = [(number, line.strip()) for number, line in enumerate(lines, start=1) if line.strip()]
    if not kept:
        raise AnnotationError(f'{path} is empty: no line with a clip. Was the download or the step that writes the '
                              'list interrupted?')
    long = next(((number, len(line)) for number, line in kept if len(line) > LONGEST), None)
    if long:
        raise AnnotationError(f'{path}:{long[0]}: a line of {long[1]} characters names no clip (at most {LONGEST} are '
                              'read). Is this the list, and are its line ends whole? Fetch it again.')
    return kept, hashlib.sha256(content).hexdigest()


def delimiter_of(texts: Sequence[str]) -> Optional[str]:
    """The delimiter that every line holds; None for white space."""
    for delimiter in DELIMITERS:
        if all(delimiter in text for text in texts):
            return delimiter
    return None


def split_cells(text: str, delimiter: str) -> list[str]:
    """The cells of one delimited line; quotes as spreadsheets write them."""
    return [cell.strip() for cell in next(csv.reader([text], delimiter=delimiter))]
