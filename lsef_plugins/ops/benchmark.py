r"""What the fused pass gains: :math:`y = x + a\,Mx + b\operatorname{shrink}(x - Mx, \tau)` computed in five ways.

``copy`` moves the bytes that no way can save (read x, write y). ``eager`` is the formula as one writes it, ``tuned``
the best we could do with PyTorch's own operators, ``compile`` is torch.compile of ``eager``, ``ops`` is
:func:`lsef_plugins.ops.low_rank_sparse`. All ways are timed in turn, round after round, and compared by their medians.
"""
import ctypes
import itertools
import time
from typing import Callable, Dict, Iterator, List, NamedTuple, Sequence, Tuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from .low_rank_sparse import low_rank_sparse

SHAPES = ((8, 512, 8, 7, 7), (4, 2048, 8, 7, 7), (2, 256, 32, 14, 14))
# Larger than any cache: 0.82 GB.
LARGE = {torch.float32: (32, 512, 16, 28, 28), torch.bfloat16: (64, 512, 16, 28, 28)}
WAYS = ('copy', 'eager', 'tuned', 'compile', 'ops')
Arguments = Tuple[Tensor, ...]


class Row(NamedTuple):
    """One way on one shape: median ``seconds``, host ``microseconds`` of a call on next to nothing, operator ``calls``
    (0: not looked into), ``saved`` and ``peak`` bytes as multiples of the features', beyond the arguments."""
    shape: Tuple[int, ...]
    dtype: torch.dtype
    backward: bool
    way: str
    seconds: float
    microseconds: float
    calls: int
    saved: float
    peak: float


def eager(x: Tensor, m: Tensor, tau: Tensor, a: Tensor, b: Tensor) -> Tensor:
    low = torch.matmul(m.to(x.dtype)[:, None], x)
    tau, a, b = (z.to(x.dtype)[..., None, None] for z in (tau, a, b))
    r = x - low
    s = r * torch.relu(1 - (tau / r.abs().clamp_min(1e-12)) ** 2)
    return x + a * low + b * s


def tuned(x: Tensor, m: Tensor, tau: Tensor, a: Tensor, b: Tensor) -> Tensor:
    clips, channels, frames, positions = x.shape
    low = torch.bmm(m.to(x.dtype).repeat_interleave(channels, 0), x.reshape(-1, frames, positions)).view_as(x)
    tau, a, b = (z.to(x.dtype)[..., None, None] for z in (tau, a, b))
    r = x - low
    share = torch.relu(1 - (tau * tau) * (r * r).clamp_min(1e-24).reciprocal())
    return torch.addcmul(torch.addcmul(x, a, low), b * r, share)


def fused(x: Tensor, m: Tensor, tau: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return low_rank_sparse(x, m, tau, None, a, b, revival=0.0).merged


def ways(compiled: bool = True) -> Dict[str, Callable[..., Tensor]]:
    found = {'copy': lambda x, *_: x.clone(), 'eager': eager, 'tuned': tuned}
    if compiled:
        # Else it gives up after some shapes, silently, and the column would show eager.
        torch._dynamo.reset()
        found['compile'] = torch.compile(eager, dynamic=False)
    return {**found, 'ops': fused}


def arguments(shape: Sequence[int], dtype: torch.dtype, device: str) -> Arguments:
    generator = torch.Generator().manual_seed(0)
    clips, channels, frames = shape[:3]

    def normal(*size: int) -> Tensor:
        return torch.randn(*size, generator=generator)

    x = normal(channels, frames, shape[3] * shape[4]).to(dtype).expand(clips, -1, -1, -1).contiguous()
    small = (normal(clips, frames, frames) / frames, torch.full((clips, channels), 1.5), normal(clips, channels),
             normal(clips, channels))
    return tuple(z.to(device).requires_grad_() for z in (x, *small))


def measure(shape: Sequence[int], dtype: torch.dtype, backward: bool, device: str = 'cpu', rounds: int = 7,
            compiled: bool = True) -> Iterator[Row]:
    """Yields a :class:`Row` for each way."""
    given, tiny = arguments(shape, dtype, device), arguments((1, 2, shape[2], 2, 2), dtype, device)
    grad = torch.ones_like(given[0])
    todo = ways(compiled)

    def run(way: Callable[..., Tensor], inputs: Arguments) -> None:
        if not backward:
            with torch.no_grad():
                way(*inputs)
        elif way is todo['copy']:
            with torch.no_grad():
                way(*inputs)
                grad.clone()
        else:
            y = way(*inputs)
            torch.autograd.grad(y, inputs, grad if inputs is given else torch.ones_like(y))

    times: Dict[str, List[float]] = {name: [] for name in todo}
    for step in range(rounds + 1):
        for name, way in todo.items():
            seconds = seconds_of(lambda: run(way, given), device)  # noqa: B023
            if step:
                times[name].append(seconds)
    for name, way in todo.items():
        run(way, tiny)
        host = min(seconds_of(lambda: _repeat(lambda: run(way, tiny), 20), 'cpu') for _ in range(5)) / 20  # noqa: B023
        size = given[0].numel() * given[0].element_size()
        peak = peak_bytes(lambda: run(way, given), device) / size  # noqa: B023
        # A compiled graph would have to be made anew to be looked into.
        calls = 0 if name == 'compile' else _calls(lambda: run(way, given))  # noqa: B023
        yield Row(tuple(shape), dtype, backward, name, sorted(times[name])[rounds // 2], 1e6 * host, calls,
                  _saved(way, given) / size if backward else 0.0, peak)


def _repeat(work: Callable[[], object], times: int) -> None:
    for _ in range(times):
        work()


def seconds_of(work: Callable[[], object], device: str) -> float:
    """CPU time on a CPU, which other processes disturb less than the clock's; events on a GPU."""
    if device == 'cpu':
        start = time.process_time()
        work()
        return time.process_time() - start
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    torch.cuda.synchronize()
    begin.record()
    work()
    end.record()
    torch.cuda.synchronize()
    return begin.elapsed_time(end) / 1e3


def keep_memory() -> None:
    """Freed memory stays with the process (glibc; no effect elsewhere). Asked for anew at each step, the system's pages
    cost up to half of its time, now more and now less."""
    mallopt = getattr(ctypes.CDLL(None), 'mallopt', None)
    if mallopt is not None:
        mmap_max, trim_threshold, top_pad = -4, -1, -2      # their names in malloc.h begin with M_
        for parameter, value in ((mmap_max, 0), (trim_threshold, 2 ** 31 - 1), (top_pad, 2 ** 28)):
            mallopt(parameter, value)


def peak_bytes(work: Callable[[], object], device: str) -> int:
    """The most memory for tensors that ``work`` holds at a time, beyond what was there."""
    if device != 'cpu':
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        return torch.cuda.max_memory_allocated() - before
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        work()
    events = [event for event in profile.profiler.kineto_results.events() if event.name() == '[memory]']
    return max(itertools.accumulate((e.nbytes() for e in sorted(events, key=lambda e: e.start_ns())), initial=0))


class _Counting(TorchDispatchMode):

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        views = any(word in str(func) for word in ('view', 'expand', 'transpose', 'unsqueeze', 'detach', 'permute',
                                                   'alias', 'select', 'slice', 'empty'))
        self.calls += not views
        return func(*args, **(kwargs or {}))


def _calls(work: Callable[[], object]) -> int:
    """Operators that touch memory."""
    with _Counting() as counting:
        work()
    return counting.calls


def _saved(way: Callable[..., Tensor], given: Arguments) -> int:
    """Bytes kept for the backward pass beyond the arguments themselves."""
    known, kept = {z.untyped_storage().data_ptr() for z in given}, {}

    def pack(z: Tensor) -> Tensor:
        pointer = z.untyped_storage().data_ptr()
        if pointer not in known:
            kept[pointer] = z.untyped_storage().nbytes()
        return z

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda z: z):
        way(*given)
    return sum(kept.values())


def table(rows: Sequence[Row]) -> str:
    """Markdown: per shape the time of ``ops`` and how many times longer the other ways take."""
    heads = ('features', 'dtype', 'pass', 'ops', 'copy bandwidth', 'eager', 'tuned', 'compile', 'host us (eager)',
             'calls (eager)', 'saved (eager)', 'peak (eager, compile)')
    lines = ['| ' + ' | '.join(heads) + ' |', '|---' * len(heads) + '|']
    cases: Dict[tuple, Dict[str, Row]] = {}
    for row in rows:
        cases.setdefault((row.shape, row.dtype, row.backward), {})[row.way] = row
    for (shape, dtype, backward), found in cases.items():
        ours = found['ops']

        def ratio(way: str) -> str:
            return f'{found[way].seconds / ours.seconds:.1f} x' if way in found else 'not run'  # noqa: B023

        cells = (shape, str(dtype).replace('torch.', ''), 'forward + backward' if backward else 'forward',
                 f'{1e3 * ours.seconds:.2f} ms', f'{100 * found["copy"].seconds / ours.seconds:.0f} %', ratio('eager'),
                 ratio('tuned'), ratio('compile'), f'{ours.microseconds:.0f} ({found["eager"].microseconds:.0f})',
                 f'{ours.calls} ({found["eager"].calls})', f'{ours.saved:.1f} X ({found["eager"].saved:.1f} X)',
                 f'{ours.peak:.1f} X ({found["eager"].peak:.1f}'
                 + (f', {found["compile"].peak:.1f}' if 'compile' in found else '') + ' X)')
        lines.append('| ' + ' | '.join(map(str, cells)) + ' |')
    return '\n'.join(lines)
