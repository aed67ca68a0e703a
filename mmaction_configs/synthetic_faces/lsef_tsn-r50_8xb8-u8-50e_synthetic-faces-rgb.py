_base_ = ['./tsn-r50_8xb8-u8-50e_synthetic-faces-rgb.py', '../_base_/lsef_neck.py']

model = dict(neck=_base_.lsef_neck)
