"""Curves of RAO from the scalars a training writes."""
import importlib.util
import json
from pathlib import Path

import pytest

from lsef_plugins.visualization.rank_curves import NoCurvesError, draw_curves, read_curves, scalars_file

ROOT = Path(__file__).resolve().parents[2]


def rows(path, *lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text('\n'.join(line if isinstance(line, str) else json.dumps(line) for line in lines), encoding='utf-8')
    return path


@pytest.fixture
def scalars(tmp_path):
    return rows(
        tmp_path / 'run' / '2' / 'vis_data' / 'scalars.json', {'step': 20, 'loss': 1.0},
        {'step': 20, 'rao/rank_default': 0.3, 'rao/smooth_energy_merge': 0.2}, {'step': 10, 'rao/rank_default': 0.1},
        {'step': 20, 'rao/rank_default': 0.4, 'rao/input_rank_default': 0.05}, {'acc/top1': 1.0, 'step': 2},
        '{"step": 30, "rao/rank_def')


def test_steps_are_ordered_and_a_repeated_one_counts_once(scalars):
    curves = read_curves(scalars)
    assert curves == {'rank': {'default': ([10, 20], [0.1, 0.4])}, 'input_rank': {'default': ([20], [0.05])},
                      'smooth_energy': {'merge': ([20], [0.2])}}


def test_every_line_is_drawn_where_it_belongs(scalars):
    axes = draw_curves(read_curves(scalars)).axes
    lines = [{line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in axis.lines}
             for axis in axes]
    assert lines == [{'default': ([10, 20], [0.1, 0.4])}, {'default': ([20], [0.05])}, {'merge': ([20], [0.2])}]
    assert [axis.get_ylabel() for axis in axes] == ['effective rank after damping', 'effective rank of the gradient',
                                                    'share of lasting energy']
    assert axes[-1].get_xlabel() == 'step' and axes[0].get_ylim() == (0, 1)


def test_the_newest_training_of_a_work_dir_is_taken(scalars, tmp_path):
    older = rows(tmp_path / 'run' / '1' / 'vis_data' / 'scalars.json', {'step': 1, 'rao/rank_default': 0.9})
    import os
    os.utime(older, (1, 1))
    assert scalars_file(tmp_path / 'run') == scalars and scalars_file(older) == older


def test_what_cannot_be_drawn_is_told(tmp_path):
    with pytest.raises(NoCurvesError, match='no work_dir with one'):
        scalars_file(tmp_path)
    plain = rows(tmp_path / 'scalars.json', {'step': 1, 'loss': 2.0}, '[1]')
    with pytest.raises(NoCurvesError, match="was it trained with constructor='RAO'"):
        read_curves(plain)


def test_the_command_draws_and_tells(scalars, tmp_path, capsys):
    spec = importlib.util.spec_from_file_location('plot_rank_curves', ROOT / 'tools' / 'plot_rank_curves.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.main([str(tmp_path / 'run')]) == 0
    assert (tmp_path / 'run' / 'rank_curves.png').read_bytes().startswith(b'\x89PNG')
    assert module.main([str(scalars), '--out', str(tmp_path / 'a.png'), '--width', '400']) == 0
    assert module.main([str(tmp_path / 'nowhere')]) == 2 and 'no scalars file' in capsys.readouterr().err
    assert module.main([str(scalars), '--out', str(tmp_path / 'a.jpg')]) == 2
    with pytest.raises(SystemExit):
        module.main([str(scalars), '--width', '5'])
