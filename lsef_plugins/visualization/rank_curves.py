"""RAO's curves over a training, from the scalars MMEngine writes: a panel for each quantity, a line for each role.

A scalars file has one JSON object a line; those of training steps hold ``step`` and ``rao/<quantity>_<role>``.
"""
import json
from pathlib import Path
from typing import Any, Dict, List, Tuple, Union

QUANTITIES = {'rank': 'effective rank after damping', 'input_rank': 'effective rank of the gradient',
              'smooth_energy': 'share of lasting energy'}
# Okabe and Ito's colours, which people with any colour vision can tell apart.
ROLES = {'default': '#1f2328', 'stable': '#0072b2', 'transient': '#d55e00', 'merge': '#009e73'}
PREFIX = 'rao/'
Curves = Dict[str, Dict[str, Tuple[List[int], List[float]]]]


class NoCurvesError(ValueError):
    """There is nothing to draw; the message says what was looked for, and where."""


def scalars_file(path: Union[str, Path]) -> Path:
    """The scalars file itself, or the newest one under a work_dir.

    Raises:
        NoCurvesError: there is none.
    """
    path = Path(path)
    if path.is_file():
        return path
    found = sorted(path.glob('**/vis_data/scalars.json')) if path.is_dir() else []
    if not found:
        raise NoCurvesError(f'{path} is no scalars file and no work_dir with one (<time>/vis_data/scalars.json). '
                            'MMEngine writes it with vis_backends=[dict(type=\'LocalVisBackend\')].')
    return max(found, key=lambda each: (each.stat().st_mtime, str(each)))


def read_curves(path: Union[str, Path]) -> Curves:
    """``{quantity: {role: (steps, values)}}`` of a scalars file; of a repeated step the last counts.

    Raises:
        NoCurvesError: RAO has written nothing there.
    """
    latest: Dict[str, Dict[str, Dict[int, float]]] = {}
    for line in Path(path).read_text(encoding='utf-8').splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue                            # a line that an interruption cut short
        if not isinstance(row, dict):
            continue
        for key, value in row.items():
            quantity, _, role = key[len(PREFIX):].rpartition('_')
            if key.startswith(PREFIX) and quantity in QUANTITIES and 'step' in row:
                latest.setdefault(quantity, {}).setdefault(role, {})[int(row['step'])] = float(value)
    if not latest:
        raise NoCurvesError(f"{path} holds no values of RAO ({PREFIX}rank_default and so on): was it trained with "
                            "constructor='RAO', and longer than rao.log_interval steps and the logger's interval?")
    return {quantity: {role: (sorted(points), [points[step] for step in sorted(points)])
                       for role, points in roles.items()} for quantity, roles in latest.items()}


def draw_curves(curves: Curves, title: str = 'Effective rank over the training', width: int = 1000) -> Any:
    """A matplotlib figure of ``width`` pixels; shares of all directions or of all energy, from 0 to 1, over steps."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    shown = [quantity for quantity in QUANTITIES if quantity in curves]
    figure = Figure(figsize=(width / 100, 0.6 + 2.4 * len(shown)), dpi=100, layout='constrained')
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    axes = figure.subplots(len(shown), 1, sharex=True, squeeze=False)[:, 0]
    for axis, quantity in zip(axes, shown):
        roles = curves[quantity]
        for role in sorted(roles, key=lambda each: list(ROLES).index(each) if each in ROLES else len(ROLES)):
            axis.plot(*roles[role], label=role, color=ROLES.get(role, '#646c76'), marker='.', markersize=3)
        axis.set_ylabel(QUANTITIES[quantity])
        axis.set_ylim(0, 1)
        axis.grid(alpha=0.3)
        axis.legend(loc='upper right', ncols=len(roles), fontsize='small')
    axes[-1].set_xlabel('step')
    return figure
