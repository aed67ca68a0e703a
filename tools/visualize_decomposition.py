"""A video in, a picture, a report and a table out: what stays in it, and what comes and goes.

    python tools/visualize_decomposition.py clip.mp4
    python tools/visualize_decomposition.py clip.mp4 --out picture.png --csv table.csv --start 2 --duration 4
    python tools/visualize_decomposition.py clip.mp4 --config my_config.py --checkpoint best.pth
    python tools/visualize_decomposition.py film.mp4 --report reports/ --config my_config.py --checkpoint best.pth
    python tools/visualize_decomposition.py folder_of_videos/ --report reports/ --face-crop --video

Without a config the pixels themselves are decomposed, which needs no training. With one, the features that the
recognizer's LSEFNeck receives are, in the frames that the config's test pipeline samples.

With --report, and for folders, a clip of any length is read whole, in overlapping windows and bounded memory; an HTML
report, pictures, CSV and JSON are written.
"""
import argparse
import importlib
import os
import sys
from pathlib import Path
from typing import Any, List, NamedTuple, Optional

import numpy as np


class Decomposed(NamedTuple):
    """A decomposition, and the frames ``(t, h, w, 3)``, indices and times (s) ``(t,)`` that belong to it."""
    parts: Any
    frames: np.ndarray
    indices: np.ndarray
    times: np.ndarray
    subtitle: str
    caption: str
    pixels: bool


def parse_args(arguments: Optional[List[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('video', help='video file; or a folder of videos, or of frames')
    parser.add_argument('--out', metavar='PNG', help='the picture (default: <video>_decomposition.png here)')
    parser.add_argument('--csv', metavar='CSV', help='the table (default: beside the picture)')
    parser.add_argument('--title', help='first line of the picture')
    parser.add_argument('--width', type=int, default=1600, help='of the picture in pixels (default: %(default)s)')
    pixels = parser.add_argument_group('decomposing the pixels')
    pixels.add_argument('--frames', type=int, help='frames sampled over the stretch, at most (default: 48)')
    pixels.add_argument('--start', type=float, help='start of the stretch in seconds (default: 0)')
    pixels.add_argument('--duration', type=float, help='its length in seconds (default: to the end)')
    pixels.add_argument('--rank', type=int, help='largest rank of the stable part (default: a quarter of the frames)')
    pixels.add_argument('--kappa', type=float, help='threshold of the transient in robust deviations (default: 3)')
    features = parser.add_argument_group("decomposing a recognizer's features")
    features.add_argument('--config', help='config of a recognizer with an LSEFNeck')
    features.add_argument('--checkpoint', help='its checkpoint; without one it is untrained')
    features.add_argument('--stream', type=int, default=0, help='which map of a multi-stream recognizer (default: 0)')
    features.add_argument('--device', default='cpu', help='(default: %(default)s)')
    report = parser.add_argument_group('a report of a whole video, or of each in a folder')
    report.add_argument('--report', metavar='FOLDER',
                        help='gets the files (default for a folder: <name>_decomposition)')
    report.add_argument('--video', action='store_true', dest='overlay', help='write an overlay video too')
    report.add_argument('--face-crop', action='store_true', help='look at the face only, where one is found')
    report.add_argument('--window', type=int, help='frames of a window (pixels only; default: 32)')
    report.add_argument('--interval', type=int,
                        help="from one frame of a window to the next (default: the sampler's; for pixels at most 25 a "
                             'second)')
    report.add_argument('--stride', type=int, help='sampled frames from window to window (default: half a window)')
    report.add_argument('--span', type=float, help='seconds of a window of samplers of equal parts (default: 2)')
    report.add_argument('--fps', type=float, help='frames per second of folders of frames (default: 25)')
    args = parser.parse_args(arguments)
    check_args(parser, args)
    return args


def check_args(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Options that would be ignored are refused."""
    def given(*names: str) -> str:
        return ', '.join('--' + {'overlay': 'video'}.get(name, name).replace('_', '-') for name in names
                         if getattr(args, name) not in (None, False))
    if args.report is None and os.path.isdir(args.video):
        args.report = f'{Path(args.video).resolve().name}_decomposition'
    wrong = given('overlay', 'face_crop', 'window', 'interval', 'stride', 'span', 'fps')
    if args.report is None and wrong:
        parser.error(f'{wrong}: for reports; add --report FOLDER')
    wrong = given('out', 'csv', 'title', 'frames')
    if args.report is not None and wrong:
        parser.error(f'{wrong}: for the picture of one clip, not for reports (--report, or a folder)')
    of_pixels_only = ('rank', 'kappa', 'window') + (() if args.report else ('frames', 'start', 'duration'))
    if args.config and given(*of_pixels_only):
        parser.error(f'{given(*of_pixels_only)}: with --config the sampling and the decomposition are those of the '
                     'config; change them there (test pipeline, neck)')
    if args.span is not None and not args.config:
        parser.error('--span is for a sampler of a --config; for pixels say --window and --interval')
    if args.checkpoint and not args.config:
        parser.error('--checkpoint needs its --config')


def of_pixels(args: argparse.Namespace) -> Decomposed:
    from lsef_plugins.visualization import decompose_pixels, sample_video
    from lsef_plugins.visualization.pixels import default_rank
    clip = sample_video(args.video, 48 if args.frames is None else args.frames, args.start or 0.0,
                        args.duration)
    rank = default_rank(len(clip.frames)) if args.rank is None else args.rank
    kappa = 3.0 if args.kappa is None else args.kappa
    parts = decompose_pixels(clip.frames, rank=rank, kappa=kappa)
    return Decomposed(
        parts, clip.frames, clip.indices, clip.times,
        f'{len(clip.frames)} of {clip.length} frames, {clip.times[0]:.2f} to {clip.times[-1]:.2f} s at {clip.fps:g} fps'
        f'   ·   features: the pixels, {parts.stable.shape[4]} x {parts.stable.shape[3]}, RGB   ·   '
        f'base of rank {rank} at most   ·   transient beyond κ = {kappa:g} robust standard deviations',
        'A moving camera turns everything it sweeps over into transients of the pixels; a fixed one leaves the events. '
        'Nothing here was trained.', True)


def of_features(args: argparse.Namespace) -> Decomposed:
    """What the recognizer's LSEFNeck is given for the last crop of one clip of the video, decomposed by the neck
    itself; one stretch of time is one picture, where the test pipeline takes several."""
    from lsef_plugins.register_all import register_all
    register_all()                  # first: the host is repaired before its packages and configs are read
    from lsef_plugins.engine.window_reader import RecognizerReader
    from lsef_plugins.visualization.source import open_source
    reader = RecognizerReader(args.config, args.checkpoint, args.device, args.stream)
    source = open_source(args.video, reader=reader.file_reader)
    try:
        sampled = reader.sampled(source.length, source.fps, once=True)
        reading = reader.read(source.read(sampled.indices.tolist()), sampled)
    finally:
        source.close()
    chosen = middle_frames(len(sampled.indices), reading.parts.stable.shape[2])
    indices = sampled.indices[chosen]
    return Decomposed(reading.parts, reading.frames[chosen], indices, indices / source.fps,
                      reader.words(len(sampled.indices)), reader.notes(), False)


def middle_frames(length: int, count: int) -> np.ndarray:
    """Of ``length`` frames those in the middle of each of the ``count`` frames of a feature map."""
    return np.round((np.arange(count) + .5) * length / count - .5).astype(int)


def write_reports(args: argparse.Namespace) -> int:
    """A report of each clip, an index of several, and at the end what failed."""
    from lsef_plugins.datasets.integrity import video_fault
    from lsef_plugins.visualization.clip import plain_name
    from lsef_plugins.visualization.face_box import face_detector
    from lsef_plugins.visualization.progress import progress_of
    from lsef_plugins.visualization.source import clips_in
    from lsef_plugins.visualization.video_report import Settings, report_clips
    source, folder = Path(args.video), Path(args.report)
    paths = clips_in(source) if source.is_dir() else [source]
    settings = Settings(args.start or 0.0, args.duration, args.stride, args.fps,
                        face_detector() if args.face_crop else None, args.overlay, args.width)
    failed = []
    for outcome in report_clips(paths, folder, reader_of(args), settings, progress_of, video_fault):
        if outcome.error:
            failed.append(outcome.error)
        said = f'{outcome.words}; wrote {outcome.report}' if outcome.report else 'failed'
        print(f'{plain_name(outcome.path.name)}: {said}')
    if len(paths) > 1:
        print(f'{len(paths) - len(failed)} of {len(paths)} clips; wrote {folder / "index.html"}')
    for error in failed:
        print(f'error: {error}', file=sys.stderr)
    return 1 if failed else 0


def reader_of(args: argparse.Namespace) -> Any:
    """What looks at windows: a recognizer, or the pixels themselves."""
    if not args.config:
        from lsef_plugins.visualization.pixel_reader import PixelReader
        return PixelReader(args.window, args.interval, args.rank, 3.0 if args.kappa is None else args.kappa)
    from lsef_plugins.register_all import register_all
    register_all()
    from lsef_plugins.engine.window_reader import SPAN, RecognizerReader
    return RecognizerReader(args.config, args.checkpoint, args.device, args.stream, args.interval,
                            SPAN if args.span is None else args.span)


def missing_package() -> Optional[str]:
    """What has to be installed before anything can be drawn, or None."""
    for module, package in (('cv2', 'opencv-python'), ('matplotlib', 'matplotlib'), ('torch', 'torch')):
        try:
            importlib.import_module(module)
        except ImportError as error:
            return (f'{module} cannot be imported ({error}). pip install {package}'
                    + (', or opencv-python-headless on a machine without a screen.' if module == 'cv2' else '.'))
    return None


def main(arguments: Optional[List[str]] = None) -> int:
    args = parse_args(arguments)
    missing = missing_package()
    if missing:
        print(f'error: {missing}', file=sys.stderr)
        return 1
    try:
        return write_reports(args) if args.report is not None else write_picture(args)
    except (OSError, ValueError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 1


def write_picture(args: argparse.Namespace) -> int:
    """The picture and the table of one clip."""
    from lsef_plugins.datasets.integrity import video_fault
    from lsef_plugins.visualization import draw_decomposition, energy_table, find_events, save_picture, write_csv
    fault = video_fault(args.video) if os.path.isfile(args.video) else None
    if fault:                       # before a decoder meets it, whose process a cut off file can kill
        raise ValueError(f'{args.video} cannot be read as a video: it {fault}. Copy or export it again.')
    out = Path(args.out or f'{Path(args.video).stem}_decomposition.png')
    table_file = Path(args.csv or out.with_suffix('.csv'))
    found = of_features(args) if args.config else of_pixels(args)
    table = energy_table(found.parts)
    events = find_events(table['transient'], table['residual'])
    figure = draw_decomposition(
        found.frames, found.parts, found.times, events=events, subtitle=found.subtitle, caption=found.caption,
        title=args.title or f'What stays and what comes and goes: {Path(args.video).name}', pixels=found.pixels,
        width=args.width)
    save_picture(figure, out)
    write_csv(table_file, table, found.indices, found.times, events)
    for number, event in enumerate(events, start=1):
        print(f'event {number}: {found.times[event.onset]:.2f} s to {found.times[event.offset]:.2f} s, strongest at '
              f'{found.times[event.apex]:.2f} s')
    print(f'{len(found.frames)} frames, {len(events)} event(s); wrote {out} and {table_file}')
    return 0


if __name__ == '__main__':
    if not any(each.startswith('--co') for each in sys.argv):
        os.environ.setdefault('LSEF_PLUGINS_REGISTER', '0')     # pixels need no MMAction2; its import takes seconds
    sys.exit(main())
