"""What a measurement is asked for, checked before anything is built."""
from __future__ import annotations

import json
import os
from typing import Any, Dict, Mapping, NamedTuple

import torch

from lsef_plugins.models import LSEFNeck
from lsef_plugins.models.necks.options import check_options

from .choose import BenchmarkError

DTYPES = {'fp32': torch.float32, 'bf16': torch.bfloat16}
DEVICES = ('cpu', 'cuda')


class Settings(NamedTuple):
    """``batch`` videos in a step, ``repeats`` measured rounds, ``dtype`` ``fp32`` or ``bf16`` (autocast), whether both
    recognizers are ``compiled`` by torch.compile, and the ``neck``'s options."""
    device: str = 'cpu'
    dtype: str = 'fp32'
    compiled: bool = False
    batch: int = 1
    repeats: int = 7
    neck: Mapping[str, Any] = {}

    def words(self) -> str:
        """For a name and a folder: what tells one measurement from another."""
        parts = [self.device, self.dtype, 'compile' if self.compiled else 'eager', f'batch{self.batch}',
                 f'repeats{self.repeats}']
        return '-'.join([*parts, *(f'{key}={json.dumps(value)}' for key, value in sorted(self.neck.items()))])


def checked(settings: Settings) -> Settings:
    """The settings.

    Raises:
        BenchmarkError: they cannot be measured (here).
        ValueError: the neck does not know one of its options.
    """
    if settings.dtype not in DTYPES:
        raise BenchmarkError(f'--dtype {settings.dtype!r} is unknown; choose one of {", ".join(DTYPES)}.')
    if settings.device not in DEVICES:
        raise BenchmarkError(f'--device {settings.device!r} is unknown; choose one of {", ".join(DEVICES)}.')
    # Asked of the driver's library, so that processes forked from this one may still use the GPU.
    os.environ.setdefault('PYTORCH_NVML_BASED_CUDA_CHECK', '1')
    if settings.device == 'cuda' and not torch.cuda.is_available():
        raise BenchmarkError('--device cuda was asked for, but this PyTorch sees no GPU (torch.cuda.is_available() is '
                             'False). Take --device cpu, or a PyTorch with CUDA on a machine with a GPU.')
    if settings.batch < 1 or settings.repeats < 1:
        raise BenchmarkError(f'--batch and --repeats count from 1, got {settings.batch} and {settings.repeats}.')
    check_options(LSEFNeck, settings.neck)
    return settings


def options_from(text: str) -> Dict[str, Any]:
    """The neck's options from JSON.

    Raises:
        BenchmarkError: it is no object.
    """
    try:
        options = json.loads(text)
    except ValueError as error:
        raise BenchmarkError(f"--neck-options is JSON such as '{{\"rank\": 1}}', got {text!r}: {error}") from error
    if not isinstance(options, dict):
        raise BenchmarkError(f"--neck-options is a JSON object such as '{{\"rank\": 1}}', got {text!r}.")
    return options
