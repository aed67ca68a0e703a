r"""Numbers of a decomposition, frame by frame, and the events in them.

Every energy is a share of the clip's mean frame energy, so that curves of different clips compare and a black
frame divides by nothing:

.. math::
    e_t(\text{part}) = \frac{\|\text{part}_t\|^2}{\frac{1}{T} \sum_{t'} \|x_{t'}\|^2}

The three parts add up to the features, their energies only nearly add up to the features' (the parts are not
orthogonal); ``cross`` is what is missing, twice their inner products.
An event is a run of frames whose transient *amplitude* :math:`\sqrt{e_t}` stands out of the clip's own level.
Axes: ``b`` clips, ``c`` channels, ``t`` time, ``h w`` space, ``r`` directions.
"""
from typing import Any, Dict, List, NamedTuple, Optional

import numpy as np
from numpy.typing import ArrayLike

MAD_TO_SIGMA = 1.4826
#: A frame belongs to an event beyond this many robust standard deviations over the clip's median amplitude.
EVENT_KAPPA = 2.0
#: Neither is the spread taken below this part of the median: an event is at least 1.5 times as strong as usual.
SPREAD_FLOOR_RATIO = 0.25
#: Nor is a frame loud below a quarter of the clip's usual residual. White noise, beyond kappa = 3, leaves a transient
#: of 0.02 to 0.04 of the residual's amplitude, and up to 0.20 in single frames of maps of 190 values. On 20 clips of it
#: for each of five sizes no event is found, against 0.1 to 2.7 per clip without this.
RESIDUAL_RATIO = 0.25
#: Amplitudes below a thousandth of the picture are never an event: DDM's own floor.
AMPLITUDE_FLOOR = 1e-3


class Event(NamedTuple):
    """First, strongest and last frame above the threshold, as positions in the sampled clip."""
    onset: int
    apex: int
    offset: int


def energy_table(parts: Any, clip: int = 0) -> Dict[str, np.ndarray]:
    """Energies of one clip of a decomposition, frame by frame.

    Args:
        parts: anything with ``stable``, ``transient``, ``residual`` ``(b, c, t, h, w)`` and ``frame_gate``
            ``(b, t)``, such as :class:`lsef_plugins.nn.Decomposition`.
        clip: which clip of the batch.

    Returns:
        ``base``, ``transient``, ``residual``, ``cross`` and ``frame`` (the features themselves, the sum of the
        other four), as shares of the mean frame energy, and ``frame_gate`` in [0, 1): float64 arrays ``(t,)``.
        All energies of an all-zero clip are 0.

    Raises:
        ValueError: the parts do not describe one grid, or there is no such clip.
    """
    squares = frame_squares(parts, clip)
    table = shares_of(squares)
    table['frame_gate'] = parts.frame_gate[clip].detach().double().cpu().numpy()
    return table


def frame_squares(parts: Any, clip: int = 0) -> Dict[str, np.ndarray]:
    """Mean square of an element of ``base``, ``transient``, ``residual`` and ``frame``, frame by frame, ``(t,)`` each.

    In squared units of the features, not in shares: frames of several windows of one video compare.
    """
    stable, transient, residual = _parts_of(parts, clip)
    return {name: part.square().mean((0, 2, 3)).cpu().numpy() for name, part in
            (('base', stable), ('transient', transient), ('residual', residual),
             ('frame', stable + transient + residual))}


def shares_of(squares: Dict[str, np.ndarray]) -> Dict[str, np.ndarray]:
    """Squares of all frames as shares of the mean frame's, and ``cross``; all 0 where all frames are."""
    total = squares['frame'].mean()
    table = {name: value / total if total > 0 else np.zeros_like(value) for name, value in squares.items()}
    table['cross'] = table['frame'] - table['base'] - table['transient'] - table['residual']
    return table


def transient_amplitude(energy: ArrayLike) -> np.ndarray:
    """Amplitude of transient energies ``(t,)``: the scale on which events are told from the usual flicker."""
    values = np.asarray(energy, dtype=np.float64)
    if values.ndim != 1 or not np.isfinite(values).all() or (values < 0).any():
        raise ValueError(f'energies are finite and not negative, one for each frame (t,), got shape {values.shape}. '
                         "Hand over energy_table(parts)['transient'].")
    return np.sqrt(values)


def event_threshold(energy: ArrayLike, residual: Optional[ArrayLike] = None, kappa: float = EVENT_KAPPA) -> float:
    """The amplitude beyond which a frame belongs to an event.

    Median plus ``kappa`` robust standard deviations (1.4826 MAD, at least a quarter of the median) of the
    amplitudes of the clip's own frames; at least a quarter of the median amplitude of ``residual``, when it is given.
    """
    amplitude = transient_amplitude(energy)
    if not kappa > 0:
        raise ValueError(f'kappa counts robust standard deviations and is positive, got {kappa}.')
    if not amplitude.size:
        return AMPLITUDE_FLOOR
    middle = float(np.median(amplitude))
    spread = MAD_TO_SIGMA * float(np.median(np.abs(amplitude - middle)))
    noise = 0.0 if residual is None else float(np.median(transient_amplitude(residual)))
    return max(middle + kappa * max(spread, SPREAD_FLOOR_RATIO * middle), RESIDUAL_RATIO * noise, AMPLITUDE_FLOOR)


def find_events(energy: ArrayLike, residual: Optional[ArrayLike] = None, kappa: float = EVENT_KAPPA) -> List[Event]:
    """Runs of frames whose transient amplitude exceeds :func:`event_threshold`.

    One quiet frame inside a run does not end it. A clip that is restless all the time has no event.

    Args:
        energy, residual: ``energy_table(parts)['transient']`` and ``['residual']``, ``(t,)`` each; the residual is
            the noise that an event has to rise above.
        kappa: height of the threshold in robust standard deviations.

    Returns:
        Events in time order; they do not touch.
    """
    amplitude = transient_amplitude(energy)
    loud = np.flatnonzero(amplitude > event_threshold(energy, residual, kappa))
    if not loud.size:
        return []
    runs = np.split(loud, np.flatnonzero(np.diff(loud) > 2) + 1)
    return [Event(int(run[0]), int(run[np.argmax(amplitude[run])]), int(run[-1])) for run in runs]


def base_directions(parts: Any, count: int = 3, clip: int = 0) -> Dict[str, np.ndarray]:
    """How the stable part changes: its strongest directions around its own mean.

    Returns:
        ``curves`` ``(r, t)``: displacement along each direction in units of the clip's rms frame (a share of the
        picture's amplitude), the strongest first, each with its largest peak upward; ``share`` ``(r,)``: part of
        the stable part's change that it explains, in [0, 1]. ``r`` is at most ``count``; directions that explain
        less than a millionth of the picture's energy are left out.
    """
    stable, transient, residual = _parts_of(parts, clip)
    rows = stable.transpose(0, 1).flatten(1)                        # (t, c h w)
    rows = rows - rows.mean(0, keepdim=True)
    total = float((stable + transient + residual).square().sum((0, 2, 3)).mean())
    values, vectors = np.linalg.eigh((rows @ rows.T).cpu().numpy())  # (t, t), ascending
    values, vectors = values[::-1].clip(0), vectors[:, ::-1]
    kept = [k for k in range(min(count, len(values))) if total > 0 and values[k] > 1e-6 * total * len(values)]
    curves = np.stack([_peak_up(vectors[:, k]) * np.sqrt(values[k] / total) for k in kept]) if kept \
        else np.zeros((0, len(values)))
    return dict(curves=curves, share=values[kept] / max(values.sum(), np.finfo(float).tiny))


def _peak_up(curve: np.ndarray) -> np.ndarray:
    return curve if curve[np.argmax(np.abs(curve))] >= 0 else -curve


def _parts_of(parts: Any, clip: int):
    stable, transient, residual = parts.stable, parts.transient, parts.residual
    if stable.dim() != 5 or stable.shape != transient.shape or stable.shape != residual.shape:
        raise ValueError('stable, transient and residual must describe one grid (b, c, t, h, w), got '
                         f'{tuple(stable.shape)}, {tuple(transient.shape)} and {tuple(residual.shape)}. '
                         'Hand over what LSEF(...).decompose(x) returns.')
    grid = (stable.shape[0], stable.shape[2])
    if tuple(parts.frame_gate.shape) != grid:
        raise ValueError(f'frame_gate must have one value for each frame, (b, t) = {grid}, got '
                         f'{tuple(parts.frame_gate.shape)}.')
    if not 0 <= clip < stable.shape[0]:
        raise ValueError(f'there is no clip {clip} in a batch of {stable.shape[0]}; count from 0.')
    return (part[clip].detach().double() for part in (stable, transient, residual))
