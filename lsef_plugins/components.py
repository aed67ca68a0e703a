"""What the pack offers, one line each: registered components where MMAction2 is, and the PyTorch half anywhere.

The line is the first sentence of a docstring.
"""
import importlib
import inspect
import re
from typing import Any, Dict, List, NamedTuple

#: kind: (registry, beginning of the modules that belong to it)
REGISTERED = {
    'necks': ('MODELS', 'lsef_plugins.models.necks'), 'heads': ('MODELS', 'lsef_plugins.models.heads'),
    'losses': ('MODELS', 'lsef_plugins.models.losses'), 'datasets': ('DATASETS', 'lsef_plugins.datasets'),
    'samplers': ('DATA_SAMPLERS', 'lsef_plugins.datasets'), 'transforms': ('TRANSFORMS', 'lsef_plugins.datasets'),
    'metrics': ('METRICS', 'lsef_plugins.evaluation'), 'hooks': ('HOOKS', 'lsef_plugins.engine.hooks'),
    'optimizers': ('OPTIM_WRAPPER_CONSTRUCTORS', 'lsef_plugins.engine.optimizers')}
#: kind: package whose public names it has; these need PyTorch only.
PLAIN = {'nn': 'lsef_plugins.nn', 'functional': 'lsef_plugins.functional', 'ops': 'lsef_plugins.ops',
         'optim': 'lsef_plugins.optim'}
KINDS = (*REGISTERED, *PLAIN)


class Component(NamedTuple):
    """Its kind, its names (the first is the usual one), and what it is in one sentence."""
    kind: str
    names: List[str]
    summary: str


def registered() -> List[Component]:
    """Components of the pack in the host's registries; none before :func:`~lsef_plugins.register_all.register_all`."""
    registries = importlib.import_module('lsef_plugins.registry')
    found: List[Component] = []
    for kind, (registry, room) in REGISTERED.items():
        names: Dict[Any, List[str]] = {}
        for name, value in getattr(registries, registry).module_dict.items():
            if f'{value.__module__}.'.startswith(f'{room}.'):
                names.setdefault(value, []).append(name)
        found += [Component(kind, names[value], first_sentence(value)) for value in sorted(names, key=_name)]
    return found


def plain() -> List[Component]:
    """Public names of the PyTorch half."""
    found = []
    for kind, package in PLAIN.items():
        module = importlib.import_module(package)
        for name in module.__all__:
            found.append(Component(kind, [name], first_sentence(getattr(module, name))))
    return found


def _name(value: Any) -> str:
    return str(value.__name__)


def first_sentence(value: Any) -> str:
    """The first sentence of a docstring on one line, without the markup of references."""
    text = ' '.join((inspect.getdoc(value) or '').split('\n\n')[0].split())
    text = re.sub(r':(\w+):`~?([^`]*)`', lambda found: found.group(2) if found.group(1) == 'math' else
                  found.group(2).split('.')[-1], text).replace('``', '')
    end = re.search(r'(?<!e\.g)(?<!i\.e)\.(?=\s+[A-Z`(]|$)|:$', text)
    return text[:end.start()] if end else text
