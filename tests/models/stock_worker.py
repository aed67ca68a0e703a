"""One process of tests/models/test_untouched.py: what stock recognizers do, as hashes, with the pack or without it.

``python stock_worker.py OUT.json [--with-pack]``. Without the pack only the folder that the wheel of mmaction2 1.2.0
lacks is stood in for; without that, none of the host's models can be imported.
"""
import hashlib
import importlib.util
import json
import sys
import types
from pathlib import Path

import numpy as np
import torch

WITH_PACK = '--with-pack' in sys.argv
if WITH_PACK:
    import lsef_plugins  # noqa: F401
else:
    [host] = importlib.util.find_spec('mmaction').submodule_search_locations
    if not (Path(host) / 'models' / 'localizers' / 'drn' / 'drn.py').exists():
        package = types.ModuleType('mmaction.models.localizers.drn')
        module = types.ModuleType('mmaction.models.localizers.drn.drn')
        module.DRN = type('DRN', (), {})
        sys.modules.update({package.__name__: package, module.__name__: module})

import mmaction.datasets  # noqa: E402
import mmaction.engine  # noqa: E402
import mmaction.evaluation  # noqa: E402
import mmaction.models  # noqa: E402
import mmaction.registry  # noqa: E402
import mmaction.visualization  # noqa: E402
from host_families import FAMILIES, Family  # noqa: E402
from mmengine.optim import build_optim_wrapper  # noqa: E402
from mmengine.registry import Registry, init_default_scope  # noqa: E402


def digest(values):
    sha = hashlib.sha256()
    for value in values:
        sha.update(value.detach().contiguous().numpy().tobytes())
    return sha.hexdigest()


def behaviour(name):
    """What a stock recognizer shows: parts, hooks, weights, scores, losses, a step, what it leaves of the RNG."""
    family = Family(name)
    model = family.build()
    parts = [(key, type(each).__module__, type(each).__name__, len(each._forward_hooks), len(each._forward_pre_hooks))
             for key, each in model.named_modules()]
    seen = dict(parts=hashlib.sha256(repr(parts).encode()).hexdigest(), weights=digest(model.state_dict().values()),
                with_neck=bool(model.with_neck), drawn=torch.rand(1).item())
    torch.manual_seed(1)
    if type(model.backbone).__name__ != 'ResNetTSM':    # which the host initialises from a file only
        model.init_weights()
    seen['initialised'] = digest(model.state_dict().values())
    seen['scores'] = digest([family.scores(model)])
    with torch.no_grad():
        data = family.batch(model)
        value = model(data['inputs'])
        while not isinstance(value, torch.Tensor):
            value = value[-1]
        seen['tensor'] = digest([value])
    model.train()
    optimizer = build_optim_wrapper(model, dict(optimizer=dict(type='SGD', lr=0.01, momentum=0.9)))
    torch.manual_seed(2)
    np.random.seed(2)
    losses = model(**family.batch(model, training=True), mode='loss')
    total, logged = model.parse_losses(losses)
    optimizer.update_params(total)
    seen['losses'] = {key: value.item() for key, value in logged.items()}
    seen['stepped'] = digest(model.state_dict().values())
    return seen


def registered():
    """The classes of every registry of the host, by name."""
    registries = {name: each for name, each in vars(mmaction.registry).items() if isinstance(each, Registry)}
    return {name: {key: f'{value.__module__}.{getattr(value, "__qualname__", value)}'
                   for key, value in each.module_dict.items()} for name, each in registries.items()}


if __name__ == '__main__':
    torch.set_num_threads(1)
    init_default_scope('mmaction')
    found = dict(registered=registered(), families={name: behaviour(name) for name in FAMILIES})
    with open(sys.argv[1], 'w', encoding='utf-8') as file:
        json.dump(found, file)
