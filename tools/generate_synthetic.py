"""Writes the embedded data set: schematic faces as real .mp4 files, with the planted truth beside them.

    python tools/generate_synthetic.py --preset default --out data/synthetic_faces
    python tools/generate_synthetic.py --preset default --contact-sheet sheet.png
"""
import argparse
import os
import sys

os.environ.setdefault('LSEF_PLUGINS_REGISTER', '0')     # drawing needs no MMAction2; its import takes seconds

from lsef_plugins.datasets.synthetic import PRESETS, generate, label_ceilings
from lsef_plugins.datasets.synthetic.sheet import contact_sheet


def parse_args(arguments=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--preset', default='default', choices=PRESETS, help='difficulty (default: %(default)s)')
    parser.add_argument('--out', help='folder that receives <preset>/')
    parser.add_argument('--clips-train', type=int, help="number of training clips (default: the preset's)")
    parser.add_argument('--clips-val', type=int, help="number of validation clips (default: the preset's)")
    parser.add_argument('--seed', type=int, default=0, help='seed of the data set (default: %(default)s)')
    parser.add_argument('--workers', type=int, help='processes (default: one per core)')
    parser.add_argument('--overwrite', action='store_true', help='throw away a data set of other settings there')
    parser.add_argument('--contact-sheet', metavar='PNG', help='write a picture with one clip of every class')
    args = parser.parse_args(arguments)
    if args.out is None and args.contact_sheet is None:
        parser.error('nothing to do: give --out for the data set, --contact-sheet for a picture, or both')
    return args


def main(arguments=None) -> int:
    args = parse_args(arguments)
    preset = PRESETS[args.preset]
    try:
        if args.contact_sheet:
            print(f'wrote {contact_sheet(preset, args.contact_sheet, args.seed)}')
        if args.out:
            clips = (preset.clips[0] if args.clips_train is None else args.clips_train,
                     preset.clips[1] if args.clips_val is None else args.clips_val)
            root = generate(preset, args.out, clips, args.seed, args.workers, overwrite=args.overwrite)
            best = label_ceilings(preset)
            print(f'{root}: best possible accuracy from the slow tone alone {best["base"]:.1%}, from the short events '
                  f'alone {best["events"]:.1%}, from both {best["both"]:.0%}')
    except (OSError, ValueError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
