_base_ = [
    './lsef-headonly_framewise-r18-w16_1xb16-16x2x1-10e_synthetic-faces-rgb.py', '../_base_/lsef_neck.py'
]

model = dict(neck=_base_.lsef_neck)
