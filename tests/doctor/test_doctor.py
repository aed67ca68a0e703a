"""The doctor finds what is broken, starts where the host does not, and tells nobody who ran it."""
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch

from lsef_plugins import doctor, ops
from lsef_plugins.doctor import environment, host, report, selftest
from lsef_plugins.doctor.findings import guarded

ROOT = Path(__file__).resolve().parents[2]
NOT_INSTALLED = textwrap.dedent("""
    # Python imports this file by itself; to it the packages named do not exist.
    import os
    import sys

    NAMES = os.environ['NOT_INSTALLED'].split()

    class NotInstalled:
        def __init__(self, finder):
            self.finder = finder

        def find_spec(self, name, path=None, target=None):
            return None if name.split('.')[0] in NAMES else self.finder.find_spec(name, path, target)

        def __getattr__(self, name):
            return getattr(self.finder, name)

    sys.meta_path[:] = [NotInstalled(f) if hasattr(f, 'find_spec') else f for f in sys.meta_path]
""")


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    """``run(command, *arguments, without='', **variables)``: ``python -m lsef_plugins command`` as a user starts it."""
    folder = tmp_path_factory.mktemp('doctor')
    (folder / 'sitecustomize.py').write_text(NOT_INSTALLED, encoding='utf-8')
    home = folder / 'home' / 'quentin'
    home.mkdir(parents=True)

    def start(*arguments, without='', command=('-m', 'lsef_plugins'), **variables):
        keep = {k: v for k, v in os.environ.items() if not k.startswith('LSEF_')}
        return subprocess.run(
            [sys.executable, *command, *arguments], cwd=home, capture_output=True, text=True, timeout=300,
            env={**keep, 'PYTHONPATH': os.pathsep.join([str(folder), str(ROOT), variables.pop('MINE', '')]),
                 'NOT_INSTALLED': without, 'HOME': str(home), 'USER': 'quentin', 'LOGNAME': 'quentin',
                 'HOSTNAME': 'lab-box-7', 'OMP_NUM_THREADS': '1', 'TMPDIR': str(folder), **variables})

    return start


@pytest.fixture(scope='module')
def whole(run):
    return run('doctor', LSEF_OPS_LIBRARY='/home/quentin/lsef_ops.so')


@pytest.fixture(scope='module')
def bare(run):
    return run('doctor', without='mmaction mmengine mmcv cv2 decord', CXX='no-such-compiler', LSEF_OPS='off')


def test_a_sound_environment_is_told_so(whole):
    assert whole.returncode == 0 and '[result] no fault' in whole.stdout, whole.stdout + whole.stderr
    for words in ('torch: ', 'mmaction: mmaction2', 'components of the pack are registered',
                  'whole_checkpoints: acts: ', 'not needed here: host_requirements', 'opencv: reads what was written',
                  'planted truth: base found to 0.0', 'recognizer: equal scores with and without the neck'):
        assert words in whole.stdout, words


def test_a_reader_that_leaves_early_is_no_error_message():
    keep = dict(os.environ, LSEF_PLUGINS_REGISTER='0', PYTHONPATH=str(ROOT))
    reading, writing = os.pipe()
    os.close(reading)                                       # as head does, having seen enough
    with os.fdopen(writing, 'w') as pipe:
        ended = subprocess.run([sys.executable, '-m', 'lsef_plugins', 'list'], stdout=pipe, stderr=subprocess.PIPE,
                               text=True, timeout=300, env=keep)
    assert ended.returncode == 1 and 'BrokenPipe' not in ended.stderr and 'Traceback' not in ended.stderr


def test_a_report_tells_no_user_no_home_and_no_host(whole):
    assert 'lsef_ops.so does not exist' in whole.stdout
    for secret in ('quentin', '/home', str(Path.home()), str(ROOT), 'lab-box-7'):
        assert secret not in whole.stdout, secret


def test_it_works_without_openmmlab_opencv_and_a_compiler_and_names_them(bare):
    assert bare.returncode == 0, bare.stdout + bare.stderr
    for words in ('mmaction: ', 'MMAction2: note: not installed', 'operators: note: plain PyTorch: switched off',
                  "compiler: note: there is no C++ compiler 'no-such-compiler'", 'opencv: note: not installed',
                  'planted truth: base found to 0.0', 'compiled operators: note: none are loaded'):
        assert words in bare.stdout, words
    assert 'recognizer' not in bare.stdout


@pytest.mark.skipif(sys.version_info < (3, 10), reason='Python 3.9 does not tell which module it looks for')
def test_a_host_that_cannot_be_imported_is_a_finding_and_not_the_end(run):
    done = run('doctor', without='mmcv', LSEF_OPS='off')
    assert done.returncode == 1 and '[result] 1 faults' in done.stdout, done.stdout + done.stderr
    assert 'FAULT: MMAction2 is installed, but mmcv (or mmcv-lite) is not' in done.stdout
    assert 'pip install "mmcv-lite>=2.1,<2.2"' in done.stdout and 'planted truth: base found' in done.stdout


def test_only_the_commands_of_the_pack_put_off_its_registration(run, tmp_path):
    """python -m of somebody else's package, which imports ours while it is looked for, gets a pack that registers."""
    (tmp_path / 'mine').mkdir()
    (tmp_path / 'mine' / '__init__.py').write_text('import lsef_plugins\n', encoding='utf-8')
    (tmp_path / 'mine' / '__main__.py').write_text('', encoding='utf-8')
    done = run(without='mmcv', command=('-m', 'mine'), MINE=str(tmp_path))
    assert done.returncode == 1 and 'ImportError: MMAction2 is installed, but mmcv (or mmcv-lite) is not' in done.stderr
    assert run('list', '--kind', 'nn', without='mmcv').returncode == 0


def test_alone_it_prints_help_and_an_unknown_word_is_refused(run):
    alone = run(without='mmaction')
    assert alone.returncode == 0 and 'doctor' in alone.stdout and 'list' in alone.stdout
    assert run('docter', without='mmaction').returncode == 2


# ---- what must be found ----------------------------------------------------------------------------------------------
def states(found):
    return {finding.name: finding.state for finding in found}


def test_a_formula_that_went_wrong_is_found(monkeypatch):
    assert states(selftest.planted()) == {'planted truth': doctor.GOOD}
    decompose = selftest.LSEF.decompose
    for broken, words in ((lambda d: d._replace(stable=d.stable * 1.2), 'the base is off'),
                          (lambda d: d._replace(residual=d.residual + 1), 'do not sum'),
                          (lambda d: d._replace(transient=d.transient * 0), 'the event is'),
                          (lambda d: d._replace(frame_gate=d.frame_gate.flip(1)), 'but frame 11 alone is bad')):
        monkeypatch.setattr(selftest.LSEF, 'decompose', lambda self, x, broken=broken: broken(decompose(self, x)))
        finding, = selftest.planted()
        assert finding.state == doctor.FAULT and words in finding.value


def test_compiled_operators_that_compute_something_else_are_found(library, monkeypatch):
    assert set(states(selftest.compiled()).values()) == {doctor.GOOD}
    computed = selftest._computed

    def off(backend, device):
        return [value * 1.01 if backend == 'compiled' else value for value in computed(backend, device)]

    monkeypatch.setattr(selftest, '_computed', off)
    assert doctor.FAULT in states(selftest.compiled()).values()


def test_the_compiled_comparison_computes_by_both_ways(library, monkeypatch):
    ways = []
    backend = ops.backend
    monkeypatch.setattr(ops, 'backend', lambda name: ways.append(name) or backend(name))
    values = selftest._computed('reference', 'cpu')
    assert ways == ['reference'] and len(values) > 5 and all(value.abs().max() > 0 for value in values[:2])


def test_a_reader_that_gives_other_frames_is_found(monkeypatch):
    from lsef_plugins.visualization import clip
    assert {state for name, state in states(environment.readers()).items() if name in ('opencv', 'decord')} == {'ok'}
    sample = clip.sample_video
    monkeypatch.setattr(clip, 'sample_video', lambda *args, **kwargs: (lambda found: clip.SampledClip(
        found.path, found.frames[::-1], found.indices, found.times, found.fps, found.length))(sample(*args, **kwargs)))
    assert states(environment.readers())['opencv'] == doctor.FAULT


def test_two_distributions_of_one_module_are_told(monkeypatch):
    monkeypatch.setattr(environment.metadata, 'version', lambda name: '2.1.0')
    found = environment.package('mmcv', ('mmcv', 'mmcv-lite'))
    assert found.state == doctor.NOTE and 'they share the files of mmcv; keep one' in found.value


def test_a_part_that_fails_is_one_finding(monkeypatch):
    def broken():
        yield doctor.Finding('first', 'seen')
        raise OSError('the disk\nis gone')

    assert guarded('part', broken) == [doctor.Finding('part', 'OSError: the disk is gone', doctor.FAULT)]
    monkeypatch.setattr(report.environment, 'versions', broken)
    monkeypatch.setattr(report.host, 'host', lambda: iter(()))
    monkeypatch.setattr(report, '_self_test', list)
    text, healthy = doctor.render(doctor.examine())
    assert not healthy and 'versions: FAULT: OSError: the disk is gone' in text and '[hardware]' in text


def test_what_the_pack_warns_of_is_in_the_report(monkeypatch):
    import warnings
    monkeypatch.setattr(report.host, 'host', lambda: warnings.warn('lsef_plugins computes\nslowly', stacklevel=1) or [])
    monkeypatch.setattr(report, '_self_test', list)
    assert report.examine()['warnings'] == [doctor.Finding('warned', 'lsef_plugins computes slowly', doctor.NOTE)]


# ---- what must not be told -------------------------------------------------------------------------------------------
@pytest.mark.parametrize('text, shown', [
    ('/home/ada/data/clip.mp4', '<home>/data/clip.mp4'), ('/Users/ada', '<home>'),
    ('ada@node17.cluster', '<user>@<host>'),
    ('ran by ada on node17', 'ran by <user> on <host>'), ('adaptive on node171', 'adaptive on node171'),
    ('torch 2.13', 'torch 2.13')])
def test_names_are_taken_out_and_nothing_else(monkeypatch, text, shown):
    monkeypatch.setattr(report.socket, 'gethostname', lambda: 'node17.cluster')
    monkeypatch.setattr(report.getpass, 'getuser', lambda: 'ada')
    for name in ('USER', 'LOGNAME', 'HOSTNAME'):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv('HOME', '/somewhere/else')
    assert doctor.render({'s': [doctor.Finding('f', text)]})[0].splitlines()[1] == f'  f: {shown}'


def test_a_machine_without_an_entry_for_its_user_has_a_doctor_too(monkeypatch):
    def unknown():
        raise KeyError('uid not found')

    monkeypatch.setattr(report.getpass, 'getuser', unknown)
    assert report.anonymous('fine') == 'fine'


def test_a_gpu_is_described(monkeypatch):
    seen = type('Properties', (), dict(name='Some GPU', major=9, minor=0, total_memory=80 * 2**30))()
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 1)
    monkeypatch.setattr(torch.cuda, 'get_device_properties', lambda index: seen)
    assert {f.name: f.value for f in environment.hardware()}['GPU 0'].startswith('Some GPU, sm_90, 80 GiB')


def test_kept_out_the_host_is_not_touched(monkeypatch):
    monkeypatch.setenv('LSEF_PLUGINS_REGISTER', '0')
    assert [f.value for f in host.host()] == ['kept out by LSEF_PLUGINS_REGISTER=0'] and not host.is_usable()
