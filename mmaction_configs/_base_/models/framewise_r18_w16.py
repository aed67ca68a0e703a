# SlowOnly-R18 with 16 base channels and no temporal convolution: every frame is seen alone, as in TSN, and the head averages
# over time. A stock recognizer small enough to train on a CPU.
_base_ = './slowonly_r18_w16.py'

model = dict(backbone=dict(inflate=(0, 0, 0, 0)))
