"""Test a checkpoint on clean and corrupted clips: ``python tools/robustness.py CONFIG CHECKPOINT [--out r.json]``."""
import argparse
import sys

from lsef_plugins.compat import apply_repairs

apply_repairs()  # first: bases of a config file resolve before its custom_imports

from mmengine.config import DictAction  # noqa: E402

from lsef_plugins.compat.checkpoint_errors import CheckpointError  # noqa: E402
from lsef_plugins.compat.whole_checkpoints import NotWrittenError  # noqa: E402
from lsef_plugins.engine import robustness  # noqa: E402


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='configuration file')
    parser.add_argument('checkpoint', help='weights to test')
    parser.add_argument('--kinds', nargs='+', help='temporal corruptions (default: all)')
    parser.add_argument('--severities', nargs='+', type=int, default=[3], help='1 to 5 (default: 3)')
    parser.add_argument('--out', help='JSON file; a second start measures only what it lacks')
    parser.add_argument('--work-dir', help='folder for logs')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE')
    return parser.parse_args(argv)


def main(argv=None) -> None:
    args = parse_args(argv)
    try:
        robustness.measure(args.config, args.checkpoint, args.kinds, args.severities, args.out, args.work_dir,
                           args.cfg_options)
    except (ValueError, CheckpointError, NotWrittenError) as error:  # LaunchError is a ValueError
        sys.exit(f'error: {error}')


if __name__ == '__main__':
    main()
