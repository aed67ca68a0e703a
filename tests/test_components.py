"""Everything the pack offers is listed, with a sentence of its own."""
import importlib.util
import re

import pytest

import lsef_plugins  # noqa: F401  (first: it repairs the host before anything of it is imported)
from lsef_plugins import __main__ as command
from lsef_plugins import components


def test_every_registered_class_of_the_pack_is_listed_once_under_one_kind():
    from lsef_plugins import registry
    listed = [name for component in components.registered() for name in component.names]
    ours = {name for each in registry.__all__ for name, value in getattr(registry, each).module_dict.items()
            if re.match(r'lsef_plugins\.(?!.*(_study|studies)\.)', value.__module__)}
    assert len(listed) == len(set(listed)) and ours == set(listed)
    kinds = {component.names[0]: component.kind for component in components.registered()}
    assert kinds['LSEFNeck'] == 'necks' and kinds['LSEFHead'] == 'heads' and kinds['CCCLoss'] == 'losses'
    assert kinds['RAO'] == 'optimizers' and kinds['FrameDrop'] == 'transforms' and kinds['DFEWDataset'] == 'datasets'


def test_every_component_says_what_it_is():
    every = [*components.registered(), *components.plain()]
    assert len(every) > 80
    for component in every:
        assert len(component.summary) > 10 and '\n' not in component.summary, component
        assert ':class:' not in component.summary and '``' not in component.summary, component


def test_two_names_of_one_class_are_one_component():
    names = [component.names for component in components.registered() if component.kind == 'necks']
    assert ['SEM', 'StabilityEncodingNeck'] in names and ['LSEFNeck'] in names


@pytest.mark.parametrize('text, sentence', [
    ('Reads ``x``. Writes nothing.', 'Reads x'), ('As :class:`~a.b.Made` has it, e.g. here\nand there. More',
                                                  'As Made has it, e.g. here and there'),
    ('The formula:\n\n.. math:: x.', 'The formula'), (r'The norm :math:`\|x.y\|` of it.', r'The norm \|x.y\| of it'),
    ('Version 2.1 of it', 'Version 2.1 of it'), (None, '')])
def test_the_first_sentence_is_one_line_without_markup(text, sentence):
    thing = type('Thing', (), {'__doc__': text})
    assert components.first_sentence(thing) == sentence


def test_a_kind_alone_is_shown_alone(capsys):
    assert command.main(['list', '--kind', 'necks']) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == 'necks' and any(line.startswith('  LSEFNeck: ') for line in lines)
    assert all(line.startswith('  ') for line in lines[1:]) and len(lines) == 5
    assert command.main(['list', '--kind', 'optim']) == 0
    assert 'RankAwareGradients' in capsys.readouterr().out


def test_an_unknown_kind_is_told_the_known_ones(capsys):
    assert command.main(['list', '--kind', 'neck']) == 2
    assert "There is no kind 'neck'; choose one of necks, heads" in capsys.readouterr().err


def test_without_mmaction2_the_pytorch_half_is_listed(monkeypatch, capsys):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None if name == 'mmaction' else find(name))
    assert command.main(['list']) == 0
    told = capsys.readouterr()
    assert 'MMAction2 is not installed' in told.err and told.out.startswith('nn\n  LSEF: ') and 'necks' not in told.out
    assert command.main(['list', '--kind', 'necks']) == 1
    assert 'MMAction2 is not installed' in capsys.readouterr().err
