_base_ = ['./uniformerv2-base_8xb8-8x5x1-30e_veatic-rgb.py', '../_base_/lsef_neck.py']

model = dict(neck=_base_.lsef_neck)
