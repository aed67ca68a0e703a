"""What RAO does to the matrices of one role, checked at construction."""
import dataclasses
import math
from typing import Any, Mapping, Optional, Union

#: Storage of the averaged gradient: half the memory; a step moves the average by 1 - decay, far above its rounding.
AVERAGE_DTYPES = ('bfloat16', 'float32')
SOLVERS = ('auto', 'eigenvectors', 'products')
#: ``size`` that spreads the norm of all gradients evenly over their elements.
SHARED = 'shared'


@dataclasses.dataclass(frozen=True)
class Damping:
    """How one role's gradients are smoothed and damped.

    Attributes:
        target_rank: ridge effective rank the floor is set for, in (0, 1]; None: the floor is ``kappa``'s.
        kappa: fixed floor in root mean eigenvalues; None with ``target_rank`` None: no damping.
        smoothing: share of the averaged gradient in what is damped, from 0 (none, and no memory for it) to 1.
        decay: of the running average, in [0, 1); 0.9 averages about ten steps.
        size: root mean square that every rewritten gradient gets. ``'shared'``: one for all such matrices, in each step
            that at which their gradients together keep their norm. None: each keeps the norm it had.
    """
    target_rank: Optional[float] = 0.5
    kappa: Optional[float] = None
    smoothing: float = 0.0
    decay: float = 0.9
    size: Union[float, str, None] = SHARED

    def __post_init__(self) -> None:
        if self.target_rank is not None and not (_is_number(self.target_rank) and 0 < self.target_rank <= 1):
            raise ValueError(f'target_rank is the share of directions above the noise floor, in (0, 1], got '
                             f'{self.target_rank!r}. 0.5 is the default; None with kappa=... fixes the floor instead.')
        if not (self.kappa is None or _is_positive(self.kappa)):
            raise ValueError(f'kappa is the noise floor in root mean eigenvalues, a positive number or None, got '
                             f'{self.kappa!r}.')
        if self.target_rank is not None and self.kappa is not None:
            raise ValueError(f'target_rank={self.target_rank} and kappa={self.kappa} both set the noise floor. Give '
                             'one of them and set the other to None.')
        if not (_is_number(self.smoothing) and 0 <= self.smoothing <= 1):
            raise ValueError(f'smoothing is the share of the averaged gradient, in [0, 1], got {self.smoothing!r}.')
        if not (_is_number(self.decay) and 0 <= self.decay < 1):
            raise ValueError(f'decay is that of a running average, in [0, 1), got {self.decay!r}.')
        if not (self.size in (None, SHARED) or _is_positive(self.size)):
            raise ValueError(f'size is the root mean square of the rewritten gradients, a positive number, or None to '
                             f"keep their norms, or '{SHARED}' to keep their common norm, got {self.size!r}.")

    @property
    def damps(self) -> bool:
        return self.target_rank is not None or self.kappa is not None

    @property
    def does_nothing(self) -> bool:
        return not self.damps and self.smoothing == 0 and self.size is None

    def changed(self, options: Mapping[str, Any]) -> 'Damping':
        """These settings with some of them replaced; ``kappa`` replaces ``target_rank`` and the reverse."""
        known = [field.name for field in dataclasses.fields(self)]
        unknown = sorted(set(options) - set(known))
        if unknown:
            raise ValueError(f'RAO does not know {", ".join(unknown)}; a role takes {", ".join(known)}.')
        options = dict(options)
        if options.get('kappa') is not None:
            options.setdefault('target_rank', None)
        elif options.get('target_rank') is not None:
            options.setdefault('kappa', None)
        return dataclasses.replace(self, **options)


@dataclasses.dataclass(frozen=True)
class Schedule:
    """When inverse roots are computed anew, and how.

    Attributes:
        interval: steps between two computations of a matrix's inverse root.
        warmup: number of first steps in each of which it is computed.
        solver: ``eigenvectors`` (exact), ``products`` (no eigenproblem, no synchronisation with the host), or
            ``auto``: eigenvectors on a CPU, products elsewhere.
        average_dtype: storage of the averaged gradient.
    """
    interval: int = 10
    warmup: int = 20
    solver: str = 'auto'
    average_dtype: str = 'bfloat16'

    def __post_init__(self) -> None:
        for name, least in (('interval', 1), ('warmup', 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(f'{name} counts steps, a whole number of at least {least}, got {value!r}.')
        if self.solver not in SOLVERS:
            raise ValueError(f'solver {self.solver!r} is unknown; choose one of {", ".join(SOLVERS)}.')
        if self.average_dtype not in AVERAGE_DTYPES:
            raise ValueError(f'average_dtype {self.average_dtype!r} is unknown; choose one of '
                             f'{", ".join(AVERAGE_DTYPES)}.')

    def due(self, age: int) -> bool:
        return age < self.warmup or age % self.interval == 0


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_positive(value: Any) -> bool:
    return _is_number(value) and 0 < value < math.inf
