_base_ = ['./r2plus1d-r34_8xb8-32x2x1-50e_veatic-rgb.py', '../_base_/lsef_neck.py']

model = dict(neck=_base_.lsef_neck)
