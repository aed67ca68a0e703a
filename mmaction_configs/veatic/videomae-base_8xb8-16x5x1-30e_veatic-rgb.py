_base_ = [
    '../_base_/default_runtime.py', '../_base_/datasets/veatic.py', '../_base_/pipelines/video_window_3d.py',
    '../_base_/models/videomae_base.py', '../_base_/schedules/adamw_30e.py'
]

window = dict(clip_len=16, frame_interval=5)
train_dataloader = dict(dataset=dict(pipeline=_base_.train_steps, **window))
val_dataloader = dict(dataset=dict(pipeline=_base_.test_steps, **window))
test_dataloader = dict(dataset=dict(pipeline=_base_.test_steps, **window))
model = dict(cls_head=dict(_delete_=True, type='ValenceArousalHead', in_channels=768))
default_hooks = dict(checkpoint=dict(save_best='va/ccc_global', rule='greater'))
