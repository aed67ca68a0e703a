r"""Matrices of one shape and one role, treated together: their gradients in, damped gradients out, their state between.

.. math::
    M \leftarrow (1 - w) M + w G, \quad w = \max(1/n, 1 - \beta), \qquad S = (1 - a) G + a M, \qquad
    G' = \|G\| \frac{Z S}{\|Z S\|},

with :math:`Z = (XX^\top + \tau^2 I)^{-1/2}` of :math:`X = S/\|S\|`, computed anew every few steps
(:class:`Schedule`). With a ``size`` :math:`\rho` the norm of :math:`G'` is :math:`\rho\sqrt{rc}` instead of
:math:`\|G\|`; ``'shared'`` takes for :math:`\rho` the root mean square of all such gradients together.

The share of the gradient's energy that lasts is :math:`\|M\|^2` over the average of :math:`\|G\|^2`: 1 for a gradient
that never changes, :math:`(1 - \beta)/(1 + \beta)` for pure noise.

Axes: ``n`` parameters, ``g`` matrices of each (groups), ``r`` rows, ``c`` columns, ``m`` the smaller of the two.
"""
import math
from typing import Any, Dict, List, Mapping, Optional, Sequence, Union

import torch
from torch import Tensor

from ..functional.rank import participation_ratio
from .matrices import Matrix
from .settings import SHARED, Damping, Schedule
from .spectral import (
    Root,
    apply_root,
    gram,
    in_float64_if_need_be,
    nearer_tau2,
    norm_of,
    over,
    root_by_eigenvectors,
    root_by_products,
    tau2_of_kappa,
    tau2_of_rank,
)

#: Elements of one stack at most: what is stacked for a moment stays small beside a model's activations.
STACK_ELEMENTS = 8_000_000


class MatrixStack:
    """Gradients of ``members`` (name to matrix, all of one shape, type and device), rewritten together."""

    def __init__(self, members: Mapping[str, Matrix], damping: Damping, schedule: Schedule) -> None:
        self.names, self.damping, self.schedule = list(members), damping, schedule
        self.parameters = [matrix.parameter for matrix in members.values()]
        self.shape = next(iter(members.values())).shape
        self.ages = [0] * len(self.names)       # real updates each parameter took part in
        like = self.parameters[0]
        self.dtype, self.device = torch.promote_types(like.dtype, torch.float32), like.device
        solver = schedule.solver
        self.exact = solver == 'eigenvectors' or (solver == 'auto' and self.device.type == 'cpu')
        self.state = self._empty()

    def _empty(self) -> Dict[str, Tensor]:
        groups, rows, columns = self.shape
        lead, m = (len(self.names), groups), min(rows, columns)

        def zeros(*sizes: int, dtype: torch.dtype = self.dtype) -> Tensor:
            return torch.zeros(*lead, *sizes, dtype=dtype, device=self.device)

        state: Dict[str, Tensor] = {}
        if self.damping.damps:
            state.update(root=zeros(m, m), tau2=zeros(), rank=zeros(), input_rank=zeros())
        if self.damping.smoothing:
            stored = getattr(torch, self.schedule.average_dtype)
            # float64 stays what it is: it is there for those who want exactness
            stored = torch.float64 if self.dtype == torch.float64 else stored
            state.update(average=zeros(rows, columns, dtype=stored), energy=zeros())
        return state

    # ---- one step ----------------------------------------------------------------------------------------------
    def rewrite(self, members: Sequence[int], shared: Optional[Tensor] = None) -> None:
        """Rewrites the gradients of these members in place; their state moves on by one update.

        ``shared`` is the root mean square of a ``size`` of that name.
        """
        size = shared if self.damping.size == SHARED else self.damping.size
        by_age: Dict[int, List[int]] = {}
        for i in members:
            by_age.setdefault(self.ages[i], []).append(i)
        for age, rows in by_age.items():
            self._rewrite(rows, age, size)

    def _rewrite(self, rows: List[int], age: int, size: Any) -> None:
        everyone = len(rows) == len(self.names)
        state = self.state if everyone else {key: value[rows] for key, value in self.state.items()}
        gradients = [self.parameters[i].grad for i in rows]
        x = torch.stack([g.reshape(self.shape) for g in gradients if g is not None]).to(self.dtype)
        result = self._damped(x, state, age, size)
        for gradient, new in zip(gradients, result):
            gradient.copy_(new.view(gradient.shape))  # type: ignore[union-attr]
        for i in rows:
            self.ages[i] += 1
        if not everyone:
            for key, value in state.items():
                self.state[key][rows] = value

    def _damped(self, x: Tensor, state: Dict[str, Tensor], age: int, size: Union[float, Tensor, None]) -> Tensor:
        norm = norm_of(x)
        smooth = self._smoothed(x, norm, state, age)
        if self.damping.damps:
            if self.schedule.due(age):
                self._refresh(over(smooth, norm_of(smooth)), state, age)
            smooth = apply_root(state['root'], smooth)
        if size is not None:
            norm = torch.ones_like(norm) * (size * math.sqrt(x.shape[-2] * x.shape[-1]))
        return smooth.mul_(over(norm, norm_of(smooth)))     # x is a copy of the gradients already

    def _smoothed(self, x: Tensor, size: Tensor, state: Dict[str, Tensor], age: int) -> Tensor:
        share = self.damping.smoothing
        if not share:
            return x
        weight = max(1 / (age + 1), 1 - self.damping.decay)
        average = state['average'].to(self.dtype).lerp_(x, weight)
        state['average'].copy_(average)
        state['energy'].lerp_(size[..., 0, 0].square(), weight)
        return torch.lerp(x, average, share)

    def _refresh(self, unit: Tensor, state: Dict[str, Tensor], age: int) -> None:
        g = gram(unit)
        root = self._root(g, state['tau2'], age)
        for key, value in (('root', root.matrix), ('tau2', root.tau2), ('rank', root.rank)):
            state[key].copy_(value)
        m = g.shape[-1]
        state['input_rank'].copy_(participation_ratio(g.flatten(0, 1)).view_as(root.rank) / m)

    def _root(self, g: Tensor, tau2: Tensor, age: int) -> Root:
        target, kappa, m = self.damping.target_rank, self.damping.kappa, g.shape[-1]
        if target is None:
            fixed = tau2_of_kappa(kappa or 0.0, m)
            return (root_by_eigenvectors(g, fixed) if self.exact else
                    root_by_products(g, torch.full_like(tau2, fixed), fixed))
        if self.exact:
            return root_by_eigenvectors(g, target=target)
        # The floor follows the target from one computation to the next; only the first asks for eigenvalues.
        floor = tau2 if age else tau2_of_rank(in_float64_if_need_be(torch.linalg.eigvalsh, g).clamp_min(0),
                                              target).to(g.dtype)
        root = root_by_products(g, floor)
        return root._replace(tau2=nearer_tau2(root, target))

    # ---- what is logged ----------------------------------------------------------------------------------------
    def readings(self) -> Dict[str, Tensor]:
        """Means over the members that have been treated: ``rank``, ``input_rank``, ``smooth_energy`` (0 to 1)."""
        rows = [i for i, age in enumerate(self.ages) if age]
        if not rows:
            return {}
        found: Dict[str, Tensor] = {key: self.state[key][rows].flatten() for key in ('rank', 'input_rank')
                                    if key in self.state}
        if 'average' in self.state:
            average = self.state['average'][rows].to(self.dtype)
            lasting = over(norm_of(average)[..., 0, 0].square(), self.state['energy'][rows])
            found['smooth_energy'] = lasting.flatten().clamp(0, 1)
        return found

    # ---- state ---------------------------------------------------------------------------------------------------
    def state_dict(self) -> Dict[str, Dict[str, Any]]:
        """By parameter name: ``age`` and the tensors of that parameter."""
        return {name: dict(age=age, **{key: value[i].clone() for key, value in self.state.items()})
                for i, (name, age) in enumerate(zip(self.names, self.ages))}

    def load(self, name: str, saved: Mapping[str, Any]) -> None:
        """Puts back the state of one parameter.

        Raises:
            ValueError: it is of another shape or of other settings.
        """
        i = self.names.index(name)
        tensors = {key: value for key, value in saved.items() if key != 'age'}
        there = {key: tuple(value.shape) for key, value in tensors.items()}
        wanted = {key: tuple(value.shape[1:]) for key, value in self.state.items()}
        if there != wanted:
            raise ValueError(f'The RAO state of {name} in the checkpoint is {there}, this run needs {wanted}: another '
                             'layer, or other RAO settings. Resume with the settings the checkpoint was trained with, '
                             'or load only its weights (load_from without resume).')
        self.ages[i] = int(saved['age'])
        for key, value in tensors.items():
            self.state[key][i].copy_(value)
