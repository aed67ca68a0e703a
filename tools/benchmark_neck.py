"""Times the whole neck and whole training steps with it: ``python tools/benchmark_neck.py``.

The neck: LSEF forward + backward by the compiled operators, by the formulas, and by torch.compile of the formulas, and
what of it is the T x T stage; then how many times as long it takes as with a simpler merge. The step: forward, backward
and SGD of the host's SlowOnly-R50 and TSM-R50 without a neck and with LSEFNeck. All ways take turns and are compared by
their medians (CPU time on a CPU; run it with OMP_NUM_THREADS=1 for the figures of docs/ops.md).
"""
import argparse
import statistics
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple

import torch

from lsef_plugins import ops
from lsef_plugins.nn import LSEF, StabilityEncodingModule
from lsef_plugins.nn.integration import default_hidden_channels
from lsef_plugins.ops import benchmark

CASES = (((8, 512, 8, 7, 7), 'float32'), ((8, 512, 8, 7, 7), 'bfloat16'), ((2, 256, 32, 14, 14), 'float32'),
         ((2, 256, 32, 14, 14), 'bfloat16'))
RECOGNIZERS = {'SlowOnly-R50': ('slowonly_r50', (1, 3, 8, 112, 112)), 'TSM-R50': ('tsm_r50', (8, 3, 112, 112))}
MERGES: Dict[str, Dict[str, Any]] = {
    'bands of the stable': dict(bands_of='stable'), 'kernel 1': dict(kernel=1),
    'both': dict(bands_of='stable', kernel=1)}
Way = Tuple[str, Callable[[], object]]      # backend of ops, and the work


def medians(ways: Dict[str, Way], device: str, rounds: int) -> Dict[str, float]:
    """Seconds of each way; every way works once before it counts."""
    times: Dict[str, List[float]] = {name: [] for name in ways}
    for step in range(rounds + 1):
        for name, (backend, work) in ways.items():
            with ops.backend(backend):
                seconds = benchmark.seconds_of(work, device)
            if step:
                times[name].append(seconds)
    return {name: statistics.median(found) for name, found in times.items()}


def features(shape, device: str) -> torch.Tensor:
    torch.manual_seed(0)
    return (torch.randn(shape[0], shape[1], 1, *shape[3:]) + 0.3 * torch.randn(shape)).to(device).requires_grad_()


def awake(neck: LSEF, device: str) -> LSEF:
    assert neck.cim is not None
    torch.nn.init.normal_(neck.cim.out.weight, std=0.02)
    return neck.to(device)


def training(module: Callable[..., torch.Tensor], neck: LSEF, x: torch.Tensor, dtype: str) -> Callable[[], object]:
    """A forward and a backward pass of ``module``, which is the neck or made of it."""
    def step() -> None:
        with torch.autocast(x.device.type, torch.bfloat16, enabled=dtype == 'bfloat16'):
            y = module(x)
        torch.autograd.grad(y.float().square().sum(), [x, *neck.parameters()])
    return step


def neck_row(shape, dtype: str, device: str, rounds: int, compiled: bool, iterations: int) -> str:
    x = features(shape, device)
    neck = awake(LSEF(shape[1], iterations=iterations), device)
    sem = neck.sem
    assert isinstance(sem, StabilityEncodingModule)

    g = (ops.gram(x.detach().flatten(3))).double().requires_grad_()

    def stage() -> None:
        torch.autograd.grad(sem.operator_of(g)[0].sum(), g)

    ways: Dict[str, Way] = {'ops': ('auto', training(neck, neck, x, dtype)),
                            'formulas': ('reference', training(neck, neck, x, dtype)), 'stage': ('auto', stage)}
    if compiled:
        torch._dynamo.reset()
        ways['compile'] = ('reference', training(torch.compile(neck, dynamic=False), neck, x, dtype))
    found = medians(ways, device, rounds)
    peaks = []
    for name in ('ops', 'formulas'):
        with ops.backend(ways[name][0]):
            peaks.append(benchmark.peak_bytes(ways[name][1], device) / (x.numel() * x.element_size()))
    cells = (shape, dtype, f'{1e3 * found["ops"]:.1f} ms', f'{found["formulas"] / found["ops"]:.2f} x',
             f'{found["compile"] / found["ops"]:.2f} x' if compiled else 'not run',
             f'{peaks[0]:.1f} X ({peaks[1]:.1f} X)', f'{100 * found["stage"] / found["ops"]:.1f} %')
    return '| ' + ' | '.join(map(str, cells)) + ' |'


def merge_row(shape, dtype: str, device: str, rounds: int, iterations: int) -> str:
    """How many times as long LSEF takes as with each of MERGES, of the same width and of the same size (last)."""
    x, hidden = features(shape, device), default_hidden_channels(shape[1])
    merges = {'default': {}, **{name: dict(each, hidden_channels=hidden) for name, each in MERGES.items()},
              'as many': MERGES['both']}
    ways: Dict[str, Way] = {}
    for name, options in merges.items():
        neck = awake(LSEF(shape[1], iterations=iterations, cim=options), device)
        ways[name] = ('auto', training(neck, neck, x, dtype))
    found = medians(ways, device, rounds)
    cells = (shape, dtype, *(f'{found["default"] / found[name]:.2f} x' for name in (*MERGES, 'as many')))
    return '| ' + ' | '.join(map(str, cells)) + ' |'


def build(name: str, neck: bool):
    """The host's own model, with its weights as they are drawn, and a clip for each of its inputs."""
    import mmaction
    from mmaction.registry import MODELS
    from mmengine.config import Config
    from mmengine.registry import init_default_scope
    init_default_scope('mmaction')
    folder = Path(mmaction.__file__).parent / '.mim' / 'configs'
    config = Config.fromfile(folder / '_base_' / 'models' / f'{name}.py').model
    config.backbone.pretrained = None
    if neck:
        config.neck = dict(type='LSEFNeck')
    torch.manual_seed(0)
    return MODELS.build(config)


def step_row(name: str, device: str, rounds: int, clips: int) -> str:
    from mmaction.structures import ActionDataSample
    config, size = RECOGNIZERS[name]
    inputs = torch.randn(clips, *size, generator=torch.Generator().manual_seed(0)).to(device)
    samples = [ActionDataSample().set_gt_label(label) for label in range(clips)]

    def training(neck: bool) -> Callable[[], object]:
        model = build(config, neck).to(device).train()
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)

        def step() -> None:
            optimizer.zero_grad()
            model.parse_losses(model(inputs, samples, mode='loss'))[0].backward()
            optimizer.step()
        return step

    plugged = training(True)
    ways: Dict[str, Way] = {'stock': ('auto', training(False)), 'ops': ('auto', plugged),
                            'formulas': ('reference', plugged)}
    found = medians(ways, device, rounds)
    cells = (name, size, f'{1e3 * found["stock"]:.0f} ms', *(f'+ {100 * (found[way] / found["stock"] - 1):.1f} %'
                                                            for way in ('ops', 'formulas')),
             f'{found["formulas"] / found["ops"]:.3f} x')
    return '| ' + ' | '.join(map(str, cells)) + ' |'


def table(*heads: str) -> str:
    return '| ' + ' | '.join(heads) + ' |\n' + '|---' * len(heads) + '|'


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument('--rounds', type=int, default=7, help='timings per way, of which the median is taken')
    parser.add_argument('--iterations', type=int, default=1, help='K of the neck')
    parser.add_argument('--compile', action='store_true', help='also torch.compile of the formulas')
    parser.add_argument('--only', choices=('neck', 'step'), help='the tables of the neck, or that of whole steps')
    parser.add_argument('--clips', type=int, default=2, help='batch of a training step')
    args = parser.parse_args(argv)
    benchmark.keep_memory()
    print(ops.status())
    if args.only != 'step':
        print(table('features', 'dtype', 'ops', 'formulas', 'compile', 'peak (formulas)', 'T x T stage'))
        for shape, dtype in CASES:
            print(neck_row(shape, dtype, args.device, args.rounds, args.compile, args.iterations), flush=True)
        print(table('default, times that of', 'dtype', *MERGES, 'both, as many parameters'))
        for shape, dtype in CASES:
            print(merge_row(shape, dtype, args.device, args.rounds, args.iterations), flush=True)
    if args.only != 'neck':
        print(table('recognizer', 'clip', 'step without neck', 'neck, ops', 'neck, formulas', 'formulas / ops'))
        for name in RECOGNIZERS:
            print(step_row(name, args.device, args.rounds, args.clips), flush=True)


if __name__ == '__main__':
    main()
