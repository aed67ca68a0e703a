"""Losses in MMAction2's registry."""
from .balanced_losses import ClassCountLoss, ClassWeightedLoss, LogitAdjustedLoss
from .ccc_loss import CCCLoss

__all__ = ['CCCLoss', 'ClassCountLoss', 'ClassWeightedLoss', 'LogitAdjustedLoss']
