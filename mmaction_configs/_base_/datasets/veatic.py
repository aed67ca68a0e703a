# VEATIC: windows of 5 frames at stride 5 rate their last frame, the protocol of its authors (tools/data/veatic).
# Another fold or protocol, for training, validation and test at once: tools/train.py CONFIG --protocol clean
veatic = dict(type='VEATICDataset', data_root='data/veatic', clip_len=5, frame_interval=5, protocol='paper')

train_dataloader = dict(
    batch_size=8,
    num_workers=8,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(split='train', pipeline=[], **veatic))
val_dataloader = dict(
    batch_size=8,
    num_workers=8,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(split='val', pipeline=[], **veatic))
test_dataloader = dict(
    batch_size=8,
    num_workers=8,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(split='test', pipeline=[], **veatic))

val_evaluator = dict(type='ValenceArousalMetric')
test_evaluator = dict(type='ValenceArousalMetric', bootstrap=2000)
