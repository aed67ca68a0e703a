_base_ = ['./swin-tiny_8xb8-16x5x1-30e_veatic-rgb.py', '../_base_/lsef_neck.py']

model = dict(neck=_base_.lsef_neck)
