_base_ = [
    '../_base_/default_runtime.py', '../_base_/datasets/dfew.py', '../_base_/pipelines/frames_u32_3d.py',
    '../_base_/models/i3d_r50.py', '../_base_/schedules/sgd_50e.py'
]

train_dataloader = dict(dataset=dict(pipeline=_base_.train_steps))
val_dataloader = dict(dataset=dict(pipeline=_base_.test_steps))
test_dataloader = dict(dataset=dict(pipeline=_base_.test_steps))
default_hooks = dict(checkpoint=dict(save_best='acc/uar'))
