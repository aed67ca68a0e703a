"""Decoding frames whose file names were listed, not computed from a template."""
from __future__ import annotations

import os
from typing import Optional

import mmcv
import numpy as np
from mmcv.transforms import BaseTransform
from mmengine.fileio import get

from lsef_plugins.datasets.integrity import UnreadableClipError, image_fault
from lsef_plugins.registry import TRANSFORMS

#: Those that read what can be checked to be whole.
BACKENDS = ('cv2', 'turbojpeg', 'pillow')
_NEXT = ('Extract or copy the clip again, or remove its line from the list; tools/data/check_dataset.py finds all '
         'of them.')


@TRANSFORMS.register_module()
class ListedFrameDecode(BaseTransform):
    """RawFrameDecode for frames that carry any names: the data set lists them, the sampler picks numbers.

    Required keys: ``frame_dir`` (str), ``frame_names`` (file names in the order of time), ``frame_inds`` ``(n,)``
    from a sampler, ``start_index`` (0 where absent). Added keys: ``imgs`` (list of n ``(h, w, 3)`` uint8 RGB),
    ``original_shape`` and ``img_shape`` ``(h, w)``, as RawFrameDecode gives them.

    A truncated picture is refused: OpenCV up to 4.x would fill its lower part with grey.

    Args:
        decoding_backend: 'cv2', 'turbojpeg' or 'pillow', as for RawFrameDecode (whose 'tifffile' reads what is no
            JPEG, PNG, WebP or BMP).
        backend_args: of mmengine's fileio, for frames that are not on a disk.
    """

    def __init__(self, decoding_backend: str = 'cv2', backend_args: Optional[dict] = None) -> None:
        if decoding_backend not in BACKENDS:
            raise ValueError(f'decoding_backend={decoding_backend!r} must be one of {", ".join(map(repr, BACKENDS))}: '
                             'frames are JPEG, PNG, WebP or BMP, which can be checked to be whole.')
        self.decoding_backend = decoding_backend
        self.backend_args = backend_args

    def transform(self, results: dict) -> dict:
        """Decodes the sampled frames.

        Raises:
            ValueError: the sample was not prepared for this step; the message says what is missing.
            UnreadableClipError: a frame is gone, cut off, no picture, or of another size than the first.
        """
        names, folder = self.check(results), results['frame_dir']
        mmcv.use_backend(self.decoding_backend)
        places = np.asarray(results['frame_inds']).reshape(-1) - results.get('start_index', 0)
        if places.size == 0 or places.min() < 0 or places.max() >= len(names):
            raise ValueError(f'{folder} holds {len(names)} frames and frame_inds asks for '
                             f'{places.min() if places.size else "none"}..{places.max() if places.size else ""}: the '
                             'sampler and the data set disagree about total_frames or start_index.')
        decoded = {place: self.decode(os.path.join(folder, names[place])) for place in dict.fromkeys(places.tolist())}
        first = decoded[int(places[0])]
        for place, frame in decoded.items():
            if frame.shape != first.shape:
                raise UnreadableClipError(f'{os.path.join(folder, names[place])} is {frame.shape[:2]} and '
                                          f'{names[int(places[0])]} is {first.shape[:2]} (h, w): the frames of a '
                                          f'clip must have one size. {_NEXT}')
        seen: set[int] = set()
        results['imgs'] = []
        for place in places.tolist():   # a repeated frame is a copy: later steps may write into it
            results['imgs'].append(decoded[place].copy() if place in seen else decoded[place])
            seen.add(place)
        results['frame_inds'] = np.asarray(results['frame_inds']).reshape(-1)
        results['original_shape'] = results['img_shape'] = first.shape[:2]
        return results

    @staticmethod
    def check(results: dict) -> list[str]:
        """The listed names; ValueError where a step before this one is missing."""
        if 'frame_names' not in results or 'frame_dir' not in results:
            raise ValueError('ListedFrameDecode needs frame_dir and frame_names of the sample, which '
                             "DFEWDataset, FERV39kDataset and VEATICDataset give with data_prefix=dict(img=...); it "
                             f'got {", ".join(sorted(results))}. Videos are decoded by DecordInit and DecordDecode.')
        if 'frame_inds' not in results:
            raise ValueError('ListedFrameDecode needs frame_inds: put a sampler before it, such as '
                             "dict(type='UniformSample', clip_len=16).")
        return results['frame_names']

    def decode(self, path: str) -> np.ndarray:
        """One frame ``(h, w, 3)`` uint8 RGB."""
        try:
            content = get(path, self.backend_args)
        except FileNotFoundError as error:
            raise UnreadableClipError(f'The frame {path!r} does not exist any more. {_NEXT}') from error
        except OSError as error:
            raise UnreadableClipError(f'The frame {path!r} cannot be opened ({error.strerror}). {_NEXT}') from error
        fault = image_fault(content)
        if fault:
            raise UnreadableClipError(f'The frame {path!r} {fault}. {_NEXT}')
        try:
            return mmcv.imfrombytes(content, channel_order='rgb')
        except (ImportError, MemoryError):
            raise
        except Exception as error:     # each backend has its own
            raise UnreadableClipError(f'The frame {path!r} cannot be decoded ({type(error).__name__}). '
                                      f'{_NEXT}') from error

    def __repr__(self) -> str:
        return f'{type(self).__name__}(decoding_backend={self.decoding_backend!r})'
