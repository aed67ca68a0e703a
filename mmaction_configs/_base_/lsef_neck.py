# The neck as a named dict, since two bases may not both define `model`:
#   model = dict(neck=_base_.lsef_neck)
lsef_neck = dict(type='LSEFNeck')
