"""Where the compiled operators are, and why they are not used when they are not.

The library is looked for once, when :mod:`lsef_plugins.ops` is imported: at ``LSEF_OPS_LIBRARY``, else where
``python -m lsef_plugins.ops.build`` puts it. Nothing is ever built here. Every operator asks :func:`serves` at each
call and otherwise computes its PyTorch formula.

``LSEF_OPS`` in the environment: ``auto`` (default), ``off`` (formulas only), ``required`` (an import that cannot load
the library fails).
"""
import contextlib
import ctypes
import os
import re
import warnings
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

import torch
from torch import Tensor

from . import builder
from .exporting import has_tangents, is_exported, is_traced, must_be_plain

MODES = ('auto', 'off', 'required')
BACKENDS = ('auto', 'reference', 'compiled')
DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
# LSEF_CPU_MAX_FRAMES, LSEF_CUDA_MAX_FRAMES and the exponents of csrc/kernels.h.
MAX_FRAMES = {'cpu': 64, 'cuda': 32}
EXPONENTS = (1.0, 2.0, float('inf'))

_library: Optional[str] = None
_devices: Tuple[str, ...] = ()
_instruction_set: Optional[str] = None
_reason = 'not looked for yet'
_backend = 'auto'
_waiting: List[Callable[[], None]] = []
_told_device = False


def when_loaded(register: Callable[[], None]) -> Callable[[], None]:
    """Decorator: ``register()`` runs as soon as the library is loaded, at once if it is."""
    _waiting.append(register)
    if _library is not None:
        register()
    return register


def load(path: Optional[str] = None) -> Dict[str, Any]:
    """Looks for the library (or takes that at ``path``), unless one is loaded, and returns :func:`status`.

    Raises:
        ValueError: ``LSEF_OPS`` is not one of its three words.
        ImportError: ``LSEF_OPS=required``, and there is no library that loads.
    """
    global _reason
    mode = os.environ.get('LSEF_OPS', 'auto')
    if mode not in MODES:
        raise ValueError(f'LSEF_OPS={mode} is unknown; set it to {", ".join(MODES)}.')
    if _library is None:
        if mode == 'off' and path is None:
            _reason = 'switched off by LSEF_OPS=off'
        else:
            _reason = _load(Path(path or os.environ.get('LSEF_OPS_LIBRARY') or builder.HERE / builder.LIBRARY))
        if mode == 'required' and _library is None:
            raise ImportError(f'LSEF_OPS=required, but the compiled operators cannot be used: {_reason}')
    return status()


def _load(path: Path) -> str:
    """Loads the library; returns why not, or an empty string."""
    global _library, _devices, _instruction_set
    if not path.exists():
        return f'{path} does not exist; build it with: {builder.COMMAND}'
    # Looked up in the file: a library of other sources may hold operators of the same name and other arguments.
    try:
        built_from = re.search(rb'lsef sources ([0-9a-f]{16}) ', path.read_bytes())
        sources = builder.source_hash()
    except OSError as error:
        return _told(f'{path} or its sources cannot be read ({error})')
    if built_from is None or built_from.group(1).decode() != sources:
        return _told(f'{path} was built from other sources than those of this lsef_plugins')
    try:
        torch.ops.load_library(str(path))
        library = ctypes.CDLL(str(path))
    except OSError as error:
        return _told(f'{path} does not load into this torch, which must be 2.10 or later ({error.__cause__ or error})')
    for name in ('lsef_devices', 'lsef_instruction_set'):
        getattr(library, name).restype = ctypes.c_char_p
    _library, _devices = str(path), tuple(library.lsef_devices().decode().split())
    _instruction_set = library.lsef_instruction_set().decode()
    for register in _waiting:
        register()
    return ''


def _told(problem: str) -> str:
    reason = f'{problem}; build it again with: {builder.COMMAND}'
    if os.environ.get('RANK', '0') == '0':
        warnings.warn(f'lsef_plugins computes in plain PyTorch: {reason}', stacklevel=5)
    return reason


def status() -> Dict[str, Any]:
    """What computes the operators: ``library`` (None: PyTorch formulas, for the ``reason`` given), its ``devices``, and
    the ``instruction_set`` its CPU kernels chose."""
    return dict(library=_library, reason=_reason or None, devices=_devices, instruction_set=_instruction_set)


@contextlib.contextmanager
def backend(name: str) -> Iterator[None]:
    """Inside it operators compute by ``reference``, or by ``compiled`` code or not at all. For the whole process."""
    global _backend
    if name not in BACKENDS:
        raise ValueError(f'backend {name!r} is unknown; choose one of {", ".join(BACKENDS)}.')
    if name == 'compiled' and _library is None:
        raise RuntimeError(f'The compiled operators cannot be used: {_reason}')
    before, _backend = _backend, name
    try:
        yield
    finally:
        _backend = before


def serves(x: Tensor, exponent: float = 2.0) -> bool:
    """Whether the compiled operators compute features ``(b, c, t, n)`` like these.

    Raises:
        RuntimeError: they do not, inside ``backend('compiled')``.
    """
    if _backend == 'reference' or must_be_plain() or is_exported() or has_tangents():
        return False
    device = x.device.type
    fits = (device in _devices and x.dtype in DTYPES and x.shape[2] <= MAX_FRAMES[device] and exponent in EXPONENTS)
    if not fits:
        if _backend == 'compiled':
            raise RuntimeError(
                f'No compiled operator for {x.dtype} features {tuple(x.shape)} on {device} with exponent {exponent}: '
                'it takes float32, float64, bfloat16 and float16, exponents 1, 2 and inf, and '
                + ', '.join(f'up to {MAX_FRAMES[name]} frames on {name}' for name in _devices) + '.')
        _tell_device(x)
    return fits


def _tell_device(x: Tensor) -> None:
    """A GPU that computes the formulas although it could be faster is told of, once and by one rank."""
    global _told_device
    if _told_device or x.device.type != 'cuda' or is_traced():
        return
    _told_device = True
    if os.environ.get('RANK', '0') == '0' and os.environ.get('LSEF_OPS') != 'off' and 'cuda' not in _devices:
        warnings.warn('lsef_plugins computes on the GPU in plain PyTorch, without its compiled operators: '
                      f'{_reason or "the library was built without CUDA"}. (Said once.)', stacklevel=5)
