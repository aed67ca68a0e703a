# SlowOnly-R18 with 16 base channels: a stock recognizer small enough to train on a CPU. Temporal convolutions in the last two
# stages; time is kept to the head.
model = dict(
    type='Recognizer3D',
    backbone=dict(
        type='ResNet3dSlowOnly',
        depth=18,
        pretrained=None,
        base_channels=16,
        lateral=False,
        conv1_kernel=(1, 7, 7),
        conv1_stride_t=1,
        pool1_stride_t=1,
        inflate=(0, 0, 1, 1),
        norm_eval=False),
    cls_head=dict(
        type='I3DHead',
        in_channels=128,
        num_classes=7,
        spatial_type='avg',
        dropout_ratio=0.2,
        average_clips='prob'),
    data_preprocessor=dict(
        type='ActionDataPreprocessor',
        mean=[120.0, 120.0, 120.0],
        std=[60.0, 60.0, 60.0],
        format_shape='NCTHW'))
