"""Recognizers as MMAction2 ships them, with random weights, on small inputs.

Nothing here imports lsef_plugins: the same families are built without it, to see what it leaves alone.
"""
import copy
from pathlib import Path

import numpy as np
import torch

# The small ResNets of the host instead of its R50s: the families are the same, a forward takes milliseconds.
SMALL = {'model.backbone.depth': 18, 'model.backbone.base_channels': 16, 'model.cls_head.in_channels': 128}
SMALL_2D = {'model.backbone.depth': 18, 'model.cls_head.in_channels': 512}
# name -> (base model file of the host, changes, shape of one sample's inputs)
# 3-D: (clips, c, t, h, w); 2-D: (segments, c, h, w). At least 4 frames are left where LSEF acts.
FAMILIES = {
    'slowonly': ('slowonly_r50', SMALL, (2, 3, 8, 32, 32)),
    'c2d': ('c2d_r50', SMALL_2D, (2, 3, 8, 32, 32)),
    'i3d': ('i3d_r50', {**SMALL, 'model.backbone.depth': 50, 'model.cls_head.in_channels': 512}, (2, 3, 32, 32, 32)),
    'r2plus1d': ('r2plus1d_r34', {**SMALL, 'model.backbone.norm_cfg.type': 'BN3d'}, (2, 3, 32, 32, 32)),
    'x3d': ('x3d', {}, (2, 3, 6, 32, 32)),
    'slowfast': ('slowfast_r50', {}, (1, 3, 32, 32, 32)),
    'tpn-slowonly': ('tpn_slowonly_r50', {'model.test_cfg': None}, (1, 3, 8, 32, 32)),
    'tsn': ('tsn_r50', SMALL_2D, (5, 3, 32, 32)),
    'tsm': ('tsm_r50', SMALL_2D, (8, 3, 32, 32)),
    'tpn-tsm': ('tpn_tsm_r50', {'model.test_cfg': None}, (8, 3, 32, 32)),
    'trn': ('trn_r50', SMALL_2D, (8, 3, 32, 32)),
    'swin': ('swin', {}, (1, 3, 8, 32, 32)),
    'mvit': ('mvit', {}, (2, 3, 8, 32, 32)),
    'c3d': ('c3d_sports1m_pretrained', {'model.backbone.out_dim': 2048}, (1, 3, 16, 32, 32)),
    'timesformer-divided': ('timesformer', {'model.backbone.attention_type': 'divided_space_time'}, (2, 3, 8, 32, 32)),
    'timesformer-joint': ('timesformer', {'model.backbone.attention_type': 'joint_space_time'}, (1, 3, 8, 32, 32)),
    'timesformer-space': ('timesformer', {'model.backbone.attention_type': 'space_only'}, (1, 3, 8, 32, 32)),
    'videomae': ('videomae', {}, (2, 3, 16, 48, 48)),      # another resolution than that of its positions
    'uniformerv2': ('uniformerv2', {}, (1, 3, 8, 32, 32)),
    'stgcn': ('stgcn', {}, (2, 2, 16, 17, 3)),
    'audio': ('audioonly_r50', {'model.backbone.base_channels': 8, 'model.cls_head.in_channels': 256,
                                'model.cls_head.average_clips': 'score'}, (2, 1, 32, 20)),
}
IMAGES = dict(type='ActionDataPreprocessor', mean=[114.75] * 3, std=[57.375] * 3, format_shape='NCTHW')
# Families whose model the host writes in each configuration instead of in a base file, or that shrink by architecture.
MODELS_OF_CONFIGS = dict(
    swin=dict(
        type='Recognizer3D',
        backbone=dict(type='SwinTransformer3D', arch=dict(embed_dims=24, depths=[1, 1, 1, 1], num_heads=[2, 2, 2, 2]),
                      pretrained2d=False, patch_size=(2, 4, 4), window_size=(8, 7, 7)),
        cls_head=dict(type='I3DHead', in_channels=192, spatial_type='avg', dropout_ratio=0.5, average_clips='prob'),
        data_preprocessor=IMAGES),
    mvit=dict(
        type='Recognizer3D',
        backbone=dict(type='MViT', spatial_size=32, temporal_size=8, drop_path_rate=0.2,
                      arch=dict(embed_dims=16, num_layers=4, num_heads=1, downscale_indices=[1, 2])),
        cls_head=dict(type='MViTHead', in_channels=64, label_smooth_eps=0.1, average_clips='prob'),
        data_preprocessor=IMAGES),
    timesformer=dict(
        type='Recognizer3D',
        backbone=dict(type='TimeSformer', num_frames=8, img_size=32, patch_size=8, embed_dims=32, num_heads=2,
                      num_transformer_layers=2),
        cls_head=dict(type='TimeSformerHead', in_channels=32, average_clips='prob'), data_preprocessor=IMAGES),
    videomae=dict(
        type='Recognizer3D',
        backbone=dict(type='VisionTransformer', img_size=32, patch_size=8, embed_dims=32, depth=2, num_heads=2,
                      qkv_bias=True, num_frames=16),
        cls_head=dict(type='TimeSformerHead', in_channels=32, average_clips='prob'), data_preprocessor=IMAGES),
    uniformerv2=dict(
        type='Recognizer3D',
        backbone=dict(type='UniFormerV2', input_resolution=32, patch_size=8, width=32, layers=4, heads=2, t_size=8,
                      double_lmhra=True, return_list=[1, 2], n_layers=2, n_dim=32, n_head=2, mlp_dropout=[0.5, 0.5],
                      clip_pretrained=False),
        cls_head=dict(type='UniFormerHead', in_channels=32, average_clips='prob'), data_preprocessor=IMAGES),
    stgcn=dict(
        type='RecognizerGCN',
        backbone=dict(type='STGCN', graph_cfg=dict(layout='coco', mode='stgcn_spatial'), base_channels=8),
        cls_head=dict(type='GCNHead', in_channels=32)))


def base_config(name):
    import mmaction
    from mmengine.config import Config
    file, changes, _ = FAMILIES[name]
    if file in MODELS_OF_CONFIGS:
        cfg = Config(dict(model=copy.deepcopy(MODELS_OF_CONFIGS[file])))
    else:
        path = Path(mmaction.__file__).parent / '.mim' / 'configs' / '_base_' / 'models' / f'{file}.py'
        cfg = Config.fromfile(str(path))
        cfg.merge_from_dict({'model.backbone.pretrained': None} if 'pretrained' in cfg.model.backbone else {})
    cfg.merge_from_dict({'model.cls_head.num_classes': 7, **changes})
    return cfg.model


class Family:
    """One family of recognizers: its configuration, models of it, and inputs for them."""

    def __init__(self, name):
        self.name = name
        self.shape = FAMILIES[name][2]
        self.config = base_config(name)
        self.classes = self.config.cls_head.num_classes

    def with_head(self, **options):
        """Another head in place of the stock one, and what that knew of the clip stays."""
        stock = self.config.cls_head
        kept = {key: stock[key] for key in ('num_classes', 'in_channels', 'num_segments') if key in stock}
        self.config.cls_head = {**kept, 'average_clips': 'prob', **options}
        return self

    def build(self, neck=None, seed=0, **changes):
        from mmaction.registry import MODELS
        from mmengine.config import Config
        config = copy.deepcopy(self.config)
        if neck is not None:
            merged = Config(dict(model=config))
            merged.merge_from_dict(dict(model=dict(neck=dict(neck))))
            config = merged.model
        config.update(changes)
        torch.manual_seed(seed)
        model = MODELS.build(config)
        if self.name == 'uniformerv2':          # its last layers start at zero: nothing could be seen through them
            generator = torch.Generator().manual_seed(seed)
            with torch.no_grad():
                for parameter in model.backbone.transformer.dec.parameters():
                    parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
        return model

    def raw_batch(self, clips=2, crops=1, training=False, seed=0):
        """Inputs and samples as a data loader collates them; ``crops`` multiplies the views."""
        from mmaction.structures import ActionDataSample
        generator = torch.Generator().manual_seed(seed)
        shape = (self.shape[0] * crops, *self.shape[1:])
        if training and self.config.type != 'Recognizer2D':
            shape = (1, *shape[1:])
        inputs = [torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8) for _ in range(clips)]
        if not self.config.get('data_preprocessor', {}).get('mean'):    # joints and spectrograms are no bytes
            inputs = [each / 255 for each in inputs]
        samples = [ActionDataSample().set_gt_label(index % self.classes) for index in range(clips)]
        return dict(inputs=inputs, data_samples=samples)

    def batch(self, model, training=False, **options):
        """The same as the data preprocessor hands it over."""
        return model.data_preprocessor(self.raw_batch(training=training, **options), training)

    def scores(self, model, **options):
        model.eval()
        np.random.seed(0)                       # TRN draws its relations of frames at random, in testing too
        with torch.no_grad():
            return torch.stack([s.pred_score for s in model(**self.batch(model, **options), mode='predict')])
