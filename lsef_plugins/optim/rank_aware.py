"""RAO for any torch optimizer: gradients in, gradients out.

In plain PyTorch::

    from lsef_plugins.optim import RankAwareGradients, hidden_matrices
    rao = RankAwareGradients(hidden_matrices(model, num_classes=7))
    rao.attach(optimizer)          # from now on optimizer.step() sees the damped gradients

The formula is that of :mod:`lsef_plugins.optim.stack`. In MMAction2 the constructor
``RankAwareOptimWrapperConstructor`` does all this.
"""
import dataclasses
import math
import warnings
from typing import Any, Dict, List, Mapping, Optional, Tuple, Union

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from .matrices import Matrix
from .settings import SHARED, Damping, Schedule
from .stack import STACK_ELEMENTS, MatrixStack

#: Peaks of gradients whose squares are safe in float32; smaller ones count as zero, larger ones as not finite.
SMALLEST, LARGEST = 1e-18, 1e15
DEFAULT_ROLE = 'default'


class RankAwareGradients:
    """RAO: damps the spectra of matrix-shaped gradients and gives them equal shares of their common norm.

    Args:
        matrices: the matrices to treat by name; parameters count as one matrix.
        damping: for all roles, or one for each role in ``roles``.
        roles: role of a matrix by its name; ``'default'`` where it is not named.
        schedule: when inverse roots are computed anew.

    Left alone are parameters without gradient, with a sparse or an all-zero one. A step in which any treated gradient
    is not finite changes nothing, in the state neither.
    """

    def __init__(self, matrices: Mapping[str, Union[Matrix, nn.Parameter]],
                 damping: Union[Damping, Mapping[str, Damping], None] = None,
                 roles: Optional[Mapping[str, str]] = None, schedule: Optional[Schedule] = None) -> None:
        self.schedule = schedule = schedule or Schedule()
        damping = damping or Damping()
        self.roles: List[str] = []              # of each stack
        self.stacks: List[MatrixStack] = []
        of_role = damping if isinstance(damping, Mapping) else None
        batches: Dict[tuple, List[Tuple[str, Matrix]]] = {}
        for name, given in matrices.items():
            matrix = given if isinstance(given, Matrix) else Matrix(given)
            role = (roles or {}).get(name, DEFAULT_ROLE)
            if of_role is not None and role not in of_role:
                raise ValueError(f'The matrix {name} has the role {role!r}, for which there is no damping; given are '
                                 f'those of {", ".join(of_role)}.')
            if matrix.side < 2:
                raise ValueError(f'{name} {tuple(matrix.parameter.shape)} is no matrix: with {matrix.groups} groups '
                                 'it has a single row or column. Leave it out.')
            chosen = damping if isinstance(damping, Damping) else damping[role]
            if not chosen.does_nothing:
                key = (role, chosen, matrix.shape, matrix.parameter.dtype, matrix.parameter.device)
                batches.setdefault(key, []).append((name, matrix))
        for (role, chosen, shape, *_), members in batches.items():
            count = max(1, STACK_ELEMENTS // math.prod(shape))
            for first in range(0, len(members), count):
                self.roles.append(role)
                self.stacks.append(MatrixStack(dict(members[first:first + count]), chosen, schedule))
        self.steps = 0
        self._hooked: Optional[Optimizer] = None
        self._handle: Any = None

    def __len__(self) -> int:
        return sum(len(stack.names) for stack in self.stacks)

    # ---- use -------------------------------------------------------------------------------------------------
    def attach(self, optimizer: Optimizer) -> None:
        """Lets ``optimizer.step()`` begin with :meth:`step`, and no other optimizer's."""
        self.detach()
        # Not compiled: a compiled train step would trace it anew in each of its first steps.
        self._handle = optimizer.register_step_pre_hook(torch.compiler.disable(self._before_step))
        self._hooked = optimizer

    def _before_step(self, optimizer: Optimizer, *_: Any) -> None:
        # set by a loss scaler for optimizers that skip a step by themselves
        skipped = getattr(optimizer, 'found_inf', None)
        if skipped is None or not bool(skipped):
            self.step()

    def detach(self) -> None:
        if self._handle is not None:
            self._handle.remove()
        self._handle = self._hooked = None

    def is_attached_to(self, optimizer: Optimizer) -> bool:
        return self._hooked is optimizer

    @torch.no_grad()
    def step(self) -> bool:
        """Rewrites the gradients in place; False, and nothing has changed, if one of them is not finite."""
        present = [[i for i, p in enumerate(stack.parameters) if p.grad is not None and
                    p.grad.layout == torch.strided] for stack in self.stacks]
        peaks = self._peaks(present)
        if not all(peak <= LARGEST for peaks_of_stack in peaks for peak in peaks_of_stack):     # NaN is not <= either
            return False
        treated = [[i for i, peak in zip(members, sizes) if peak >= SMALLEST]
                   for members, sizes in zip(present, peaks)]
        shared = self._shared_size(treated, max([peak for sizes in peaks for peak in sizes], default=0.0))
        for stack, members in zip(self.stacks, treated):
            if members:
                with torch.autocast(stack.device.type, enabled=False):
                    stack.rewrite(members, None if shared is None else shared.to(stack.device))
        self.steps += 1
        return True

    def _peaks(self, present: List[List[int]]) -> List[List[float]]:
        """Largest magnitude in each gradient: the one time in a step that the host waits for the device."""
        gradients: List[Any] = [stack.parameters[i].grad for stack, members in zip(self.stacks, present)
                                for i in members]
        by_place: Dict[tuple, List[int]] = {}
        for index, gradient in enumerate(gradients):
            by_place.setdefault((gradient.device, gradient.dtype), []).append(index)
        flat = [0.0] * len(gradients)
        for indices in by_place.values():
            found = torch.stack(torch._foreach_norm([gradients[i] for i in indices], ord=math.inf))
            for index, peak in zip(indices, found.tolist()):
                flat[index] = peak
        values = iter(flat)
        return [[next(values) for _ in members] for members in present]

    def _shared_size(self, treated: List[List[int]], peak: float) -> Optional[Tensor]:
        """Root mean square of the gradients that share one, all together: ``()``; None where none does.

        ``peak`` is at least the largest magnitude in them; measured in it no square overflows or vanishes.
        """
        gradients: List[Any] = [stack.parameters[i].grad for stack, members in zip(self.stacks, treated)
                                if stack.damping.size == SHARED for i in members]
        if not gradients:
            return None
        unit = peak * math.sqrt(sum(gradient.numel() for gradient in gradients))
        parts = [(torch.linalg.vector_norm(g, dtype=torch.promote_types(g.dtype, torch.float32)) / unit).square()
                 for g in gradients]
        return torch.stack([part.to(parts[0].device) for part in parts]).sum().sqrt() * peak

    # ---- what is logged ----------------------------------------------------------------------------------------
    def readings(self) -> Dict[str, float]:
        """``<quantity>_<role>``: means over the matrices of a role of ``rank``, ``input_rank``, ``smooth_energy``."""
        gathered: Dict[str, List[Tensor]] = {}
        for role, stack in zip(self.roles, self.stacks):
            for quantity, values in stack.readings().items():
                gathered.setdefault(f'{quantity}_{role}', []).append(values.float().cpu())
        return {key: torch.cat(values).mean().item() for key, values in sorted(gathered.items())}

    # ---- state ---------------------------------------------------------------------------------------------------
    def state_dict(self) -> Dict[str, Any]:
        matrices = {name: saved for stack in self.stacks for name, saved in stack.state_dict().items()}
        return dict(steps=self.steps, matrices=matrices, settings=self._settings())

    def _settings(self) -> Dict[str, Dict[str, Any]]:
        """By role."""
        return {role: dataclasses.asdict(stack.damping) for role, stack in zip(self.roles, self.stacks)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Puts back what :meth:`state_dict` returned; matrices it does not know start afresh, with a warning, and those
        of this object are the settings that count, with a warning if the saved ones were others.

        Raises:
            ValueError: the state is of other shapes, or of settings that keep another state.
        """
        saved = state['matrices']
        known = {name for stack in self.stacks for name in stack.names}
        if set(saved) != known:
            warnings.warn(f'The RAO state of the checkpoint is of {len(saved)} matrices, this run treats {len(known)}. '
                          f'Not in the checkpoint, so starting afresh: {_few(known - set(saved))}; not treated now: '
                          f'{_few(set(saved) - known)}.', stacklevel=2)
        for stack in self.stacks:
            for name in stack.names:
                if name in saved:
                    stack.load(name, saved[name])
        self.steps = int(state['steps'])
        # States of before there was a shared size do not tell their settings; each matrix kept its norm by default.
        before = state.get('settings', {role: dict(size=None) for role in self.roles})
        changed = sorted(f'{role}: {key} {before[role][key]!r} -> {value!r}' for role, now in self._settings().items()
                         for key, value in now.items() if key in before.get(role, ()) and before[role][key] != value)
        if changed:
            warnings.warn(f'RAO goes on with other settings than those of the checkpoint ({"; ".join(changed)}): steps '
                          'of another size or direction. Set the old ones to continue as before.', stacklevel=2)


def _few(names: set) -> str:
    listed = sorted(names)
    return ', '.join(listed[:3]) + (f' and {len(listed) - 3} more' if len(listed) > 3 else '') if listed else 'none'
