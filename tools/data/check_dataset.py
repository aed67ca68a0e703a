"""The doctor: examines DFEW, FERV39k or VEATIC on disk and says what is wrong. Changes nothing.

    python tools/data/check_dataset.py dfew data/dfew
    python tools/data/check_dataset.py ferv39k data/ferv39k --decode --json report.json
    python tools/data/check_dataset.py dfew data/dfew --train mine.csv --strip-prefix /home/someone/DFEW/

Exit status: 0 healthy, 1 not healthy, 2 wrong command line.
"""
import argparse
import json
import os
import sys

os.environ.setdefault('LSEF_PLUGINS_REGISTER', '0')     # looking at files needs no MMAction2; its import takes seconds

from lsef_plugins.datasets.annotations import CLASSES, ORDERS
from lsef_plugins.datasets.doctor import Request, examine
from lsef_plugins.datasets.synthetic.video import write_bytes


def parse_args(arguments=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('data_set', choices=('dfew', 'ferv39k', 'veatic'))
    parser.add_argument('root', help='folder of the data set')
    parser.add_argument('--train', default='', help='a training list of your own instead of the official one')
    parser.add_argument('--test', default='', help='a test list of your own')
    parser.add_argument('--folds', nargs='+', type=int, default=[1, 2, 3, 4, 5], choices=range(1, 6),
                        help='folds of DFEW (default: all)')
    source = parser.add_mutually_exclusive_group()
    source.add_argument('--img', help='folder of frame folders under the root (default: the official one)')
    source.add_argument('--video', help='folder of videos under the root')
    parser.add_argument('--strip-prefix', help="cut off in front of the lists' paths; auto keeps what names the clip")
    parser.add_argument('--label-base', type=int, choices=(0, 1), help='where a list does not tell')
    parser.add_argument('--class-order', nargs='+', metavar='ORDER',
                        help=f'where a list does not tell: {", ".join(ORDERS)}, or seven names ({" ".join(CLASSES)})')
    parser.add_argument('--label-index', help='label_index.txt of a list')
    parser.add_argument('--allow-outside-root', action='store_true', help='take paths that lead out of the root')
    parser.add_argument('--expect', default='published', choices=('published', 'any'),
                        help='numbers of clips to expect (default: %(default)s)')
    parser.add_argument('--min-frames', type=int, help='fewer are too few (default: the shortest published clip)')
    closeness = parser.add_mutually_exclusive_group()
    closeness.add_argument('--decode', action='store_true', help='decode every frame')
    closeness.add_argument('--ends', action='store_true', help='read the ends of every frame: finds all truncated ones')
    closeness.add_argument('--names-only', action='store_true', help='do not open frames: truncated ones are not found')
    parser.add_argument('--workers', type=int, default=os.cpu_count() or 1, help='processes (default: one per core)')
    parser.add_argument('--json', metavar='FILE', help='also write the report for machines')
    parser.add_argument('--quiet', action='store_true', help='no progress')
    return parser.parse_args(arguments)


def main(arguments=None) -> int:
    args = parse_args(arguments)
    order = args.class_order[0] if args.class_order and len(args.class_order) == 1 else args.class_order
    request = Request(
        args.data_set, args.root, args.train, args.test, tuple(args.folds), args.img, args.video, args.strip_prefix,
        args.label_base, order, args.label_index, args.allow_outside_root, args.expect, args.min_frames, args.decode,
        'none' if args.names_only else 'all' if args.ends else 'some', args.workers, not args.quiet)
    try:
        report = examine(request)
        print(report.to_text())     # first: a report that took minutes is not lost to a file that cannot be written
        if args.json:
            from pathlib import Path
            Path(args.json).parent.mkdir(parents=True, exist_ok=True)
            write_bytes(Path(args.json), (json.dumps(report.to_dict(), indent=1) + '\n').encode())
    except (ValueError, OSError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    return 0 if report.healthy else 1


if __name__ == '__main__':
    sys.exit(main())
