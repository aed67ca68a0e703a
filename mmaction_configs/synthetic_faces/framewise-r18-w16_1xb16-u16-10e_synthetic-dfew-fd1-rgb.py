# The embedded faces in DFEW's layout: python tools/data/write_synthetic_layout.py dfew data/synthetic_dfew --clips 700
_base_ = [
    '../_base_/default_runtime.py', '../_base_/datasets/dfew.py', '../_base_/pipelines/frames_u16_3d.py',
    '../_base_/models/framewise_r18_w16.py', '../_base_/schedules/adamw_10e.py'
]

small = dict(batch_size=16, num_workers=1)
for_faces = [dict(type='Flip', flip_ratio=0.5), *_base_.train_steps[-2:]]
train_dataloader = dict(
    dataset=dict(data_root='data/synthetic_dfew', pipeline=[*_base_.train_steps[:2], *for_faces]), **small)
val_dataloader = dict(
    dataset=dict(data_root='data/synthetic_dfew', pipeline=[*_base_.test_steps[:2], *for_faces[1:]]), **small)
test_dataloader = dict(
    dataset=dict(data_root='data/synthetic_dfew', pipeline=[*_base_.test_steps[:2], *for_faces[1:]]), **small)
train_cfg = dict(val_begin=1, val_interval=1)
default_hooks = dict(checkpoint=dict(save_best='acc/uar'))
