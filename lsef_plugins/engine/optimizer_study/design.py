"""Which runs there are: cells x arms x (learning rates x tuning seeds + seeds), and what they cost.

A cell is a data set and a way to train on it; an arm is an optimizer with or without RAO. Every arm has as many
learning rates as any other, tried with the same tuning seeds on the ``tune`` clips; the best one then trains with
other seeds and is compared on the ``test`` clips. ``tune_on`` tries the rates on one preset alone, for each share of
wrong labels and each batch, and takes the best ones to the other presets: an eighth to a half of the work.
"""
from __future__ import annotations

import dataclasses
from typing import Any, Iterable, Optional

from ..studies.runs import tuning_cell

PRESETS = ('default', 'hard', 'longtail')
WRONG = (0.0, 0.4)
BATCHES = (16, 2)
STEPS = {16: 320, 2: 960}
#: Seconds of one busy, shared core that a run took when this was written, for the plan only.
SECONDS = {16: 25.0, 2: 24.0}
TUNING_SEEDS = (100, 101)
SEEDS = (0, 1, 2, 3, 4)

SGD = dict(optimizer=dict(type='SGD', momentum=0.9, weight_decay=1e-4))
ADAMW = dict(optimizer=dict(type='AdamW', weight_decay=0.02))
SGD_RATES = (0.006, 0.02, 0.06, 0.2)
ADAM_RATES = (0.0003, 0.001, 0.003, 0.01)
# Each says its size: a default may change what an arm is.
EMA = dict(target_rank=None, smoothing=0.9, size=None)
KAPPA = dict(kappa=1.0, size=None)
TARGET = dict(target_rank=0.5, size=None)
SIZE = dict(target_rank=None, size=0.001)
SHARED = dict(target_rank=None, size='shared')
HIGH = dict(target_rank=0.9, size='shared', interval=5)
SMOOTH_TARGET = dict(target_rank=0.5, smoothing=0.9, size=None)


@dataclasses.dataclass(frozen=True)
class Arm:
    """An optimizer; ``rao`` are the options of the constructor, None is without it."""
    name: str
    wrapper: dict
    rates: tuple[float, ...]
    rao: Optional[dict] = None

    def optim_wrapper(self, rate: float) -> dict[str, Any]:
        cfg: dict[str, Any] = dict(self.wrapper, optimizer=dict(self.wrapper['optimizer'], lr=rate),
                                   clip_grad=dict(max_norm=20))
        return cfg if self.rao is None else dict(cfg, constructor='RAO', rao=dict(self.rao))


def _arms() -> Iterable[Arm]:
    for name, wrapper, rates in (('sgd', SGD, SGD_RATES), ('adamw', ADAMW, ADAM_RATES)):
        yield Arm(name, wrapper, rates)
        for option, rao in (('ema', EMA), ('kappa', KAPPA), ('rank', TARGET), ('ema+rank', SMOOTH_TARGET),
                            ('shared', SHARED), ('rank+shared', dict(TARGET, size='shared')), ('high+shared', HIGH)):
            yield Arm(f'{name}+{option}', wrapper, rates, rao)
    for option, rao in (('size', SIZE), ('rank+size', dict(TARGET, size=0.001))):
        yield Arm(f'sgd+{option}', SGD, SGD_RATES, rao)
    yield Arm('muon', dict(constructor='MuonConstructor', optimizer=dict(type='MuonAndAdamW', weight_decay=0.02)),
              ADAM_RATES)
    yield Arm('muon-sgd', dict(constructor='MuonConstructor', optimizer=dict(type='MuonAndSGD', weight_decay=1e-4),
                               rest=dict(lr_mult=20, momentum=0.9)), ADAM_RATES)


ARMS = {arm.name: arm for arm in _arms()}


@dataclasses.dataclass(frozen=True)
class Cell:
    preset: str
    wrong: float
    batch: int

    @property
    def name(self) -> str:
        return f'{self.preset}_wrong{round(100 * self.wrong)}_batch{self.batch}'


CELLS = {cell.name: cell for cell in (Cell(preset, wrong, batch) for preset in PRESETS for wrong in WRONG
                                      for batch in BATCHES)}


@dataclasses.dataclass(frozen=True)
class Run:
    cell: Cell
    arm: Arm
    rate: float
    seed: int
    tuning: bool = False        # measured on the tuning clips, and on no others

    @property
    def name(self) -> str:
        return f'{self.cell.name}/{self.arm.name}/lr{self.rate:g}_seed{self.seed}'


def tuning_runs(cell: Cell, arm: Arm, seeds: Iterable[int] = TUNING_SEEDS) -> list[Run]:
    return [Run(cell, arm, rate, seed, tuning=True) for rate in arm.rates for seed in seeds]


def final_runs(cell: Cell, arm: Arm, rate: float, seeds: Iterable[int] = SEEDS) -> list[Run]:
    return [Run(cell, arm, rate, seed) for seed in seeds]


def plan(cells: list[Cell], arms: list[Arm], tuning_seeds: int, seeds: int, tune_on: Optional[str] = None) -> str:
    """What the study costs, in a few lines."""
    lines, total, count = [], 0.0, 0
    wanted = {f'tuning {cell.name}': (cell, sum(len(arm.rates) * tuning_seeds for arm in arms))
              for cell in dict.fromkeys(tuning_cell(cell, tune_on, PRESETS) for cell in cells)}
    wanted.update((cell.name, (cell, len(arms) * seeds)) for cell in cells)
    for name, (cell, runs) in wanted.items():
        hours = runs * SECONDS[cell.batch] / 3600
        total, count = total + hours, count + runs
        lines.append(f'{name}: {runs} runs of {STEPS[cell.batch]} steps, {hours:.1f} core hours')
    rates = sorted({len(arm.rates) for arm in arms})
    names = ', '.join(arm.name for arm in arms)
    head = (f'{len(cells)} cells x {len(arms)} arms ({names}) x ({"/".join(map(str, rates))} learning rates '
            f'x {tuning_seeds} tuning seeds + {seeds} seeds)')
    return '\n'.join([head, *lines, f'together {count} runs, about {total:.1f} core hours'])
