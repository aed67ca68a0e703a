"""Performance over the severity of each corruption: a panel for each group of corruptions, a line for each of them."""
from collections.abc import Mapping, Sequence
from typing import Any

# Okabe and Ito's colours without the yellow, and black; markers tell lines apart without colour.
COLOURS = ('#0072b2', '#d55e00', '#009e73', '#cc79a7', '#56b4e9', '#e69f00', '#1f2328', '#8c6d31')
MARKERS = 'osD^vPX*'


def draw_robustness(curves: Mapping[str, Mapping[int, float]], clean: float, groups: Mapping[str, Sequence[str]],
                    ylabel: str, title: str, width: int = 1300) -> Any:
    """A matplotlib figure of ``width`` pixels; every line starts at severity 0, the clean value.

    Args:
        curves: ``{corruption: {severity: value}}``.
        clean: the value of the clean clips, drawn as a dashed level as well.
        groups: names of corruptions by group; groups without a curve get no panel, corruptions of no group one more.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    panels = {name: [kind for kind in members if kind in curves] for name, members in groups.items()}
    panels['other'] = [kind for kind in curves if not any(kind in members for members in groups.values())]
    panels = {name: kinds for name, kinds in panels.items() if kinds}
    figure = Figure(figsize=(width / 100, 4.6), dpi=100, layout='constrained')
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axis, (name, kinds) in zip(axes, panels.items()):
        axis.axhline(clean, color='#8c959f', linewidth=1, linestyle='--', label='clean')
        for index, kind in enumerate(kinds):
            severities = sorted(curves[kind])
            axis.plot([0, *severities], [clean, *(curves[kind][s] for s in severities)], label=kind.replace('_', ' '),
                      color=COLOURS[index % len(COLOURS)], marker=MARKERS[index % len(MARKERS)], markersize=4)
        axis.set_title(name)
        axis.set_xlabel('severity')
        axis.set_xticks(range(0, 6))
        axis.grid(alpha=0.3)
        axis.legend(fontsize='small', ncols=2, loc='upper center', bbox_to_anchor=(0.5, -0.14))
    axes[0].set_ylabel(ylabel)
    return figure
