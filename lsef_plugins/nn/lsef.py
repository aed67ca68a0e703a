r"""LSEF: SEM, DDM and CIM as one module on feature maps ``(b, c, t, h, w)``."""
import warnings
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple, Union

import torch
from torch import Tensor, nn

from ..functional.decomposition import apply_over_time
from ..functional.low_rank import safe_scale
from ..functional.regularizers import (
    energy_ratio,
    rank_excess,
    reconstruction_energy,
    scale_consistency,
    transient_density,
)
from ..ops.exporting import is_traced, must_be_plain
from .dynamics import DynamicDecouplingModule, Split, TransientPart
from .integration import ConsistencyIntegrationModule
from .own_parts import OwnStablePart, OwnTransientPart, Switch, arguments_of, stable_part, transient_part
from .stability import Look, StabilityEncodingModule, StablePart

ON_NONFINITE = ('auto', 'raise', 'isolate')
MERGED = ('stable', 'transient')
# What ``cim=False`` leaves of the merge.
WITHOUT_CIM: Dict[str, Any] = dict(windows=(1, ), bands_of='stable', kernel=1)


class Decomposition(NamedTuple):
    """``x = stable + transient + residual``, each ``(b, c, t, h, w)``, float32 or float64.

    ``frame_gate`` ``(b, t)`` in [0, 1): 1 = a frame its neighbours cannot explain. ``scale`` and ``threshold``
    ``(b, c)`` in the units of the feature. ``operator`` and ``gram`` ``(b, t, t)``, float64; ``gram`` up to a
    power of two per clip. (``operator @ gram @ operator.T`` is the Gram matrix of the stable part; where a module of
    the user's makes that, ``operator`` is the identity.)
    """
    stable: Tensor
    transient: Tensor
    residual: Tensor
    frame_gate: Tensor
    scale: Tensor
    threshold: Tensor
    operator: Tensor
    gram: Tensor


class LSEF(nn.Module):
    r"""Separates features over time into a stable and a transient part and puts them together again.

    At initialisation the output is the input, bit for bit.

    Args:
        channels: number of feature channels.
        rank: largest rank of the stable part (handed to SEM).
        iterations: K of the alternation between SEM and DDM. 1 reads the features least; 2 to 5 recover better
            when single elements, not whole frames, are corrupted. Hooks on ``sem`` and ``ddm`` see the last pass.
        sem, ddm, cim: True, or a dict of arguments of :class:`StabilityEncodingModule`,
            :class:`DynamicDecouplingModule` and :class:`ConsistencyIntegrationModule`; False switches the part off:
            without SEM there is no stable part and no frame gate, without DDM no transient part, without CIM the
            merge reads each frame of both parts by itself, at one time scale. Without SEM and DDM nothing is
            separated: all of the features counts as stable, and CIM puts their own time scales together again. The
            bands are by default those of the restored features where both parts are merged and DDM is our own.
            ``sem=dict(type=MyStable, ...)`` and ``ddm=dict(type=MyTransient, ...)`` put modules of your own in their
            places (:mod:`lsef_plugins.nn.own_parts`).
        merge: which parts CIM puts together: ``stable``, ``transient`` or both (of those that exist). A part that is
            left out is still taken from the features. ``()``: no merge at all, the module only separates.
        on_nonfinite: what to do with a clip that holds NaN or Inf. ``raise`` names the frames; ``isolate`` warns
            once and lets the clip pass unchanged, so that its NaN goes where it would have gone without LSEF and
            never to another clip; ``auto`` isolates float16 (an overflow is the loss scaler's to skip) and
            raises otherwise. Inside torch.compile always ``isolate``.

    Shape:
        - ``x``: ``(b, c, t, h, w)``, any floating dtype; returns the same shape and dtype.

    Raises:
        ValueError: the input is not 5-D, has another number of channels, or is not finite (see above).

    Source:
        After LSEF (arXiv:2511.11406), of which only the abstract is known: names and roles are the paper's, every
        equation is ours.
    """

    def __init__(self, channels: int, rank: int = 2, iterations: int = 1, sem: Switch = True, ddm: Switch = True,
                 cim: Switch = True, on_nonfinite: str = 'auto', merge: Sequence[str] = MERGED) -> None:
        super().__init__()
        if isinstance(channels, bool) or not isinstance(channels, int) or channels < 1:
            raise ValueError(f'channels is the number of feature channels, an integer >= 1, got {channels!r}.')
        if isinstance(iterations, bool) or not isinstance(iterations, int) or not 1 <= iterations <= 10:
            raise ValueError(f'iterations is K of the alternation, an integer from 1 to 10, got {iterations!r}.')
        if on_nonfinite not in ON_NONFINITE:
            raise ValueError(f'on_nonfinite {on_nonfinite!r} is unknown; choose one of {", ".join(ON_NONFINITE)}.')
        if sem is False and ddm is False and (cim is False or not merge):
            raise ValueError('sem=False, ddm=False and cim=False (or merge=()) together leave nothing of LSEF: drop '
                             'the neck instead.')
        self.channels, self.iterations, self.on_nonfinite = channels, iterations, on_nonfinite
        self.sem = stable_part(sem, channels, rank)
        self.ddm = transient_part(ddm, channels)
        self.cim = self._merge(merge, cim)
        self._told_nonfinite = False

    def _merge(self, merge: Sequence[str], cim: Switch) -> Optional[ConsistencyIntegrationModule]:
        if isinstance(merge, str) or set(merge) - set(MERGED):
            raise ValueError(f"merge names parts of {MERGED}, for example ('transient', ), got {merge!r}.")
        if not merge:
            return None
        stable = 'stable' in merge and (self.sem is not None or self.ddm is None)
        transient = 'transient' in merge and self.ddm is not None
        if not (stable or transient):
            raise ValueError(f'merge={tuple(merge)} names only parts that are switched off.')
        options = dict(WITHOUT_CIM) if cim is False else arguments_of('cim', cim, ConsistencyIntegrationModule)
        restores = self.sem is not None and isinstance(self.ddm, DynamicDecouplingModule)
        if options.get('bands_of') is None and not restores:
            options['bands_of'] = 'stable'
        if options.get('bands_of') == 'restored' and not restores:
            came = f'sem={self.sem and type(self.sem).__name__}, ddm={self.ddm and type(self.ddm).__name__}'
            raise ValueError("cim=dict(bands_of='restored') takes SEM's frame gate and what DDM has left of the "
                             f'features, got {came}. Switch both on, DDM being our own or a child of it, or leave '
                             'bands_of out.')
        return ConsistencyIntegrationModule(self.channels, stable=stable, transient=transient, **options)

    def reset_identity(self) -> None:
        """Output equal to input and thresholds at their start, whatever an initialiser did to the parameters."""
        if self.cim is not None:
            nn.init.zeros_(self.cim.out.weight)
        if isinstance(self.ddm, DynamicDecouplingModule):
            nn.init.zeros_(self.ddm.offset.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.run(x)[0]

    def run(self, x: Tensor) -> Tuple[Tensor, Decomposition]:
        """The output and the decomposition it was made from."""
        stable, parts, features, finite = self.separate(x)
        y = x if self.cim is None else self._merged(self.cim, x, stable, parts)
        if finite is not None:
            y = torch.where(finite[:, None, None, None, None], y, x)
        return y, self._collect(x, stable, parts, features)

    def _merged(self, cim: ConsistencyIntegrationModule, x: Tensor, stable: Optional[StablePart],
                parts: Optional[TransientPart]) -> Tensor:
        return cim(x, None if stable is None or cim.from_stable is None else stable.stable,
                   parts if cim.needs_transient else None, 2.0 if self.ddm is None else self.ddm.exponent)

    def decompose(self, x: Tensor) -> Decomposition:
        """Stable, transient and residual part of ``x`` without the merge."""
        return self._collect(x, *self.separate(x)[:3])

    def auxiliary(self, parts: Decomposition) -> Dict[str, Tensor]:
        """The auxiliary losses of a decomposition, one value per clip ``(b,)`` each, free of scale and size.

        With ``iterations`` > 1 those of the Gram describe the last pass, the clip without its transients. A stable part
        of the user's own has no ``consistency``, and ``rank`` if it tells its own.
        """
        values: Dict[str, Tensor] = {}
        sem = self.sem
        if isinstance(sem, OwnStablePart):
            left = parts.transient + parts.residual
            values['reconstruction'] = energy_ratio(left, left + parts.stable)
            if sem.rank is not None:
                values['rank'] = rank_excess(parts.operator, parts.gram, sem.rank)
        elif sem is not None:
            m, g = parts.operator, parts.gram
            windows = (1, ) if self.cim is None else self.cim.windows
            values['reconstruction'] = reconstruction_energy(m, g)
            values['rank'] = rank_excess(m, g, sem.rank)
            values['consistency'] = scale_consistency(
                m, g, lambda smoothed: sem.operator_of(smoothed, gates=False).operator, windows)
        if self.ddm is not None:
            values['density'] = transient_density(parts.transient)
        return values

    def separate(self, x: Tensor) -> Tuple[Optional[StablePart], Optional[TransientPart], Tensor, Optional[Tensor]]:
        """What SEM and DDM find, as they hand it to CIM: ``(b, c, t, n)``, in the units of ``x``.

        Returns SEM's and DDM's part (None if switched off), the features they were taken from, multiplied by a power
        of two per clip and zero in clips that are not finite, and which clips are finite ``(b,)`` (None: all).
        """
        features, scale, finite = self._guard(x)
        with torch.autocast(x.device.type, enabled=False):
            stable, parts = self._parts(features)
            if scale is not None and stable is not None:
                stable = stable._replace(stable=stable.stable / scale)
            if scale is not None and parts is not None:
                parts = parts._replace(**{k: z / scale for k, z in parts._asdict().items() if z is not None})
        return stable, parts, features, finite

    def _parts(self, features: Tensor) -> Tuple[Optional[StablePart], Optional[TransientPart]]:
        sem, ddm = self.sem, self.ddm
        if sem is None:
            if ddm is None:
                return self._all_stable(features), None
            return None, ddm(features, torch.zeros_like(features))
        if ddm is None:
            return sem(features), None
        if isinstance(sem, OwnStablePart):
            return self._parts_of_own(sem, ddm, features)
        if self.iterations > 1 and sem.rank < features.shape[2]:
            left, look = self._alternate(sem, ddm, features)
            base = sem(left, look=look)
            return base, ddm(features, base.stable, base.frame_gate)
        if isinstance(ddm, OwnTransientPart) or not ddm.splits(features):
            base = sem(features)
            return base, ddm(features, base.stable, base.frame_gate)
        found: List[Split] = []

        def product(operator: Tensor, gate: Tensor) -> Tensor:
            found.append(ddm.split(features, operator, gate))
            return found[0].stable

        # One pass makes both parts; each module still hands out its own, so that hooks see what they always saw.
        base = sem(features, product=product)
        return base, ddm(features, base.stable, base.frame_gate, found[0])

    def _parts_of_own(self, sem: OwnStablePart, ddm: Union[DynamicDecouplingModule, OwnTransientPart],
                      features: Tensor) -> Tuple[StablePart, TransientPart]:
        """K passes through a stable part that has no operator over time, with the first pass's frame gate."""
        left, gate = features, None
        for _ in range(self.iterations - 1):
            base = sem.forward(left)
            gate = base.frame_gate if gate is None else gate
            left = features - ddm.forward(features, base.stable).transient
        base = sem(left)
        return base, ddm(features, base.stable, base.frame_gate if gate is None else gate)

    def _alternate(self, sem: StabilityEncodingModule, ddm: Union[DynamicDecouplingModule, OwnTransientPart],
                   features: Tensor) -> Tuple[Tensor, Look]:
        """The features without their transients after K - 1 passes; SEM's look at them, with the first one's gate."""
        operator, _, gate = sem.look(features)
        # Not gated: a bad frame must leave the features too, or the plain low rank takes it back.
        left = ddm.without(features, operator)
        for _ in range(self.iterations - 2):
            stable = apply_over_time(sem.look(left, robust=False)[0], left)
            left = features - ddm.forward(features, stable).transient
        operator, g, _ = sem.look(left, robust=False)
        return left, (operator, g, gate)

    @staticmethod
    def _all_stable(features: Tensor) -> StablePart:
        batch, _, frames, _ = features.shape
        square = features.new_zeros(batch, frames, frames, dtype=torch.float64)
        identity = torch.eye(frames, dtype=torch.float64, device=features.device)
        return StablePart(features, identity.expand_as(square), square, square[:, 0])

    def _guard(self, x: Tensor) -> Tuple[Tensor, Optional[Tensor], Optional[Tensor]]:
        """``(b, c, t, n)`` in at least float32, finite, within the range where squares are safe.

        Returns the features (zero in clips that are not finite), the power of two ``(b, 1, 1, 1)`` they were
        multiplied by, None for 1, and which clips are finite ``(b,)``, None for all.
        """
        if x.dim() != 5 or not x.is_floating_point():
            raise ValueError(f'LSEF takes floating feature maps (b, c, t, h, w), got {x.dtype} {tuple(x.shape)}. '
                             'Without a time axis there is nothing to separate.')
        if x.shape[1] != self.channels:
            raise ValueError(f'LSEF was built for {self.channels} channels, got {x.shape[1]} in a map of shape '
                             f'{tuple(x.shape)} (b, c, t, h, w). Build it with channels={x.shape[1]}.')
        features = x.to(torch.promote_types(x.dtype, torch.float32)).flatten(3)
        peak = torch.linalg.vector_norm(features.detach(), float('inf'), dim=(1, 2, 3))
        # A maximum may lose a NaN in the runtime of an exported graph, a sum does not.
        finite = (features * 0).sum((1, 2, 3)) == 0 if must_be_plain() else peak.isfinite()
        scale = safe_scale(peak)
        all_finite, all_ordinary = False, False
        if not (is_traced() or must_be_plain()):
            all_finite, all_ordinary = torch.stack([finite.all(), (scale == 1).all()]).tolist()
            if not all_finite:
                self._report_nonfinite(x, finite)
        if not all_finite:
            features = features.where(finite[:, None, None, None], features.new_zeros(()))
        intact = None if all_finite else finite
        if all_ordinary:
            return features, None, intact
        scale = scale[:, None, None, None]
        return features * scale, scale, intact

    def _report_nonfinite(self, x: Tensor, finite: Tensor) -> None:
        clip = int((~finite).nonzero()[0])
        bad = (~x[clip].isfinite()).any(0).flatten(1).any(1).nonzero().flatten().tolist()
        what = (f'{int((~finite).sum())} of {len(finite)} clips entering LSEF hold NaN or Inf (first: clip {clip}, '
                f'frame(s) {bad} of {x.shape[2]}, {x.dtype})')
        if self.on_nonfinite == 'raise' or (self.on_nonfinite == 'auto' and x.dtype != torch.float16):
            raise ValueError(
                f'{what}. The backbone before it has diverged or was fed broken input: look at the last losses, lower '
                'the learning rate or clip gradients, and check the clip. The last checkpoint is unharmed. '
                "on_nonfinite='isolate' lets such clips pass unchanged instead.")
        if not self._told_nonfinite:
            self._told_nonfinite = True
            warnings.warn(f'{what}. Such clips pass LSEF unchanged and touch no other clip. (Said once.)', stacklevel=4)

    def _collect(self, x: Tensor, stable: Optional[StablePart], parts: Optional[TransientPart],
                 features: Tensor) -> Decomposition:
        batch, channels, frames = x.shape[:3]
        whole = x.to(features.dtype)
        zero = torch.zeros_like(whole)
        base = zero if stable is None else stable.stable.view_as(whole)
        moving = zero if parts is None else parts.transient.view_as(whole)
        none = whole.new_zeros(batch, channels)
        square = torch.zeros(batch, frames, frames, dtype=torch.float64, device=x.device)
        return Decomposition(
            stable=base, transient=moving, residual=whole - base - moving,
            frame_gate=square[:, 0] if stable is None else stable.frame_gate,
            scale=none if parts is None else parts.scale.flatten(1),
            threshold=none if parts is None else parts.threshold.flatten(1),
            operator=square if stable is None else stable.operator,
            gram=square if stable is None else stable.gram)

    def extra_repr(self) -> str:
        return f'channels={self.channels}, iterations={self.iterations}, on_nonfinite={self.on_nonfinite}'
