"""What the neck costs in MMAction2's recognizers: ``python tools/benchmark_backbones.py [CONFIG ...]``.

Parameters, FLOPs, forward, training step and peak memory, without and with LSEFNeck, at the width and clip size of each
config. The bar: 3 % of a training step, 1 % of the parameters of an R50-class recognizer.

Exit status: 0 all measured, 1 some could not be built or run (their rows say why), 2 the request cannot be served.
"""
import argparse
import os
import shlex
import sys
from pathlib import Path


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('configs', nargs='*', metavar='CONFIG',
                        help="paths or globs of config files, or of MMAction2's own, such as "
                        "'mmaction::recognition/tsm/*' (default: one for each kind of backbone)")
    parser.add_argument('--device', default='cpu', help='cpu (one thread) or cuda (default: cpu)')
    parser.add_argument('--dtype', default='fp32', help='fp32, or bf16 by autocast (default: fp32)')
    parser.add_argument('--compile', action='store_true', help='torch.compile both recognizers')
    parser.add_argument('--batch', type=int, default=1, help='videos in a step (default: 1)')
    parser.add_argument('--repeats', type=int, default=7, help='measured rounds (default: 7)')
    parser.add_argument('--neck-options', default='{}', metavar='JSON', help='such as \'{"rank": 1}\'')
    parser.add_argument('--json', metavar='FILE', help='default: benchmark_backbones.json in the work folder')
    parser.add_argument('--markdown', metavar='FILE')
    parser.add_argument('--timeout', type=float, default=3600, metavar='SECONDS', help='for one config (default: 3600)')
    parser.add_argument('--work-dir', default='work_dirs/benchmark_backbones',
                        help='rows and logs; a later start goes on')
    parser.add_argument('--fresh', action='store_true', help='measure again what was measured before')
    parser.add_argument('--list', action='store_true', help='only print the chosen configs')
    return parser.parse_args(argv)


def main(argv=None) -> int:
    args = parse_args(argv)
    os.environ.setdefault('OMP_NUM_THREADS', '1')   # before anything computes
    try:
        from lsef_plugins.compat import apply_repairs
        apply_repairs()
        from lsef_plugins.engine.backbone_benchmark import choose, report, run, settings
        from lsef_plugins.engine.insertion_matrix.run import versions
    except ImportError as error:
        return told(f'MMAction2 and its packages are needed: {error}')
    try:
        asked = settings.checked(settings.Settings(args.device, args.dtype, args.compile, args.batch, args.repeats,
                                                   settings.options_from(args.neck_options)))
        entries = choose.chosen(args.configs)
        if args.list:
            print(*(f'{entry.family}: {entry.name}' for entry in entries), sep='\n')
            return 0
        if args.timeout <= 0:
            return told(f'--timeout is positive, got {args.timeout}.')
        rows = run.run(entries, asked, args.work_dir, args.timeout, args.fresh,
                       say=lambda line: print(line, flush=True))
        words = sys.argv[1:] if argv is None else list(argv)
        data = args.json or str(Path(args.work_dir) / 'benchmark_backbones.json')
        report.write(rows, asked, versions(), shlex.join(['python', 'tools/benchmark_backbones.py', *words]),
                     args.markdown, data)
    except (ValueError, OSError) as error:      # BenchmarkError, MatrixError, OutputError
        return told(str(error))
    except KeyboardInterrupt:
        return told('interrupted; the same command goes on from here.')
    print(report.table(rows))
    print(report.summary(rows))
    return int(any(row['status'] != 'passed' for row in rows))


def told(message: str) -> int:
    print(f'error: {message}', file=sys.stderr)
    return 2


if __name__ == '__main__':
    sys.exit(main())
