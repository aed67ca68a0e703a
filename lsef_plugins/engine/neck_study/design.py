"""Which runs there are: cells x arms x (learning rates x tuning seeds + seeds), and what they cost.

A cell is a preset and a regime of training, clean or with corrupted clips among the others; an arm is a neck and a
head. All arms have one recipe and as many learning rates, tried with the same tuning seeds on the clean ``tune``
clips; the best one trains with other seeds and is compared on clean and on corrupted clips that no choice of ours
was made on. ``tune_on`` tries the rates on one preset alone, in each regime, and takes the best ones to the others.

``DECLARED`` was named before anything was run: it is what every other arm is compared with.
"""
from __future__ import annotations

import copy
import dataclasses
import functools
from typing import Any, Iterable, Optional

from mmengine.config import Config

from lsef_plugins.nn.pooling import READINGS

from ..studies.clips import View
from ..studies.runs import tuning_cell
from . import budget

PRESETS = ('default', 'hard', 'longtail')
#: Trained on a long tail, tested on equal classes: the preset differs from this one in nothing else.
TESTED_ON = {'longtail': 'default'}
REGIMES = ('clean', 'augmented')
TUNING_SEEDS = (100, 101)
SEEDS = (0, 1, 2, 3, 4)
#: The split of the comparison. LSEFHead was developed while looking at ``test``.
COMPARED_ON = 'fresh'
#: Of these clips, the first so many are shown under each corruption.
CORRUPTED_CLIPS = 252
SEVERITIES = (3, )

#: Of hidden matrices and of all the rest; the classifier's is tuned.
RATE = 0.003
MUON: dict[str, Any] = dict(constructor='MuonConstructor',
                            optimizer=dict(type='MuonAndAdamW', lr=RATE, weight_decay=0.02))
# The classifier's share of SGD's rate: LSEFHead reads 6 c numbers of the order of one, which all of it overshoots.
SGD: dict[str, Any] = dict(optimizer=dict(type='SGD', momentum=0.9, weight_decay=1e-4),
                           paramwise_cfg=dict(custom_keys={'cls_head.fc_cls': dict(lr_mult=0.1)}))
RAO: dict[str, Any] = dict(SGD, constructor='RAO')
#: recipe -> (optimizer, learning rates): of the classifier under Muon, of everything under SGD. (0.001 under Muon was
#: the best of no arm.)
RECIPES: dict[str, tuple[dict, tuple[float, ...]]] = {
    'muon': (MUON, (0.003, 0.01, 0.03)), 'sgd': (SGD, (0.02, 0.06, 0.2)), 'rao': (RAO, (0.02, 0.06, 0.2))}
#: Untuned: by head, and of SGD.
GUESSES = {'avg': 0.03, 'mmd': 0.01, 'mmds': 0.01, 'exc': 0.01, 'lsef': 0.01, 'all': 0.01, 'sgd': 0.06}

LSEF: dict[str, Any] = dict(type='LSEFNeck')
#: The merge that the study began with, of which most tables are: bands of the stable part alone, each frame by itself.
#: It sets the budget.
STABLE: dict[str, Any] = dict(LSEF, cim=dict(bands_of='stable', kernel=1))
RIVALS: dict[str, Optional[dict]] = {
    'none': None, 'mlp': dict(type='PointwiseNeck'), 'tconv': dict(type='TemporalConvolutionNeck'),
    'nonlocal': dict(type='NonLocalNeck'), 'hamburger': dict(type='HamburgerNeck'), 'lsef': LSEF}
HEADS: dict[str, dict] = {
    'avg': dict(type='I3DHead', spatial_type='avg'), 'mmd': dict(type='MeanMaxDeviationHead'),
    'mmds': dict(type='MeanMaxDeviationHead', over_size=True), 'exc': dict(type='MeanExcursionHead'),
    'lsef': dict(type='LSEFHead'),
    'all': dict(type='LSEFHead', read=READINGS)}
OURS = ('lsef', 'all')
ABLATIONS: dict[str, dict] = {
    'nosem': dict(sem=False), 'noddm': dict(ddm=False), 'nocim': dict(cim=False),
    'nogate': dict(sem=dict(robust_iters=0), ddm=dict(gate_frames=False)),
    'soft': dict(sem=dict(mode='soft'), ddm=dict(exponent=1.0)), 'rank1': dict(rank=1), 'k2': dict(iterations=2)}
#: Not as it comes: what CIM's bands are taken of, and how many frames their map reads.
VARIANTS: dict[str, dict] = {'stable': STABLE, 'restored': dict(LSEF, cim=dict(bands_of='restored', kernel=1))}


@dataclasses.dataclass(frozen=True)
class Size:
    """The recognizer and its clips; ``seconds`` of one core that a training and its tests of a condition took when
    this was written, None: never measured; for the plan only."""
    name: str
    backbone: dict
    channels: int
    view: View
    steps: int = 320
    batch: int = 16
    start_rate: float = 0.006
    seconds: Optional[tuple[float, float]] = (27.0, 0.5)
    frozen: bool = False

    @functools.cached_property
    def budget(self) -> int:
        """Parameters of neck and head together, for all arms."""
        return budget.reference(self.channels, STABLE, head('lsef'))


def _backbone(**changes: Any) -> dict[str, Any]:
    return dict(dict(type='ResNet3dSlowOnly', depth=18, pretrained=None, base_channels=8, lateral=False,
                     conv1_kernel=(1, 3, 3), conv1_stride_s=1, conv1_stride_t=1, pool1_stride_t=1,
                     inflate=(0, 0, 1, 1), norm_eval=False), **changes)


SIZES = {size.name: size for size in (
    Size('small', _backbone(), 64, View()),
    Size('framewise', _backbone(inflate=(0, 0, 0, 0)), 64, View()),
    Size('frozen', _backbone(inflate=(0, 0, 0, 0)), 64, View(), seconds=(10.0, 0.5), frozen=True),
    Size('dense', _backbone(), 64, View(16), seconds=(48.0, 0.8)),
    Size('full', _backbone(depth=50, base_channels=64, conv1_kernel=(1, 7, 7)), 2048, View(16, 64), steps=2000,
         start_rate=0.001, seconds=None))}


def head(name: str) -> dict[str, Any]:
    return dict(copy.deepcopy(HEADS[name]), num_classes=budget.CLASSES, dropout_ratio=0.2)


@dataclasses.dataclass(frozen=True)
class Arm:
    """A neck (None: without) and the name of a head; ``fixed``: a block whose size cannot be chosen."""
    name: str
    neck: Optional[dict]
    head: str
    recipe: str = 'muon'
    fixed: bool = False

    @property
    def rates(self) -> tuple[float, ...]:
        return RECIPES[self.recipe][1]

    @property
    def guess(self) -> float:
        """The learning rate where none is tuned."""
        return GUESSES[self.head if self.recipe == 'muon' else 'sgd']

    def optim_wrapper(self, rate: float) -> dict[str, Any]:
        wrapper = dict(copy.deepcopy(RECIPES[self.recipe][0]), clip_grad=dict(max_norm=20))
        if self.recipe == 'muon':
            return dict(wrapper, classifier=dict(lr=rate))
        return dict(wrapper, optimizer=dict(wrapper['optimizer'], lr=rate))

    def fitted_neck(self, size: Size) -> Optional[dict[str, Any]]:
        if self.neck is None:
            return None
        if self.fixed:
            return tpn(size.channels, self.head)
        return budget.fitted(self.neck, head(self.head), size.channels, size.budget)

    def head_channels(self, size: Size) -> int:
        return TPN_CHANNELS if self.fixed else size.channels

    def parameters(self, size: Size) -> int:
        """Of neck and head."""
        neck = self.fitted_neck(size)
        return budget.parameters_of(neck, size.channels) + budget.parameters_of(head(self.head),
                                                                                self.head_channels(size))

    def model(self, size: Size) -> dict[str, Any]:
        """The recognizer."""
        backbone, neck = copy.deepcopy(size.backbone), self.fitted_neck(size)
        if size.frozen:
            backbone.update(frozen_stages=4, norm_eval=True)
        if self.fixed:
            backbone['out_indices'] = (2, 3)
        model = dict(type='Recognizer3D', backbone=backbone,
                     cls_head=dict(head(self.head), in_channels=self.head_channels(size), average_clips='prob'),
                     data_preprocessor=dict(type='ActionDataPreprocessor', mean=[120.0] * 3, std=[60.0] * 3,
                                            format_shape='NCTHW'))
        return model if neck is None else dict(model, neck=neck)


TPN_CHANNELS = 2048     # what the host's TPN puts out, whatever it is told


def tpn(channels: int, head_name: str) -> dict[str, Any]:
    """The host's TPN, as in its own configs, on the last two stages.

    Its pools take all eight frames, which leaves a head that reads time nothing to read: there they take none.
    """
    low, pool = channels // 2, 1 if head_name == 'mmd' else 8
    return dict(type='TPN', in_channels=(low, channels), out_channels=low,
                spatial_modulation_cfg=dict(in_channels=(low, channels), out_channels=channels),
                temporal_modulation_cfg=dict(downsample_scales=(pool, pool)),
                upsample_cfg=dict(scale_factor=(1, 1, 1)), downsample_cfg=dict(downsample_scale=(1, 1, 1)),
                level_fusion_cfg=dict(in_channels=(low, low), mid_channels=(low, low), out_channels=channels,
                                      downsample_scales=((1, 1, 1), (1, 1, 1))))


def _arms() -> Iterable[Arm]:
    for neck, cfg in RIVALS.items():
        for each in ('avg', 'mmd'):
            yield Arm(f'{neck}/{each}', cfg, each)
    for each in ('avg', 'mmd'):
        yield Arm(f'tpn/{each}', dict(type='TPN'), each, fixed=True)
    for neck in ('none', 'tconv', 'lsef'):
        for each in ('lsef', 'all', 'mmds', 'exc'):
            yield Arm(f'{neck}/{each}', RIVALS[neck], each)
    for name, change in ABLATIONS.items():
        yield Arm(f'lsef-{name}/lsef', dict(LSEF, **change), 'lsef')
        yield Arm(f'lsef-stable-{name}/avg', dict(STABLE, **change), 'avg')
    for name, cfg in VARIANTS.items():
        for each in HEADS:
            yield Arm(f'lsef-{name}/{each}', cfg, each)
    for recipe in ('sgd', 'rao'):
        yield Arm(f'lsef-stable/lsef+{recipe}', STABLE, 'lsef', recipe)


ARMS = {arm.name: arm for arm in _arms()}
DECLARED = 'lsef-stable/lsef'
MAIN = ('none/avg', 'none/mmd', 'none/exc', 'mlp/mmd', 'tconv/avg', 'tconv/mmd', 'tconv/mmds', 'tconv/exc',
        'nonlocal/mmd', 'hamburger/mmd', 'lsef-stable/avg', 'lsef-stable/mmd', 'none/lsef', 'lsef-stable/lsef',
        'lsef/lsef')


@dataclasses.dataclass(frozen=True)
class Cell:
    preset: str
    regime: str

    @property
    def name(self) -> str:
        return f'{self.preset}_{self.regime}'

    @property
    def tested_on(self) -> str:
        """The preset of the tune and test clips."""
        return TESTED_ON.get(self.preset, self.preset)


CELLS = {cell.name: cell for cell in (Cell(preset, regime) for preset in PRESETS for regime in REGIMES)}


@dataclasses.dataclass(frozen=True)
class Run:
    """``conditions``: what is tested, none while tuning."""
    cell: Cell
    arm: Arm
    rate: float
    seed: int
    conditions: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return f'{self.cell.name}/{self.arm.name}/lr{self.rate:g}_seed{self.seed}'


def tuning_runs(cell: Cell, arm: Arm, seeds: Iterable[int] = TUNING_SEEDS) -> list[Run]:
    return [Run(cell, arm, rate, seed) for rate in arm.rates for seed in seeds]


def final_runs(cell: Cell, arm: Arm, rate: float, seeds: Iterable[int], conditions: Iterable[str]) -> list[Run]:
    return [Run(cell, arm, rate, seed, tuple(conditions)) for seed in seeds]


def plan(cells: list[Cell], arms: list[Arm], size: Size, tuning_seeds: int, seeds: int, conditions: int,
         tune_on: Optional[str] = None, starts: int = 1) -> str:
    """What the study costs, in a few lines."""
    tuned = list(dict.fromkeys(tuning_cell(cell, tune_on, PRESETS) for cell in cells))
    tuning = sum(len(arm.rates) for arm in arms) * tuning_seeds
    final = len(arms) * seeds
    rates = '/'.join(map(str, sorted({len(arm.rates) for arm in arms})))
    lines = [f'{len(cells)} cells ({", ".join(cell.name for cell in cells)}) x {len(arms)} arms x ({rates} learning '
             f'rates x {tuning_seeds} tuning seeds + {seeds} seeds under {conditions} conditions), {size.name} size, '
             f'{size.steps} steps of {size.batch} clips, from {starts} pretrained backbone{"s" * (starts > 1)}',
             f'tuning: {tuning} runs in each of {len(tuned)} cells ({", ".join(cell.name for cell in tuned)})',
             f'comparing: {final} runs in each cell',
             f'together {len(tuned) * tuning + len(cells) * final} runs']
    if size.seconds is not None:
        training, testing = size.seconds
        each = [len(tuned) * tuning * training / 3600,
                len(cells) * final * (training + testing * conditions) / 3600]
        lines[-1] += f', about {each[0]:.1f} + {each[1]:.1f} core hours'
    lines += [f'{arm.name}: {arm.parameters(size)} parameters ({arm.parameters(size) / size.budget:.2f} of the budget)'
              for arm in arms]
    return '\n'.join(lines)


def shown(arm: Arm, size: Size) -> str:
    """Recognizer and optimizer of an arm as the text of a config, at its untuned learning rate."""
    return Config(dict(custom_imports=dict(imports=['lsef_plugins.engine.neck_study.train']), model=arm.model(size),
                       optim_wrapper=arm.optim_wrapper(arm.guess))).pretty_text
