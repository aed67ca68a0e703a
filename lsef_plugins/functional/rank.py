r"""How many modes carry the energy of a clip, from its Gram matrix, without an eigendecomposition.

Source:
    The participation ratio is the usual one of physics; Roy and Vetterli's effective rank was left out because
    its gradient is NaN on a constant clip.
"""
import torch
from torch import Tensor


def participation_ratio(g: Tensor) -> Tensor:
    r""":math:`(\operatorname{tr} G)^2 / \|G\|_F^2`: ``(b, t, t) -> (b,)``, from 1 (one mode) to T; 1 for a zero matrix.

    Unchanged when the clip is scaled. Finite gradient everywhere.
    """
    trace = g.diagonal(dim1=-2, dim2=-1).sum(-1)
    safe = torch.where(trace > 0, trace, torch.ones_like(trace)).detach()
    normal = g / safe[:, None, None]
    ratio = normal.diagonal(dim1=-2, dim2=-1).sum(-1).square() / normal.square().sum((-2, -1)).clamp_min(1e-30)
    return torch.where(trace > 0, ratio, torch.ones_like(ratio))
