_base_ = ['./swin-tiny_8xb8-u16-30e_dfew-fd1-rgb.py', '../_base_/lsef_neck.py']

model = dict(neck=_base_.lsef_neck)
