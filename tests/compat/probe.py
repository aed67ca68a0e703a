"""Meets the host's faults one by one and prints what happened as JSON: ``python probe.py stock|repaired FOLDER``.

``stock`` is the host as its release is; only the missing DRN is stood in for after it was met, since nothing
of MMAction2 can be imported otherwise. Run by tests/compat/conftest.py, once in each way.
"""
import contextlib
import io
import json
import os
import resource
import sys
from pathlib import Path

MODE, FOLDER = sys.argv[1], Path(sys.argv[2])
PROBES = []


def probe(function):
    PROBES.append(function)
    return function


@probe
def missing_drn():
    import mmaction.models  # noqa: F401


@probe
def config_inheritance():
    from mmengine.config import Config
    path = FOLDER / 'child.py'
    path.write_text("_base_ = ['mmaction::_base_/default_runtime.py']\n", encoding='utf-8')
    return Config.fromfile(path).default_scope


@probe
def package_configs():
    """A config of the pack as somebody else's base: what it holds is MMAction2's, and no other registry's."""
    from mmengine.config import Config
    package = FOLDER / 'installed' / 'lsef_plugins'
    (package / '.mim' / 'configs' / '_base_').mkdir(parents=True)
    (package / '.mim' / 'model-index.yml').write_text('Import: []\n', encoding='utf-8')
    (package / '.mim' / 'configs' / '_base_' / 'neck.py').write_text("neck = dict(type='LSEFNeck')\n", encoding='utf-8')
    from mmengine.config import config
    stock, config.get_installed_path = config.get_installed_path, lambda name: str(package)
    installed, config.is_installed = config.is_installed, lambda name: True
    path = FOLDER / 'grandchild.py'
    path.write_text("_base_ = ['lsef_plugins::_base_/neck.py']\n", encoding='utf-8')
    try:
        return Config.fromfile(path).neck.to_dict()
    finally:
        config.get_installed_path, config.is_installed = stock, installed


@probe
def checkpoint_allow_list():
    import torch
    from mmengine.logging import HistoryBuffer
    from mmengine.runner import load_checkpoint
    buffer = HistoryBuffer([1.0, 3.0], [1, 1])
    path = str(FOLDER / 'history.pth')
    torch.save({'state_dict': {'weight': torch.ones(1)}, 'message_hub': {'log_scalars': {'loss': buffer}}}, path)
    return load_checkpoint(torch.nn.Linear(1, 1, bias=False), path)['message_hub']['log_scalars']['loss'].mean()


class Touch:
    """Pickles as a call that makes a file."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, 'w')


@probe
def weights_only():
    import torch
    from mmengine.runner.checkpoint import _load_checkpoint
    path, canary = FOLDER / 'evil.pth', FOLDER / 'canary'
    torch.save({'meta': Touch(canary)}, path)
    os.environ['TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD'] = '1'    # what torch before 2.6 does by itself
    try:
        with contextlib.suppress(Exception):
            _load_checkpoint(str(path))
    finally:
        del os.environ['TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD']
    return canary.exists()


@probe
def safe_yaml():
    import mmengine
    path = FOLDER / 'evil.yaml'
    path.write_text('a: !!python/object/apply:os.path.basename [x/called]\n', encoding='utf-8')
    try:
        return mmengine.load(str(path))['a']
    except Exception as error:
        return type(error).__name__


@probe
def checkpoint_errors():
    import torch
    from mmengine.runner import load_checkpoint
    path = FOLDER / 'whole.pth'
    torch.save({'weight': torch.ones(1000)}, path)
    cut = FOLDER / 'cut.pth'
    cut.write_bytes(path.read_bytes()[:1000])
    load_checkpoint(torch.nn.Linear(1, 1), str(cut))


@probe
def whole_checkpoints():
    from mmengine.fileio import LocalBackend
    path = FOLDER / 'epoch_1.pth'
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        LocalBackend().put(b'x' * 5000, str(path))
    except OSError:
        return sorted(file.name for file in FOLDER.iterdir() if 'epoch_1' in file.name)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@probe
def cpu_launch():
    import torch.distributed as dist
    from mmengine.dist import init_dist
    os.environ.update(RANK='0', LOCAL_RANK='0', WORLD_SIZE='1', MASTER_ADDR='127.0.0.1', MASTER_PORT='0')
    try:
        init_dist('pytorch', 'nccl')
        return dist.get_backend()
    finally:
        if not dist.is_initialized():
            dist.init_process_group('gloo')


@probe
def cpu_device_ids():
    import torch
    from mmengine.model import MMDistributedDataParallel
    MMDistributedDataParallel(module=torch.nn.Linear(1, 1), device_ids=[0], broadcast_buffers=False)


@probe
def cpu_amp():
    import torch
    from mmengine.optim import AmpOptimWrapper
    model = torch.nn.Linear(4, 4)
    wrapper = AmpOptimWrapper(optimizer=torch.optim.SGD(model.parameters(), lr=0.1))
    with wrapper.optim_context(model):
        out = model(torch.ones(1, 4))
    wrapper.update_params(out.sum())
    return str(out.dtype)


@probe
def bfloat16_scores():
    import torch
    from mmaction.models.heads import I3DHead
    from mmaction.structures import ActionDataSample
    head = I3DHead(num_classes=3, in_channels=4, topk=(1,))
    scores = torch.tensor([[2.0, 0.0, 1.0]], dtype=torch.bfloat16)
    return float(head.loss_by_feat(scores, [ActionDataSample().set_gt_label(0)])['top1_acc'])


@probe
def color_jitter_hue():
    import numpy as np
    from mmaction.datasets.transforms import ColorJitter
    return ColorJitter.adjust_hue(np.full((1, 1, 3), (200, 40, 90), np.float32), -0.1).ravel().tolist()


@probe
def numpy_names():
    import numpy as np
    from mmaction.datasets.transforms import PoseCompact
    keypoint = np.array([[[[10.0, 10.0], [30.0, 40.0]]]])
    return PoseCompact()({'keypoint': keypoint, 'img_shape': (64, 64)})['img_shape']


@probe
def video_writer():
    import numpy as np
    from mmaction.visualization import LocalVisBackend
    backend = LocalVisBackend(str(FOLDER / 'drawn'))
    backend.add_video('clip', np.zeros((3, 32, 32, 3), np.uint8), out_type='video')
    return os.path.getsize(FOLDER / 'drawn' / 'clip.mp4') > 0


@probe
def prediction_drawing():
    import torch
    from mmaction.engine.hooks import VisualizationHook
    from mmaction.structures import ActionDataSample
    from mmaction.visualization import ActionVisualizer
    ActionVisualizer.get_instance('probe', vis_backends=[], save_dir=str(FOLDER))
    sample = ActionDataSample().set_gt_label(1).set_pred_score(torch.tensor([0.25, 0.75]))
    hook = VisualizationHook(enable=True, interval=1, out_dir=str(FOLDER / 'shown'))
    hook._draw_samples(0, {'inputs': [torch.zeros(2, 3, 4, 32, 48, dtype=torch.uint8)]}, [sample])
    return sorted(path.name for path in (FOLDER / 'shown').rglob('*.png'))


@probe
def rated_predictions():
    import torch
    from mmaction.apis.inferencers import ActionRecogInferencer
    from mmaction.structures import ActionDataSample
    sample = ActionDataSample()
    sample.set_field(torch.tensor([0.25, -0.5]), 'pred_valence_arousal', dtype=torch.Tensor)
    return ActionRecogInferencer.pred2dict(None, sample)


def main():
    if MODE == 'repaired':
        from lsef_plugins.compat import apply_repairs
        apply_repairs()
    met = {}
    for function in PROBES:
        try:
            met[function.__name__] = function()
        except Exception as error:
            met[function.__name__] = f'{type(error).__name__}: {error}'
        if function is missing_drn:
            from lsef_plugins.compat import missing_drn as repair
            repair.apply()
    return met


def reasons():
    """Why each repair acts, by its own word."""
    from lsef_plugins.compat import reasons
    return reasons()


if __name__ == '__main__':
    with contextlib.redirect_stdout(io.StringIO()):
        result = main()
        result['reasons'] = reasons()
    print(json.dumps(result), flush=True)
    os._exit(0)     # cpu_device_ids has left a process group: see engine/process_group.py
