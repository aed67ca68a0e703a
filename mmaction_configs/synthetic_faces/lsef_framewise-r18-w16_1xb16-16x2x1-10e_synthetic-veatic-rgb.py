_base_ = ['./framewise-r18-w16_1xb16-16x2x1-10e_synthetic-veatic-rgb.py', '../_base_/lsef_neck.py']

model = dict(neck=_base_.lsef_neck)
