"""Testing one checkpoint on clean and on corrupted clips: the same clips, the same weights, one condition at a time.

A condition is a corruption and a severity (1 to 5); its step is put behind the step of the config's test pipeline that
decodes, so the sampling, the crops and the metrics are the config's own. Corruptions are seeded per clip: every model
sees the same broken clips. What is measured is saved after each condition and reused by the next start.
"""
from __future__ import annotations

import copy
import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Optional, Union

import numpy as np
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.runner import Runner, TestLoop

from lsef_plugins.datasets.transforms.clip_corruption import clip_identity
from lsef_plugins.datasets.transforms.corruptions import check_kinds, check_severity

from ...version import __version__
from ...visualization.writing import for_json, whole_file
from .. import launch
from ..data_errors import data_errors
from ..weights import WholeWeights
from .windows import ViewClasses, sampler_of, windows_of

CLEAN = 'clean'
ALL_SEVERITIES = (1, 2, 3, 4, 5)
Condition = Optional[tuple[str, int]]
DETAILS = re.compile(r'_low$|_high$|recall_|_scene_|_valence$|_arousal$')    # kept, but not shown while measuring


def with_corruption(pipeline: Sequence[dict], kind: str, severity: int, seed: int = 0) -> list[dict]:
    """A test pipeline with ``VideoCorruption`` behind the last step that decodes.

    Raises:
        LaunchError: no step of the pipeline decodes.
    """
    places = [index for index, step in enumerate(pipeline) if 'Decode' in str(step['type'])]
    if not places:
        raise launch.LaunchError(f'No step of the test pipeline decodes ({[str(step["type"]) for step in pipeline]}), '
                                 'so there is no place to corrupt frames. Corruptions need a video or frame pipeline.')
    step = dict(type='VideoCorruption', kind=kind, severity=severity, seed=seed)
    return [*copy.deepcopy(list(pipeline[:places[-1] + 1])), step, *copy.deepcopy(list(pipeline[places[-1] + 1:]))]


def measure(config: str, checkpoint: str, kinds: Union[str, Iterable[str], None] = None,
            severities: Iterable[int] = ALL_SEVERITIES, out: Optional[str] = None, work_dir: Optional[str] = None,
            options: Optional[dict] = None, fold: Optional[int] = None, protocol: Optional[str] = None,
            windows: Optional[int] = None, reference: Optional[dict] = None,
            check: Callable[[dict], Any] = lambda result: None) -> dict:
    """Metrics of a checkpoint on clean clips and under each corruption and severity.

    Args:
        config, checkpoint, fold, protocol: as for :func:`lsef_plugins.engine.launch.test`.
        kinds: names of corruptions, or of groups of them ('temporal', 'spatial', 'occlusion'); all of them by default.
        severities: of 1 to 5.
        out: a JSON file, written whole after each condition. What it already holds for the same config and weights
            is not measured again.
        options: overrides of the config.
        windows: clips that the test sampler takes of each video (its ``num_clips``), instead of the config's.
        reference: results to compare with later: what they lack, or other clips, are told before hours are spent.
        check: called with the results as soon as the clean ones are there, such as :func:`chosen_metric`; what it
            raises ends the measuring before hours are spent.

    Returns:
        ``{'config', 'checkpoint', 'fingerprint', 'clips', 'windows', 'conditions': {'clean': {...}, 'flicker/3': {...},
        ...}}`` with the metrics of the config's evaluator (None where one is not defined) and, where the sampler takes
        several windows of a video, ``flip_rate``.

    Raises:
        LaunchError: the request cannot work, or a clip cannot be read.
    """
    conditions = _conditions(kinds, severities)
    if reference is not None:
        check_covers(reference, conditions)
    cfg = launch.read_config(config, work_dir, 'none', options, fold=fold, protocol=protocol)
    _check_test(cfg, config, windows)
    launch.must_exist(checkpoint)
    cfg.load_from, cfg.resume = checkpoint, False
    fingerprint = fingerprint_of(cfg, checkpoint)
    count, why_one = windows_of(cfg.test_dataloader.dataset.pipeline)
    result: dict[str, Any] = {'config': config, 'checkpoint': checkpoint, 'fingerprint': fingerprint,
                              'windows': {'count': count, 'left_out': why_one}, 'clips': None, 'conditions': {}}
    if out is not None and os.path.isfile(out):
        known = _known(out, fingerprint)
        result.update(conditions=known['conditions'], clips=known.get('clips'))
    if CLEAN in result['conditions']:
        check(result)
    missing = [condition for condition in conditions if name_of(condition) not in result['conditions']]
    if missing:
        with data_errors():
            _measure_missing(cfg, missing, result, out, reference, check)
    return result


def _measure_missing(cfg: Config, missing: Sequence[Condition], result: dict, out: Optional[str],
                     reference: Optional[dict], check: Callable[[dict], Any]) -> None:
    runner, classes = _loaded_runner(cfg, result['windows']['count'])
    dataset: Any = runner.test_loop.dataloader.dataset
    before, result['clips'] = result['clips'], clips_of(dataset)
    if before and before['digest'] != result['clips']['digest']:
        raise launch.LaunchError(f'{out} holds results of another test set ({before["count"]} clips, now '
                                 f'{result["clips"]["count"]}; or other clips, labels or ratings): they do not belong '
                                 'into one table. Give --out another name, or delete it if it may go.')
    if reference is not None:
        check_reference(result, reference)
    began = time.monotonic()
    for index, condition in enumerate(missing):
        runner._test_loop = _loop(runner, cfg, condition, dataset)
        metrics = dict(runner._test_loop.run())
        flips = classes.rate()
        if flips is not None:
            metrics['flip_rate'] = flips
        result['conditions'][name_of(condition)] = {key: for_json(value) for key, value in metrics.items()}
        shown = ', '.join(f'{key} {value:.3f}' for key, value in metrics.items()
                          if isinstance(value, float) and not DETAILS.search(key))
        left = (time.monotonic() - began) / (index + 1) * (len(missing) - index - 1)
        print(f'[{index + 1}/{len(missing)}] {name_of(condition)}: {shown} ({_duration(left)} left)', flush=True)
        if out is not None:
            with whole_file(out) as unfinished:
                unfinished.write_text(json.dumps(result, indent=1), encoding='utf-8')
        if condition is None:
            check(result)
    runner.call_hook('after_run')


def _conditions(kinds: Any, severities: Iterable[int]) -> list[Condition]:
    chosen = check_kinds(kinds)
    levels = dict.fromkeys(check_severity(severity) for severity in severities)
    return [None, *((kind, severity) for severity in levels for kind in chosen if severity)]


def _check_test(cfg: Config, config: str, windows: Optional[int]) -> None:
    """LaunchError where the config tests nothing that can be corrupted; sets the number of windows."""
    dataset = (cfg.get('test_dataloader') or {}).get('dataset')
    if dataset is None or cfg.get('test_evaluator') is None:
        raise launch.LaunchError(f'{config} describes no test: it needs test_dataloader, test_evaluator, test_cfg.')
    if not dataset.get('pipeline'):
        raise launch.LaunchError(f'The test data set of {config} ({dataset.get("type")}) has no pipeline to put a '
                                 'corruption into. Test on the data set itself, not on one that wraps it.')
    with_corruption(dataset.pipeline, 'flicker', 1)
    if windows is None:
        return
    sampler = sampler_of(dataset.pipeline)
    if windows < 1 or sampler is None or sampler['clip_len'] == 1:
        raise launch.LaunchError(f'--windows {windows}: {windows_of(dataset.pipeline)[1]}. Windows, at least 1, are '
                                 'those of a sampler that takes clips of several frames, such as SampleFrames.')
    sampler['num_clips'] = windows


def _known(path: str, fingerprint: str) -> dict:
    known = read_results(path)
    if known.get('fingerprint') != fingerprint:
        raise launch.LaunchError(f'{path} holds results of {known.get("checkpoint")} or of other settings, which '
                                 'are not overwritten. Give --out another name, or delete it if it may go.')
    return known


def read_results(path: str) -> dict:
    """What an earlier start has written.

    Raises:
        LaunchError: it is no file of results.
    """
    try:
        found = dict(json.loads(Path(path).read_text(encoding='utf-8')))
        if not isinstance(found['conditions'], dict):
            raise ValueError('its conditions are no table')
        return found
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise launch.LaunchError(f'{path} is no file of results ({error}). Give another name, or delete it if it '
                                 'may go.') from error


def name_of(condition: Condition) -> str:
    return CLEAN if condition is None else f'{condition[0]}/{condition[1]}'


def fingerprint_of(cfg: Config, checkpoint: str) -> str:
    """A hash of what decides the figures: settings, version, weights, and the list of clips."""
    parts = {key: cfg.get(key) for key in ('model', 'test_dataloader', 'test_evaluator', 'test_cfg')}
    digest = hashlib.blake2b(repr((__version__, parts)).encode('utf-8'), digest_size=16)
    dataset = cfg.test_dataloader.dataset
    listed = os.path.join(dataset.get('data_root') or '', dataset.get('ann_file') or '')
    for path in (checkpoint, listed):
        digest.update(str(path).encode('utf-8'))
        if os.path.isfile(path):
            with open(path, 'rb') as file:
                for block in iter(lambda: file.read(1 << 20), b''):
                    digest.update(block)
    return digest.hexdigest()


def clips_of(dataset: Any) -> dict:
    """The number of clips, and a hash of their names and labels or ratings: results of equal hashes are of the same
    clips."""
    digest = hashlib.blake2b(digest_size=16)
    for index in range(len(dataset)):
        info = dataset.get_data_info(index)
        digest.update(f'{clip_identity({"sample_idx": index, **info})} {info.get("label")}\n'.encode())
        if info.get('valence_arousal') is not None:
            digest.update(np.asarray(info['valence_arousal'], np.float64).tobytes())
    return {'count': len(dataset), 'digest': digest.hexdigest()}


def check_covers(reference: dict, conditions: Sequence[Condition]) -> None:
    """LaunchError where the reference was not measured under all of the conditions."""
    lacking = [name_of(condition) for condition in conditions if name_of(condition) not in reference['conditions']]
    if lacking:
        shown = ', '.join(lacking[:5]) + (f' and {len(lacking) - 5} more' if len(lacking) > 5 else '')
        raise launch.LaunchError(f'The reference {reference.get("file", "")} lacks {shown}. Measure it with the same '
                                 '--kinds and --severities first: a second start with its --out adds what is missing.')


def check_reference(result: dict, reference: dict) -> None:
    """LaunchError where the two were measured on different clips (older files do not say)."""
    ours, theirs = result.get('clips'), reference.get('clips')
    if ours and theirs and ours['digest'] != theirs['digest']:
        raise launch.LaunchError(f'The reference {reference.get("file", "")} was measured on other clips or labels '
                                 f'({theirs["count"]} clips, here {ours["count"]}): errors of different test sets '
                                 'have no ratio. Measure it on these.')


def _loaded_runner(cfg: Config, windows: int) -> tuple[Runner, ViewClasses]:
    runner = launch.build_runner(cfg)
    classes = ViewClasses(runner.model, windows)
    runner.register_hook(classes)
    runner.register_hook(WholeWeights())
    runner.call_hook('before_run')
    # Before the weights: a checkpoint of another fold is refused by comparing it with the data set of this loop.
    runner._test_loop = _loop(runner, cfg, None)
    runner.load_or_resume()
    return runner, classes


def _loop(runner: Any, cfg: Config, condition: Condition, dataset: Any = None) -> TestLoop:
    """A test under a condition; ``dataset`` is one that is built, whose list and checks are not repeated."""
    loader = copy.deepcopy(cfg.test_dataloader)
    # Each condition has workers of its own; keeping them alive would only pile them up.
    loader.persistent_workers = False
    if dataset is not None:
        steps = loader.dataset.pipeline if condition is None else with_corruption(loader.dataset.pipeline, *condition)
        loader.dataset = copy.copy(dataset)
        loader.dataset.pipeline = Compose(steps)
    return TestLoop(runner, loader, copy.deepcopy(cfg.test_evaluator))


def _duration(seconds: float) -> str:
    return f'{seconds:.0f} s' if seconds < 120 else f'{seconds / 60:.0f} min' if seconds < 7200 else \
        f'{seconds / 3600:.1f} h'
