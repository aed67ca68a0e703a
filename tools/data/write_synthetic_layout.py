"""Writes the embedded data set (schematic faces) in the official layout of DFEW, FERV39k or VEATIC.

    python tools/data/write_synthetic_layout.py dfew data/synthetic_dfew --clips 140
"""
import argparse
import os
import sys

os.environ.setdefault('LSEF_PLUGINS_REGISTER', '0')     # drawing needs no MMAction2; its import takes seconds

from lsef_plugins.datasets.synthetic import PRESETS
from lsef_plugins.datasets.synthetic.layouts import LAYOUTS, write_layout


def parse_args(arguments=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('layout', choices=LAYOUTS)
    parser.add_argument('out', help='root of the data set to write')
    parser.add_argument('--clips', type=int, help='number of clips, veatic: of videos (default: 140, 140, 6)')
    parser.add_argument('--preset', choices=PRESETS, help='difficulty (default: default, veatic: va)')
    parser.add_argument('--size', type=int, help="pixels per side (default: the preset's)")
    parser.add_argument('--seed', type=int, default=0, help='seed of the data set (default: %(default)s)')
    parser.add_argument('--videos', action='store_true', help='dfew: also Clip/original/*.mp4')
    parser.add_argument('--workers', type=int, default=1, help='processes (default: %(default)s)')
    return parser.parse_args(arguments)


def main(arguments=None) -> int:
    args = parse_args(arguments)
    try:
        print(write_layout(args.layout, args.out, args.clips, args.seed, args.preset, args.videos, args.workers,
                           args.size))
    except (OSError, ValueError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
