# The embedded faces in VEATIC's layout: python tools/data/write_synthetic_layout.py veatic data/synthetic_veatic
_base_ = [
    '../_base_/default_runtime.py', '../_base_/datasets/veatic.py', '../_base_/pipelines/video_window_3d.py',
    '../_base_/models/framewise_r18_w16.py', '../_base_/schedules/adamw_10e.py'
]

decode, pack = _base_.test_steps[:2], _base_.test_steps[-2:]
# Protocol 'clean' holds out enough of these short videos for a window of 31 frames.
window = dict(data_root='data/synthetic_veatic', clip_len=16, frame_interval=2, sample_step=4, val_ratio=0.4)
train_dataloader = dict(dataset=dict(pipeline=[*decode, dict(type='Flip'), *pack], **window), batch_size=16, num_workers=1)
val_dataloader = dict(dataset=dict(pipeline=[*decode, *pack], **window), batch_size=16, num_workers=1)
test_dataloader = dict(dataset=dict(pipeline=[*decode, *pack], **window), batch_size=16, num_workers=1)
model = dict(cls_head=dict(_delete_=True, type='ValenceArousalHead', in_channels=128))
train_cfg = dict(val_begin=1, val_interval=1)
default_hooks = dict(checkpoint=dict(save_best='va/ccc_global', rule='greater'))
