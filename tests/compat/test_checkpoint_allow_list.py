"""MMEngine's own checkpoints load; nothing else is let in with them."""
import os
import pickle

import numpy as np
import pytest
import torch

from lsef_plugins.compat import apply_repairs, checkpoint_allow_list
from lsef_plugins.compat.checkpoint_errors import CheckpointError

apply_repairs()

from mmengine.logging import HistoryBuffer, MessageHub  # noqa: E402
from mmengine.optim import OneCycleLR  # noqa: E402
from mmengine.optim.scheduler.param_scheduler import OneCycleParamScheduler  # noqa: E402
from mmengine.runner.checkpoint import _load_checkpoint  # noqa: E402


class Shell:
    """Pickles as a call of ``os.system``."""

    def __init__(self, path):
        self.command = f'touch {path}'

    def __reduce__(self):
        return os.system, (self.command,)


class Attribute:
    """Pickles as ``getattr(owner, name)``, and as a call of that with ``arguments`` where some are given."""

    def __init__(self, owner, name):
        self.request = owner, name

    def __reduce__(self):
        return getattr, self.request


def saved(content, path):
    torch.save(content, path)
    return str(path)


def test_a_message_hub_comes_back_as_it_was(tmp_path):
    hub = MessageHub.get_instance('allow_list_test')
    for value in (1.0, 2.0, 6.0):
        hub.update_scalar('train/loss', value)
    hub.update_info('last_ckpt', 'epoch_1.pth')
    content = _load_checkpoint(saved({'message_hub': hub.state_dict()}, tmp_path / 'a.pth'))
    history = content['message_hub']['log_scalars']['train/loss']
    assert isinstance(history, HistoryBuffer)
    assert history.data[0].tolist() == [1.0, 2.0, 6.0]
    assert history.statistics('mean') == 3.0 and history.statistics('max') == 6.0
    assert content['message_hub']['runtime_info']['last_ckpt'] == 'epoch_1.pth'


@pytest.mark.parametrize('dtype', ['bool', 'int8', 'uint8', 'int32', 'int64', 'float16', 'float32', 'float64'])
def test_numpy_scalars_and_arrays_load_in_every_plain_type(tmp_path, dtype):
    array = np.array([[0, 1, 1]], dtype=dtype)
    content = _load_checkpoint(saved({'array': array, 'scalar': array[0, 1]}, tmp_path / 'a.pth'))
    assert content['array'].dtype == array.dtype and (content['array'] == array).all()
    assert content['scalar'] == array[0, 1]


@pytest.mark.parametrize('spelling', [b'numpy.core.multiarray', b'numpy._core.multiarray'])
def test_checkpoints_of_numpy_1_and_of_numpy_2_load(tmp_path, spelling):
    import zipfile
    path = tmp_path / 'a.pth'
    torch.save({'array': np.arange(3.0), 'scalar': np.float64(2.5)}, path)
    other = tmp_path / 'b.pth'
    written = np.core.multiarray.__name__ if hasattr(np, 'core') and int(np.__version__[0]) < 2 \
        else 'numpy._core.multiarray'
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(other, 'w') as target:
        for item in source.infolist():
            data = source.read(item)
            if item.filename.endswith('data.pkl'):
                assert written.encode() in data
                data = data.replace(b'c' + written.encode() + b'\n', b'c' + spelling + b'\n')
            target.writestr(item.filename, data)
    content = _load_checkpoint(str(other))
    assert content['array'].tolist() == [0.0, 1.0, 2.0] and content['scalar'] == 2.5


def test_a_malicious_checkpoint_is_refused_and_nothing_runs(tmp_path):
    victim = tmp_path / 'victim'
    path = saved({'state_dict': {}, 'meta': Shell(victim)}, tmp_path / 'a.pth')
    with pytest.raises(CheckpointError, match=r'a\.pth asks for (posix|nt)\.system.*not loaded'):
        _load_checkpoint(path)
    assert not victim.exists()


@pytest.mark.parametrize('owner, name', [
    (os, 'system'), (HistoryBuffer, '__init__'), (HistoryBuffer, '__class__'),
    (HistoryBuffer, '_set_default_statistics'), (HistoryBuffer, 'register_statistics'),
    (HistoryBuffer, 'mean.__globals__'), (np.ndarray, 'tofile'),
    (torch.Tensor, 'numpy')])
def test_getattr_reaches_the_public_functions_of_history_buffer_only(owner, name):
    restricted = next(item for item in checkpoint_allow_list.allow_list() if item.__qualname__ == 'getattr')
    assert restricted(HistoryBuffer, 'mean') is HistoryBuffer.mean
    with pytest.raises(ValueError, match='public functions of HistoryBuffer and'):
        restricted(owner, name)


@pytest.mark.parametrize('attribute', [(HistoryBuffer, '__init__'), (np.ndarray, 'tofile')])
def test_a_checkpoint_that_reaches_further_is_refused_by_name(tmp_path, attribute):
    with pytest.raises(CheckpointError, match='public functions of HistoryBuffer and'):
        _load_checkpoint(saved({'meta': Attribute(*attribute)}, tmp_path / 'a.pth'))


def test_a_checkpoint_cannot_call_what_getattr_returns(tmp_path):

    class Call:

        def __reduce__(self):
            return HistoryBuffer.update, (HistoryBuffer(), 1.0)

    with pytest.raises(CheckpointError):
        _load_checkpoint(saved({'meta': Call()}, tmp_path / 'a.pth'))


@pytest.mark.parametrize('anneal', ['cos', 'linear'])
def test_the_annealing_function_of_a_one_cycle_schedule_comes_back(tmp_path, anneal):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    state = OneCycleLR(optimizer, eta_max=1.0, total_steps=9, anneal_strategy=anneal).state_dict()
    content = _load_checkpoint(saved({'param_schedulers': [state]}, tmp_path / 'a.pth'))
    assert content['param_schedulers'][0]['anneal_func'] is getattr(OneCycleParamScheduler, f'_annealing_{anneal}')


def test_a_checkpoint_cannot_make_a_scheduler(tmp_path):

    class Make:

        def __reduce__(self):
            return OneCycleParamScheduler, (1, 2, 3)

    with pytest.raises(CheckpointError, match='not make one'):
        _load_checkpoint(saved({'meta': Make()}, tmp_path / 'a.pth'))
    with pytest.raises(CheckpointError, match='annealing functions of'):
        _load_checkpoint(saved({'meta': Attribute(OneCycleParamScheduler, 'step')}, tmp_path / 'a.pth'))


def test_weights_only_stays_the_default():
    import inspect
    assert inspect.signature(torch.load).parameters['weights_only'].default is not False
    assert 'TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD' not in os.environ


def test_the_whole_list_has_nothing_that_runs_code():
    names = {f'{item.__module__}.{item.__qualname__}' for item in checkpoint_allow_list.allow_list()}
    assert {name for name in names if not name.startswith('numpy.')} <= {
        'mmengine.logging.history_buffer.HistoryBuffer', 'builtins.getattr',
        'mmengine.optim.scheduler.param_scheduler.OneCycleParamScheduler',
        'numpy._core.multiarray._reconstruct', 'numpy._core.multiarray.scalar'}
    assert OneCycleParamScheduler not in checkpoint_allow_list.allow_list(), 'a mark stands for the class'
    assert {'numpy.core.multiarray.scalar', 'numpy.core.multiarray._reconstruct', 'numpy.ndarray', 'numpy.dtype',
            'builtins.getattr'} <= names


def test_a_file_that_is_no_checkpoint_is_named(tmp_path):
    path = tmp_path / 'page.pth'
    path.write_text('<html>404</html>', encoding='utf-8')
    with pytest.raises(CheckpointError, match=r'page\.pth \(16 bytes\) is incomplete or not a checkpoint'):
        _load_checkpoint(str(path))
    (tmp_path / 'empty.pth').touch()
    with pytest.raises(CheckpointError, match=r'empty\.pth \(0 bytes\) is incomplete'):
        _load_checkpoint(str(tmp_path / 'empty.pth'))
    with pytest.raises(CheckpointError, match=r'gone\.pth does not exist.*last_checkpoint'):
        _load_checkpoint(str(tmp_path / 'gone.pth'))
    with pytest.raises(pickle.UnpicklingError):  # the cause is kept
        try:
            _load_checkpoint(str(path))
        except CheckpointError as error:
            raise error.__cause__ from None
