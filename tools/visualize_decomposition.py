"""A video in, a picture and a table out: what stays in it, and what comes and goes.

    python tools/visualize_decomposition.py clip.mp4
    python tools/visualize_decomposition.py clip.mp4 --out picture.png --csv table.csv --start 2 --duration 4
    python tools/visualize_decomposition.py clip.mp4 --config my_config.py --checkpoint best.pth

Without a config the pixels themselves are decomposed, which needs no training. With one, the features that the
recognizer's LSEFNeck receives are, in the frames that the config's test pipeline samples.
"""
import argparse
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
    parser.add_argument('video', help='video file')
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
    args = parser.parse_args(arguments)
    of_pixels_only = ('frames', 'start', 'duration', 'rank', 'kappa')
    given = [f'--{name}' for name in of_pixels_only if getattr(args, name) is not None]
    if args.config and given:
        parser.error(f'{", ".join(given)}: with --config the sampling and the decomposition are those of the config; '
                     'change them there (test pipeline, neck)')
    if args.checkpoint and not args.config:
        parser.error('--checkpoint needs its --config')
    return args


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
    """What the recognizer's LSEFNeck is given for the last crop of the video, decomposed by the neck itself."""
    from lsef_plugins.register_all import register_all
    register_all()                  # first: the host is repaired before its packages and configs are read
    import torch
    from mmaction.apis import init_recognizer
    from mmengine.config import Config
    from mmengine.dataset import Compose, pseudo_collate

    from lsef_plugins.compat.checkpoint_errors import CheckpointError
    from lsef_plugins.models import LSEFNeck
    from lsef_plugins.visualization import sample_video
    rate = sample_video(args.video, frames=4, short_side=16).fps        # and a clear word on a video that is none
    config = Config.fromfile(args.config)
    torch.manual_seed(0)            # for a recognizer without a checkpoint
    try:
        recognizer = init_recognizer(config, args.checkpoint, device=args.device)
    except CheckpointError as error:
        raise ValueError(error) from error
    necks = [module for module in recognizer.modules() if isinstance(module, LSEFNeck)]
    if not necks:
        raise ValueError(f"{args.config}: this {type(recognizer).__name__} has no LSEFNeck. Add neck=dict("
                         "type='LSEFNeck') to its model, or leave --config out to decompose the pixels.")
    if not 0 <= args.stream < len(necks[0].streams):
        raise ValueError(f'--stream {args.stream}: this recognizer has {len(necks[0].streams)} of them; count from 0.')
    indices = np.zeros(0, int)
    results = dict(filename=args.video, label=-1, start_index=0, modality='RGB')
    for step in config.get('test_pipeline') or config.test_dataloader.dataset.pipeline:
        if step['type'] == 'SampleFrames' and step.get('clip_len', 1) > 1:
            step = {**step, 'num_clips': 1}     # one stretch of time is one picture
        results = Compose([step])(results)
        indices = np.asarray(results.get('frame_inds', indices)).ravel()     # packing drops them
    caught: List[Any] = []
    hook = necks[0].register_forward_pre_hook(lambda module, inputs: caught.append(inputs[0]))
    try:
        with torch.no_grad():
            recognizer.test_step(pseudo_collate([results]))
    finally:
        hook.remove()
    maps = caught[0] if isinstance(caught[0], torch.Tensor) else caught[0][args.stream]
    stream = necks[0].streams[args.stream]
    crop = len(maps) - 1            # of ThreeCrop's left, right, middle and of TenCrop's the one in the middle
    with torch.no_grad():
        parts = stream.decompose(maps[crop:crop + 1])
    shown, indices = _frames_seen(results['inputs'], indices, crop, maps.shape[2])
    rank = getattr(stream.sem, 'rank', 0)
    kappa = float(stream.ddm.kappa.detach().mean()) if stream.ddm is not None else float('nan')
    return Decomposed(
        parts, shown, indices, indices / rate,
        f'{Path(args.config).name}   ·   features: {maps.shape[1]} channels, {maps.shape[4]} x {maps.shape[3]}, '
        f'{maps.shape[2]} frames   ·   base of rank {rank} at most   ·   transient beyond κ = {kappa:.2g}, mean of the '
        'channels',
        (f'Checkpoint {Path(args.checkpoint).name}.' if args.checkpoint else 'Untrained: no checkpoint was given.')
        + ' The stable row shows the mixture of frames that the features\' base is.', False)


def _frames_seen(inputs: Any, indices: np.ndarray, crop: int, count: int):
    """The frames as the recognizer sees them, ``(t, h, w, 3)``, and their indices, one for each frame of the map."""
    pictures = inputs.numpy()
    if pictures.ndim == 5:                              # (crops, 3, t, h, w)
        pictures = pictures[min(crop, len(pictures) - 1)].transpose(1, 2, 3, 0)
    else:                                               # (crops t, 3, h, w)
        length = len(indices)
        first = min(crop * length, len(pictures) - length)
        pictures = pictures[first:first + length].transpose(0, 2, 3, 1)
    chosen = np.round((np.arange(count) + .5) * len(indices) / count - .5).astype(int)
    return np.ascontiguousarray(pictures[chosen].clip(0, 255).astype(np.uint8)), indices[chosen]


def main(arguments: Optional[List[str]] = None) -> int:
    args = parse_args(arguments)
    from lsef_plugins.visualization import draw_decomposition, energy_table, find_events, save_picture, write_csv
    out = Path(args.out or f'{Path(args.video).stem}_decomposition.png')
    table_file = Path(args.csv or out.with_suffix('.csv'))
    try:
        found = of_features(args) if args.config else of_pixels(args)
        table = energy_table(found.parts)
        events = find_events(table['transient'], table['residual'])
        figure = draw_decomposition(
            found.frames, found.parts, found.times, events=events, subtitle=found.subtitle, caption=found.caption,
            title=args.title or f'What stays and what comes and goes: {Path(args.video).name}', pixels=found.pixels,
            width=args.width)
        save_picture(figure, out)
        write_csv(table_file, table, found.indices, found.times, events)
    except (OSError, ValueError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    for number, event in enumerate(events, start=1):
        print(f'event {number}: {found.times[event.onset]:.2f} s to {found.times[event.offset]:.2f} s, strongest at '
              f'{found.times[event.apex]:.2f} s')
    print(f'{len(found.frames)} frames, {len(events)} event(s); wrote {out} and {table_file}')
    return 0


if __name__ == '__main__':
    if not any(each.startswith('--co') for each in sys.argv):
        os.environ.setdefault('LSEF_PLUGINS_REGISTER', '0')     # pixels need no MMAction2; its import takes seconds
    sys.exit(main())
