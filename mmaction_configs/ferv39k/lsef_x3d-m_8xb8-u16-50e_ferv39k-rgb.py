_base_ = ['./x3d-m_8xb8-u16-50e_ferv39k-rgb.py', '../_base_/lsef_neck.py']

model = dict(neck=_base_.lsef_neck)
