"""Test a checkpoint: ``python tools/test.py CONFIG CHECKPOINT [options]``, options as in MMAction2's own.

On several processes: ``bash tools/dist_test.sh CONFIG CHECKPOINT GPUS [options]``.
"""
import argparse
import json
import os
import sys

from lsef_plugins.compat import apply_repairs

apply_repairs()  # first: bases of a config file resolve before its custom_imports

from mmengine.config import DictAction  # noqa: E402

from lsef_plugins.compat.checkpoint_errors import CheckpointError  # noqa: E402
from lsef_plugins.compat.whole_checkpoints import NotWrittenError  # noqa: E402
from lsef_plugins.engine import launch  # noqa: E402
from lsef_plugins.visualization.writing import OutputError, for_json, write_whole  # noqa: E402


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Test a recognizer')
    parser.add_argument('config', help='configuration file')
    parser.add_argument('checkpoint', help='checkpoint file or URL')
    parser.add_argument('--work-dir', help='folder for logs')
    parser.add_argument('--out', help='write the metrics to this .json file')
    parser.add_argument('--dump', help='write the predictions to this .pkl file')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE',
                        help='override settings of the config')
    parser.add_argument('--show-dir', help='folder for clips with the prediction drawn in')
    parser.add_argument('--show', action='store_true', help='show those clips in a window')
    parser.add_argument('--interval', type=int, default=1, help='draw every n-th clip')
    parser.add_argument('--wait-time', type=float, default=2, help='how long each clip is shown, in seconds')
    parser.add_argument('--fold', type=int, help='of data sets with folds (DFEW: 1 to 5), for training and testing')
    parser.add_argument('--protocol', choices=['paper', 'clean'],
                        help="the epoch is picked on the test list ('paper') or on clips held out of training")
    parser.add_argument('--allow-missing-weights', action='store_true',
                        help='measure a checkpoint without all of the weights; the rest stays as initialised')
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help='set by some launchers')
    args = parser.parse_args(argv)
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    return args


def main(argv=None) -> None:
    args = parse_args(argv)
    try:
        metrics = launch.test(
            args.config, args.checkpoint, work_dir=args.work_dir, dump=args.dump, show_dir=args.show_dir,
            show=args.show, interval=args.interval, wait_time=args.wait_time, options=args.cfg_options,
            launcher=args.launcher, fold=args.fold, protocol=args.protocol,
            allow_missing_weights=args.allow_missing_weights)
    except (launch.LaunchError, CheckpointError, NotWrittenError) as error:
        sys.exit(f'error: {error}')
    launch.leave_job()
    if os.environ.get('RANK', '0') == '0':
        for name, value in metrics.items():
            print(f'{name}: {value:.4f}' if isinstance(value, float) else f'{name}: {value}')
        if args.out:
            try:
                write_whole(args.out, json.dumps(for_json(metrics), indent=2, allow_nan=False) + '\n')
            except OutputError as error:
                sys.exit(f'error: {error}')


if __name__ == '__main__':
    main()
