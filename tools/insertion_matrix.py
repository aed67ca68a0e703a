"""Check the one line in the recognizer configs MMAction2 ships: ``python tools/insertion_matrix.py [CONFIG ...]``.

Exit status: 0 all passed, 1 some failed, 2 the request cannot be served, 3 none failed but some could not be examined
because a package they need is not installed (0 with --allow-missing).
"""
import argparse
import os
import shlex
import sys
from pathlib import Path


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('configs', nargs='*', metavar='CONFIG',
                        help="paths, or names or globs such as 'recognition/tsm/*' (default: all that MMAction2 ships)")
    parser.add_argument('--families', action='store_true', help='only the smallest config of each family')
    parser.add_argument('--family', nargs='+', default=[], metavar='TEXT', help='only families whose name holds TEXT')
    parser.add_argument('--neck', default='LSEFNeck', help='LSEFNeck, SEM, DDM or CIM (default: LSEFNeck)')
    parser.add_argument('--jobs', type=int, default=1, help='configs examined at a time (default: 1)')
    parser.add_argument('--timeout', type=float, default=600, metavar='SECONDS', help='for one config (default: 600)')
    parser.add_argument('--work-dir', default='work_dirs/insertion_matrix', help='rows and logs; a later start goes on')
    parser.add_argument('--fresh', action='store_true', help='examine again what has passed before')
    parser.add_argument('--out', help='Markdown file of the table')
    parser.add_argument('--json', help='JSON file of the table (default: insertion_matrix.json in the work folder)')
    parser.add_argument('--other', metavar='FILE', help='JSON file of a run in another environment, whose rows are '
                        'taken for configs that cannot be examined in this one')
    parser.add_argument('--allow-missing', action='store_true', help='exit with 0 when nothing but packages is missing')
    parser.add_argument('--list', action='store_true', help='only print the chosen configs and their families')
    return parser.parse_args(argv)


def main(argv=None) -> int:
    args = parse_args(argv)
    os.environ.setdefault('OMP_NUM_THREADS', '1')   # before anything computes
    try:
        from lsef_plugins.compat import apply_repairs
        apply_repairs()
        from lsef_plugins.engine.insertion_matrix import catalogue, report, run
    except ImportError as error:
        return told(f'MMAction2 and its packages are needed: {error}')
    try:
        run.must_be_one_of_ours(args.neck)
        entries = catalogue.chosen(args.configs, args.family, args.families)
        if args.list:
            for entry in entries:
                print(f'{entry.family}: {entry.name}')
            return 0
        if args.jobs < 1 or args.timeout <= 0:
            return told(f'--jobs counts from 1 and --timeout is positive, got {args.jobs} and {args.timeout}.')
        data = args.json or str(Path(args.work_dir) / 'insertion_matrix.json')
        for path in filter(None, (args.out, data)):
            report.must_be_writable(Path(path))
        rows = run.run(entries, args.neck, args.work_dir, args.jobs, args.timeout, args.fresh,
                       say=lambda line: print(line, flush=True))
        if args.other:
            rows = report.completed(rows, run.versions(), args.other)
        words = sys.argv[1:] if argv is None else list(argv)
        report.write(rows, run.versions(), shlex.join(['python', 'tools/insertion_matrix.py', *words]), args.out, data)
    except (ValueError, OSError) as error:      # MatrixError, OutputError
        return told(str(error))
    except KeyboardInterrupt:
        return told('interrupted; the same command goes on from here.')
    print(report.summary(rows))
    counts = report.counts(rows)
    if counts['failed']:
        return 1
    return 3 if counts['needs'] and not args.allow_missing else 0


def told(message: str) -> int:
    print(f'error: {message}', file=sys.stderr)
    return 2


if __name__ == '__main__':
    sys.exit(main())
