# LSEF's decomposition in the log, and scored against what was planted: docs/decomposition_scores.md.
_base_ = './lsef_framewise-r18-w16_1xb16-16x2x1-10e_synthetic-faces-rgb.py'

custom_hooks = [dict(type='DecompositionHook', interval=20), dict(type='DecompositionTapHook')]

test_pipeline = [
    *_base_.test_pipeline[:2], dict(type='LoadPlantedTruth'), *_base_.test_pipeline[2:-1], dict(type='PackAffectInputs')
]
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

val_evaluator = [_base_.val_evaluator, dict(type='DecompositionRecoveryMetric')]
test_evaluator = val_evaluator
