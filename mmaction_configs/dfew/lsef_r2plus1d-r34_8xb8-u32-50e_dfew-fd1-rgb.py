_base_ = ['./r2plus1d-r34_8xb8-u32-50e_dfew-fd1-rgb.py', '../_base_/lsef_neck.py']

model = dict(neck=_base_.lsef_neck)
