# For convolutional networks from Kinetics-400 weights, 8 processes of 8 clips; --auto-scale-lr for other batches.
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=50, val_begin=1, val_interval=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

optim_wrapper = dict(
    optimizer=dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=1e-4),
    clip_grad=dict(max_norm=20))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=True, begin=0, end=5, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', T_max=45, eta_min=0, by_epoch=True, begin=5, end=50, convert_to_iter_based=True)
]
auto_scale_lr = dict(enable=False, base_batch_size=64)
