_base_ = [
    '../_base_/default_runtime.py', '../_base_/datasets/veatic.py', '../_base_/pipelines/video_window_2d.py',
    '../_base_/models/tsn_r50.py', '../_base_/schedules/sgd_50e.py'
]

window = dict(clip_len=8, frame_interval=5)
train_dataloader = dict(dataset=dict(pipeline=_base_.train_steps, **window))
val_dataloader = dict(dataset=dict(pipeline=_base_.test_steps, **window))
test_dataloader = dict(dataset=dict(pipeline=_base_.test_steps, **window))
model = dict(cls_head=dict(_delete_=True, type='ValenceArousalHead', num_segments=8, in_channels=2048))
default_hooks = dict(checkpoint=dict(save_best='va/ccc_global', rule='greater'))
