"""Heads of the pack, each reading its recognizer's features at a site."""
from .lsef_head import LSEFHead
from .sited_head import SitedHead
from .valence_arousal_head import ValenceArousalHead

__all__ = ['LSEFHead', 'SitedHead', 'ValenceArousalHead']
