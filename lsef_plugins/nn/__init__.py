"""Parameters around :mod:`lsef_plugins.functional`; plain PyTorch, no OpenMMLab package needed."""
from .dynamics import DynamicDecouplingModule, TransientPart
from .integration import ConsistencyIntegrationModule, default_hidden_channels
from .lsef import LSEF, Decomposition
from .pooling import DecompositionPooling
from .stability import StabilityEncodingModule, StablePart

__all__ = [
    'LSEF', 'ConsistencyIntegrationModule', 'Decomposition', 'DecompositionPooling', 'DynamicDecouplingModule',
    'StabilityEncodingModule', 'StablePart', 'TransientPart', 'default_hidden_channels',
]
