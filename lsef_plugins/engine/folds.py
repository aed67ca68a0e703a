"""Cross-validation: every config on every fold (and seed), each trained and tested once, and one table over all.

A run is a process of ``tools/train.py`` and one of ``tools/test.py``; its metrics are a file, and a run whose file is
there is not done again. An interrupted run goes on where its last checkpoint is. The first config is the one the others
are compared with, run by run (:func:`lsef_plugins.evaluation.functional.paired_difference`).
"""
from __future__ import annotations

import glob
import hashlib
import json
import math
import os
import os.path as osp
import re
import statistics
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Optional

from mmengine.config import Config

from lsef_plugins.evaluation.functional.pairs import paired_difference
from lsef_plugins.visualization.writing import write_whole

from .launch import LaunchError, newest_checkpoint, read_config

NAMES = {'acc/war': 'WAR', 'acc/uar': 'UAR'}


class Run(NamedTuple):
    """One training and its test: a config on a fold (None: the data set has none) with a seed."""
    config: str
    fold: Optional[int]
    seed: int

    def folder(self, root: str) -> str:
        parts = ([] if self.fold is None else [f'fd{self.fold}']) + [f'seed{self.seed}']
        return osp.join(root, osp.splitext(osp.basename(self.config))[0], '_'.join(parts))

    def __str__(self) -> str:
        fold = '' if self.fold is None else f'fold {self.fold}, '
        return f'{osp.basename(self.config)}: {fold}seed {self.seed}'


class RunError(RuntimeError):
    """A training or a test ended with an error; what was finished before stays."""


class Folds:
    """Runs of several configs on the same folds and seeds.

    Args:
        configs: config files; the first is the baseline.
        folds: of the data set; empty for one without folds.
        seeds: of each fold.
        protocol: 'paper', 'clean', or None for that of the configs.
        work_dir: folder of all runs.
        tools: folder of train.py and test.py.
        gpus: processes of each training and test; 1 runs without a launcher.
        options: ``KEY=VALUE`` for ``--cfg-options``.

    Raises:
        LaunchError: two configs of one name, a config that cannot be read, or one without folds.
    """

    def __init__(self, configs: Sequence[str], folds: Sequence[int], seeds: Sequence[int], protocol: Optional[str],
                 work_dir: str, tools: str, gpus: int = 1, options: Sequence[str] = ()) -> None:
        stems = [osp.basename(config) for config in configs]
        if len(set(stems)) != len(stems):
            raise LaunchError(f'Two configs have the same file name ({", ".join(stems)}): their runs would share a '
                              'folder. Rename one.')
        self.configs, self.seeds, self.protocol = list(configs), list(seeds), protocol
        self.folds: list = list(folds) or [None]
        self.work_dir, self.tools, self.gpus, self.options = work_dir, tools, gpus, list(options)
        unclear = [option for option in options if '=' not in option]
        if unclear:
            raise LaunchError(f'--cfg-options takes KEY=VALUE, such as train_cfg.max_epochs=10, and got '
                              f'{", ".join(unclear)}.')
        for config in configs:      # told now, not after hours
            read_config(config, None, 'none', None, fold=self.folds[0], protocol=protocol)

    def runs(self) -> list[Run]:
        return [Run(config, fold, seed) for fold in self.folds for seed in self.seeds for config in self.configs]

    def results(self) -> Iterator[tuple[Run, dict]]:
        """Each run with its metrics, done now or found done.

        Raises:
            RunError: a process of a run failed.
            LaunchError: a folder holds a run of other settings.
        """
        for run in self.runs():
            yield run, self._found(run) or self._done(run)

    def _found(self, run: Run) -> Optional[dict]:
        path = osp.join(run.folder(self.work_dir), 'result.json')
        if not osp.isfile(path):
            return None
        with open(path, encoding='utf-8') as file:
            found = json.load(file)
        if found['settings'] != self._settings(run):
            raise LaunchError(f'{path} is the result of other settings (config, --cfg-options, protocol or seed have '
                              'changed since). Give another --work-dir, or move that folder away.')
        return found['metrics']

    def _settings(self, run: Run) -> str:
        cfg = read_config(run.config, None, 'none', None, fold=run.fold, protocol=self.protocol)
        said = json.dumps([_plain(cfg), run.seed, self.protocol, self.options, self.gpus], sort_keys=True)
        return hashlib.blake2b(said.encode(), digest_size=16).hexdigest()

    def _done(self, run: Run) -> dict:
        folder, settings = run.folder(self.work_dir), self._settings(run)
        self._begin(folder, settings)
        trained = osp.join(folder, 'trained')
        if not osp.isfile(trained):
            self._process(run, 'train', '--resume', '--seed', str(run.seed))
            write_whole(trained, settings)
        checkpoint, metrics = chosen_checkpoint(folder), osp.join(folder, 'metrics.json')
        self._process(run, 'test', checkpoint, '--out', metrics)
        with open(metrics, encoding='utf-8') as file:
            found = json.load(file)
        write_whole(osp.join(folder, 'result.json'), json.dumps(
            dict(settings=settings, checkpoint=osp.basename(checkpoint), metrics=found), indent=2) + '\n')
        return found

    @staticmethod
    def _begin(folder: str, settings: str) -> None:
        begun = osp.join(folder, 'settings')
        # A start that failed before its first checkpoint (a wrong path, a wrong option) binds nobody.
        if osp.isfile(begun) and glob.glob(osp.join(glob.escape(folder), '*.pth')):
            with open(begun, encoding='utf-8') as file:
                if file.read() != settings:
                    raise LaunchError(f'{folder} holds an unfinished run of other settings. Give another --work-dir, '
                                      'or move that folder away.')
        else:
            write_whole(begun, settings)

    def _process(self, run: Run, what: str, *arguments: str) -> None:
        folder = run.folder(self.work_dir)
        tail = [*arguments, '--work-dir', folder]
        tail += [] if run.fold is None else ['--fold', str(run.fold)]
        tail += [] if self.protocol is None else ['--protocol', self.protocol]
        tail += ['--cfg-options', *self.options] if self.options else []
        if self.gpus == 1:
            command = [sys.executable, osp.join(self.tools, f'{what}.py'), run.config, *tail]
        else:   # dist_test.sh takes the number of processes after the checkpoint
            place = 1 if what == 'test' else 0
            command = ['bash', osp.join(self.tools, f'dist_{what}.sh'), run.config, *tail[:place], str(self.gpus),
                       *tail[place:]]
        log = osp.join(folder, f'{what}.log')
        with open(log, 'w', encoding='utf-8') as file:
            code = _ended(subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT,
                                           env={**os.environ, 'PYTHON': sys.executable}))
        if code:
            with open(log, encoding='utf-8', errors='replace') as file:
                last = file.read().strip().splitlines()[-5:]
            raise RunError(f'{run}: {what}.py ended with code {code}; its output is in {log}:\n  ' + '\n  '.join(last)
                           + '\nStart again to go on from here; finished runs are kept.')


def _ended(process: subprocess.Popen) -> int:
    """Waits for a process. It does not outlive us: a second start would train beside it in the same folder."""
    with process:
        try:
            return process.wait()
        except BaseException:
            process.terminate()     # no kill: a launcher has processes of its own to end
            raise


def _plain(cfg: Config) -> dict:
    """The config's settings, without where it runs."""
    return {key: value for key, value in cfg.to_dict().items() if key not in ('work_dir', 'launcher')}


def chosen_checkpoint(folder: str) -> str:
    """The best checkpoint where the config keeps one (``save_best``), else the last.

    Raises:
        RunError: there is none, or there are best ones of several metrics.
    """
    best = sorted(glob.glob(osp.join(glob.escape(folder), 'best_*.pth')), key=osp.getmtime)
    metrics = {re.sub(r'_(epoch|iter)_\d+\.pth$', '', osp.basename(path)) for path in best}
    if len(metrics) > 1:
        raise RunError(f'{folder} holds best checkpoints of several metrics ({", ".join(sorted(metrics))}), and the '
                       'test is of one. Name one metric in default_hooks.checkpoint.save_best.')
    last = best[-1] if best else newest_checkpoint(folder)
    if last is None:
        raise RunError(f'The training in {folder} left no checkpoint: default_hooks.checkpoint writes none.')
    return last


def table_of(results: Iterable[tuple[Run, dict]]) -> str:
    """Markdown: mean and standard deviation over the runs of each config, and differences from the first, paired.

    WAR and UAR in per cent; the metrics of ratings as they are, and all metrics where none of these is known. A metric
    that is NaN (a CCC of constants), or that a config does not report, is told as undefined.
    """
    found: dict[str, dict[tuple, dict]] = {}
    for run, metrics in results:
        found.setdefault(run.config, {})[run.fold, run.seed] = metrics
    first = next(iter(found.values()))
    every = list(dict.fromkeys(name for runs in found.values() for metrics in runs.values() for name in metrics))
    names = [name for name in every if name in NAMES or name in RATINGS] or every
    lines = ['| config | runs | ' + ' | '.join(f'{NAMES.get(n, n)} | difference' for n in names) + ' |',
             '|---|---:|' + '---:|---|' * len(names)]
    for config, runs in found.items():
        both = [key for key in runs if key in first]
        cells = [osp.splitext(osp.basename(config))[0], str(len(runs))]
        for name in names:
            factor = 100.0 if name in NAMES else 1.0
            values = [factor * metrics.get(name, math.nan) for metrics in runs.values()]
            cells += [_spread(values, name), '' if runs is first else _difference(
                [factor * first[key].get(name, math.nan) for key in both],
                [factor * runs[key].get(name, math.nan) for key in both], name)]
        lines.append('| ' + ' | '.join(cells) + ' |')
    return '\n'.join(lines)


RATINGS = ('va/ccc_global', 'va/ccc_per_video', 'va/rmse_global')


def _digits(name: str) -> int:
    return 1 if name in NAMES else 3


def _spread(values: list, name: str) -> str:
    digits, lost = _digits(name), sum(map(math.isnan, values))
    if lost:
        return f'undefined in {lost} of {len(values)} runs'
    mean = f'{statistics.fmean(values):.{digits}f}'
    return mean if len(values) == 1 else f'{mean} ± {statistics.stdev(values):.{digits}f}'


def _difference(first: list, second: list, name: str) -> str:
    if not first:
        return 'no run in common'
    if any(map(math.isnan, [*first, *second])):
        return 'undefined'
    digits, found = _digits(name), paired_difference(first, second)
    if len(first) == 1:
        return f'{found.mean:+.{digits}f} (1 run)'
    return (f'{found.mean:+.{digits}f} ± {found.deviation:.{digits}f}, 95 % '
            f'[{found.mean - found.half:+.{digits}f}, {found.mean + found.half:+.{digits}f}]')
