"""Necks of the pack, each placed at a site of its recognizer."""
from .lsef_neck import LSEFNeck
from .sited_neck import SitedNeck

__all__ = ['LSEFNeck', 'SitedNeck']
