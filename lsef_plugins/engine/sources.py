"""A hash of sources: what was computed by other ones counts as new."""
import hashlib
from pathlib import Path
from typing import Collection, Optional, Sequence


def hash_of_sources(folders: Sequence[str], room: str, without_effect: Collection[str],
                    root: Optional[Path] = None, extra: Sequence[str] = ()) -> str:
    """Of all modules in ``folders`` of the package, names included.

    Args:
        folders: relative to ``root``, by default the package.
        room: name of the folder whose modules ``without_effect`` (on what is computed) are left out.
        extra: what else is hashed.
    """
    root = Path(__file__).resolve().parents[1] if root is None else root
    digest = hashlib.blake2b(digest_size=16)
    for path in sorted(path for folder in folders for path in (root / folder).rglob('*.py')):
        if not (path.parent.name == room and path.name in without_effect):
            digest.update(path.relative_to(root).as_posix().encode() + b'\0' + path.read_bytes())
    for text in extra:
        digest.update(text.encode() + b'\0')
    return digest.hexdigest()
