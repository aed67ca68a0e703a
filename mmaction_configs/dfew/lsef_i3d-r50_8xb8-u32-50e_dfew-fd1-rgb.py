_base_ = ['./i3d-r50_8xb8-u32-50e_dfew-fd1-rgb.py', '../_base_/lsef_neck.py']

model = dict(neck=_base_.lsef_neck)
