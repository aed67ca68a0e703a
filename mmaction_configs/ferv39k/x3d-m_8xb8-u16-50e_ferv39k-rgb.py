_base_ = [
    '../_base_/default_runtime.py', '../_base_/datasets/ferv39k.py', '../_base_/pipelines/frames_u16_3d.py',
    '../_base_/models/x3d_m.py', '../_base_/schedules/sgd_50e.py'
]

train_dataloader = dict(dataset=dict(pipeline=_base_.train_steps))
val_dataloader = dict(dataset=dict(pipeline=_base_.test_steps))
test_dataloader = dict(dataset=dict(pipeline=_base_.test_steps))
default_hooks = dict(checkpoint=dict(save_best='acc/uar'))
