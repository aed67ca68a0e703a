"""No checkpoint runs anything, whichever torch reads it and wherever it comes from; each refusal says what to do."""
import collections
import functools
import http.server
import io
import os
import pickle
import tarfile
import threading
import zipfile

import numpy as np
import pytest
import torch

from lsef_plugins.compat import apply_repairs, strict_unpickler, weights_only
from lsef_plugins.compat.checkpoint_errors import CheckpointError

apply_repairs()

import mmengine  # noqa: E402
from mmengine.logging import HistoryBuffer, MessageHub  # noqa: E402
from mmengine.optim import OneCycleLR  # noqa: E402
from mmengine.runner.checkpoint import CheckpointLoader, _load_checkpoint  # noqa: E402

multiarray = np._core.multiarray if hasattr(np, '_core') else np.core.multiarray


@pytest.fixture(params=['of torch', 'strict'])
def reader(request, monkeypatch):
    """Who reads the pickle: torch (2.6 and newer), or what stands in for it before."""
    if request.param == 'strict':
        monkeypatch.setattr(weights_only, '_torch_knows_the_list', lambda version: False)
    elif not weights_only._torch_knows_the_list(torch.__version__):
        pytest.skip('this torch does not take the list')
    return request.param


class Call:
    """Pickles as a call of ``function``."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


class Stored:
    """A storage with a size of its own choosing: written as the reference it is in a checkpoint."""

    def __init__(self, numel):
        self.reference = 'storage', torch.FloatStorage, '0', 'cpu', numel


class References(pickle._Pickler):

    def persistent_id(self, thing):
        return thing.reference if isinstance(thing, Stored) else None


def pickled(content) -> bytes:
    buffer = io.BytesIO()
    References(buffer, 2).dump(content)
    return buffer.getvalue()


def archive(path, content: bytes, storage: bytes = b'', compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, 'w', compression) as file:
        file.writestr('archive/data.pkl', content)
        file.writestr('archive/version', '3\n')
        file.writestr('archive/byteorder', 'little')
        if storage:
            file.writestr('archive/data/0', storage)
    return path


def tensor_of(numel, size):
    return {'a': Call(torch._utils._rebuild_tensor_v2, Stored(numel), 0, (size, ), (1, ), False,
                      collections.OrderedDict())}


def tar_of(path, content: bytes):
    with tarfile.open(path, 'w:') as file:
        for name in ('sys_info', 'pickle', 'storages', 'tensors'):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))


def touch(canary) -> bytes:
    """A pickle of protocol 0 that runs a command."""
    return b"cos\nsystem\n(S'touch %s'\ntR." % str(canary).encode()


# Writes a hostile file; what it would run creates the canary.
HOSTILE = {
    'os.system': lambda path, canary: torch.save({'state_dict': {}, 'm': Call(os.system, f'touch {canary}')}, path),
    'os.system, before zip': lambda path, canary: torch.save(
        {'m': Call(os.system, f'touch {canary}')}, path, _use_new_zipfile_serialization=False),
    'bare pickle': lambda path, canary: path.write_bytes(touch(canary)),
    'tar of torch 0.1': lambda path, canary: tar_of(path, touch(canary)),
    'builtins.eval': lambda path, canary: torch.save({'m': Call(eval, f"open({str(canary)!r}, 'w')")}, path),
    'nested module name': lambda path, canary: archive(path, b'\x80\x04\x8c\x07os.path\x94\x8c\x09os.system\x94\x93'
                                                             b'\x8c' + bytes([6 + len(str(canary))])
                                                             + f'touch {canary}'.encode() + b'\x85R.'),
    'getattr of an array': lambda path, canary: torch.save({'m': Call(getattr, np.ndarray, 'tofile')}, path),
    'getattr of a constructor': lambda path, canary: torch.save({'m': Call(getattr, HistoryBuffer, '__init__')}, path),
    'a call of what getattr gives': lambda path, canary: torch.save(
        {'m': Call(HistoryBuffer.mean, HistoryBuffer([1.0], [1]))}, path),
    'a partial of os.system': lambda path, canary: torch.save(
        {'m': Call(functools.partial, os.system, f'touch {canary}')}, path),
    'a module by name': lambda path, canary: torch.save({'m': Call(__import__, 'antigravity')}, path),
    'array of objects': lambda path, canary: torch.save(
        {'m': np.array([Call(os.system, f'touch {canary}')], dtype=object)}, path),
    'array of plain objects': lambda path, canary: torch.save({'m': np.array([1], dtype=object)}, path),
    'scalar of an object': lambda path, canary: torch.save(
        {'m': Call(multiarray.scalar, np.dtype('O'), touch(canary))}, path),
    'array of a terabyte': lambda path, canary: torch.save(
        {'m': Call(multiarray._reconstruct, np.ndarray, (10**12, ), b'd')}, path),
    'a class filled in': lambda path, canary: archive(
        path, b'\x80\x02}X\x01\x00\x00\x00mcmmengine.logging.history_buffer\nHistoryBuffer\nN}X\x04\x00\x00\x00mean'
              b'cbuiltins\ngetattr\ns\x86bs.'),
    'a function filled in': lambda path, canary: archive(
        path, b'\x80\x02}X\x01\x00\x00\x00mcbuiltins\ngetattr\nN}X\x07\x00\x00\x00__doc__X\x01\x00\x00\x00xs\x86bs.'),
    'storage larger than its record': lambda path, canary: archive(path, pickled(tensor_of(10**6, 10**6)), bytes(16)),
    'storage of 400 GB': lambda path, canary: archive(path, pickled(tensor_of(10**11, 10**11)), bytes(16)),
    'storage of negative size': lambda path, canary: archive(path, pickled(tensor_of(-4, 4)), bytes(16)),
    'tensor larger than its storage': lambda path, canary: archive(path, pickled(tensor_of(4, 10**6)), bytes(16)),
    'archive that unpacks 400 times': lambda path, canary: archive(
        path, pickled(tensor_of(25 * 10**6, 4)), bytes(10**8), zipfile.ZIP_DEFLATED),
    'text of 2 GB that is not there': lambda path, canary: archive(path, b'\x80\x02X\xff\xff\xff\x7fabc.'),
    'no dictionary': lambda path, canary: torch.save([1, 2, 3], path),
    'nothing': lambda path, canary: archive(path, b'\x80\x02N.'),
    'a program of TorchScript': lambda path, canary: torch.jit.script(torch.nn.Linear(1, 1)).save(str(path)),
    'cut off': lambda path, canary: (torch.save({'a': torch.ones(1000)}, path),
                                     path.write_bytes(path.read_bytes()[:2000])),
}
REFUSED = (r'evil\.pth.*(was not loaded\. Only if you trust|do not trust|Do not trust|copy it again|'
           r'Save the state_dict|Save it anew|Give a file that torch\.save)')


@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('kind', HOSTILE)
def test_a_hostile_checkpoint_is_refused_by_name_and_runs_nothing(tmp_path, reader, kind):
    path, canary = tmp_path / 'evil.pth', tmp_path / 'canary'
    HOSTILE[kind](path, canary)
    with pytest.raises(CheckpointError, match=REFUSED):
        _load_checkpoint(str(path))
    assert not canary.exists()


@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('kind, word', [('a program of TorchScript', 'TorchScript'), ('tar of torch 0.1', r'\btar\b')])
def test_formats_that_go_around_the_reader_of_pickles_are_not_opened_at_all(tmp_path, reader, kind, word):
    HOSTILE[kind](tmp_path / 'evil.pth', tmp_path / 'canary')
    with pytest.raises(CheckpointError, match=word):
        _load_checkpoint(str(tmp_path / 'evil.pth'))


def test_what_the_hostile_files_would_run_does_run_where_nothing_refuses_it(tmp_path):
    """The canary can sing: else the test above would pass on files that do nothing."""
    for kind in ('os.system', 'os.system, before zip', 'builtins.eval', 'array of objects'):
        path, canary = tmp_path / 'evil.pth', tmp_path / 'canary'
        HOSTILE[kind](path, canary)
        torch.load(path, weights_only=False)
        assert canary.exists(), kind
        canary.unlink()


def test_a_checkpoint_of_mmengine_comes_back_as_it_was(tmp_path, reader):
    hub = MessageHub.get_instance('weights_only_test')
    for value in (1.0, 2.0, 6.0):
        hub.update_scalar('train/loss', value)
    layer = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(layer.parameters())
    layer(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    schedule = OneCycleLR(optimizer, eta_max=1.0, total_steps=9).state_dict()
    path = tmp_path / 'epoch_1.pth'
    torch.save(dict(state_dict=layer.state_dict(), optimizer=optimizer.state_dict(), param_schedulers=[schedule],
                    message_hub=hub.state_dict(), half=torch.ones(2, dtype=torch.bfloat16), size=torch.Size([1]),
                    meta=dict(epoch=1, cfg='model = dict()', best=np.float64(2.5), seen=np.arange(3, dtype='i4')),
                    parameter=layer.weight), path)
    found = _load_checkpoint(str(path))
    assert torch.equal(found['state_dict']['weight'], layer.weight) and torch.equal(found['parameter'], layer.weight)
    assert torch.equal(found['optimizer']['state'][0]['exp_avg'], optimizer.state_dict()['state'][0]['exp_avg'])
    assert found['param_schedulers'][0]['anneal_func'] is schedule['anneal_func']
    history = found['message_hub']['log_scalars']['train/loss']
    assert isinstance(history, HistoryBuffer) and history.statistics('max') == 6.0 and history.mean(2) == 4.0
    assert found['meta']['seen'].tolist() == [0, 1, 2] and found['meta']['best'] == 2.5
    assert found['meta']['cfg'] == 'model = dict()' and found['half'].dtype == torch.bfloat16


def test_weights_in_the_format_before_zip_still_load(tmp_path, reader):
    path = tmp_path / 'old.pth'
    torch.save(dict(state_dict=dict(a=torch.arange(3.0))), path, _use_new_zipfile_serialization=False)
    assert _load_checkpoint(str(path))['state_dict']['a'].tolist() == [0, 1, 2]


def test_an_environment_variable_does_not_switch_the_refusal_off(tmp_path, monkeypatch):
    monkeypatch.setenv('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', '1')
    HOSTILE['os.system'](tmp_path / 'evil.pth', tmp_path / 'canary')
    with pytest.raises(CheckpointError, match='not among the things a checkpoint may contain'):
        _load_checkpoint(str(tmp_path / 'evil.pth'))
    assert not (tmp_path / 'canary').exists()


@pytest.fixture
def served(tmp_path, monkeypatch):
    """A folder under http://127.0.0.1, and a cache of downloads of its own."""
    folder = tmp_path / 'served'
    folder.mkdir()
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    monkeypatch.setattr(http.server.SimpleHTTPRequestHandler, 'log_message', lambda *arguments: None)
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path / 'cache'))
    monkeypatch.setenv('no_proxy', '127.0.0.1')
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield folder, f'http://127.0.0.1:{server.server_port}'
        server.shutdown()
        thread.join()


def test_a_checkpoint_from_a_url_runs_nothing_either(served, tmp_path, reader):
    folder, url = served
    HOSTILE['os.system'](folder / 'evil.pth', tmp_path / 'canary')
    with pytest.raises(CheckpointError, match=r'evil\.pth asks for (posix|nt)\.system.*not loaded'):
        _load_checkpoint(f'{url}/evil.pth')
    assert not (tmp_path / 'canary').exists()
    torch.save(dict(a=torch.ones(2)), folder / 'good.pth')
    assert _load_checkpoint(f'{url}/good.pth')['a'].tolist() == [1, 1]
    (folder / 'good.pth').unlink()
    assert _load_checkpoint(f'{url}/good.pth')['a'].tolist() == [1, 1], 'the second time from the cache'


def test_every_loader_of_mmengine_loads_weights_only():
    """Those that are not called here read through the module's torch and load_url; a new one has to be looked at."""
    from mmengine.runner import checkpoint
    assert checkpoint.torch.load is weights_only.load and checkpoint.load_url is weights_only.load_url
    assert checkpoint.torch.nn is torch.nn
    assert {loader.__module__ for loader in CheckpointLoader._schemes.values()} == {'mmengine.runner.checkpoint'}


def test_a_text_in_a_checkpoint_is_not_carried_out_as_a_config(tmp_path, tiny_config):
    """Runner.resume reads the number of GPUs from meta['config'] by running it."""
    from mmengine.runner import Runner
    canary = tmp_path / 'canary'
    program = f'open({str(canary)!r}, "w").close()\ngpu_ids = [0]\n'
    mmengine.Config.fromstring(program, '.py')
    assert canary.exists(), 'a config is a program'
    canary.unlink()
    runner = Runner.from_cfg(tiny_config(tmp_path))
    path = tmp_path / 'evil.pth'
    torch.save(dict(meta=dict(config=program, epoch=1, iter=4, experiment_name='x'),
                    state_dict=runner.model.state_dict(), message_hub=runner.message_hub.state_dict()), path)
    runner.resume(str(path), resume_optimizer=False, resume_param_scheduler=False)
    assert not canary.exists()


def test_a_yaml_file_calls_nothing_and_keeps_tuples(tmp_path):
    hostile = tmp_path / 'evil.yaml'
    hostile.write_text(f'a: !!python/object/apply:os.system ["touch {tmp_path / "canary"}"]\n', encoding='utf-8')
    with pytest.raises(Exception, match='could not determine a constructor'):
        mmengine.load(str(hostile))
    assert not (tmp_path / 'canary').exists()
    config = mmengine.Config(dict(size=(224, 224), name='a', steps=[1, 2]))
    config.dump(str(tmp_path / 'a.yaml'))
    assert mmengine.Config.fromfile(str(tmp_path / 'a.yaml')).size == (224, 224)


def test_the_strict_reader_knows_no_other_operation_than_weights_need():
    for code in strict_unpickler.REFUSED:
        with pytest.raises(pickle.UnpicklingError, match='Unsupported operation'):
            strict_unpickler.Unpickler.dispatch[code[0]](None)
    with pytest.raises(pickle.UnpicklingError, match=r"An object of <class 'torch.Size'> is no part of weights"):
        strict_unpickler.loads(b'\x80\x02ctorch\nSize\n)\x81.')
    with pytest.raises(pickle.UnpicklingError, match=r'GLOBAL subprocess\.Popen'):
        strict_unpickler.loads(b'csubprocess\nPopen\n.')
