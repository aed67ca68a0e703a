"""LSEF against everything else that fits between a backbone and its head: same budget, recipe, tuning and clips.

    python tools/compare_necks.py --plan                                what there is to run, and what it costs
    python tools/compare_necks.py --jobs 2 --out work_dirs/necks        all of it; a second start goes on
    python tools/compare_necks.py --cells default_clean --arms main     a first look
    python tools/compare_necks.py --device cuda --size full             at full size
"""
import argparse
import json
import os
import sys
from pathlib import Path


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--cells', nargs='+', metavar='CELL', help='<preset>_<clean|augmented> (default: all)')
    parser.add_argument('--arms', nargs='+', metavar='ARM', help="<neck>/<head>; 'main' for the first ones to look at "
                        '(default: all)')
    parser.add_argument('--against', metavar='ARM', help='the arm whose differences from all others are reported, '
                        'instead of the declared one')
    parser.add_argument('--kinds', nargs='+', metavar='KIND', help='corruptions of the test clips (default: all)')
    parser.add_argument('--severities', nargs='+', type=int, default=[3], help='1 to 5 (default: 3)')
    parser.add_argument('--tuning-seeds', type=int, default=2,
                        help='runs of each learning rate; 0: a guess for each head, untuned (default: %(default)s)')
    parser.add_argument('--tune-on', metavar='PRESET', help='try learning rates on this preset only, in each regime, '
                        'for all presets (default: in each cell)')
    parser.add_argument('--seeds', type=int, default=5, help='runs of the best learning rate (default: %(default)s)')
    parser.add_argument('--starts', type=int, metavar='N', help='pretrained backbones that the seeds begin from in '
                        'turn (default: one for each seed); 1: the same for all, and the spread is that of training '
                        'alone')
    parser.add_argument('--steps', type=int, default=0, help='of each run (default: as designed)')
    parser.add_argument('--size', default='small', help='small, framewise (no temporal convolution in the backbone), '
                        'frozen (the same, not trained), dense (16 frames) or full (default: %(default)s)')
    parser.add_argument('--device', default='cpu', choices=('cpu', 'cuda'), help='(default: %(default)s)')
    parser.add_argument('--corrupted-clips', type=int, default=252,
                        help='test clips under each corruption (default: %(default)s)')
    parser.add_argument('--jobs', type=int, default=1, help='runs at a time, a core each (default: %(default)s)')
    parser.add_argument('--out', default='work_dirs/compare_necks', help='folder of runs and report; a later start '
                        'goes on')
    parser.add_argument('--plan', action='store_true', help='only print what there is to run')
    parser.add_argument('--show', metavar='ARM', help="only print an arm's recognizer and optimizer as a config")
    return parser.parse_args(argv)


def main(argv=None) -> int:
    args = parse_args(argv)
    os.environ.setdefault('OMP_NUM_THREADS', '1')   # before anything computes
    if args.device == 'cpu':
        os.environ['CUDA_VISIBLE_DEVICES'] = ''
    try:
        text = compared(args)
    except (ValueError, OSError, ImportError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print('interrupted; the same command goes on from here.', file=sys.stderr)
        return 2
    print(text)
    return 0


def compared(args: argparse.Namespace) -> str:
    """The plan, an arm's config, or the report once all is run."""
    from lsef_plugins.compat import apply_repairs
    apply_repairs()
    import torch
    from mmengine.registry import init_default_scope

    from lsef_plugins.engine.neck_study import conditions, design, report, run
    from lsef_plugins.engine.studies.runs import chosen
    from lsef_plugins.visualization.writing import write_whole
    init_default_scope('mmaction')
    starts = args.seeds if args.starts is None else args.starts
    if min(args.jobs, args.seeds, args.corrupted_clips, starts) < 1 or min(args.steps, args.tuning_seeds) < 0:
        raise ValueError('--jobs, --seeds, --starts and --corrupted-clips count from 1, --steps and --tuning-seeds '
                         'from 0.')
    cells = chosen('cell', design.CELLS, args.cells)
    names = args.arms and [name for given in args.arms for name in (design.MAIN if given == 'main' else [given])]
    arms = chosen('arm', design.ARMS, names and list(dict.fromkeys(names)))
    against = args.against or design.DECLARED
    if args.against and chosen('arm', design.ARMS, [against])[0] not in arms:
        raise ValueError(f'--against {against} is not among the arms of this report '
                         f'({", ".join(arm.name for arm in arms)}). Add it to --arms.')
    size, = chosen('size', design.SIZES, [args.size])
    if args.show:
        return design.shown(chosen('arm', design.ARMS, [args.show])[0], size)
    tested = conditions.conditions_of(args.severities, args.kinds)
    if args.plan:
        return design.plan(cells, arms, size, args.tuning_seeds, args.seeds, len(tested), args.tune_on, starts)
    if args.device == 'cuda' and not torch.cuda.is_available():
        raise ValueError('--device cuda, but torch sees no CUDA device here. Take --device cpu, or a torch and a '
                         'machine with one.')
    study = run.Study(cells, arms, args.out, tested, args.size, args.device, args.jobs, args.steps,
                      range(100, 100 + args.tuning_seeds), range(args.seeds), args.corrupted_clips,
                      say=lambda line: print(line, flush=True), tune_on=args.tune_on, starts=starts)
    results = study.run()
    text, out = report.report(study, results, against), Path(args.out)
    write_whole(out / 'report.md', text)
    write_whole(out / 'report.json', json.dumps(report.as_data(study, results, against), indent=1))
    return f'\n{text}\nTables: {out / "report.md"}, {out / "report.json"}'


if __name__ == '__main__':
    sys.exit(main())
