# Rank-aware optimisation as a named dict, since two bases may not both define `optim_wrapper`:
#   optim_wrapper = _base_.rao
rao = dict(
    constructor='RankAwareOptimWrapperConstructor',
    rao=dict(target_rank=0.5, interval=10, warmup=20))
