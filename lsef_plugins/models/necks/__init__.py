"""Necks of the pack, each placed at a site of its recognizer."""
from .decomposing_neck import DecomposingNeck
from .lsef_neck import LSEFNeck, neck_options
from .options import check_options
from .part_necks import ConsistencyIntegrationNeck, DynamicDecouplingNeck, StabilityEncodingNeck
from .sited_neck import SitedNeck

__all__ = ['ConsistencyIntegrationNeck', 'DecomposingNeck', 'DynamicDecouplingNeck', 'LSEFNeck', 'SitedNeck',
           'StabilityEncodingNeck', 'check_options', 'neck_options']
