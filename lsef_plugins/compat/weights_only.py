"""Fault: MMEngine leaves it to torch whether a checkpoint may run code, and torch lets it in three cases.

MMEngine (up to 0.10.7) calls ``torch.load`` without ``weights_only``: before torch 2.6 that unpickles anything, and so
it does later where torch's variable that forces it is set. From ``http(s)://`` it loads through ``torch.hub``, which
unpickles anything on every torch. And ``Runner.resume`` carries out the text it finds as ``meta['config']`` as a
Python file, which old checkpoints have for a note of the GPU's number.

Mend: each of MMEngine's loaders goes through :func:`load`, with ``weights_only=True`` said aloud from torch 2.6 on, and
with :mod:`strict_unpickler` before it (there torch's own list cannot be given MMEngine's log history). It also refuses
an archive that unpacks to many times its size, and leaves ``meta['config']`` out.

Delete when: mmengine passes ``weights_only=True`` in each loader and torch 2.6 is the oldest it supports.
"""
import os
import re
import tarfile
import types
import zipfile
from typing import Any
from urllib.parse import urlparse

#: An archive may unpack to so many times its size, and so many bytes anyhow; torch.save does not compress.
LARGER, ANYHOW = 20, 64 << 20


class RefusedError(ValueError):
    """What a checkpoint asks for is not done; the message goes on after 'Checkpoint ... was refused: '."""


def reason() -> str:
    return 'MMEngine leaves it to torch, its hub and the environment whether a checkpoint may run code'


def apply() -> None:
    import torch
    from mmengine.runner import checkpoint
    if isinstance(checkpoint.torch, types.ModuleType) and checkpoint.torch is torch:
        checkpoint.torch = _TorchThatLoadsWeights(torch)
        checkpoint.load_url = load_url


class _TorchThatLoadsWeights:
    """Stands for torch in that one module of MMEngine; everything but ``load`` is torch's own."""

    def __init__(self, torch: Any) -> None:
        self._torch, self.load = torch, load

    def __getattr__(self, name: str) -> Any:
        return getattr(self._torch, name)


def load(file: Any, map_location: Any = None) -> Any:
    """``torch.load`` of weights and plain values only.

    Args:
        file: path, or an open file.

    Raises:
        RefusedError, and whatever torch raises: the file asks for more, or is damaged.
    """
    import torch
    if isinstance(file, (str, os.PathLike)):
        _refuse_bomb(file)
    if _torch_knows_the_list(torch.__version__):
        content = torch.load(file, map_location=map_location, weights_only=True)
    else:
        from . import strict_unpickler
        _refuse_other_formats(file)
        content = torch.load(file, map_location=map_location, weights_only=False,
                             pickle_module=strict_unpickler.MODULE)
    return _without_program(content)


def _torch_knows_the_list(version: str) -> bool:
    return tuple(int(part) for part in re.findall(r'\d+', version)[:2]) >= (2, 6)


def _refuse_bomb(path: Any) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(item.file_size for item in archive.infolist())
    except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError):
        return      # an older format, or damaged: torch says so
    size = os.path.getsize(path)
    if unpacked > LARGER * size + ANYHOW:
        raise RefusedError(f'its {size} bytes unpack to {unpacked}, and torch.save does not compress. It was made to '
                           'fill the memory: do not trust it, or pack it anew without compression.')


def _refuse_other_formats(file: Any) -> None:
    """TorchScript and the tar files of torch 0.1: torch reads them around the unpickler it is given."""
    try:
        with zipfile.ZipFile(file) as archive:
            script = any(name.rpartition('/')[2] == 'constants.pkl' for name in archive.namelist())
    except (ValueError, zipfile.BadZipFile):
        script = False
    if script:
        raise RefusedError('it is a TorchScript program, not weights. Save the state_dict of the model instead.')
    if isinstance(file, (str, os.PathLike)):
        try:
            with tarfile.open(file, 'r:'):
                raise RefusedError('it is a tar file, as torch wrote them before 0.2. Save it anew with torch.save.')
        except tarfile.TarError:
            pass
    else:
        file.seek(0)


def _without_program(content: Any) -> Any:
    meta = content.get('meta') if isinstance(content, dict) else None
    if isinstance(meta, dict):
        meta.pop('config', None)
    return content


def load_url(url: str, model_dir: Any = None, map_location: Any = None, progress: bool = True,
             check_hash: bool = False, file_name: Any = None) -> Any:
    """Downloads a checkpoint, unless it is in the cache, and loads weights only; arguments are torch.hub's."""
    import torch

    from .checkpoint_errors import naming_the_file
    folder = model_dir or os.path.join(torch.hub.get_dir(), 'checkpoints')
    os.makedirs(folder, exist_ok=True)
    name = file_name or os.path.basename(urlparse(url).path)
    cached = os.path.join(folder, name)
    if not os.path.exists(cached):
        print(f'Downloading {url} to {cached}', flush=True)
        found = torch.hub.HASH_REGEX.search(name) if check_hash else None
        torch.hub.download_url_to_file(url, cached, found.group(1) if found else None, progress=progress)
    return naming_the_file(load)(cached, map_location)
