"""Labels, scores, curves and decomposition of videos: ``python tools/infer.py CONFIG CHECKPOINT INPUT... [options]``.

    python tools/infer.py CONFIG best.pth clip.mp4
    python tools/infer.py CONFIG best.pth videos/ --recursive --batch-size 8 --out results.json --csv results.csv
    python tools/infer.py CONFIG best.pth film.mp4 --window 2 --stride 0.5 --out film.json --csv film.csv
    python tools/infer.py CONFIG best.pth --camera 0 --seconds 10 --window 2

An input is a video, a folder of videos and of folders of frames, or a folder of frames. Without --window a clip is one
thing and its scores are those of tools/test.py; with it, it is a film. What cannot be read is named at the end, the
others are done, and the exit status is 1.
"""
import argparse
import sys
import warnings
from typing import List, Optional, Union


def seconds_or_auto(text: str) -> Union[float, str]:
    return text if text == 'auto' else float(text)


def parse_args(arguments: Optional[List[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='path of a config, or a name such as mmaction::recognition/...')
    parser.add_argument('checkpoint', help='checkpoint file or URL')
    parser.add_argument('inputs', nargs='*', metavar='INPUT', help='videos and folders')
    parser.add_argument('--camera', type=int, metavar='NUMBER', help='look at this camera; with --seconds')
    parser.add_argument('--seconds', type=float, help='of the camera')
    parser.add_argument('--window', type=seconds_or_auto, metavar='SECONDS', help="or 'auto': that of the config")
    parser.add_argument('--stride', type=float, metavar='SECONDS', help='from window to window (default: half of one)')
    parser.add_argument('--batch-size', type=int, default=1, help='clips or windows at a time (default: %(default)s)')
    parser.add_argument('--device', help='such as cpu or cuda:0 (default: a GPU where there is one)')
    parser.add_argument('--classes', metavar='FILE', help='names of the classes, one a line')
    parser.add_argument('--fps', type=float, help='of folders of frames (default: 25)')
    parser.add_argument('--recursive', action='store_true', help='search subfolders of folders, too')
    parser.add_argument('--no-decomposition', action='store_true', help='scores only')
    parser.add_argument('--out', metavar='JSON', help='everything, over time as well')
    parser.add_argument('--csv', metavar='CSV', help='a row for each frame of one clip, or for each of several clips')
    args = parser.parse_args(arguments)
    if not args.inputs and args.camera is None:
        parser.error('give at least one INPUT, or --camera NUMBER')
    if args.seconds is not None and args.camera is None:
        parser.error('--seconds is of the camera; videos and folders are looked at whole')
    return args


def main(arguments: Optional[List[str]] = None) -> int:
    args = parse_args(arguments)
    from lsef_plugins.apis import Inference, LSEFInferencer
    from lsef_plugins.apis.inferencer import FAILURES
    from lsef_plugins.visualization.clip import plain_name
    inputs = [*args.inputs, *([] if args.camera is None else [args.camera])]
    try:
        inferencer = LSEFInferencer(args.config, args.checkpoint, args.device, names_in(args.classes))
        with warnings.catch_warnings():
            warnings.simplefilter('ignore', UserWarning)        # what failed is printed below
            found = inferencer(inputs[0] if len(inputs) == 1 else inputs, args.window, args.stride, args.batch_size,
                               decomposition=not args.no_decomposition, fps=args.fps, seconds=args.seconds,
                               recursive=args.recursive)
    except FAILURES as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    for each in [found] if isinstance(found, Inference) else found:
        print(f'{plain_name(each.name)}: {words_of(each)}')
    errors = [] if isinstance(found, Inference) else list(found.errors.values())
    for path, write in ((args.out, found.to_json), (args.csv, found.to_csv)):
        try:
            if path:
                write(path)
        except (OSError, ValueError) as error:
            errors.append(str(error))
    for words in errors:
        print(f'error: {plain_name(words)}', file=sys.stderr)
    return 1 if errors else 0


def words_of(found) -> str:
    """A line of one clip."""
    if found.valence is not None:
        said = f'valence {found.valence:+.3f}, arousal {found.arousal:+.3f}'
    else:
        said = ', '.join(f'{label} {found.scores[label]:.3f}' for label in found.labels) or 'no label'
    return said + (f'; {len(found.events)} event(s)' if found.decomposition else '')


def names_in(path: Optional[str]) -> Optional[List[str]]:
    """The lines of a file that are not empty."""
    if path is None:
        return None
    with open(path, encoding='utf-8') as file:
        return [line.strip() for line in file if line.strip()]


if __name__ == '__main__':
    sys.exit(main())
