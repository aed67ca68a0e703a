"""Test a checkpoint on clean and corrupted clips: how much of its performance is left, corruption by corruption.

    python tools/robustness.py CONFIG CHECKPOINT --out r.json
    python tools/robustness.py CONFIG CHECKPOINT --out r.json --reference stock.json --severities 1 3 5

Every condition (a corruption at a severity) is one pass over the test clips and is saved at once: started again, the
command goes on from there. Beside r.json it writes r.md and r.png. See docs/robustness.md.
"""
import argparse
import sys

from lsef_plugins.compat import apply_repairs

apply_repairs()  # first: bases of a config file resolve before its custom_imports

from mmengine.config import DictAction  # noqa: E402

from lsef_plugins.compat.checkpoint_errors import CheckpointError  # noqa: E402
from lsef_plugins.compat.whole_checkpoints import NotWrittenError  # noqa: E402
from lsef_plugins.engine import robustness  # noqa: E402
from lsef_plugins.engine.launch import LaunchError  # noqa: E402
from lsef_plugins.visualization.writing import OutputError  # noqa: E402


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='configuration file')
    parser.add_argument('checkpoint', help='weights to test')
    parser.add_argument('--kinds', nargs='+', help='corruptions, or temporal, spatial, occlusion (default: all 20)')
    parser.add_argument('--severities', nargs='+', type=int, default=[1, 2, 3, 4, 5], help='1 to 5 (default: all)')
    parser.add_argument('--out', help='JSON file; a second start measures only what it lacks')
    parser.add_argument('--metric', help='to summarise (default: acc/uar, else va/ccc_global, acc/mean1, acc/top1)')
    parser.add_argument('--reference', metavar='JSON', help='results of another model, for the mCE')
    parser.add_argument('--windows', type=int, metavar='N',
                        help="clips of each video that the test sampler takes (default: the config's num_clips)")
    parser.add_argument('--fold', type=int, help='of data sets with folds (DFEW: 1 to 5)')
    parser.add_argument('--protocol', choices=['paper', 'clean'], help='of data sets with protocols')
    parser.add_argument('--work-dir', help='folder for logs')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE')
    return parser.parse_args(argv)


def main(argv=None) -> None:
    args = parse_args(argv)
    try:
        if args.out and not args.out.endswith('.json'):
            raise LaunchError(f'--out writes JSON, but its name is {args.out}. Let it end in .json.')
        reference = robustness.read_reference(args.reference) if args.reference else None

        def check(result: dict) -> None:
            metric = robustness.chosen_metric(result, args.metric)
            if reference:
                robustness.chosen_metric(reference, metric, f'the reference {args.reference}')

        result = robustness.measure(
            args.config, args.checkpoint, args.kinds, args.severities, args.out, args.work_dir, args.cfg_options,
            fold=args.fold, protocol=args.protocol, windows=args.windows, reference=reference, check=check)
        metric = robustness.chosen_metric(result, args.metric)
        summary = robustness.summarise(result, metric, args.kinds, args.severities, reference)
        print('\n' + robustness.write_report(result, summary, args.out, reference))
    except (ValueError, CheckpointError, NotWrittenError, OutputError) as error:  # LaunchError is a ValueError
        sys.exit(f'error: {error}')


if __name__ == '__main__':
    main()
