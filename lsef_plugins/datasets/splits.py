r"""Which clips are trained on, which choose the epoch, which are tested: by name, and the same every time.

============  =======================  ==============================  ===========
protocol      train                    val                             test
============  =======================  ==============================  ===========
``'paper'``   the whole training list  the **test** list               test list
``'clean'``   training list - held     clips held out of training      test list
============  =======================  ==============================  ===========

Published code often picks the epoch on the test set ('paper', the field's habit); 'clean' touches it once. Held-out
clips are drawn class by class, so shares stay, and by the rank of a hash of (seed, clip): the order of the list, its
dialect and clips added elsewhere change nothing.
"""
import hashlib
import os
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Optional

SPLITS = ('train', 'val', 'test')
PROTOCOLS = ('paper', 'clean')


def check_split(split: str, protocol: str, val_ratio: float) -> None:
    """ValueError unless the names and the share are possible."""
    if split not in SPLITS:
        raise ValueError(f'split={split!r} must be one of {", ".join(map(repr, SPLITS))}.')
    if protocol not in PROTOCOLS:
        raise ValueError(f"protocol={protocol!r} must be 'paper' (val is the test list, the field's habit) or 'clean' "
                         '(val is held out of train).')
    if not 0 < val_ratio < 1:
        raise ValueError(f'val_ratio={val_ratio} must be a share of the training clips between 0 and 1.')


def frame_shares(split: str, protocol: str, train_ratio: float, val_ratio: float) -> tuple[float, float]:
    """Where a split that is cut through every video begins and ends, as shares of its frames (VEATIC)."""
    kept = train_ratio * (1 - val_ratio) if protocol == 'clean' else train_ratio
    if split == 'train':
        return 0., kept
    return (kept, train_ratio) if split == 'val' and protocol == 'clean' else (train_ratio, 1.)


def shared_frames(trained: Mapping, asked: Mapping) -> Optional[tuple[str, str]]:
    """Which shares of a video two such splits take ('0.0% to 70.0%'); None where no frame belongs to both.

    Args:
        trained, asked: ``split``, ``protocol``, ``train_ratio``, ``val_ratio`` and, if given, ``videos`` (names; None
            for all), as in VEATICDataset's ``metainfo['annotation']``.
    """
    (begin, end), (first, last) = (frame_shares(each['split'], each['protocol'], each['train_ratio'],
                                                each['val_ratio']) for each in (trained, asked))
    videos, others = ([str(name) for name in each['videos']] if each.get('videos') is not None else None
                      for each in (trained, asked))
    apart = videos is not None and others is not None and set(videos).isdisjoint(others)
    if apart or max(begin, first) > min(end, last) - 1e-9:
        return None
    return f'{begin:.1%} to {end:.1%}', f'{first:.1%} to {last:.1%}'


def source_split(split: str, protocol: str) -> str:
    """The list that a split is cut from: 'train' or 'test'."""
    return 'train' if split == 'train' or (split == 'val' and protocol == 'clean') else 'test'


def held_out(identities: Sequence[str], labels: Sequence[int], val_ratio: float, seed: int = 0) -> set[str]:
    """Identities of the training clips that are held out for validation.

    Args:
        identities: names of the clips (:func:`annotations.clip_identity`).
        labels: class of each.
        val_ratio: share of each class, in (0, 1); every class of two clips or more gives at least one and keeps one.
        seed: another seed holds out other clips.
    """
    classes: dict[int, set[str]] = defaultdict(set)
    for identity, label in zip(identities, labels):
        classes[label].add(identity)
    held: set[str] = set()
    for members in classes.values():
        ranked = sorted(members, key=lambda name: hashlib.sha256(f'{seed}:{name}'.encode()).digest())
        count = min(max(round(val_ratio * len(ranked)), 1), len(ranked) - 1)
        held.update(ranked[:count])
    return held


def select(identities: Sequence[str], labels: Sequence[int], split: str, protocol: str, val_ratio: float,
           seed: int) -> list[int]:
    """Places of the clips of a list that belong to a split."""
    if protocol == 'paper' or split == 'test':
        return list(range(len(identities)))
    held = held_out(identities, labels, val_ratio, seed)
    return [i for i, identity in enumerate(identities) if (identity in held) == (split == 'val')]


def dfew_list(root: str, split: str, fold: int, folder: str = 'EmoLabel_DataSplit') -> str:
    """The official list of a fold: ``<root>/<folder>/train(single-labeled)/set_1.csv``, in any spelling of it.

    Raises:
        ValueError: the fold is not 1..5.
        FileNotFoundError: no such list, or several that differ; the message shows what is there.
    """
    if fold not in (1, 2, 3, 4, 5):
        raise ValueError(f'fold={fold!r} must be 1..5: DFEW has the folds fd1 to fd5.')
    base = os.path.join(root, folder)
    names = sorted(os.listdir(base)) if os.path.isdir(base) else []
    pattern = re.compile(rf'{split}[ _(-]*single[ _-]?labell?ed\)?', re.IGNORECASE)
    found = [os.path.join(base, name, f'set_{fold}.csv') for name in names if pattern.fullmatch(name)]
    found = [path for path in found if os.path.isfile(path)]
    if len({_content(path) for path in found}) == 1:
        return found[0]
    what = f'holds {", ".join(names) or "nothing"}' if os.path.isdir(base) else 'does not exist'
    if found:
        raise FileNotFoundError(f'{" and ".join(found)} differ: name the one to use with ann_file (--ann).')
    raise FileNotFoundError(
        f'No list of fold {fold}, split {split}: expected {base}/{split}(single-labeled)/set_{fold}.csv (or '
        f'{split}_single_labeled), and {base} {what}. See tools/data/dfew/README.md, or name a list with ann_file.')


def _content(path: str) -> bytes:
    with open(path, 'rb') as file:
        return file.read()


def ferv39k_list(root: str, split: str, folder: str = '4_setups/All_scenes') -> str:
    """The official list: ``<root>/4_setups/All_scenes/train_All.csv``."""
    path = os.path.join(root, folder, f'{split}_All.csv')
    if not os.path.isfile(path):
        raise FileNotFoundError(f'{path} does not exist. See tools/data/ferv39k/README.md, or name a list with '
                                'ann_file.')
    return path


def first_folder(root: str, names: Sequence[str]) -> Optional[str]:
    """The first of several spellings of a folder that is there."""
    return next((os.path.join(root, name) for name in names if os.path.isdir(os.path.join(root, name))), None)
