# FERV39k, faces as folders of frames, all scenes (tools/data/ferv39k).
# Another fold or protocol, for training, validation and test at once: tools/train.py CONFIG --protocol clean
ferv39k = dict(type='FERV39kDataset', data_root='data/ferv39k', protocol='paper')

train_dataloader = dict(
    batch_size=8,
    num_workers=8,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(split='train', pipeline=[], **ferv39k))
val_dataloader = dict(
    batch_size=8,
    num_workers=8,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(split='val', pipeline=[], **ferv39k))
test_dataloader = dict(
    batch_size=8,
    num_workers=8,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(split='test', pipeline=[], **ferv39k))

val_evaluator = dict(type='AverageRecallMetric')
test_evaluator = dict(type='AverageRecallMetric', per_class=True, per_scene=True, bootstrap=2000, print_confusion=True)
