from .constructor import RankAwareOptimWrapperConstructor

__all__ = ['RankAwareOptimWrapperConstructor']
