"""Random inputs in the form each recognizer's data loader would hand over, before its data preprocessor.

Axes: v views (clips x crops of one video; a Recognizer2D's frames all lie there), c channels, t frames of a clip,
h w space, m persons, j joints.

================= =============================================================================
recognizer        one sample
================= =============================================================================
Recognizer2D      ``(v, c, h, w)``
Recognizer3D      ``(v, c, t, h, w)``
MMRecognizer3D    ``imgs (v, 3, t, h, w)`` and ``heatmap_imgs (v, 17, 4 t, h / 4, w / 4)``
RecognizerGCN     ``(v, m, t, j, 2 or 3)``
RecognizerAudio   ``(v, 1, t, frequencies)``
RecognizerOmni    ``(v, 3, t, h, w)`` of a video and ``(3, h, w)`` of an image
================= =============================================================================
"""
from __future__ import annotations

from typing import Any, Dict, Optional, Tuple, Union

import torch
from mmaction.structures import ActionDataSample
from torch import Tensor

from .catalogue import type_name
from .shrink import Geometry, stacked_views
from .views import Sampling

PERSONS, FREQUENCIES = 2, 80
Shapes = Dict[str, Tuple[int, ...]]


class Inputs:
    """Makes batches for one recognizer.

    Args:
        model: the (shrunken) config of the recognizer.
        geometry: frames of a clip, or segments of a Recognizer2D, and edge of a frame.
    """

    def __init__(self, model: Any, geometry: Geometry) -> None:
        self.kind = type_name(model)
        self.model = model
        self.geometry = geometry
        head = model.cls_head
        self.classes = head.get('num_classes') or head.get('video_classes')

    @property
    def one_clip(self) -> int:
        """The ``views`` of one clip at one crop: a Recognizer2D's frames all lie in that axis."""
        return self.geometry.t if self.kind == 'Recognizer2D' else 1

    def views_of(self, sampling: Sampling) -> int:
        """The ``views`` that a pipeline makes of one video."""
        return stacked_views(self.model, sampling)

    def shapes(self, views: int) -> Shapes:
        """Shape of one sample's inputs, by modality; one that has no name is called ``inputs``."""
        t, s = self.geometry
        backbone = self.model.backbone
        channels = backbone.get('in_channels', 3)
        if self.kind == 'Recognizer2D':
            return {'inputs': (views, channels, s, s)}
        if self.kind == 'MMRecognizer3D':
            speed = backbone.get('speed_ratio', 4)
            joints = backbone.pose_pathway.get('in_channels', 17)
            return {'imgs': (views, 3, t, 2 * s, 2 * s), 'heatmap_imgs': (views, joints, speed * t, s // 2, s // 2)}
        if self.kind == 'RecognizerGCN':
            from mmaction.models.utils import Graph
            joints = Graph(**backbone.graph_cfg).num_node
            return {'inputs': (views, PERSONS, t, joints, channels)}
        if self.kind == 'RecognizerAudio':
            return {'inputs': (views, backbone.get('in_channels', 1), t, FREQUENCIES)}
        return {'inputs': (views, channels, t, s, s)}

    def batch(self, recognizer: Any, videos: int = 2, views: Optional[int] = None, training: bool = False,
              seed: int = 0) -> Any:
        """What the data preprocessor makes of random videos of ``views`` views each (by default one clip)."""
        views = self.one_clip if views is None else views
        data: Any = self._raw(videos, views, seed)
        if self.kind == 'RecognizerOmni' and training:
            images = self._raw(videos, views, seed + 1)
            images['inputs'] = [each[0, :, 0] for each in images['inputs']]
            data = [data, images]
        return recognizer.data_preprocessor(data, training)

    def _raw(self, videos: int, views: int, seed: int) -> Dict[str, Any]:
        generator = torch.Generator().manual_seed(seed)
        made = {name: [self._sample(shape, generator) for _ in range(videos)]
                for name, shape in self.shapes(views).items()}
        inputs: Union[Dict, list] = made if set(made) != {'inputs'} else made['inputs']
        samples = [ActionDataSample().set_gt_label(index % self.classes) for index in range(videos)]
        return dict(inputs=inputs, data_samples=samples)

    def _sample(self, shape: Tuple[int, ...], generator: torch.Generator) -> Tensor:
        pixels = self.kind in ('Recognizer2D', 'Recognizer3D', 'MMRecognizer3D', 'RecognizerOmni')
        if pixels and shape[1] in (2, 3, 10):
            return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
        return torch.rand(shape, generator=generator)
