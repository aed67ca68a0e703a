"""Train a recognizer: ``python tools/train.py CONFIG [options]``, options as in MMAction2's own.

On several processes: ``bash tools/dist_train.sh CONFIG GPUS [options]``.
"""
import argparse
import os
import sys

from lsef_plugins.compat import apply_repairs

apply_repairs()  # first: bases of a config file resolve before its custom_imports

from mmengine.config import DictAction  # noqa: E402

from lsef_plugins.compat.checkpoint_errors import CheckpointError  # noqa: E402
from lsef_plugins.compat.whole_checkpoints import NotWrittenError  # noqa: E402
from lsef_plugins.engine import launch  # noqa: E402


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Train a recognizer')
    parser.add_argument('config', help='configuration file')
    parser.add_argument('--work-dir', help='folder for logs and checkpoints')
    parser.add_argument('--resume', nargs='?', const='auto',
                        help='go on from this checkpoint; without a path, from the newest in the work dir')
    parser.add_argument('--amp', action='store_true', help='mixed precision (bfloat16 on a CPU)')
    parser.add_argument('--no-validate', action='store_true', help='do not validate during training')
    parser.add_argument('--auto-scale-lr', action='store_true',
                        help='scale the learning rate with the total batch size')
    parser.add_argument('--seed', type=int, help='seed of all random numbers; overrides the config')
    parser.add_argument('--diff-rank-seed', action='store_true', help='a different seed for each process')
    parser.add_argument('--deterministic', action='store_true', help='deterministic algorithms only')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE',
                        help='override settings of the config, for example optim_wrapper.optimizer.lr=0.01')
    parser.add_argument('--fold', type=int, help='of data sets with folds (DFEW: 1 to 5), for training and testing')
    parser.add_argument('--protocol', choices=['paper', 'clean'],
                        help="the epoch is picked on the test list ('paper') or on clips held out of training")
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help='set by some launchers')
    args = parser.parse_args(argv)
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    return args


def main(argv=None) -> None:
    args = parse_args(argv)
    try:
        runner = launch.train(
            args.config, work_dir=args.work_dir, resume=args.resume, amp=args.amp,
            validate=not args.no_validate, auto_scale_lr=args.auto_scale_lr, seed=args.seed,
            diff_rank_seed=args.diff_rank_seed, deterministic=args.deterministic,
            options=args.cfg_options, launcher=args.launcher, fold=args.fold, protocol=args.protocol)
    except (launch.LaunchError, CheckpointError, NotWrittenError) as error:
        sys.exit(f'error: {error}')
    work_dir = runner.work_dir
    del runner
    launch.leave_job()
    if os.environ.get('RANK', '0') == '0':
        print(f'Training finished; checkpoints are in {work_dir}')


if __name__ == '__main__':
    main()
