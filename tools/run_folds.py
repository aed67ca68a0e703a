"""Train and test configs on all folds, and compare them fold by fold.

    python tools/run_folds.py BASELINE_CONFIG LSEF_CONFIG --protocol clean
    python tools/run_folds.py CONFIG --folds 1 2 --seeds 0 1 --gpus 8 --cfg-options train_cfg.max_epochs=10

Finished runs are kept: an interrupted start goes on when it is started again.
"""
import argparse
import signal
import sys
import time
from pathlib import Path

from lsef_plugins.compat import apply_repairs

apply_repairs()  # first: bases of a config file resolve before its custom_imports

from lsef_plugins.engine.folds import Folds, RunError, table_of  # noqa: E402
from lsef_plugins.engine.launch import LaunchError  # noqa: E402
from lsef_plugins.visualization.writing import OutputError, write_whole  # noqa: E402


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('configs', nargs='+', help='config files; the others are compared with the first')
    parser.add_argument('--folds', type=int, nargs='*', default=[1, 2, 3, 4, 5],
                        help='(default: 1 to 5); --folds with nothing behind it for data sets without folds')
    parser.add_argument('--seeds', type=int, nargs='+', default=[0], help='of each fold (default: 0)')
    parser.add_argument('--protocol', choices=['paper', 'clean'],
                        help="'paper' picks the epoch on the test list, as the field does; 'clean' on clips held out "
                             "of training, so that the test list is touched once (default: the config's)")
    parser.add_argument('--work-dir', default='work_dirs/folds', help='(default: %(default)s)')
    parser.add_argument('--gpus', type=int, default=1, help='processes of each training and test (default: 1)')
    parser.add_argument('--out', help='the table (default: WORK_DIR/results.md)')
    parser.add_argument('--cfg-options', nargs='+', default=[], metavar='KEY=VALUE', help='of every run')
    return parser.parse_args(argv)


def main(argv=None) -> int:
    args = parse_args(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))     # so that the run in progress is ended, too
    start, results = time.monotonic(), []
    try:
        folds = Folds(args.configs, args.folds, args.seeds, args.protocol, args.work_dir,
                      str(Path(__file__).resolve().parent), args.gpus, args.cfg_options)
        count = len(folds.runs())
        told = args.protocol or 'of the configs'
        print(f'{count} runs, protocol {told}; they are kept in {args.work_dir}', flush=True)
        for run, metrics in folds.results():
            results.append((run, metrics))
            told = ', '.join(f'{name} {value:.3f}' for name, value in list(metrics.items())[:2])
            print(f'[{len(results)}/{count}] {run}: {told} ({time.monotonic() - start:.0f} s)', flush=True)
        table = table_of(results)
        out = args.out or str(Path(args.work_dir) / 'results.md')
        write_whole(out, table + '\n')
    except (LaunchError, RunError, OutputError) as error:
        sys.exit(f'error: {error}')
    print(f'\n{table}\n\nMean and standard deviation over runs; differences are paired. Table: {out}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
