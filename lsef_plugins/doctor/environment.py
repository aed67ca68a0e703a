"""Versions, hardware, and what can read a video here."""
import importlib.util
import os
import platform
import shutil
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Iterator, Sequence

import numpy as np
import torch

from .findings import FAULT, NOTE, Finding

# What is imported, and the distributions that bring it.
PACKAGES = (
    ('lsef_plugins', ('lsef_plugins', )), ('torch', ('torch', )), ('numpy', ('numpy', )), ('einops', ('einops', )),
    ('mmaction', ('mmaction2', )), ('mmengine', ('mmengine', )), ('mmcv', ('mmcv', 'mmcv-lite', 'mmcv-full')),
    ('cv2', ('opencv-python', 'opencv-python-headless', 'opencv-contrib-python', 'opencv-contrib-python-headless')),
    ('decord', ('decord', 'eva-decord')), ('matplotlib', ('matplotlib', )), ('setuptools', ('setuptools', )),
    ('pkg_resources', ()), ('mim', ('openmim', )))
THREADS = ('OMP_NUM_THREADS', 'MKL_NUM_THREADS', 'CUDA_VISIBLE_DEVICES')


def versions() -> Iterator[Finding]:
    yield Finding('python', f'{platform.python_version()} ({platform.python_implementation()})')
    yield Finding('system', f'{platform.system()} {platform.machine()}, libc {" ".join(platform.libc_ver()) or "?"}')
    for module, distributions in PACKAGES:
        yield package(module, distributions)


def package(module: str, distributions: Sequence[str]) -> Finding:
    """Which of the distributions that bring ``module`` is installed; more than one overwrite each other's files."""
    found = []
    for name in distributions:
        try:
            found.append(f'{name} {metadata.version(name)}' if name != module else metadata.version(name))
        except metadata.PackageNotFoundError:
            continue
    if len(found) > 1:
        return Finding(module, f'{" and ".join(found)}: they share the files of {module}; keep one', NOTE)
    if found:
        return Finding(module, found[0])
    if importlib.util.find_spec(module) is None:
        return Finding(module, 'not installed')
    return Finding(module, 'there, not installed by pip' if distributions else 'there')


def hardware() -> Iterator[Finding]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()
    told = ', '.join(f'{name}={os.environ.get(name, "unset")}' for name in THREADS)
    yield Finding('processors', f'{cores}; {torch.get_num_threads()} threads in torch; {told}')
    if not torch.cuda.is_available():
        built = torch.version.cuda or getattr(torch.version, 'hip', None)
        yield Finding('GPU', f'none usable (torch is built for {"CUDA " + built if built else "the CPU"})')
    else:
        for index in range(torch.cuda.device_count()):
            seen = torch.cuda.get_device_properties(index)
            yield Finding(f'GPU {index}', f'{seen.name}, sm_{seen.major}{seen.minor}, '
                                          f'{seen.total_memory / 2**30:.0f} GiB, CUDA {torch.version.cuda}')
    for name, place, least in (('disk, here', '.', 1.0), ('disk, temporary files', tempfile.gettempdir(), 0.5),
                               ('shared memory of data loaders', '/dev/shm', 0.25)):
        if os.path.isdir(place):
            free = shutil.disk_usage(place).free / 2**30
            yield Finding(name, f'{free:.1f} GiB free', NOTE if free < least else 'ok')


def readers() -> Iterator[Finding]:
    """Writes a clip and reads it with each reader there is."""
    yield Finding('ffmpeg', 'on the PATH' if shutil.which('ffmpeg') else 'not on the PATH (nothing here needs it)')
    if importlib.util.find_spec('cv2') is None:
        yield Finding('opencv', 'not installed: videos are neither written nor read', NOTE)
        return
    import cv2

    from ..visualization.clip import sample_video
    frames = np.empty((8, 64, 64, 3), np.uint8)
    frames[:] = 20 + 25 * np.arange(8, dtype=np.uint8)[:, None, None, None]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / 'clip.mp4'
        video = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*'mp4v'), 25, (64, 64))
        for frame in frames:
            video.write(frame)
        video.release()
        for name, module in (('opencv', 'cv2'), ('decord', 'decord')):
            if importlib.util.find_spec(module) is None:
                yield Finding(name, "not installed: MMAction2's DecordInit needs it", NOTE)
                continue
            back = sample_video(path, frames=8, reader=name).frames
            good = back.shape == frames.shape and np.abs(back.astype(int) - frames).max() < 12
            yield Finding(name, 'reads what was written' if good else 'reads other frames than were written',
                          'ok' if good else FAULT)
