_base_ = ['./videomae-base_8xb8-u16-30e_ferv39k-rgb.py', '../_base_/lsef_neck.py']

model = dict(neck=_base_.lsef_neck)
