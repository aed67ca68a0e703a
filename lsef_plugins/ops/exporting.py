"""Whether formulas must use operations that exporters know: ONNX has no eigh, no median, no frexp.

The same figures by other operations: in eager mode and in torch.compile nothing changes. Inside ``torch.onnx.export``
it happens by itself; for another consumer of an exported program (``torch.export.export``) ask for it::

    with plain_operations():
        program = torch.export.export(model.eval(), (x, ))
"""
import contextlib
import math
from typing import Iterator

import torch
from torch import Tensor
from torch.autograd import forward_ad

_asked = False


@contextlib.contextmanager
def plain_operations() -> Iterator[None]:
    """Inside it the formulas use only operations that exporters know. For the whole process, not for one thread."""
    global _asked
    before, _asked = _asked, True
    try:
        yield
    finally:
        _asked = before


def must_be_plain() -> bool:
    """Whether a graph for an exporter is being traced, or was asked for."""
    return _asked or torch.onnx.is_in_onnx_export()


def is_traced() -> bool:
    """Whether values cannot be looked at: a graph is being made that must fit other values as well."""
    return bool(getattr(torch.compiler, 'is_compiling', lambda: False)()) or torch.jit.is_tracing()


def is_exported() -> bool:
    """Whether the graph being made leaves this process, where nobody may know the compiled operators."""
    return bool(getattr(torch.compiler, 'is_exporting', lambda: False)()) or torch.jit.is_tracing()


def has_tangents() -> bool:
    """Whether derivatives are taken forward (``torch.func.jvp``, ``torch.autograd.forward_ad``).

    A compiled operator would drop them without a word, where a formula passes them on or refuses.
    """
    return getattr(forward_ad, '_current_level', -1) >= 0


def writes_loops() -> bool:
    """Whether the graph being traced may hold a loop; the TorchScript tracer unrolls, older releases know none."""
    if not getattr(torch.compiler, 'is_exporting', lambda: False)():
        return False
    try:
        from torch._higher_order_ops.while_loop import while_loop  # noqa: F401
        from torch.onnx._internal.exporter._torchlib.ops import hop
    except ImportError:
        return False
    return hasattr(hop, 'higher_order_while_loop')


def at_least(x: Tensor, bound: float) -> Tensor:
    """``x.clamp_min(bound)``. Exporters write a bound as float32, where the tiny ones of float64 become zero."""
    if not must_be_plain():
        return x.clamp_min(bound)
    return torch.maximum(x, torch.tensor(bound, dtype=x.dtype, device=x.device))


def lower_median(x: Tensor, keepdim: bool = False) -> Tensor:
    """The median over the last axis, of two middle values the lower: ``x.median(-1).values``."""
    if not must_be_plain():
        return x.median(-1, keepdim=keepdim).values
    middle = x.sort(-1).values[..., (x.shape[-1] - 1) // 2]
    return middle[..., None] if keepdim else middle


def lower_median_where(counted: Tensor, x: Tensor) -> Tensor:
    """:func:`lower_median` of the values of ``x`` that are counted; 0 where none is, NaN where any value is NaN."""
    broken = x.amax(-1).isnan()
    if not must_be_plain():
        middle = x.where(counted, x.new_full((), math.nan)).nanmedian(-1).values
        middle = middle.masked_fill(middle.isnan(), 0)
    else:
        ordered = x.where(counted, x.new_full((), math.inf)).sort(-1).values
        place = (counted.sum(-1, keepdim=True) - 1) // 2
        middle = ordered.gather(-1, place.clamp_min(0))
        middle = middle.masked_fill(place < 0, 0)[..., 0]
    return middle.masked_fill(broken, math.nan)
