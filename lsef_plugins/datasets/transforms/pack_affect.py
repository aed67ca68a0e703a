"""PackAffectInputs: MMAction2's packing, and ratings that stay floats.

``PackActionInputs`` puts ``results['label']`` through ``ActionDataSample.set_gt_label``, which casts arrays, lists and
tuples to int64: the rating (0.3, -0.7) becomes (0, 0) without a word. Ratings therefore have a key and a field of their
own: ``results['valence_arousal']`` becomes ``gt_valence_arousal``.
"""
from typing import Any, Dict, Sequence

import numpy as np
import torch
from mmaction.datasets.transforms import PackActionInputs

from lsef_plugins.registry import TRANSFORMS

KEY, FIELD = 'valence_arousal', 'gt_valence_arousal'
META_KEYS = ('img_shape', 'img_key', 'video_id', 'timestamp', 'frame_index', 'scene', 'filename',
             'frame_inds', 'clip_len', 'num_clips', 'planted', 'clean_clips')


@TRANSFORMS.register_module()
class PackAffectInputs(PackActionInputs):
    """Packs inputs, class label and meta information as the host does, and ``valence_arousal`` as float32.

    Required keys: those of PackActionInputs. Optional: ``label``, an index (or multi-hot floats);
    ``valence_arousal``, floats ``(2,)`` of the clip or ``(n, 2)`` of its frames, in [-1, 1], NaN where there is no
    rating; ``video_id``, ``frame_index``, ``scene``, ``planted``, ``clean_clips`` for metrics.

    Args:
        meta_keys: keys that become meta information of the data sample, where they exist.
        kwargs: those of PackActionInputs (``collect_keys``, ``algorithm_keys``).
    """

    def __init__(self, meta_keys: Sequence[str] = META_KEYS, **kwargs: Any) -> None:
        super().__init__(meta_keys=meta_keys, **kwargs)

    def transform(self, results: Dict) -> Dict:
        """The host's packing, and ``gt_valence_arousal`` ``(2,)`` or ``(n, 2)``."""
        if 'label' in results:
            check_label(results['label'])
        packed = super().transform(results)
        if KEY in results:
            packed['data_samples'].set_field(rating_tensor(results[KEY]), FIELD, dtype=torch.Tensor)
        return packed


def rating_tensor(ratings: Any) -> torch.Tensor:
    """Ratings as a float32 tensor of their own.

    Raises:
        ValueError: not floats (integers may have lost their fractions), not (valence, arousal), or out of [-1, 1].
    """
    values = ratings.numpy() if isinstance(ratings, torch.Tensor) else np.asarray(ratings)
    if not np.issubdtype(values.dtype, np.floating):
        raise ValueError(f"results['{KEY}'] holds {values.dtype} and must hold floats: integers may have lost their "
                         'fractions on the way. Read ratings as float32.')
    if values.ndim not in (1, 2) or values.shape[-1] != 2:
        raise ValueError(f"results['{KEY}'] has shape {values.shape} and must be (valence, arousal) of the clip, (2,), "
                         'or of each of its frames, (n, 2).')
    beyond = values[~np.isnan(values) & ~(np.abs(values) <= 1)]
    if beyond.size:
        raise ValueError(f"{beyond.size} of {values.size} numbers in results['{KEY}'] are outside of [-1, 1]: "
                         f'{beyond[:4].tolist()}. Write NaN for invalid frames (Aff-Wild2 marks them with -5), and '
                         'scale ratings of another range.')
    return torch.from_numpy(values.astype(np.float32))


def check_label(label: Any) -> None:
    """Refuses class labels with fractions, which the host would cut off."""
    if isinstance(label, torch.Tensor) and label.ndim:      # the host keeps these, for multi-hot labels
        return
    values = np.asarray(label)
    if np.issubdtype(values.dtype, np.floating) and not np.equal(np.mod(values, 1), 0).all():
        raise ValueError(f"results['label'] is {label!r}: MMAction2 would cut off the fractions. Ratings belong into "
                         f"results['{KEY}'].")
