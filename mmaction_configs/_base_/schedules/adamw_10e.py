train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=10, val_begin=10, val_interval=10)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

optim_wrapper = dict(
    optimizer=dict(type='AdamW', lr=0.003, weight_decay=0.02),
    clip_grad=dict(max_norm=20))
param_scheduler = [
    dict(type='OneCycleLR', eta_max=0.003, total_steps=10, pct_start=0.15, by_epoch=True, convert_to_iter_based=True)
]
