# DFEW, aligned faces as folders of frames, in five folds (tools/data/dfew).
# Another fold or protocol, for training, validation and test at once: tools/train.py CONFIG --fold 2 --protocol clean
dfew = dict(type='DFEWDataset', data_root='data/dfew', fold=1, protocol='paper')

train_dataloader = dict(
    batch_size=8,
    num_workers=8,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(split='train', pipeline=[], **dfew))
val_dataloader = dict(
    batch_size=8,
    num_workers=8,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(split='val', pipeline=[], **dfew))
test_dataloader = dict(
    batch_size=8,
    num_workers=8,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(split='test', pipeline=[], **dfew))

val_evaluator = dict(type='AverageRecallMetric')
test_evaluator = dict(type='AverageRecallMetric', per_class=True, bootstrap=2000, print_confusion=True)
