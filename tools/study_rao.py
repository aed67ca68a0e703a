"""Does RAO help? Plain optimizers, smoothing alone, RAO and Muon with one tuning budget each.

    python tools/study_rao.py --plan                          what there is to run, and what it costs
    python tools/study_rao.py --jobs 2 --out work_dirs/rao    all of it; a second start goes on
    python tools/study_rao.py --cells default_wrong0_batch16 --arms sgd sgd+rank muon
"""
import argparse
import os
import sys
from pathlib import Path


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--cells', nargs='+', metavar='CELL', help='<preset>_wrong<percent>_batch<n> (default: all)')
    parser.add_argument('--arms', nargs='+', metavar='ARM', help='optimizers (default: all)')
    parser.add_argument('--tune-on', metavar='PRESET', help='try learning rates on this preset only, for '
                        'each share of wrong labels and each batch, for all presets (default: each cell its own)')
    parser.add_argument('--tuning-seeds', type=int, default=2, help='runs of each learning rate (default: %(default)s)')
    parser.add_argument('--seeds', type=int, default=5, help='runs of the best learning rate (default: %(default)s)')
    parser.add_argument('--steps', type=int, default=0, help='of each run (default: as designed)')
    parser.add_argument('--jobs', type=int, default=1, help='runs at a time, a core each (default: %(default)s)')
    parser.add_argument('--out', default='work_dirs/study_rao', help='folder of runs and report; a later start goes on')
    parser.add_argument('--plan', action='store_true', help='only print what there is to run')
    return parser.parse_args(argv)


def main(argv=None) -> int:
    args = parse_args(argv)
    os.environ.setdefault('OMP_NUM_THREADS', '1')   # before anything computes
    try:
        from lsef_plugins.compat import apply_repairs
        apply_repairs()
        from lsef_plugins.engine.optimizer_study import design, report, run
        from lsef_plugins.engine.studies.runs import chosen
        from lsef_plugins.visualization.writing import write_whole
        if min(args.jobs, args.seeds, args.tuning_seeds) < 1 or args.steps < 0:
            raise ValueError('--jobs, --seeds and --tuning-seeds count from 1, --steps from 0.')
        cells = chosen('cell', design.CELLS, args.cells)
        arms = chosen('arm', design.ARMS, args.arms)
        if args.plan:
            print(design.plan(cells, arms, args.tuning_seeds, args.seeds, args.tune_on))
            return 0
        study = run.Study(cells, arms, args.out, args.jobs, args.steps, range(100, 100 + args.tuning_seeds),
                          range(args.seeds), say=lambda line: print(line, flush=True), tune_on=args.tune_on)
        text = report.report(study, study.run())
        write_whole(Path(args.out) / 'report.md', text)
    except (ValueError, OSError, ImportError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print('interrupted; the same command goes on from here.', file=sys.stderr)
        return 2
    print(f'\n{text}\nTable: {Path(args.out) / "report.md"}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
