"""The pack's components inside recognizers; importing this teaches the host's recognizers to take our necks."""
from .insertion import insert_neck, install
from .necks import LSEFNeck, SitedNeck
from .sites import Site, find_site

install()

__all__ = ['LSEFNeck', 'Site', 'SitedNeck', 'find_site', 'insert_neck', 'install']
