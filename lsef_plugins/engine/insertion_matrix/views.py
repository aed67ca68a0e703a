"""How a config feeds its recognizer: modality, frames of a clip, and the views of its own test.

Read from the config's pipelines, which are never run. One view is one clip at one crop; a video is tested with
``clips x crops`` of them.
"""
from __future__ import annotations

from typing import Any, List, NamedTuple, Optional

from mmengine.config import Config

SAMPLERS = ('SampleFrames', 'DenseSampleFrames', 'UniformSample', 'UniformSampleFrames', 'MMUniformSampleFrames',
            'UntrimmedSampleFrames')
CROPS = {'CenterCrop': 1, 'ThreeCrop': 3, 'TenCrop': 10}


class Sampling(NamedTuple):
    """``clip_len`` frames in a clip (a dict for several modalities), ``clips`` of a video, ``crops`` of a clip."""
    clip_len: Any
    clips: int
    crops: int

    @property
    def views(self) -> int:
        return self.clips * self.crops


def pipeline_of(cfg: Config, *names: str) -> Optional[List[dict]]:
    """The pipeline of the first of these dataloaders that has one, wrappers such as ConcatDataset looked through."""
    for name in names:
        loader = cfg.get(name)
        for each in loader if isinstance(loader, (list, tuple)) else [loader]:
            dataset = (each or {}).get('dataset')
            while dataset is not None and 'pipeline' not in dataset:
                inner = dataset.get('datasets')
                dataset = inner[0] if inner else dataset.get('dataset')
            if dataset is not None:
                return list(dataset['pipeline'])
    return None


def sampling_of(pipeline: Optional[List[dict]]) -> Optional[Sampling]:
    """Frames, clips and crops a pipeline makes of one video; None when it samples nothing."""
    steps = {str(step['type']): step for step in pipeline or ()}
    sampler = next((steps[name] for name in SAMPLERS if name in steps), None)
    if sampler is None:
        return None
    clips = sampler.get('num_clips', 1)
    if sampler['type'] == 'DenseSampleFrames' and sampler.get('test_mode'):
        clips *= sampler.get('num_sample_positions', 10)
    if sampler.get('twice_sample'):
        clips *= 2
    if steps.get('GeneratePoseTarget', {}).get('double'):
        clips *= 2
    crops = next((count for name, count in CROPS.items() if name in steps), 1)
    return Sampling(sampler.get('clip_len', 1), clips, crops)


def test_sampling(cfg: Config) -> Optional[Sampling]:
    """What the config's own test does, else its validation."""
    return sampling_of(pipeline_of(cfg, 'test_dataloader', 'val_dataloader'))


def train_sampling(cfg: Config) -> Sampling:
    """What training does; of a config without training, one clip as the test has it; of one with neither, 8 frames."""
    found = sampling_of(pipeline_of(cfg, 'train_dataloader'))
    if found is None:
        test = test_sampling(cfg)
        found = Sampling(cfg.model.backbone.get('t_size', 8), 1, 1) if test is None else test._replace(clips=1)
    return found._replace(crops=1)


def modality_of(cfg: Config) -> str:
    """``rgb``, ``flow``, ``heatmaps``, ``rgb and heatmaps``, ``images and videos``, ``skeleton`` or ``audio``."""
    model = cfg.model
    kind = str(model.type if isinstance(model.type, str) else model.type.__name__)
    if kind in ('RecognizerGCN', 'RecognizerAudio', 'MMRecognizer3D', 'RecognizerOmni'):
        return {'RecognizerGCN': 'skeleton', 'RecognizerAudio': 'audio', 'MMRecognizer3D': 'rgb and heatmaps',
                'RecognizerOmni': 'images and videos'}[kind]
    channels = model.backbone.get('in_channels', 3)
    if channels == 3:
        return 'rgb'
    steps = [str(step['type']) for step in pipeline_of(cfg, 'train_dataloader', 'test_dataloader') or ()]
    return 'heatmaps' if 'GeneratePoseTarget' in steps or channels > 10 else 'flow'
