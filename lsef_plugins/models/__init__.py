"""The pack's components inside recognizers; importing this teaches the host's recognizers to take our necks."""
from .heads import LSEFHead, SitedHead, ValenceArousalHead
from .insertion import insert_neck, install
from .losses import CCCLoss, ClassWeightedLoss, LogitAdjustedLoss
from .necks import ConsistencyIntegrationNeck, DynamicDecouplingNeck, LSEFNeck, SitedNeck, StabilityEncodingNeck
from .sites import Site, find_site

install()

__all__ = ['CCCLoss', 'ClassWeightedLoss', 'ConsistencyIntegrationNeck', 'DynamicDecouplingNeck', 'LSEFHead',
           'LSEFNeck', 'LogitAdjustedLoss', 'Site', 'SitedHead', 'SitedNeck', 'StabilityEncodingNeck',
           'ValenceArousalHead', 'find_site', 'insert_neck', 'install']
