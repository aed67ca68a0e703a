"""Training and testing from a configuration file: what ``tools/train.py`` and ``tools/test.py`` call.

What a user can get wrong is checked before anything is built, and told as a :class:`LaunchError`.
"""
from __future__ import annotations

import os
import os.path as osp
import traceback
from typing import Optional

from mmaction.registry import RUNNERS
from mmengine.config import Config, ConfigDict
from mmengine.runner import Runner

from lsef_plugins.datasets.splits import shared_frames

from .config_names import bare_name
from .launch_error import LaunchError
from .process_group import leave_job
from .resuming import agree_on_checkpoint, must_exist, newest_checkpoint, set_resume
from .strategies import check_strategy
from .weights import WeightsError, WholeWeights

__all__ = ['LaunchError', 'build_runner', 'leave_job', 'must_exist', 'newest_checkpoint', 'read_config', 'test',
           'train']

LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
WITH_PROTOCOL = ('DFEWDataset', 'FERV39kDataset', 'VEATICDataset')


def train(config: str, work_dir: Optional[str] = None, resume: Optional[str] = None, amp: bool = False,
          validate: bool = True, auto_scale_lr: bool = False, seed: Optional[int] = None,
          diff_rank_seed: bool = False, deterministic: bool = False, options: Optional[dict] = None,
          launcher: str = 'none', fold: Optional[int] = None, protocol: Optional[str] = None) -> Runner:
    """Train the recognizer a configuration file describes.

    Args:
        config: Path of the configuration file.
        work_dir: Where logs and checkpoints go; else the config's, else ``work_dirs/<name of the config>``.
        resume: Path of a checkpoint to go on from, or ``'auto'`` for the newest one in the work_dir; ``'auto'``
            with nothing there starts from the beginning.
        amp: Mixed precision; on a CPU this is bfloat16.
        validate: Whether to validate during training.
        auto_scale_lr: Scale the learning rate with the total batch size; the config names the one it is for.
        seed: Overrides the config's seed.
        diff_rank_seed: Each process gets a seed of its own.
        deterministic: Only deterministic algorithms of cuDNN and torch.
        options: Overrides of single settings, dotted keys to values. They win over everything else.
        launcher: ``'none'``, ``'pytorch'``, ``'slurm'`` or ``'mpi'``.
        fold, protocol: Of every data set in the config that has folds or protocols, such as DFEWDataset.

    Returns:
        The runner, after training.

    Raises:
        LaunchError: the request cannot work, see the message.
    """
    cfg = read_config(config, work_dir, launcher, options, fold=fold, protocol=protocol)
    if not validate:
        cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    if amp:
        _mixed_precision(cfg)
    if auto_scale_lr:
        if not cfg.get('auto_scale_lr'):
            raise LaunchError(f'--auto-scale-lr was given, but {config} does not say for which total batch size '
                              'its learning rate is meant. Add auto_scale_lr = dict(base_batch_size=...).')
        cfg.auto_scale_lr.enable = True
    randomness = dict(cfg.get('randomness') or {})
    asked = {'seed': seed, 'diff_rank_seed': diff_rank_seed or None, 'deterministic': deterministic or None}
    cfg.randomness = {**randomness, **{key: value for key, value in asked.items() if value is not None}}
    cfg.randomness.setdefault('seed', None)
    if resume is not None:
        set_resume(cfg, resume)
    _add_hook(cfg, 'RandomStateHook')
    if options:
        cfg.merge_from_dict(options)
    _refuse_mixed_splits(cfg)
    runner = build_runner(cfg)
    runner.train()
    return runner


def test(config: str, checkpoint: str, work_dir: Optional[str] = None, dump: Optional[str] = None,
         show_dir: Optional[str] = None, show: bool = False, interval: int = 1, wait_time: float = 2.0,
         options: Optional[dict] = None, launcher: str = 'none', fold: Optional[int] = None,
         protocol: Optional[str] = None, allow_missing_weights: bool = False) -> dict:
    """Test a checkpoint on the test set of a configuration file.

    Args:
        config: Path of the configuration file.
        checkpoint: Path or URL of the weights.
        work_dir: Where logs go, as for :func:`train`.
        dump: A ``.pkl`` file that receives the predictions.
        show_dir: A folder that receives clips with the prediction drawn in.
        show: Show those clips in a window.
        interval: Draw every n-th clip.
        wait_time: How long a clip is shown, in seconds.
        options: Overrides of single settings, dotted keys to values.
        launcher: ``'none'``, ``'pytorch'``, ``'slurm'`` or ``'mpi'``.
        fold, protocol: Of every data set in the config that has folds or protocols, such as DFEWDataset.
        allow_missing_weights: Measure a checkpoint that lacks weights of the model, which stay as they were
            initialised, or has others (MMEngine warns). A runner of another type than MMEngine's Runner, whose
            strategy loads the weights, is not checked.

    Returns:
        The metrics.

    Raises:
        LaunchError: the request cannot work, see the message.
    """
    cfg = read_config(config, work_dir, launcher, options, fold=fold, protocol=protocol)
    must_exist(checkpoint)
    cfg.load_from, cfg.resume = checkpoint, False
    if cfg.get('test_evaluator') is None or cfg.get('test_dataloader') is None:
        raise LaunchError(f'{config} describes no test: it needs test_dataloader, test_evaluator, test_cfg.')
    if dump is not None:
        if not dump.endswith(('.pkl', '.pickle')):
            raise LaunchError(f'--dump writes a pickle file, but its name is {dump}. Let it end in .pkl.')
        evaluators = cfg.test_evaluator
        evaluators = list(evaluators) if isinstance(evaluators, (list, tuple)) else [evaluators]
        cfg.test_evaluator = [*evaluators, {'type': 'DumpResults', 'out_file_path': dump}]
    if show or show_dir is not None:
        hooks = cfg.setdefault('default_hooks', ConfigDict())
        drawn = dict(hooks.get('visualization') or {'type': 'VisualizationHook'})
        hooks.visualization = dict(drawn, enable=True, show=show, wait_time=wait_time, out_dir=show_dir,
                                   interval=interval)
    if options:
        cfg.merge_from_dict(options)
    runner = build_runner(cfg)
    if not allow_missing_weights and isinstance(runner, Runner):
        runner.register_hook(WholeWeights())
    try:
        return runner.test()
    except WeightsError as error:
        raise LaunchError(f'{error} To measure it as it is, the rest as initialised: '
                          '--allow-missing-weights.') from error


def read_config(path: str, work_dir: Optional[str], launcher: str, options: Optional[dict],
                **splits: object) -> Config:
    """The config of a file with ``options`` merged in, and ``splits`` (fold, protocol) set in all data sets."""
    if not osp.isfile(path):
        raise LaunchError(f'Config file {path} does not exist (looked from {os.getcwd()}).')
    try:
        cfg = Config.fromfile(path)
        cfg.merge_from_dict(options or {})
    except Exception as error:
        raise LaunchError(f'Config file {path} cannot be read: {_told(error)}') from error
    for key, value in splits.items():
        if value is not None:
            _set_in_datasets(cfg, key, value, path)
    cfg.launcher = launcher
    if work_dir is not None:
        cfg.work_dir = work_dir
    elif cfg.get('work_dir') is None:
        chosen = [f'{key}{value}' for key, value in splits.items() if value is not None]
        cfg.work_dir = osp.join('work_dirs', osp.splitext(osp.basename(path))[0], *chosen)
    return cfg


def _set_in_datasets(cfg: Config, key: str, value: object, path: str) -> None:
    found = [dataset for name in LOADERS
             for dataset in _datasets((cfg.get(name) or {}).get('dataset')) if key in dataset]
    if not found:
        raise LaunchError(f'--{key} {value} was given, but no data set of {path} names its {key}. DFEWDataset has '
                          'folds and protocols, FERV39kDataset and VEATICDataset have protocols: write '
                          f'{key}=... into the config.')
    kinds = [dataset.get('type') for dataset in found]
    for dataset in [each for name in LOADERS for each in _datasets((cfg.get(name) or {}).get('dataset'))]:
        own_list = key == 'fold' and dataset.get('ann_file')
        # One that leaves its protocol to the default would keep that, and train on clips that are held out.
        if key in dataset or (dataset.get('type') in kinds and not own_list):
            dataset[key] = value


def _refuse_mixed_splits(cfg: Config) -> None:
    """LaunchError where validation or test clips would be trained on: folds differ, or what train and val hold out."""
    found: dict = {}
    cut: list = []
    for name in LOADERS:
        for dataset in _datasets((cfg.get(name) or {}).get('dataset')):
            kind, split = str(dataset.get('type')), dataset.get('split', 'train')
            if dataset.get('fold') is not None:
                found.setdefault((kind, 'fold'), {}).setdefault(dataset['fold'], name)
            protocol, bare = dataset.get('protocol', 'paper'), bare_name(dataset.get('type'))
            if bare == 'VEATICDataset':
                cut.append((name, {'train_ratio': 0.7, 'val_ratio': 0.1, **dataset, 'split': split,
                                   'protocol': protocol}))
            if split == name.split('_')[0] != 'test' and bare in WITH_PROTOCOL:
                held = (protocol, dataset.get('val_ratio', 0.1), dataset.get('val_seed', 0))
                found.setdefault((kind, '(protocol, val_ratio, val_seed)'), {}).setdefault(
                    held if protocol == 'clean' else (protocol, ), name)
    for (kind, what), values in found.items():
        if len(values) > 1:
            told = ', '.join(f'{value} in {name}' for value, name in values.items())
            raise LaunchError(f'{kind} has several values of {what} ({told}): clips that are validated or tested would '
                              'be trained on. Make them agree: --fold and --protocol set all data sets at once.')
    looked_at = [(name, part) for name, part in cut if name != LOADERS[0] and part['split'] != 'train']
    for trained in [part for name, part in cut if name == LOADERS[0]]:
        for name, shared in [(name, shared_frames(trained, part)) for name, part in looked_at]:
            if shared:
                raise LaunchError(f'VEATICDataset trains on {shared[0]} of each video and {name} takes {shared[1]}: '
                                  'frames that are validated or tested would be trained on. Give all of them one '
                                  'train_ratio (0.7 where it is left out), and each loader its split.')


def _datasets(config: object) -> list:
    """The config of a data set and of those it wraps."""
    if isinstance(config, (list, tuple)):
        return [each for one in config for each in _datasets(one)]
    if not isinstance(config, dict):
        return []
    return [config, *_datasets(config.get('dataset')), *_datasets(config.get('datasets'))]


def _told(error: Exception) -> str:
    """The error in one line, with the line of the config where Python met it."""
    if isinstance(error, SyntaxError):
        return f'line {error.lineno}: {error.msg}: {(error.text or "").strip()}'
    # MMEngine runs a copy of the file under a temporary name
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__)
             if frame.name == '<module>' and 'mmengine' not in frame.filename]
    where = f'line {lines[-1]}: ' if lines else ''
    return f'{where}{type(error).__name__}: {error}'


def _mixed_precision(cfg: Config) -> None:
    kind = cfg.optim_wrapper.get('type', 'OptimWrapper')
    name = kind if isinstance(kind, str) else kind.__name__
    if name not in ('OptimWrapper', 'AmpOptimWrapper'):
        raise LaunchError(f'--amp turns OptimWrapper into AmpOptimWrapper, but the config asks for {name}. '
                          'Configure mixed precision there, and leave --amp out.')
    cfg.optim_wrapper.type = 'AmpOptimWrapper'
    cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')


def _add_hook(cfg: Config, name: str) -> None:
    hooks = list(cfg.get('custom_hooks') or [])
    if not any(getattr(hook.get('type'), '__name__', hook.get('type')) == name for hook in hooks
               if isinstance(hook, dict)):
        cfg.custom_hooks = [*hooks, {'type': name}]


def build_runner(cfg: Config) -> Runner:
    """The runner of a config; on several processes all of them load the same checkpoint.

    Raises:
        LaunchError: the strategy cannot work, or a process does not see the checkpoint.
    """
    _add_hook(cfg, 'TrainedOnHook')
    check_strategy(cfg)
    runner = Runner.from_cfg(cfg) if 'runner_type' not in cfg else RUNNERS.build(cfg)
    if cfg.get('launcher', 'none') != 'none':
        agree_on_checkpoint(runner)
    return runner
