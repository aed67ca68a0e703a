"""The picture of a robustness test: one line a corruption, from the clean value on, in the panel of its group."""
import math

from lsef_plugins.visualization.robustness_curves import draw_robustness

GROUPS = {'temporal': ('flicker', 'drop'), 'spatial': ('jpeg', ), 'occlusion': ('mouth', )}


def test_each_corruption_is_a_line_that_starts_at_the_clean_value():
    curves = {'flicker': {3: 60., 1: 70.}, 'drop': {2: 50.}, 'jpeg': {1: math.nan, 2: 10.}, 'own': {5: 1.}}
    figure = draw_robustness(curves, 80., GROUPS, 'UAR, %', 'a title')
    assert [axis.get_title() for axis in figure.axes] == ['temporal', 'spatial', 'other']
    lines = {line.get_label(): line for axis in figure.axes for line in axis.get_lines()}
    assert set(lines) == {'clean', 'flicker', 'drop', 'jpeg', 'own'}
    assert lines['flicker'].get_xydata().tolist() == [[0, 80], [1, 70], [3, 60]]
    assert lines['own'].get_xydata().tolist() == [[0, 80], [5, 1]]
    assert figure.axes[0].get_ylabel() == 'UAR, %'
    figure.canvas.draw()        # what is NaN leaves a gap, not an error


def test_eight_lines_of_a_panel_can_be_told_apart():
    curves = {str(i): {1: float(i)} for i in range(8)}
    axis = draw_robustness(curves, 0., {'one': tuple(curves)}, 'y', 't').axes[0]
    looks = {(line.get_color(), line.get_marker()) for line in axis.get_lines()[1:]}
    assert len(looks) == 8 and len({colour for colour, _ in looks}) == 8
