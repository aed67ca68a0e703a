"""What RAO treats in a recognizer, and as which part of it: roles come from the modules.

- ``stable``: what reads the base (SEM owns no parameter; CIM's ``from_stable``, the map of its bands)
- ``transient``: DDM, and what reads the transient part (CIM's ``from_transient`` and ``from_magnitude``)
- ``merge``: the rest of CIM
- ``default``: all other hidden matrices

wherever these modules sit, in a neck, a head or a backbone. A module of one's own takes a role with an attribute
``rao_role``; the innermost module decides.
"""
from typing import Dict, Iterable, List, Sequence

from mmengine.logging import print_log
from torch import nn

from lsef_plugins.nn import ConsistencyIntegrationModule, DynamicDecouplingModule, StabilityEncodingModule
from lsef_plugins.optim.matrices import Matrix, clean_name, hidden_matrices, weights_of

ROLES = ('stable', 'transient', 'merge', 'default')
OF_MODULE = {StabilityEncodingModule: 'stable', DynamicDecouplingModule: 'transient',
             ConsistencyIntegrationModule: 'merge'}
OF_PARTS_OF_CIM = {'from_stable': 'stable', 'from_transient': 'transient', 'from_magnitude': 'transient'}


def check_role(role: str, where: str) -> str:
    if role not in ROLES:
        raise ValueError(f'{where} {role!r} is unknown; RAO knows {", ".join(ROLES)}.')
    return role


def roles_of(model: nn.Module, names: Iterable[str]) -> Dict[str, str]:
    """The role of each named parameter, by the innermost module that has one."""
    of_prefix: Dict[str, str] = {}
    for prefix, module in model.named_modules():
        role = next((role for cls, role in OF_MODULE.items() if isinstance(module, cls)), None)
        if hasattr(module, 'rao_role'):
            role = check_role(module.rao_role, f'rao_role of {prefix}')
        if role is not None:
            of_prefix[clean_name(prefix)] = role
        if isinstance(module, ConsistencyIntegrationModule):
            of_prefix.update({clean_name(f'{prefix}.{part}'): role for part, role in OF_PARTS_OF_CIM.items()})
    found = {}
    for name in names:
        parts = name.split('.')
        prefixes = ('.'.join(parts[:count]) for count in range(len(parts) - 1, -1, -1))
        found[name] = next((of_prefix[prefix] for prefix in prefixes if prefix in of_prefix), 'default')
    return found


def treated_matrices(model: nn.Module, include: Sequence[str] = (), exclude: Sequence[str] = (),
                     largest_side: int = 2048) -> Dict[str, Matrix]:
    """The hidden matrices of a recognizer, without the weights that score classes.

    Args:
        include, exclude: parts of parameter names that are treated although they score classes or are larger than
            ``largest_side``, and that are not treated. ``exclude`` wins.

    Raises:
        ValueError: a part fits no weight.
    """
    weights = weights_of(model)
    for option, parts in (('include', include), ('exclude', exclude)):
        lost = [part for part in parts if not any(part in name for name in weights)]
        if lost:
            raise ValueError(f'rao.{option} names {", ".join(map(repr, lost))}, which is part of no weight of a '
                             'convolution or linear layer of the model that is used once. Its layers are called like '
                             f'{", ".join(list(weights)[:2] + list(weights)[-2:])}.')
    found = hidden_matrices(model, largest_side=largest_side)
    found = {name: matrix for name, matrix in found.items() if name not in classifiers(model, weights)}
    wanted = {name: matrix for name, matrix in weights.items() if any(part in name for part in include)
              and matrix.parameter.requires_grad and matrix.side >= 2}
    return {name: matrix for name, matrix in {**found, **wanted}.items() if not any(part in name for part in exclude)}


def classifiers(model: nn.Module, weights: Dict[str, Matrix]) -> List[str]:
    """Weights outside the backbone with a row for each class."""
    counts = {module.num_classes for module in model.modules() if isinstance(getattr(module, 'num_classes', None), int)}
    found = [name for name, matrix in weights.items()
             if matrix.parameter.shape[0] in counts and not name.startswith('backbone.')]
    if not found:
        print_log('RAO: the model has no weight with a row for each class (num_classes); all hidden matrices are '
                  'treated.', 'current')
    return found
