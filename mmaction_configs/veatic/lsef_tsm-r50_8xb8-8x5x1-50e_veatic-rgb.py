_base_ = ['./tsm-r50_8xb8-8x5x1-50e_veatic-rgb.py', '../_base_/lsef_neck.py']

model = dict(neck=_base_.lsef_neck)
