"""Fault: ``vid_out_dir`` of ``MMAction2Inferencer`` and ``out_type='video'`` stop with *Please install
moviepy*, also when moviepy is installed.

MMAction2 imports ``moviepy.editor``, which moviepy 2 removed; and moviepy is not among its requirements.

Mend: where ``moviepy.editor`` cannot be imported, mp4 files are written with OpenCV and gifs with Pillow,
both of which MMAction2 needs anyway. Where it can, nothing changes.

Delete when: mmaction2 writes videos with moviepy 2, or without it.
"""
import functools
import importlib.util
import os


def reason() -> str:
    return '' if _has_moviepy_editor() else 'moviepy.editor, with which MMAction2 writes videos, cannot be imported'


def apply() -> None:
    if not reason():
        return
    from mmaction.visualization import video_backend
    cls = video_backend.LocalVisBackend
    if not getattr(cls.add_video, 'of_lsef_plugins', False):
        cls.add_video = _with_opencv(cls.add_video)


def _has_moviepy_editor() -> bool:
    return (importlib.util.find_spec('moviepy') is not None
            and importlib.util.find_spec('moviepy.editor') is not None)


def _with_opencv(stock):

    @functools.wraps(stock)
    def add_video(self, name, frames, step=0, fps=4, out_type='img', **kwargs):
        if out_type not in ('gif', 'video'):
            return stock(self, name, frames, step=step, fps=fps, out_type=out_type, **kwargs)
        if not getattr(self, '_env_initialized', False):
            self._init_env()
            self._env_initialized = True
        path = os.path.join(self._save_dir, os.path.splitext(name)[0])
        # the stock body swaps the channels, too: its callers hand over BGR
        if out_type == 'gif':
            write_gif(path + '.gif', frames[..., ::-1], fps)
        else:
            write_mp4(path + '.mp4', frames[..., ::-1], fps)

    add_video.of_lsef_plugins = True  # type: ignore[attr-defined]
    return add_video


def write_mp4(path: str, frames, fps: float) -> None:
    """Write RGB frames ``(t, h, w, 3)``, uint8, as mp4v at ``fps`` frames per second."""
    import cv2
    import numpy as np
    height, width = frames.shape[1:3]
    writer = cv2.VideoWriter(path, cv2.VideoWriter.fourcc(*'mp4v'), fps, (width, height))
    if not writer.isOpened():
        raise RuntimeError(f'OpenCV could not open {path} for writing an mp4v video of {width} x {height} '
                           "pixels. Use out_type='img', or install a build of OpenCV with FFmpeg.")
    for frame in frames:
        writer.write(np.ascontiguousarray(frame[..., ::-1]))
    writer.release()


def write_gif(path: str, frames, fps: float) -> None:
    """Write RGB frames ``(t, h, w, 3)``, uint8, as an endless gif at ``fps`` frames per second."""
    from PIL import Image
    images = [Image.fromarray(frame) for frame in frames]
    images[0].save(path, save_all=True, append_images=images[1:], duration=1000 / fps, loop=0)
