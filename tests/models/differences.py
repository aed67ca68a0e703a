"""Bit for bit: in what two checkpoints, or any nested structures, differ."""
import torch


def differing(a, b, prefix=''):
    """Paths of the tensors and numbers in which two nested structures differ, bit for bit."""
    if isinstance(a, dict):
        assert a.keys() == b.keys(), (prefix, a.keys() ^ b.keys())
        return [path for key in a for path in differing(a[key], b[key], f'{prefix}/{key}')]
    if isinstance(a, (list, tuple)):
        assert len(a) == len(b), prefix
        return [path for i, pair in enumerate(zip(a, b)) for path in differing(*pair, f'{prefix}/{i}')]
    equal = torch.equal(a, b) if torch.is_tensor(a) else a == b
    return [] if equal else [prefix]
