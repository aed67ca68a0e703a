"""One tiny recognizer with a neck that acts, its checkpoint, and the frames of a clip."""
from types import SimpleNamespace

import pytest
import torch


@pytest.fixture(scope='session')
def tiny_door(tiny_config, tiny_videos, tmp_path_factory):
    """``config`` and ``checkpoint`` (paths), ``build(folder, **changes)`` for others, ``video`` (path)."""
    from lsef_plugins.register_all import register_all
    register_all()
    from mmaction.registry import MODELS
    from mmengine.registry import init_default_scope

    def build(folder, change=lambda cfg: None, **changes):
        cfg = tiny_config(folder, model=dict(neck=dict(type='LSEFNeck', rank=2)), log_level='ERROR')
        cfg.merge_from_dict(changes)
        change(cfg)
        for name in ('val', 'test'):                # as a config written by hand has it: one pipeline, named twice
            cfg[f'{name}_dataloader'].dataset.pipeline = cfg.test_pipeline
        folder.mkdir(parents=True, exist_ok=True)
        cfg.dump(str(folder / 'config.py'))
        init_default_scope('mmaction')
        torch.manual_seed(3)
        model = MODELS.build(cfg.model)
        for name, parameter in model.named_parameters():
            if name.startswith('neck') and parameter.dim() > 1:     # zero at the start: the neck would not act
                torch.nn.init.normal_(parameter, std=.2)
        torch.save(dict(state_dict=model.state_dict(), meta={}), folder / 'best.pth')
        return str(folder / 'config.py'), str(folder / 'best.pth')

    folder = tmp_path_factory.mktemp('tiny_door')
    config, checkpoint = build(folder)
    return SimpleNamespace(config=config, checkpoint=checkpoint, build=build, folder=folder, root=tiny_videos.root,
                           video=str(tiny_videos.root / 'clip_0.mp4'))


@pytest.fixture(scope='session')
def inferencer(tiny_door):
    from lsef_plugins.apis import LSEFInferencer
    return LSEFInferencer(tiny_door.config, tiny_door.checkpoint, classes=['right', 'down'])


@pytest.fixture(scope='session')
def clip(tiny_videos):
    """Frames ``(24, 64, 64, 3)`` of the first clip."""
    import numpy as np

    from lsef_plugins.visualization.source import open_source
    return np.stack(open_source(tiny_videos.root / 'clip_0.mp4').read(range(24)))
