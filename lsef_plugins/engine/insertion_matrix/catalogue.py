"""Which recognizer configs the installed MMAction2 ships, and to which family each belongs.

A family is recognizer x backbone x head (x neck), told apart further by what changes the features that reach the
site: the kind of attention, non-local blocks, the kind of bottleneck, the modality.
"""
from __future__ import annotations

import fnmatch
import functools
import importlib.util
import os
import re
from pathlib import Path
from typing import Any, Iterable, List, NamedTuple, Optional, Sequence

from mmengine.config import Config

from .views import modality_of

FOLDERS = ('recognition', 'skeleton', 'recognition_audio')


class MatrixError(ValueError):
    """The request cannot be served; the message says what came and how to go on."""


class Entry(NamedTuple):
    """A config: its name relative to the folder of the host's configs, its family, and what it says."""
    name: str
    family: str
    cfg: Config


def host_configs() -> Path:
    """The folder of the configs that the installed MMAction2 ships.

    Raises:
        MatrixError: MMAction2 is not installed, or without its configs.
    """
    spec = importlib.util.find_spec('mmaction')
    if spec is None or not spec.submodule_search_locations:
        raise MatrixError('MMAction2 is not installed, so there are no configs to examine. '
                          'pip install mmaction2==1.2.0 (see requirements/), then start again.')
    package = Path(next(iter(spec.submodule_search_locations)))
    for folder in (package / '.mim' / 'configs', package.parent / 'configs'):
        if folder.is_dir():
            return folder
    raise MatrixError(f'The MMAction2 in {package} came without its configs (.mim/configs). '
                      'Install it from a wheel or from its repository.')


def type_name(config: Optional[dict]) -> str:
    """The name of a config's ``type``, which may be a class; empty without a config."""
    kind = (config or {}).get('type', '')
    return kind if isinstance(kind, str) else kind.__name__


def variants(cfg: Config) -> List[str]:
    """What tells configs of the same classes apart, in the order it is written."""
    backbone = cfg.model.backbone
    found = []
    if backbone.get('attention_type'):
        found.append(str(backbone.attention_type))
    if type_name(backbone) == 'ResNet3dCSN':
        found.append(f'{backbone.get("bottleneck_mode", "ir")} bottleneck')
    if any(_flat(backbone.get('non_local', ()))):
        found.append('non-local')
    if backbone.get('gcn_adaptive') or backbone.get('tcn_type'):
        found.append('++')
    if backbone.get('deploy'):
        found.append('deploy')
    if backbone.get('temporal_downsample'):
        found.append('temporal downsample')
    modality = modality_of(cfg)
    if modality not in ('rgb', 'skeleton', 'audio', 'rgb and heatmaps'):
        found.append(modality)
    return found


def _flat(value: Any) -> List[int]:
    return [x for each in value for x in _flat(each)] if isinstance(value, (list, tuple)) else [value]


def family_of(cfg: Config) -> str:
    """A readable name, such as ``Recognizer2D / ResNetTSM / TPN / TPNHead``."""
    model = cfg.model
    extra = variants(cfg)
    backbone = type_name(model.backbone) + (f' ({", ".join(extra)})' if extra else '')
    parts = [type_name(model), backbone, type_name(model.get('neck')), type_name(model.get('cls_head'))]
    return ' / '.join(part for part in parts if part)


def read(path: Path) -> Config:
    """A config, with a clear word when it cannot be read."""
    try:
        return Config.fromfile(str(path))
    except Exception as error:
        raise MatrixError(f'Config {path} cannot be read: {type(error).__name__}: {error}') from error


def shipped(root: Optional[Path] = None) -> List[Entry]:
    """Every recognizer config the host ships, in the order of their names."""
    return list(_read_all(host_configs() if root is None else root))


@functools.lru_cache(maxsize=2)
def _read_all(root: Path) -> List[Entry]:
    paths = sorted(path for folder in FOLDERS for path in (root / folder).rglob('*.py'))
    entries = [entry_of(path, root) for path in paths]
    return [entry for entry in entries if entry is not None]


def entry_of(path: Path, root: Path) -> Optional[Entry]:
    cfg = read(path)
    if 'model' not in cfg or 'backbone' not in cfg.model or 'cls_head' not in cfg.model:
        return None
    name = path.relative_to(root).as_posix() if root in path.parents else path.name
    return Entry(name, family_of(cfg), cfg)


def chosen(wanted: Sequence[str] = (), families: Sequence[str] = (), one_each: bool = False,
           root: Optional[Path] = None) -> List[Entry]:
    """The configs asked for.

    Args:
        wanted: paths of config files, or names or globs relative to the host's configs; none for all.
        families: only families whose name holds one of these texts, whatever the case.
        one_each: only the smallest config of each family.

    Raises:
        MatrixError: a name or a text fits nothing.
    """
    root = host_configs() if root is None else root
    entries = list(_named(wanted, root)) if wanted else shipped(root)
    if families:
        for text in families:
            if not any(text.lower() in entry.family.lower() for entry in entries):
                known = '\n  '.join(sorted({entry.family for entry in entries}))
                raise MatrixError(f'No family is called anything with {text!r}. There are:\n  {known}')
        entries = [entry for entry in entries if any(text.lower() in entry.family.lower() for text in families)]
    return smallest_of_each(entries) if one_each else entries


def _named(wanted: Sequence[str], root: Path) -> Iterable[Entry]:
    every: List[Entry] = []
    seen = set()
    for text in wanted:
        if os.path.isfile(text):
            found = [entry_of(Path(text).resolve(), root.resolve())]
            if found == [None]:
                raise MatrixError(f'{text} holds no recognizer: it needs model with backbone and cls_head.')
        else:
            every = every or shipped(root)
            found = [entry for entry in every if fnmatch.fnmatch(entry.name, text)
                     or fnmatch.fnmatch(entry.name.rsplit('/', 1)[-1], text) or entry.name == text]
        if not found:
            raise MatrixError(f'{text!r} is no config file and fits none of the configs in {root}. Give a path, or a '
                              "name or a glob such as 'recognition/tsm/*' or '*slowfast_r50*'.")
        for entry in found:
            if entry is not None and entry.name not in seen:
                seen.add(entry.name)
                yield entry


def smallest_of_each(entries: Sequence[Entry]) -> List[Entry]:
    """One config for each family: the one whose name promises the smallest model."""
    best: dict = {}
    for entry in entries:
        if entry.family not in best or size_of(entry.name) < size_of(best[entry.family].name):
            best[entry.family] = entry
    return list(best.values())


def size_of(name: str) -> tuple:
    """A sort key: the size word, the depth, and the input named in a config's file name; the name itself last."""
    file = name.rsplit('/', 1)[-1]
    words = ('tiny', 'small', 'base', 'large')
    word = next((index for index, each in enumerate(words) if re.search(rf'(^|[-_]){each}([-_]|$)', file)), 0)
    depth = max((int(d) for d in re.findall(r'(?:^|[-_])r(\d+)', file)), default=0)
    frames = max((int(n) for n in re.findall(r'[-_](\d+)x\d+x\d+', file)), default=0)
    return word, depth, frames, file
