"""A recognizer without the line is the host's own: two processes, one without the pack, must show the same bits."""
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

WORKER = Path(__file__).with_name('stock_worker.py')


@pytest.fixture(scope='module')
def seen(tmp_path_factory):
    folder = tmp_path_factory.mktemp('untouched')
    environment = {**os.environ, 'OMP_NUM_THREADS': '1', 'LSEF_PLUGINS_REGISTER': '1'}
    runs = {name: subprocess.Popen([sys.executable, '-W', 'ignore', str(WORKER), str(folder / f'{name}.json'), *flags],
                                   env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            for name, flags in (('without', []), ('with', ['--with-pack']))}
    for run in runs.values():
        output = run.communicate(timeout=600)[0]
        assert run.returncode == 0, output[-3000:]
    return [json.loads((folder / f'{name}.json').read_text(encoding='utf-8')) for name in runs]


def test_every_family_shows_the_same_bits_after_the_import(seen):
    without, with_pack = (each['families'] for each in seen)
    assert len(without) >= 20 and without.keys() == with_pack.keys()
    for name in without:
        assert without[name] == with_pack[name], name
    assert len({each['scores'] for each in without.values()}) == len(without)   # no two agree by being empty


def test_the_registries_gain_our_names_and_lose_or_change_none(seen):
    without, with_pack = (each['registered'] for each in seen)
    gained = {}
    for registry, entries in without.items():
        after = with_pack[registry]
        assert {key: after.get(key) for key in entries} == entries, registry
        gained.update({key: value for key, value in after.items() if key not in entries})
    assert 'LSEFNeck' in gained
    # The host's own, which registers with `mmaction.apis`: compat/rated_predictions.py imports it.
    hosts = {gained.pop(name, None) for name in ('ActionRecogInferencer', 'action-recognition')}
    assert hosts <= {None, 'mmaction.apis.inferencers.actionrecog_inferencer.ActionRecogInferencer'}
    assert all(value.startswith('lsef_plugins.') for value in gained.values()), gained
