"""RAO's curves over a training as a picture: ``python tools/plot_rank_curves.py WORK_DIR [--out ranks.png]``."""
import argparse
import sys
from pathlib import Path

from lsef_plugins.visualization.rank_curves import draw_curves, read_curves, scalars_file
from lsef_plugins.visualization.writing import save_picture


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('training', help='a work_dir, whose newest training is drawn, or a scalars.json')
    parser.add_argument('--out', help='the picture (default: rank_curves.png in the work_dir or beside the file)')
    parser.add_argument('--title', default='Effective rank over the training')
    parser.add_argument('--width', type=int, default=1000, help='in pixels (default: %(default)s)')
    args = parser.parse_args(argv)
    if not 200 <= args.width <= 10000:
        parser.error(f'--width is 200 to 10000 pixels, got {args.width}')
    given = Path(args.training)
    try:
        curves = read_curves(scalars_file(given))
        out = Path(args.out) if args.out else (given if given.is_dir() else given.parent) / 'rank_curves.png'
        print(save_picture(draw_curves(curves, args.title, args.width), out))
    except (ValueError, OSError) as error:      # NoCurvesError, OutputError
        print(f'error: {error}', file=sys.stderr)
        return 2
    except ImportError:
        print("error: drawing needs matplotlib: python -m pip install matplotlib", file=sys.stderr)
        return 2
    return 0


if __name__ == '__main__':
    sys.exit(main())
