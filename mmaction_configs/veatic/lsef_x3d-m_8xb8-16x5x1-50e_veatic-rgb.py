_base_ = ['./x3d-m_8xb8-16x5x1-50e_veatic-rgb.py', '../_base_/lsef_neck.py']

model = dict(neck=_base_.lsef_neck)
