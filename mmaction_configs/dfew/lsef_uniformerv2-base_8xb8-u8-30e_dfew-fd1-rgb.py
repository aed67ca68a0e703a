_base_ = ['./uniformerv2-base_8xb8-u8-30e_dfew-fd1-rgb.py', '../_base_/lsef_neck.py']

model = dict(neck=_base_.lsef_neck)
