"""Each repair is needed where its fault is, cures it, and does nothing twice."""
import importlib
import importlib.util
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from lsef_plugins import compat

TORCH = tuple(int(part) for part in re.findall(r'\d+', torch.__version__)[:2])
NUMPY_2 = int(np.__version__.split('.')[0]) >= 2
# fault: (whether the installed host has it, what the host does then, what it does when repaired)
EXPECTED = {
    'config_inheritance': (importlib.util.find_spec('pkg_resources') is None, 'pkg_resources', 'mmaction'),
    'package_configs': (True, 'does not support to load lsef_plugins', {'type': 'LSEFNeck'}),
    'checkpoint_allow_list': (TORCH >= (2, 6), 'Weights only load failed', 2.0),
    'weights_only': (True, 'True', False),
    'safe_yaml': (True, 'called', 'ConstructorError'),
    'cpu_launch': (True, 'cuda|CUDA|NVIDIA|nccl|NCCL', 'gloo'),
    'cpu_device_ids': (True, 'device_ids', None),
    'cpu_amp': (True, 'only available training on gpu', 'torch.bfloat16'),
    'bfloat16_scores': (True, 'BFloat16', 1.0),
    'color_jitter_hue': (NUMPY_2, 'OverflowError', [179.0, 40.0, 200.0]),
    'numpy_names': (NUMPY_2, 'np.Inf', [37, 25]),
    'video_writer': (True, 'moviepy', True),
    'prediction_drawing': (True, 'permute', ['0.png', '1.png', '2.png', '3.png']),
    'rated_predictions': (True, 'pred_label',
                          {'pred_labels': ['valence', 'arousal'], 'pred_scores': [0.25, -0.5]}),
}


# the repairs whose file is not called like the fault it is met by
REPAIR_OF = {'cpu_launch': 'cpu_distributed', 'cpu_device_ids': 'cpu_distributed'}


@pytest.mark.parametrize('fault', EXPECTED)
def test_a_repair_says_that_it_acts_exactly_where_the_stock_host_fails(fault, stock, repaired):
    faulty, repair = EXPECTED[fault][0], REPAIR_OF.get(fault, fault)
    assert bool(stock['reasons'][repair]) == faulty


def test_a_reason_is_the_same_before_and_after_the_repair(stock, repaired):
    assert stock['reasons'] == repaired['reasons'] and set(stock['reasons']) == set(compat.REPAIRS)
    assert bool(stock['reasons']['missing_drn']) != drn_is_in_the_release()
    assert len({reason for reason in stock['reasons'].values() if reason}) == len(
        [reason for reason in stock['reasons'].values() if reason]), 'each says something of its own'


@pytest.mark.parametrize('place, acts', [('gone', True), ('there', False)])
def test_an_editable_install_is_found_where_it_lies(place, acts, tmp_path, monkeypatch):
    """pkg_resources looks in site-packages, where an editable install has only a pointer."""
    import importlib.metadata

    from lsef_plugins.compat import config_inheritance as repair
    (tmp_path / 'there').mkdir()
    package_utils = importlib.import_module('mmengine.utils.package_utils')
    monkeypatch.setattr(package_utils, 'is_installed', lambda package: pkg_resources)  # noqa: F821
    monkeypatch.setattr(repair.importlib.util, 'find_spec', lambda name: object())
    monkeypatch.setattr(repair, '_runs_today', lambda: True)
    monkeypatch.setattr(importlib.metadata, 'distribution',
                        lambda name: type('Found', (), dict(locate_file=lambda self, path: tmp_path / place))())
    assert bool(repair.reason()) == acts
    monkeypatch.setattr(repair, '_runs_today', lambda: False)
    assert ('too old for this Python' in repair.reason()) == (sys.version_info >= (3, 12))


def drn_is_in_the_release():
    root = importlib.util.find_spec('mmaction').submodule_search_locations[0]
    return Path(root, 'models', 'localizers', 'drn', 'drn.py').is_file()


@pytest.mark.parametrize('fault', EXPECTED)
def test_the_stock_host_fails_and_the_repaired_one_does_not(fault, stock, repaired):
    faulty, complaint, cured = EXPECTED[fault]
    assert repaired[fault] == cured
    if faulty:
        assert re.search(complaint, str(stock[fault])), f'{fault}: is the repair still needed? {stock[fault]}'
    else:
        assert stock[fault] == cured


def test_the_stock_wheel_cannot_be_imported_and_the_repaired_one_can(stock, repaired):
    assert repaired['missing_drn'] is None
    if drn_is_in_the_release():
        assert stock['missing_drn'] is None
    else:
        assert "No module named 'mmaction.models.localizers.drn'" in stock['missing_drn']


def test_the_stock_host_leaves_half_a_file_and_the_repaired_one_none(stock, repaired):
    assert stock['whole_checkpoints'] == ['epoch_1.pth']
    assert repaired['whole_checkpoints'] == []


def test_only_the_repaired_host_names_a_truncated_checkpoint(stock, repaired):
    assert 'cut.pth' not in stock['checkpoint_errors']
    assert re.match(r'CheckpointError: Checkpoint \S+cut\.pth \(1000 bytes\) is incomplete',
                    repaired['checkpoint_errors'])


def test_every_file_of_the_room_is_in_the_list_and_says_when_to_delete_it():
    files = {path.stem for path in Path(compat.__file__).parent.glob('*.py')} - {'__init__'}
    assert files == set(compat.REPAIRS) | {'strict_unpickler'}, 'which weights_only uses'
    for name in files:
        text = importlib.import_module(f'lsef_plugins.compat.{name}').__doc__
        assert all(word in text for word in ('Fault: ', 'Mend: ', 'Delete when: ')), name


def test_repairing_twice_changes_nothing_more():
    compat.apply_repairs()
    from mmaction.apis.inferencers import ActionRecogInferencer
    from mmaction.models.heads import BaseHead
    from mmaction.visualization import ActionVisualizer, LocalVisBackend
    from mmengine.dist import utils
    from mmengine.fileio import LocalBackend
    from mmengine.hooks import CheckpointHook
    from mmengine.model import MMDistributedDataParallel
    from mmengine.optim import AmpOptimWrapper
    from mmengine.runner.checkpoint import CheckpointLoader

    def state():
        return (LocalBackend.put, CheckpointHook._save_checkpoint_with_step, CheckpointHook._save_best_checkpoint,
                MMDistributedDataParallel.__init__, AmpOptimWrapper.__init__, BaseHead.loss_by_feat,
                utils._init_dist_pytorch, utils._init_dist_slurm, CheckpointLoader._schemes[''],
                ActionVisualizer.add_datasample, LocalVisBackend.add_video, ActionRecogInferencer.pred2dict,
                len(torch.serialization.get_safe_globals()) if TORCH >= (2, 4) else 0)

    once = state()
    compat.apply_repairs()
    assert state() == once


def test_numpy_itself_keeps_the_names_it_has():
    compat.apply_repairs()
    assert not NUMPY_2 or not any(hasattr(np, name) for name in ('Inf', 'in1d'))


def test_using_drn_says_why_it_is_absent():
    compat.apply_repairs()
    from mmaction.models.localizers.drn.drn import DRN
    if drn_is_in_the_release():
        assert issubclass(DRN, torch.nn.Module)
    else:
        with pytest.raises(ImportError, match='Install MMAction2 from its source repository'):
            DRN()


def test_a_real_drn_is_never_hidden(tmp_path, monkeypatch):
    from lsef_plugins.compat import missing_drn
    folder = tmp_path / 'mmaction' / 'models' / 'localizers' / 'drn'
    folder.mkdir(parents=True)
    (folder / 'drn.py').write_text('class DRN: pass\n', encoding='utf-8')
    spec = importlib.machinery.ModuleSpec('mmaction', None, is_package=True)
    spec.submodule_search_locations = [str(tmp_path / 'mmaction')]
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: spec)
    for name in [name for name in sys.modules if name.startswith(missing_drn.PACKAGE)]:
        monkeypatch.delitem(sys.modules, name)
    missing_drn.apply()
    assert missing_drn.PACKAGE not in sys.modules
    (folder / 'drn.py').unlink()
    missing_drn.apply()
    assert f'{missing_drn.PACKAGE}.drn' in sys.modules
    for name in (missing_drn.PACKAGE, f'{missing_drn.PACKAGE}.drn'):
        monkeypatch.delitem(sys.modules, name)


@pytest.mark.parametrize('shape', [(2, 3, 4, 8, 8), (4, 3, 8, 8), (3, 3, 8, 8), (1, 3, 8, 8), (3, 4, 8, 8)])
def test_a_drawn_clip_has_its_channels_first(shape):
    """Clips of Recognizer3D, segments of Recognizer2D (three of them, too), a clip as it should be."""
    import torch

    from lsef_plugins.compat.prediction_drawing import one_clip
    channels = 0 if shape == (3, 4, 8, 8) else 1
    video = torch.arange(3).view([3 if axis == channels else 1 for axis in range(len(shape))])
    clip = one_clip(video.expand(shape))
    assert clip.shape[0] == 3 and (clip == torch.arange(3)[:, None, None, None]).all()
