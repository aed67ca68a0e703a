"""A decomposed clip, or rated frames, as a picture and a table; numpy, OpenCV, PyTorch, matplotlib, no OpenMMLab."""
from .clip import SampledClip, sample_video
from .energy import Event, base_directions, energy_table, event_threshold, find_events, transient_amplitude
from .picture import draw_decomposition
from .pixels import decompose_pixels, pixel_features
from .ratings import draw_ratings, write_ratings
from .writing import save_picture, write_csv

__all__ = [
    'Event', 'SampledClip', 'base_directions', 'decompose_pixels', 'draw_decomposition', 'draw_ratings',
    'energy_table', 'event_threshold', 'find_events', 'pixel_features', 'sample_video', 'save_picture',
    'transient_amplitude', 'write_csv', 'write_ratings',
]
