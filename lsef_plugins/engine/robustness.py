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
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Optional

from mmengine.config import Config
from mmengine.runner import Runner

from ..version import __version__
from ..visualization.writing import whole_file
from . import launch

CLEAN = 'clean'


def with_corruption(pipeline: Sequence[dict], kind: str, severity: int, seed: int = 0) -> list[dict]:
    """A test pipeline with ``TemporalCorruption`` behind the last step that decodes.

    Raises:
        LaunchError: no step of the pipeline decodes.
    """
    places = [index for index, step in enumerate(pipeline) if 'Decode' in str(step['type'])]
    if not places:
        raise launch.LaunchError(f'No step of the test pipeline decodes ({[str(step["type"]) for step in pipeline]}), '
                                 'so there is no place to corrupt frames. Corruptions need a video or frame pipeline.')
    step = dict(type='TemporalCorruption', kind=kind, severity=severity, seed=seed)
    return [*copy.deepcopy(list(pipeline[:places[-1] + 1])), step, *copy.deepcopy(list(pipeline[places[-1] + 1:]))]


def measure(config: str, checkpoint: str, kinds: Optional[Iterable[str]] = None, severities: Iterable[int] = (3, ),
            out: Optional[str] = None, work_dir: Optional[str] = None, options: Optional[dict] = None) -> dict:
    """Metrics of a checkpoint on clean clips and under each corruption and severity.

    Args:
        config, checkpoint: as for :func:`lsef_plugins.engine.launch.test`.
        kinds: names of temporal corruptions; all of them by default.
        severities: of 1 to 5.
        out: a JSON file, written whole after each condition. What it already holds for the same config and weights
            is not measured again.
        options: overrides of the config.

    Returns:
        ``{'config', 'checkpoint', 'fingerprint', 'conditions': {'clean': {...}, 'flicker/3': {...}, ...}}`` with the
        metrics of the config's evaluator.
    """
    from lsef_plugins.datasets.transforms.corruptions import TEMPORAL_CORRUPTIONS, check_kind, check_severity
    chosen = [check_kind(kind) for kind in (TEMPORAL_CORRUPTIONS if kinds is None else kinds)]
    conditions: list[Optional[tuple[str, int]]] = [None]
    conditions += [(kind, check_severity(severity)) for severity in severities for kind in chosen]
    cfg = launch.read_config(config, work_dir, 'none', options)
    launch.must_exist(checkpoint)
    cfg.load_from, cfg.resume = checkpoint, False
    fingerprint = fingerprint_of(cfg, checkpoint)
    result: dict[str, Any] = {'config': config, 'checkpoint': checkpoint, 'fingerprint': fingerprint, 'conditions': {}}
    if out is not None and os.path.isfile(out):
        known = _read_results(out)
        if known.get('fingerprint') != fingerprint:
            raise launch.LaunchError(f'{out} holds results of {known.get("checkpoint")} or of other settings, which '
                                     'are not overwritten. Give --out another name, or delete it if it may go.')
        result['conditions'] = known['conditions']
    missing = [condition for condition in conditions if name_of(condition) not in result['conditions']]
    runner = _loaded_runner(cfg) if missing else None
    for index, condition in enumerate(missing):
        metrics = _test(runner, cfg, condition)
        result['conditions'][name_of(condition)] = metrics
        shown = ', '.join(f'{key} {value:.3f}' for key, value in metrics.items() if isinstance(value, float))
        print(f'[{index + 1}/{len(missing)}] {name_of(condition)}: {shown}', flush=True)
        if out is not None:
            with whole_file(out) as unfinished:
                unfinished.write_text(json.dumps(result, indent=1), encoding='utf-8')
    if runner is not None:
        runner.call_hook('after_run')
    return result


def _read_results(path: str) -> dict:
    try:
        return dict(json.loads(Path(path).read_text(encoding='utf-8')))
    except ValueError as error:
        raise launch.LaunchError(f'{path} is no file of results ({error}). Give --out another name, or delete it if it '
                                 'may go.') from error


def name_of(condition: Optional[tuple[str, int]]) -> str:
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


def _loaded_runner(cfg: Config) -> Runner:
    runner = launch.build_runner(cfg)
    runner.call_hook('before_run')
    runner.load_or_resume()
    return runner


def _test(runner: Any, cfg: Config, condition: Optional[tuple[str, int]]) -> dict:
    from mmengine.runner import TestLoop
    loader = copy.deepcopy(cfg.test_dataloader)
    # Each condition has workers of its own; keeping them alive would only pile them up.
    loader.persistent_workers = False
    if condition is not None:
        loader.dataset.pipeline = with_corruption(loader.dataset.pipeline, *condition)
    loop = TestLoop(runner, loader, copy.deepcopy(cfg.test_evaluator))
    runner._test_loop = loop
    return dict(loop.run())
