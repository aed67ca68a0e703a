_base_ = [
    '../_base_/default_runtime.py', '../_base_/datasets/synthetic_faces.py', '../_base_/pipelines/video_u32_3d.py',
    '../_base_/models/r2plus1d_r34.py', '../_base_/schedules/sgd_50e.py'
]

train_dataloader = dict(batch_size=8, dataset=dict(pipeline=_base_.train_steps))
val_dataloader = dict(dataset=dict(pipeline=_base_.test_steps))
test_dataloader = dict(dataset=dict(pipeline=_base_.test_steps))
default_hooks = dict(checkpoint=dict(save_best='acc/uar'))
