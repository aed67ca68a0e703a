"""Times the fused operator against PyTorch's own: ``python tools/benchmark_ops.py``.

Prints a Markdown table, in which X is the size of the features in bytes and the columns eager, tuned and compile tell
how many times as long these take. Run it with OMP_NUM_THREADS=1 for the figures of docs/ops.md.
"""
import argparse

import torch

from lsef_plugins import ops
from lsef_plugins.ops import benchmark


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument('--rounds', type=int, default=7, help='timings per way, of which the median is taken')
    parser.add_argument('--dtypes', nargs='+', default=['float32', 'bfloat16'])
    parser.add_argument('--large', action='store_true', help='0.8 GB of features instead of the usual shapes')
    parser.add_argument('--keep-memory', action='store_true',
                        help='freed memory stays with the process (glibc): without the page faults of usual runs')
    parser.add_argument('--shapes', nargs='+', help='instead of the usual ones, for example 8,512,8,7,7')
    parser.add_argument('--no-compile', action='store_true', help='leave torch.compile out')
    args = parser.parse_args()
    shapes = [tuple(map(int, text.split(','))) for text in args.shapes or ()] or list(benchmark.SHAPES)
    cases = [(shape, getattr(torch, dtype)) for shape in shapes for dtype in args.dtypes]
    if args.large:
        cases = [(benchmark.LARGE[getattr(torch, dtype)], getattr(torch, dtype)) for dtype in args.dtypes]
    if args.keep_memory:
        benchmark.keep_memory()
    print(ops.status())
    for place, (shape, dtype, backward) in enumerate((*case, way) for case in cases for way in (False, True)):
        rows = list(benchmark.measure(shape, dtype, backward, args.device, args.rounds, not args.no_compile))
        # Row by row: a run that is stopped has said what it knew.
        print('\n'.join(benchmark.table(rows).splitlines()[2 if place else 0:]), flush=True)


if __name__ == '__main__':
    main()
