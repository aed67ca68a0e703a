_base_ = './framewise-r18-w16_1xb16-16x2x1-10e_synthetic-faces-rgb.py'

# Most of what LSEF gains shows where the head reads movement as well as the mean (docs/results.md).
model = dict(cls_head=dict(
    _delete_=True, type='LSEFHead', num_classes=7, in_channels=128, dropout_ratio=0.2, average_clips='prob'))
