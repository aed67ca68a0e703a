r"""What a linear classifier gains from reading a sequence of features as LSEFHead does, on clips with a planted event.

    python tools/benchmark_head.py --out work_dirs/head.json --markdown work_dirs/head.md

A world draws 4 bases ``(c, n)``, 2 event patterns ``(c,)`` and 4 drifts ``(c,)``. A clip ``(b, c, t, h, w)`` of 32
channels, 16 frames and 2 x 2 positions is

.. math::  X = a\,\text{base} + \text{identity} + \text{slow drift} + \text{noise} + \pm\,\text{event}

with an event of two to four frames that starts anywhere. Classes: 3 bases x 2 events, and the fourth base without any
event: 7, chance 14.3 %. Noise has s.d. 0.5. In world ``local`` an event touches 4 channels and few positions, in
``broad`` 8 channels and most positions. Regimes: ``positive``, the event always adds, training on clean clips;
``signed``, it adds or subtracts, clean; ``corrupted``, it adds, every second batch of training is corrupted by one of
the six corruptions. The frame x30 (noise of s.d. 30 on one frame) is never trained on.

Everything of a seed (world, clips, batches, corruptions) is the same for all readers. Each gets the same learning
rates to choose from, on validation clips of a world of its own that no seed is tested on. The figure is the
unweighted average recall in per cent. A run that was interrupted goes on with the cells that are missing.

Source:
    Ours; arXiv:2511.11406 (abstract) describes no such experiment.
"""
import argparse
import json
import math
import multiprocessing
import os
import statistics
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple

import torch
from torch import Tensor, nn

from lsef_plugins.evaluation.functional.pairs import p_text, paired_t_p
from lsef_plugins.nn import LSEF, DecompositionPooling
from lsef_plugins.nn.pooling import READINGS, excursions_about_the_mean
from lsef_plugins.visualization.writing import write_whole

CHANNELS, FRAMES, SIDE, CLASSES, SIGMA = 32, 16, 2, 7, 0.5
POSITIONS = SIDE * SIDE
TRAINED, BATCH = 1000, 48
WORLDS = {'local': (4, 3, 0.1), 'broad': (8, 5, 0.75)}     # channels of an event, apart by, part of the positions
REGIMES = ('positive', 'signed', 'corrupted')
CORRUPTIONS = ('drop', 'noise', 'swap', 'spike', 'gauss', 'drift')
CONDITIONS = ('clean', *CORRUPTIONS, 'frame x30')
Job = Tuple[str, str, str, float, int]                     # world, regime, reader, learning rate, seed
VALIDATION = -1                                            # the seed of the world that learning rates are chosen on


# ---- planted clips ----------------------------------------------------------------------------------------------

class World(NamedTuple):
    base: Tensor        # (4, c, 1, n)
    event: Tensor       # (2, c)
    drift: Tensor       # (4, c)
    share: float        # of the positions that an event touches


def draw_world(kind: str, seed: int) -> World:
    g = torch.Generator().manual_seed(1000 + seed)
    touched, apart, share = WORLDS[kind]
    base = torch.randn(4, CHANNELS, 1, POSITIONS, generator=g)
    order = torch.randperm(CHANNELS, generator=g)
    event = torch.zeros(2, CHANNELS)
    for index in range(2):                                 # the two overlap
        event[index, order[index * apart:index * apart + touched]] = 0.6 + 0.8 * torch.rand(touched, generator=g)
    return World(base, event, torch.randn(4, CHANNELS, generator=g), share)


def draw_clips(world: World, count: int, seed: int, signed: bool) -> Tuple[Tensor, Tensor]:
    """Clips ``(b, c, t, n)`` and their classes ``(b,)``, the same for a seed."""
    g = torch.Generator().manual_seed(seed)
    label = (torch.arange(count) % CLASSES)[torch.randperm(count, generator=g)]
    base = torch.where(label < 6, label // 2, torch.full_like(label, 3))
    time_axis = torch.linspace(-1, 1, FRAMES)
    x = world.base[base] * (0.8 + 0.4 * torch.rand(count, 1, 1, 1, generator=g))
    x = x + 0.5 * torch.randn(count, CHANNELS, 1, 1, generator=g)
    phase = time_axis * (0.3 + 0.4 * torch.rand(count, 1, generator=g)) + 2 * torch.rand(count, 1, generator=g)
    way = world.drift[torch.randint(4, (count, ), generator=g)]
    x = x + 0.4 * way[:, :, None, None] * torch.sin(math.pi * phase)[:, None, :, None]
    x = x + SIGMA * torch.randn(count, CHANNELS, FRAMES, POSITIONS, generator=g)
    length = torch.randint(2, 5, (count, ), generator=g)
    start = (torch.rand(count, generator=g) * (FRAMES - length + 1)).long()
    frame = torch.arange(FRAMES)
    lasts = (frame >= start[:, None]) & (frame < (start + length)[:, None])
    size = 1.6 * SIGMA * (1.5 + 1.5 * torch.rand(count, generator=g))
    sign = torch.where(torch.rand(count, generator=g) < 0.5, -1.0, 1.0)
    place = torch.rand(count, POSITIONS, generator=g) < world.share
    place[torch.arange(count), torch.randint(POSITIONS, (count, ), generator=g)] = True
    event = world.event[label % 2] * (label < 6)[:, None] * (size * (sign if signed else 1))[:, None]
    x = x + event[:, :, None, None] * lasts[:, None, :, None] * place[:, None, None]
    return x, label


def corrupt(x: Tensor, kind: str, seed: int) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    count = len(x)

    def noise(*shape: int) -> Tensor:
        return torch.randn(shape or x.shape, generator=g)

    def frames(bad: int) -> Tensor:
        return (torch.rand(count, FRAMES, generator=g).argsort(1).argsort(1) < bad)[:, None, :, None]

    if kind == 'drop':
        return x * ~frames(4)
    if kind == 'noise':
        return x + frames(4) * 8 * SIGMA * noise()
    if kind == 'swap':
        return torch.where(frames(4), x[torch.randperm(count, generator=g)], x)
    if kind == 'spike':
        return x + 16 * SIGMA * noise().sign() * (torch.rand(x.shape, generator=g) < 0.05)
    if kind == 'gauss':
        return x + SIGMA * noise()
    if kind == 'drift':
        return x + 1.5 * noise(count, CHANNELS, 1, 1) * torch.linspace(-1, 1, FRAMES)[:, None]
    if kind == 'frame x30':
        return x + frames(1) * 30 * noise()
    raise ValueError(f'corruption {kind!r} is unknown; choose one of {", ".join(CONDITIONS[1:])}.')


# ---- readers: (b, c, t, h, w) -> (b, numbers), and a linear layer over them ---------------------------------------

class Reader(nn.Module):

    def __init__(self, neck: nn.Module, read: Callable[[Tensor], Tensor], numbers: int) -> None:
        super().__init__()
        self.neck, self.read = neck, read
        self.linear = nn.Linear(numbers, CLASSES)
        nn.init.normal_(self.linear.weight, std=0.01)
        nn.init.zeros_(self.linear.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.read(self.neck(x)))


class TemporalConvolution(nn.Module):
    """A residual pair of convolutions over three frames, the identity at the start as LSEF is."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.inward = nn.Conv3d(CHANNELS, hidden, (3, 1, 1), padding=(1, 0, 0))
        self.out = nn.Conv3d(hidden, CHANNELS, (3, 1, 1), padding=(1, 0, 0))
        for parameter in self.out.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.out(nn.functional.gelu(self.inward(x)))


def mean(x: Tensor) -> Tensor:
    return x.mean((2, 3, 4))


def moments(x: Tensor) -> Tensor:
    return torch.cat([mean(x), x.amax((2, 3, 4)), x.flatten(2).std(2)], 1)


def with_head(neck: nn.Module, **options: Any) -> Reader:
    head = DecompositionPooling(CHANNELS, **options)
    return Reader(neck, head, head.out_channels)


def neck(**cim: Any) -> LSEF:
    """As large as the others: 12 hidden channels, or 8 where the kernel reads three frames."""
    return LSEF(CHANNELS, cim={'hidden_channels': 12 if cim.get('kernel') == 1 else 8, **cim})


STABLE: Dict[str, Any] = dict(bands_of='stable', kernel=1)
RESTORED: Dict[str, Any] = dict(bands_of='restored', kernel=1)


READERS: Dict[str, Callable[[], Reader]] = {
    'nothing': lambda: Reader(nn.Identity(), lambda x: torch.zeros_like(mean(x)), CHANNELS),
    'mean': lambda: Reader(nn.Identity(), mean, CHANNELS),
    'moments': lambda: Reader(nn.Identity(), moments, 3 * CHANNELS),
    # The two as large as the largest of ours.
    'convolution': lambda: Reader(TemporalConvolution(16), moments, 3 * CHANNELS),
    'convolution+excursions': lambda: Reader(TemporalConvolution(12), excursions_about_the_mean, 6 * CHANNELS),
    'convolution+all': lambda: with_head(TemporalConvolution(8), read=READINGS),
    'head': lambda: with_head(nn.Identity()),
    'neck+head': lambda: with_head(neck()),
    'neck+all': lambda: with_head(neck(), read=READINGS),
    'stable+head': lambda: with_head(neck(**STABLE)),
    'stable+all': lambda: with_head(neck(**STABLE), read=READINGS),
    'restored+head': lambda: with_head(neck(**RESTORED)),
    'restored+all': lambda: with_head(neck(**RESTORED), read=READINGS),
    'limited+head': lambda: with_head(neck(limit_spikes=True, **STABLE)),
}
BY_DEFAULT = ('mean', 'moments', 'convolution', 'convolution+excursions', 'head', 'neck+head', 'neck+all')
MEANING = {'nothing': 'nothing at all', 'mean': 'mean', 'moments': 'mean, maximum, deviation',
           'convolution': 'temporal convolution + mean, maximum, deviation',
           'convolution+excursions': 'temporal convolution + excursions about the mean',
           'convolution+all': 'temporal convolution + all readings of LSEFHead\'s pooling',
           'head': 'the pooling of LSEFHead', 'neck+head': 'LSEF + the pooling of LSEFHead',
           'neck+all': 'LSEF + all readings of that pooling',
           'stable+head': 'LSEF (bands of the stable, kernel 1) + the pooling of LSEFHead',
           'stable+all': 'LSEF (bands of the stable, kernel 1) + all readings of that pooling',
           'restored+head': 'LSEF (kernel 1) + the pooling of LSEFHead',
           'restored+all': 'LSEF (kernel 1) + all readings of that pooling',
           'limited+head': 'LSEF (bands of the stable, kernel 1, limit_spikes) + the pooling of LSEFHead'}


# ---- one cell -----------------------------------------------------------------------------------------------------

def recall(predicted: Tensor, label: Tensor) -> float:
    """Unweighted average recall in per cent."""
    return 100 * statistics.fmean((predicted[label == k] == k).float().mean().item() for k in range(CLASSES))


def maps(x: Tensor) -> Tensor:
    return x.unflatten(3, (SIDE, SIDE))


def train(reader: Reader, x: Tensor, label: Tensor, rate: float, steps: int, corrupted: bool, seed: int) -> None:
    g = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(reader.parameters(), rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for step in range(steps):
        chosen = torch.randint(len(x), (BATCH, ), generator=g)
        batch = x[chosen]
        if corrupted and step % 2:
            batch = corrupt(batch, CORRUPTIONS[step // 2 % len(CORRUPTIONS)], 100_000 * (seed + 2) + step)
        loss = nn.functional.cross_entropy(reader(maps(batch)), label[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()


def measure(world: str, regime: str, reader: str, rate: float, seed: int, steps: int, clips: int) -> Dict[str, float]:
    """Trains one reader on one seed and tests it under every condition; the same figures for the same arguments."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    begin = time.process_time()
    try:
        drawn, signed = draw_world(world, seed), regime == 'signed'
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed + 2)
            model = READERS[reader]()
        x, label = draw_clips(drawn, TRAINED, 10 * seed + 101, signed)
        train(model, x, label, rate, steps, regime == 'corrupted', seed + 2)
        model.eval()
        x, label = draw_clips(drawn, clips, 10 * seed + 102, signed)
        found = {}
        for index, condition in enumerate(CONDITIONS):
            broken = x if condition == 'clean' else corrupt(x, condition, 500 + index)
            with torch.no_grad():
                found[condition] = recall(torch.cat([model(maps(part)).argmax(1) for part in broken.split(250)]), label)
    finally:
        torch.set_num_threads(threads)
    found['corrupted, mean'] = statistics.fmean(found[kind] for kind in CORRUPTIONS)
    return {**found, 'parameters': sum(p.numel() for p in model.parameters()),
            'seconds': time.process_time() - begin}


def key_of(world: str, regime: str, reader: str, rate: float, seed: int) -> str:
    return f'{world}/{regime}/{reader}/{rate:g}/' + ('validation' if seed == VALIDATION else str(seed))


def goodness(cell: Dict[str, float], regime: str) -> float:
    """What a learning rate is chosen by: what the reader was trained for."""
    return cell['clean'] if regime != 'corrupted' else (cell['clean'] + 6 * cell['corrupted, mean']) / 7


# ---- all cells ------------------------------------------------------------------------------------------------------

def settings_of(args: argparse.Namespace) -> Dict[str, Any]:
    cim = neck().cim        # cells of a neck that has another merge as it comes are not this tool's
    assert cim is not None
    return dict(steps=args.steps, clips=args.clips, batch=BATCH, trained=TRAINED,
                merge=f'{cim.bands_of}, kernel {cim.kernel}')


def load(path: str, settings: Dict[str, Any]) -> Dict[str, Dict[str, float]]:
    """The cells measured before with the same settings."""
    if not os.path.exists(path):
        return {}
    try:
        with open(path, encoding='utf-8') as file:
            report = json.load(file)
        came, cells = report['settings'], report['cells']
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f'{path} is no report of this tool ({error!r}). Name another file with --out.') from None
    if came != settings:
        raise ValueError(f'{path} was measured with {came}, not {settings}: the figures do not belong together. '
                         'Give the same options, or another --out.')
    return cells


def run_missing(jobs: List[Job], args: argparse.Namespace, cells: Dict[str, Dict[str, float]],
                save: Callable[[], None]) -> None:
    """Measures what is missing of ``jobs`` (world, regime, reader, rate, seed), saving after each."""
    missing = [job for job in dict.fromkeys(jobs) if key_of(*job) not in cells]

    def take(job: Job, found: Dict[str, float]) -> None:
        cells[key_of(*job)] = found
        save()
        print(f'{key_of(*job)}: clean {found["clean"]:.1f}, corrupted {found["corrupted, mean"]:.1f}, '
              f'{found["seconds"]:.0f} s', file=sys.stderr, flush=True)

    if args.jobs == 1:
        for job in missing:
            take(job, measure(*job, args.steps, args.clips))
    elif missing:
        with ProcessPoolExecutor(min(args.jobs, len(missing)), multiprocessing.get_context('spawn')) as pool:
            running = {pool.submit(measure, *job, args.steps, args.clips): job for job in missing}
            try:
                for done in as_completed(running):
                    take(running[done], done.result())
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise


def experiment(args: argparse.Namespace) -> Dict[str, Any]:
    settings = settings_of(args)
    cells = load(args.out, settings)
    report: Dict[str, Any] = dict(settings=settings, cells=cells, torch=torch.__version__)

    def save() -> None:
        write_whole(args.out, json.dumps(report, indent=1, sort_keys=True) + '\n')

    triples = [(w, r, n) for w in args.worlds for r in args.regimes for n in args.readers]
    if len(args.learning_rates) > 1:
        run_missing([(*t, rate, VALIDATION) for t in triples for rate in args.learning_rates], args, cells, save)
    chosen = {}
    for triple in triples:
        regime = triple[1]
        chosen[triple] = args.learning_rates[0] if len(args.learning_rates) == 1 else max(
            args.learning_rates, key=lambda rate: goodness(cells[key_of(*triple, rate, VALIDATION)], regime))
    # Seed by seed: an interrupted run leaves whole seeds.
    run_missing([(*t, chosen[t], seed) for seed in args.seeds for t in triples], args, cells, save)
    report['rows'] = [dict(world=t[0], regime=t[1], reader=t[2], rate=chosen[t], seeds=list(args.seeds),
                           cells=[cells[key_of(*t, chosen[t], seed)] for seed in args.seeds]) for t in triples]
    save()
    return report


def spread(values: List[float], sign: str = '') -> str:
    text = f'{statistics.fmean(values):{sign}.1f}'
    return text + (f' ± {statistics.stdev(values):.1f}' if len(values) > 1 else '')


def markdown(report: Dict[str, Any]) -> str:
    """A table for each world and regime, and what the last reader has over each other, paired by seed; p is that of
    Student's paired test."""
    settings, rows = report['settings'], report['rows']
    shown = ('clean', 'corrupted, mean', *CONDITIONS[1:])
    lines = [f'Unweighted average recall in per cent (chance {100 / CLASSES:.1f}); {settings["steps"]} steps of {BATCH}'
             f' clips, {settings["clips"]} test clips; mean ± standard deviation over '
             f'{len(rows[0]["seeds"])} seed(s), which all readers share.', '']
    for world, regime in dict.fromkeys((row['world'], row['regime']) for row in rows):
        here = [row for row in rows if (row['world'], row['regime']) == (world, regime)]
        best = {name: max(statistics.fmean(cell[name] for cell in row['cells']) for row in here) for name in shown}
        lines += [f'### {world}, {regime}', '', '| reader | parameters | rate | ' + ' | '.join(shown) + ' |',
                  '|---|---:|---:|' + '---:|' * len(shown)]
        for row in here:
            texts = []
            for name in shown:
                values = [cell[name] for cell in row['cells']]
                text = spread(values) if name in shown[:2] else f'{statistics.fmean(values):.1f}'
                texts.append(f'**{text}**' if statistics.fmean(values) == best[name] else text)
            lines.append(f'| {MEANING[row["reader"]]} | {row["cells"][0]["parameters"]} | {row["rate"]:g} | '
                         + ' | '.join(texts) + ' |')
        for row in here[:-1]:
            texts = [spread([a[name] - b[name] for a, b in zip(here[-1]['cells'], row['cells'])], '+')
                     if name in shown[:2] or name == 'frame x30' else
                     f'{statistics.fmean(a[name] - b[name] for a, b in zip(here[-1]["cells"], row["cells"])):+.1f}'
                     for name in shown]
            if len(row['cells']) > 1:
                theirs, ours = ([cell[shown[1]] for cell in each['cells']] for each in (row, here[-1]))
                texts[1] += f' (p {p_text(paired_t_p(theirs, ours))})'
            lines.append(f'| *{here[-1]["reader"]} over {row["reader"]}* | | | ' + ' | '.join(texts) + ' |')
        lines.append('')
    return '\n'.join(lines)


def main(arguments: Optional[List[str]] = None) -> int:
    parser = argparse.ArgumentParser(description='Linear readers of feature sequences with a planted event.')
    parser.add_argument('--worlds', nargs='+', choices=list(WORLDS), default=list(WORLDS))
    parser.add_argument('--regimes', nargs='+', choices=REGIMES, default=list(REGIMES))
    parser.add_argument('--readers', nargs='+', choices=list(READERS), default=list(BY_DEFAULT),
                        help='the last one is compared with each other')
    parser.add_argument('--seeds', nargs='+', type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument('--steps', type=int, default=200, help='of training')
    parser.add_argument('--clips', type=int, default=700, help='test clips of a seed, at least 7')
    parser.add_argument('--learning-rates', nargs='+', type=float, default=[3e-3, 1e-2, 3e-2],
                        help='each reader chooses one on validation clips; a single one is taken as it is')
    parser.add_argument('--jobs', type=int, default=1, help='processes of one thread')
    parser.add_argument('--out', required=True, help='JSON file for every figure; what it holds is not measured again')
    parser.add_argument('--markdown', help='file for the tables')
    args = parser.parse_args(arguments)
    if min(args.steps, args.jobs) < 1 or args.clips < CLASSES:
        parser.error(f'--steps and --jobs are numbers from 1 on, --clips from {CLASSES} on')
    if min(args.seeds) < 0:
        parser.error('--seeds are numbers from 0 on')
    if not all(0 < rate < math.inf for rate in args.learning_rates):
        parser.error(f'--learning-rates are positive, got {args.learning_rates}')
    for name in ('worlds', 'regimes', 'readers', 'seeds', 'learning_rates'):
        setattr(args, name, list(dict.fromkeys(getattr(args, name))))
    try:
        report = experiment(args)
    except ValueError as error:
        parser.error(str(error))
    text = markdown(report)
    print(text)
    if args.markdown:
        write_whole(args.markdown, text)
    return 0


if __name__ == '__main__':
    raise SystemExit(main())
