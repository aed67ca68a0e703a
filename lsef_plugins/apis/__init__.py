"""The front door: a config, a checkpoint, a video -> labels, scores, curves, decomposition."""
from lsef_plugins.register_all import register_all

register_all()      # without MMAction2 this says what to install

from .inferencer import LSEFInferencer  # noqa: E402
from .results import Inference, Inferences  # noqa: E402

__all__ = ['Inference', 'Inferences', 'LSEFInferencer']
