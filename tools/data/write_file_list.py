"""Writes MMAction2's file list of one split of DFEW or FERV39k, from any dialect of their lists.

    python tools/data/write_file_list.py dfew data/dfew --split train --fold 1 --form videos --out dfew_train_fd1.txt
"""
import argparse
import os
import sys
from pathlib import Path

os.environ.setdefault('LSEF_PLUGINS_REGISTER', '0')     # reading lists needs no MMAction2; its import takes seconds

from lsef_plugins.datasets.annotations import PathRules, read_clips
from lsef_plugins.datasets.file_list import FORMS, choose, file_list
from lsef_plugins.datasets.splits import PROTOCOLS, SPLITS, check_split, dfew_list, ferv39k_list, source_split
from lsef_plugins.datasets.synthetic.video import write_bytes

PLACES = {('dfew', 'rawframes'): 'Clip/clip_224x224', ('dfew', 'videos'): 'Clip/original',
          ('ferv39k', 'rawframes'): '2_ClipsforFaceCrop', ('ferv39k', 'videos'): '2_ClipsforFaceCrop'}


def parse_args(arguments=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('data_set', choices=('dfew', 'ferv39k'))
    parser.add_argument('root', help='folder of the data set')
    parser.add_argument('--out', required=True, help='the file list to write')
    parser.add_argument('--split', default='train', choices=SPLITS)
    parser.add_argument('--fold', type=int, default=1, choices=range(1, 6), help='fold of DFEW (default: %(default)s)')
    parser.add_argument('--protocol', default='paper', choices=PROTOCOLS,
                        help='paper: val is the test list; clean: val is held out of train (default: %(default)s)')
    parser.add_argument('--val-ratio', type=float, default=0.1, help='share held out (default: %(default)s)')
    parser.add_argument('--val-seed', type=int, default=0, help='which clips are held out (default: %(default)s)')
    parser.add_argument('--form', default='rawframes', choices=FORMS, help='default: %(default)s')
    parser.add_argument('--clips', help='folder of the clips under the root (default: the official one)')
    parser.add_argument('--ann', help='a list of your own instead of the official one')
    parser.add_argument('--strip-prefix', help="cut off in front of the list's paths; auto keeps what names the clip")
    parser.add_argument('--label-base', type=int, choices=(0, 1), help='where the list does not tell')
    parser.add_argument('--class-order', help='dfew or alphabetical, where the list does not tell')
    return parser.parse_args(arguments)


def main(arguments=None) -> int:
    args = parse_args(arguments)
    try:
        check_split(args.split, args.protocol, args.val_ratio)
        source = source_split(args.split, args.protocol)
        path = args.ann or (dfew_list(args.root, source, args.fold) if args.data_set == 'dfew'
                            else ferv39k_list(args.root, source))
        rules = PathRules(args.strip_prefix, 1 if args.data_set == 'dfew' else 3, os.path.abspath(args.root))
        found = read_clips(path, args.data_set, label_base=args.label_base, class_order=args.class_order, rules=rules)
        chosen = choose(found.records, args.split, args.protocol, args.val_ratio, args.val_seed)
        clips = os.path.join(args.root, args.clips or PLACES[args.data_set, args.form])
        content = file_list(chosen, clips, args.form).encode()
        Path(args.out).parent.mkdir(parents=True, exist_ok=True)
        write_bytes(Path(args.out), content)
    except (OSError, ValueError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    print(f'{found}\n{args.out}: {len(chosen)} clips, {args.split} of protocol {args.protocol}, paths from {clips}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
