"""Truth of a clip: what was planted, in one record, and its file.

Axes: ``t`` frames, ``a`` facial actions (``actions.ACTIONS``), ``m`` nuisance curves (``signals.NUISANCE``),
``n`` events. The file is a plain ``.npz`` (no pickle) with one entry per field.
"""
import dataclasses
import hashlib
import io
from pathlib import Path
from typing import Any, Union

import numpy as np

#: One short event: kind, frame of the last zero before it, first frame at full amplitude, frame of the first
#: zero after it, amplitude (1 is a full movement).
EVENT_DTYPE = np.dtype([('kind', 'U16'), ('onset', 'i4'), ('apex', 'i4'), ('offset', 'i4'),
                        ('amplitude', 'f8')])


@dataclasses.dataclass
class Truth:
    """The planted truth of one clip.

    Attributes:
        preset, split, index, seed: what the clip was made from.
        label: class, 0-based in DFEW's order (``CLASSES``).
        tone, event: the two causes of the label, from TONES and EVENTS ('still' means none).
        identity: number of the person; train and val share none.
        fps: frames per second.
        rest: (a,) the person's face at rest.
        tone_curve: (t,) strength of the tone; 1 is a full expression.
        base: (t, a) stable part of the facial actions, rest excluded.
        transient: (t, a) short-lived part, exactly zero outside the events.
        events: (n,) of EVENT_DTYPE.
        valence, arousal: (t,) in [-1, 1].
        nuisance: (t, m) curves that carry no label.
        frames_sha256: hash of the drawn frames before encoding; '' where none were drawn.
        video_bytes: size of the encoded file in bytes; 0 where none was written.
    """
    preset: str
    split: str
    index: int
    seed: int
    label: int
    tone: str
    event: str
    identity: int
    fps: int
    rest: np.ndarray
    tone_curve: np.ndarray
    base: np.ndarray
    transient: np.ndarray
    events: np.ndarray
    valence: np.ndarray
    arousal: np.ndarray
    nuisance: np.ndarray
    frames_sha256: str = ''
    video_bytes: int = 0

    def signals_sha256(self) -> str:
        """Hash of every planted signal (not of the frames or the file)."""
        digest = hashlib.sha256()
        for field in dataclasses.fields(self):
            if field.name not in ('frames_sha256', 'video_bytes'):
                value = getattr(self, field.name)
                digest.update(field.name.encode())
                digest.update(np.ascontiguousarray(value).tobytes() if isinstance(value, np.ndarray)
                              else repr(value).encode())
        return digest.hexdigest()

    def to_bytes(self) -> bytes:
        """The ``.npz`` file, byte for byte the same for the same truth."""
        buffer = io.BytesIO()
        fields: dict[str, Any] = {field.name: np.asarray(getattr(self, field.name))
                                  for field in dataclasses.fields(self)}
        np.savez(buffer, **fields)
        return buffer.getvalue()


def load_truth(path: Union[str, Path]) -> Truth:
    """Reads the truth file of a clip.

    Raises:
        ValueError: the file is no truth file or is damaged.
    """
    names = [field.name for field in dataclasses.fields(Truth)]
    try:
        with np.load(path, allow_pickle=False) as stored:
            values: dict[str, Any] = {name: stored[name] for name in names}
    except FileNotFoundError:
        raise
    except Exception as error:
        raise ValueError(
            f'{path} is no readable truth file ({error}); expected an .npz with {", ".join(names)}. Delete it '
            'and run tools/generate_synthetic.py again: complete clips are kept.') from error
    return Truth(**{name: value.item() if value.ndim == 0 else value for name, value in values.items()})


def truth_file_of(clip: Union[str, Path]) -> Path:
    """The truth file of a clip, given its video or its folder of frames.

    The nearest folder above it that holds a folder ``truth`` is the data set; there it is
    ``truth/<path without its first folder>.npz`` (``videos/val/00000.mp4``: ``truth/val/00000.npz``), else
    ``truth/<name>.npz`` (``Clip/clip_224x224/00001``: ``truth/00001.npz``).

    Raises:
        FileNotFoundError: no truth lies beside the data; says where it was looked for.
    """
    clip, tried = Path(clip), []
    for root in clip.absolute().parents:
        if (root / 'truth').is_dir():
            inside = clip.absolute().relative_to(root).with_suffix('')
            tried = [root / 'truth' / Path(*inside.parts[1:]).with_suffix('.npz'),
                     root / 'truth' / f'{inside.name}.npz']
            break
    for path in tried:
        if path.is_file():
            return path
    where = ' and '.join(map(str, tried)) if tried else 'a folder named truth above it'
    raise FileNotFoundError(f'{clip} has no planted truth: looked for {where}. Only the embedded data set has one '
                            '(tools/generate_synthetic.py, tools/data/write_synthetic_layout.py dfew).')
