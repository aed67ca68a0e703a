r"""What :class:`LSEF` costs, from the sizes of its maps alone: parameters, memory, operations, and a model of its time.

With N = b c t n elements of a map, m hidden channels, s windows, a kernel of k frames, K iterations and compiled
operators:

.. math::
    \text{parameters} &= (3 + k) c m + c + m + 3 s m \\
    \text{saved elements} &= (2 + 2 s) N + (3 s + 2)\, b m t n + k c m + (K - 1)(2 N + b c t^2) + \text{small} \\
    \text{merging} &= 2 (1 + k + 2 s) N m + 6 s\, b m t n \\
    \text{over time} &= 4 K N t + 2 s\, b m t^2 n + \text{small} \\
    \text{seconds} &= r_0 + r_1 N + r_2 (K - 1) N + r_3\, \text{merging} + r_4\, \text{over time} + r_5\, b t^2
        + r_6\, b c

Saved elements are what the backward pass needs beyond the input: the restored features, the residual, 2 s maps of the
transient, the merge's narrow maps, and on a CPU, where a kernel of k > 1 is multiplied, its k c m weights turned.
Merging and over time are the operations of one forward pass, two for each multiplication with an addition: CIM's
convolutions, and products with t x t matrices. The rates :math:`r` are measured (``tools/measure_scaling.py``); a
training step's are those of forward and backward.
Axes: ``b`` clips, ``c`` channels, ``t`` frames, ``n`` positions h w.
"""
from typing import NamedTuple, Optional, Sequence, Tuple

import torch
from torch import Tensor

from ..functional.decomposition import MIN_ROBUST_FRAMES
from .integration import default_hidden_channels

# Bytes of an element of what is kept in at least float32, and of what CIM keeps in the dtype of the maps.
BYTES = {'float32': (4, 4), 'bfloat16': (4, 2)}


class Sizes(NamedTuple):
    """Of the maps ``(batch, channels, frames, height, width)`` at the neck, and of the neck.

    ``dtype`` is ``float32``, or ``bfloat16`` for such maps under autocast; ``hidden_channels`` None is CIM's default.
    What CIM's bands are of changes nothing but a little time.
    """
    batch: int
    channels: int
    frames: int
    height: int
    width: int
    iterations: int = 1
    windows: Tuple[int, ...] = (1, 3, 5)
    hidden_channels: Optional[int] = None
    dtype: str = 'float32'
    rank: int = 2
    kernel: int = 3

    @property
    def hidden(self) -> int:
        if self.hidden_channels is None:
            return default_hidden_channels(self.channels, self.kernel)
        return self.hidden_channels

    @property
    def elements(self) -> int:
        """N, of a map."""
        return self.batch * self.channels * self.frames * self.height * self.width

    @property
    def hidden_elements(self) -> int:
        return self.elements // self.channels * self.hidden


class Rates(NamedTuple):
    """Seconds of a step (``call``), of an element, of an element in each further iteration, of an operation of CIM's
    convolutions (``merging``), of one of a product ``over_time``, of an element of the T x T stage's matrices
    (``spectral``: up to 64 frames calls and passes count there, the cubic part does not show), and of a ``channel``."""
    call: float
    element: float
    further_element: float
    merging: float
    over_time: float
    spectral: float
    channel: float


def checked(sizes: Sizes) -> Sizes:
    """The sizes.

    Raises:
        ValueError: one is no positive number, or the dtype is not modelled.
    """
    numbers = dict(sizes._asdict(), hidden_channels=sizes.hidden)
    wrong = [name for name in ('batch', 'channels', 'frames', 'height', 'width', 'iterations', 'hidden_channels',
                         'rank', 'kernel')
             if numbers[name] < 1]
    if wrong:
        raise ValueError(f'{", ".join(wrong)} must be 1 or more, got {sizes}.')
    if sizes.kernel % 2 == 0:
        raise ValueError(f'kernel is an odd number of frames, got {sizes.kernel}.')
    if sizes.dtype not in BYTES:
        raise ValueError(f'dtype {sizes.dtype!r} is not modelled; choose one of {", ".join(BYTES)}.')
    return sizes


def parameters(sizes: Sizes) -> int:
    """What the neck learns, for one map; whatever the clips."""
    c, m = checked(sizes).channels, sizes.hidden
    return (3 + sizes.kernel) * c * m + c + m + 3 * len(sizes.windows) * m


def saved_bytes(sizes: Sizes) -> int:
    """What autograd keeps between forward and backward beyond the input and the parameters, with compiled operators.

    Where ``rank`` is below ``frames`` (else nothing is separated and less is kept) and frames are up to 64 on a CPU,
    32 on CUDA (else PyTorch's formulas compute, which keep about twice as much).
    """
    b, c, t, s, n = checked(sizes).batch, sizes.channels, sizes.frames, len(sizes.windows), sizes.elements
    whole, narrow = BYTES[sizes.dtype]
    found = whole * n + narrow * ((1 + 2 * s) * n + (3 * s + 2) * sizes.hidden_elements)
    if sizes.dtype == 'float32' and sizes.kernel > 1:       # the weights over time, turned to be multiplied
        found += whole * sizes.kernel * c * sizes.hidden
    if sizes.dtype != 'float32':        # the features in float32, and CIM's weights in the dtype of the maps
        found += whole * n + narrow * parameters(sizes)
    found += whole * (sizes.iterations - 1) * (2 * n + b * c * t * t)
    # The spectrum in float64, the operator in float32, and scale, thresholds and their gains of each channel.
    return found + 8 * (sizes.iterations + 1) * b * t * t + 4 * (b + s) * t * t + 12 * b * c


def operations(sizes: Sizes) -> int:
    """Of one forward pass, as ``torch.utils.flop_counter`` counts them: products only."""
    return _merging(checked(sizes)) + _over_time(sizes)


def _merging(sizes: Sizes) -> int:
    s = len(sizes.windows)
    return 2 * (1 + sizes.kernel + 2 * s) * sizes.elements * sizes.hidden + 6 * s * sizes.hidden_elements


def _over_time(sizes: Sizes) -> int:
    t = sizes.frames
    # Three products of t x t matrices repair bad frames, once; one of t x rank makes the operator, in each iteration.
    small = 6 * t ** 3 * (t >= MIN_ROBUST_FRAMES) + 2 * sizes.iterations * sizes.rank * t * t
    bands = 2 * len(sizes.windows) * sizes.hidden_elements * t
    return 4 * sizes.iterations * sizes.elements * t + bands + sizes.batch * small


def terms(sizes: Sizes) -> Tuple[float, ...]:
    """What the rates are multiplied by, in their order."""
    n, b = checked(sizes).elements, sizes.batch
    return (1, n, (sizes.iterations - 1) * n, _merging(sizes), _over_time(sizes), b * sizes.frames ** 2,
            b * sizes.channels)


def seconds(sizes: Sizes, rates: Rates) -> float:
    """The model of the time of whatever the rates were fitted to."""
    return sum(rate * term for rate, term in zip(rates, terms(sizes)))


def fitted(measured: Sequence[Tuple[Sizes, float]]) -> Rates:
    """Rates, none negative, whose relative errors on the measured seconds have the least squares.

    Raises:
        ValueError: fewer measurements than rates, or a time that is not positive.
    """
    if len(measured) < len(Rates._fields):
        raise ValueError(f'{len(Rates._fields)} rates need as many measurements, got {len(measured)}: measure more '
                         'sizes.')
    if not all(time > 0 for _, time in measured):
        raise ValueError('measured seconds are positive; got one that is not.')
    rows = torch.tensor([[term / time for term in terms(sizes)] for sizes, time in measured], dtype=torch.float64)
    return Rates(*_non_negative(rows).tolist())


def _non_negative(rows: Tensor) -> Tensor:
    """The x >= 0 that brings ``rows x`` nearest to 1: what would be negative leaves, the worst first."""
    scale = rows.abs().amax(0).clamp_min(torch.finfo(rows.dtype).tiny)
    kept = list(range(rows.shape[1]))
    found = rows.new_zeros(rows.shape[1])
    ones = rows.new_ones(len(rows), 1)
    while kept:
        x = torch.linalg.lstsq((rows / scale)[:, kept], ones, driver='gelsd').solution[:, 0]
        if bool((x >= 0).all()):
            found[kept] = x
            break
        del kept[int(x.argmin())]
    return found / scale


def reduced_bytes(sizes: Sizes, workers: int) -> float:
    """What each of ``workers`` data-parallel processes sends in a step for the neck's gradients (float32, a ring).

    Memory and time of a worker are those of its own share of the batch.
    """
    if workers < 1:
        raise ValueError(f'workers counts processes and is 1 or more, got {workers}.')
    return 2 * (workers - 1) / workers * 4 * parameters(sizes)
