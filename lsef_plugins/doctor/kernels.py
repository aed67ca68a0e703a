"""Which compiled operators there are, which are loaded, and why not."""
import os
from typing import Iterator

import torch

from .. import ops
from ..ops import builder
from .findings import NOTE, Finding

VARIABLES = ('LSEF_OPS', 'LSEF_OPS_LIBRARY', 'LSEF_BUILD_CUDA')


def kernels() -> Iterator[Finding]:
    status = ops.status()
    if status['library'] is None:
        yield Finding('operators', f'plain PyTorch: {status["reason"]}', NOTE)
    else:
        yield Finding('operators', f'compiled, {status["library"]}, instructions {status["instruction_set"]}')
        for device in ('cpu', *(['cuda'] if torch.cuda.is_available() else [])):
            served = device in status['devices']
            yield Finding(f'on {device}', 'compiled' if served else
                          'plain PyTorch: the library was built without CUDA; with nvcc at hand: ' + builder.COMMAND,
                          'ok' if served else NOTE)
    told = {name: os.environ[name] for name in VARIABLES if name in os.environ}
    if told:
        yield Finding('variables', ', '.join(f'{name}={value}' for name, value in told.items()))
    for name, find in (('compiler', builder.find_compiler), ('nvcc', builder.find_nvcc),
                       ('headers of torch', builder.find_torch)):
        yield _tool(name, find)


def _tool(name, find) -> Finding:
    try:
        found = find()
    except builder.BuildError as error:
        return Finding(name, str(error), NOTE)
    return Finding(name, str(found[0] if isinstance(found, tuple) else found or 'none (only for GPUs)'))
