"""Heads of the pack, each reading its recognizer's features at a site."""
from .lsef_head import LSEFHead
from .sited_head import SitedHead

__all__ = ['LSEFHead', 'SitedHead']
