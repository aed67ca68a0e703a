"""Which parameters of a model are matrices, and of what shape.

The weight of a convolution is the matrix of its output channels times all the rest; with groups it is one such matrix
for each group. Embeddings, norms, biases, bare parameters and whatever has a single row or column are none.
"""
from typing import Dict, NamedTuple, Set, Tuple

from torch import nn
from torch.nn.modules.conv import _ConvNd

#: Gram matrices cost their side cubed: beyond this the time would be felt.
LARGEST_SIDE = 2048


class Matrix(NamedTuple):
    """A parameter that holds ``groups`` matrices, stacked along its first axis."""
    parameter: nn.Parameter
    groups: int = 1

    @property
    def shape(self) -> Tuple[int, int, int]:
        """``(groups, rows, columns)``."""
        rows = self.parameter.shape[0] // self.groups
        return self.groups, rows, self.parameter.numel() // max(self.groups * rows, 1)

    @property
    def side(self) -> int:
        return min(self.shape[1:])


def hidden_matrices(model: nn.Module, num_classes: int = 0, largest_side: int = LARGEST_SIDE) -> Dict[str, Matrix]:
    """The matrices of a model's hidden layers, by the names of their parameters.

    Args:
        num_classes: weights with this many rows are taken for classifiers and left out; 0 leaves out none.
        largest_side: matrices whose smaller side is larger are left out.

    Shared and frozen parameters are left out, too.
    """
    found = {name: matrix for name, matrix in weights_of(model).items()
             if matrix.parameter.requires_grad and 2 <= matrix.side <= largest_side}
    if num_classes:
        found = {name: matrix for name, matrix in found.items() if matrix.parameter.shape[0] != num_classes}
    return found


def weights_of(model: nn.Module) -> Dict[str, Matrix]:
    """Weights of convolutions, linear layers and attention, by name, those of shared layers excepted."""
    shared = shared_parameters(model)
    found: Dict[str, Matrix] = {}
    for prefix, module in model.named_modules():
        groups = getattr(module, 'groups', 1) if isinstance(module, _ConvNd) else 1
        for name, parameter in module.named_parameters(recurse=False):
            if id(parameter) not in shared and is_weight(module, name):
                found[clean_name(f'{prefix}.{name}' if prefix else name)] = Matrix(parameter, groups)
    return found


def is_weight(module: nn.Module, name: str) -> bool:
    if isinstance(module, nn.MultiheadAttention):
        return name.endswith('proj_weight')
    return isinstance(module, (_ConvNd, nn.Linear)) and name == 'weight'


def shared_parameters(model: nn.Module) -> Set[int]:
    """Ids of the parameters that occur under more than one name."""
    seen: Set[int] = set()
    shared: Set[int] = set()
    for _, parameter in model.named_parameters(remove_duplicate=False):
        (shared if id(parameter) in seen else seen).add(id(parameter))
    return shared


def clean_name(name: str) -> str:
    """A parameter's name without what torch.compile puts in between."""
    return '.'.join(part for part in name.split('.') if part != '_orig_mod')
