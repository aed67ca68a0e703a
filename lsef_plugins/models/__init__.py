"""The pack's components inside recognizers; importing this teaches the host's recognizers to take our necks."""
from .heads import LSEFHead, SitedHead
from .insertion import insert_neck, install
from .necks import ConsistencyIntegrationNeck, DynamicDecouplingNeck, LSEFNeck, SitedNeck, StabilityEncodingNeck
from .sites import Site, find_site

install()

__all__ = ['ConsistencyIntegrationNeck', 'DynamicDecouplingNeck', 'LSEFHead', 'LSEFNeck', 'Site', 'SitedHead',
           'SitedNeck', 'StabilityEncodingNeck', 'find_site', 'insert_neck', 'install']
