_base_ = ['./i3d-r50_8xb8-32x2x1-50e_veatic-rgb.py', '../_base_/lsef_neck.py']

model = dict(neck=_base_.lsef_neck)
