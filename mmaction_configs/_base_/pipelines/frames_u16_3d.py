# 16 frames for 3-D recognizers, from folders of frames: one from each of 16 equal parts of the clip, at random in training.
train_steps = [
    dict(type='UniformSample', clip_len=16),
    dict(type='ListedFrameDecode'),
    dict(type='Resize', scale=(-1, 256)),
    dict(type='RandomResizedCrop', area_range=(0.8, 1.0), aspect_ratio_range=(0.9, 1.1)),
    dict(type='Resize', scale=(224, 224), keep_ratio=False),
    dict(type='Flip', flip_ratio=0.5),
    dict(type='FormatShape', input_format='NCTHW'),
    dict(type='PackAffectInputs')
]
test_steps = [
    dict(type='UniformSample', clip_len=16, test_mode=True),
    dict(type='ListedFrameDecode'),
    dict(type='Resize', scale=(224, 224), keep_ratio=False),
    dict(type='FormatShape', input_format='NCTHW'),
    dict(type='PackAffectInputs')
]
