_base_ = ['./framewise-r18-w16_1xb16-u16-10e_synthetic-dfew-fd1-rgb.py', '../_base_/lsef_neck.py']

model = dict(neck=_base_.lsef_neck)
