"""Times the doctor on a generated tree of many clip folders in FERV39k's layout.

    python tools/benchmark_doctor.py --clips 40000 --out /tmp/tree --repeats 3

The tree holds small valid JPEG files of their own (8 to 47 frames per clip, as published); it is kept when --keep is
given. Levels are interleaved, medians are printed, with their ratio to the time that os.scandir alone takes.
"""
import argparse
import os
import shutil
import statistics
import sys
import time
from pathlib import Path
from typing import Any

os.environ.setdefault('LSEF_PLUGINS_REGISTER', '0')

import cv2
import numpy as np

from lsef_plugins.datasets.annotations import CLASSES
from lsef_plugins.datasets.doctor import Request, examine


def write_tree(root: Path, clips: int, size: int) -> int:
    """Writes the tree and its two lists; returns the number of frames."""
    rng = np.random.default_rng(0)
    picture = cv2.resize(rng.integers(0, 255, (8, 8, 3)).astype(np.uint8), (size, size))
    content = cv2.imencode('.jpg', picture)[1].tobytes()
    lines: list[str] = []
    total = 0
    for i in range(clips):
        word = CLASSES[i % 7]
        name = f'Scene{i % 22:02d}/{word}/{i:05d}'
        folder = root / '2_ClipsforFaceCrop' / name
        folder.mkdir(parents=True)
        frames = int(rng.integers(8, 48))
        for t in range(frames):
            with open(folder / f'{t:02d}.jpg', 'wb') as file:
                file.write(content[:2] + comment(rng) + content[2:])
        total += frames
        lines.append(f'{name} {word}\n')
    lists = root / '4_setups' / 'All_scenes'
    lists.mkdir(parents=True)
    cut = round(clips * .8)
    (lists / 'train_All.csv').write_text(''.join(lines[:cut]))
    (lists / 'test_All.csv').write_text(''.join(lines[cut:]))
    return total


def comment(rng: np.random.Generator) -> bytes:
    """A JPEG comment of random length: no two clips then have files of the same sizes."""
    length = int(rng.integers(2, 200))
    return b'\xff\xfe' + length.to_bytes(2, 'big') + bytes(length - 2)


def bare_scan(root: Path) -> float:
    """Seconds that listing every folder takes alone: the floor."""
    begun = time.perf_counter()
    stack = [str(root)]
    while stack:
        with os.scandir(stack.pop()) as entries:
            stack += [entry.path for entry in entries if entry.is_dir()]
    return time.perf_counter() - begun


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--clips', type=int, default=40000)
    parser.add_argument('--size', type=int, default=32, help='pixels per side (default: %(default)s)')
    parser.add_argument('--out', required=True, help='folder for the tree')
    parser.add_argument('--repeats', type=int, default=3)
    parser.add_argument('--workers', type=int, nargs='+', default=[1, os.cpu_count() or 1])
    parser.add_argument('--levels', nargs='+', default=['names', 'scan'], choices=('names', 'scan', 'ends', 'decode'),
                        help="how closely to look: scan is the doctor's default, names --names-only (default: both)")
    parser.add_argument('--keep', action='store_true', help='keep the tree; a second start uses it')
    args = parser.parse_args()
    root = Path(args.out)
    if not root.exists():
        begun = time.perf_counter()
        frames = write_tree(root, args.clips, args.size)
        print(f'{args.clips} clip folders, {frames} frames, written in {time.perf_counter() - begun:.0f} s', flush=True)
    known: dict[str, dict[str, Any]] = {'names': dict(ends='none'), 'scan': dict(ends='some'), 'ends': dict(ends='all'),
                                        'decode': dict(decode=True)}
    levels = {name: known[name] for name in args.levels}
    times: dict[str, list[float]] = {}
    for _ in range(args.repeats):
        times.setdefault('os.scandir alone', []).append(bare_scan(root))
        for workers in args.workers:
            for name, options in levels.items():
                report = examine(Request('ferv39k', str(root), expect='any', workers=workers, **options))
                if not report.healthy:
                    raise SystemExit(f'{root} is not healthy: {report.to_text()}')
                times.setdefault(f'{name}, {workers} process(es)', []).append(report.seconds)
    floor = statistics.median(times['os.scandir alone'])
    for name, seconds in times.items():
        middle = statistics.median(seconds)
        print(f'{name:28s} {middle:7.2f} s   {middle / floor:6.1f} x   {args.clips / middle:8.0f} clips/s')
    if not args.keep:
        shutil.rmtree(root)
    return 0


if __name__ == '__main__':
    sys.exit(main())
