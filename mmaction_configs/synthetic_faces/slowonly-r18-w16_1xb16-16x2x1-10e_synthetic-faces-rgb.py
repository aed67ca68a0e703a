_base_ = [
    '../_base_/default_runtime.py', '../_base_/datasets/synthetic_faces.py',
    '../_base_/models/slowonly_r18_w16.py', '../_base_/schedules/adamw_10e.py'
]
