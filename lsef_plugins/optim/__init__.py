"""The mathematics of RAO: gradient in, gradient out; plain PyTorch, no OpenMMLab package needed."""
from .matrices import Matrix, hidden_matrices
from .rank_aware import RankAwareGradients
from .settings import Damping, Schedule
from .spectral import damped

__all__ = ['Damping', 'Matrix', 'RankAwareGradients', 'Schedule', 'damped', 'hidden_matrices']
