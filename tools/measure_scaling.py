"""How time and memory of the neck grow with its sizes, and a model of it: ``python tools/measure_scaling.py``.

One size is changed at a time. Time: forward and backward of LSEF alone, all sizes in turn, medians (processor time of
one thread on a CPU, events on a GPU). Memory: what autograd keeps, and the peak of tensors. Workers: the same step in
data-parallel gloo processes. Writes JSON, a table and a figure; docs/sizing.md explains them.
"""
import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from typing import Any, Callable, Dict, List, Sequence

BASE = dict(batch=2, channels=512, frames=8, height=7, width=7, iterations=1)
CHANGES: Dict[str, Sequence[Any]] = {
    'frames': (4, 8, 16, 32, 64), 'channels': (64, 128, 256, 512, 1024, 2048), 'positions': (7, 10, 14, 20, 28),
    'batch': (1, 2, 4, 8), 'iterations': (1, 2, 3, 5), 'hidden_channels': (8, 16, 32, 64, 128),
    'kernel': (1, 3, 5, 9),
    # Few features, so that the T x T stage is seen beside them.
    'frames, one position': (8, 16, 32, 64)}
WORKERS = (1, 2, 4)


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--device', default='cpu', choices=('cpu', 'cuda'))
    parser.add_argument('--rounds', type=int, default=7, help='timings of each size, of which the median is taken')
    parser.add_argument('--workers', type=int, nargs='*', default=WORKERS, help='numbers of processes; none: not run')
    parser.add_argument('--small', action='store_true', help='a sixteenth of the channels: to try it out')
    parser.add_argument('--refit', metavar='FILE', help='the JSON file of an earlier run instead of measuring anew')
    parser.add_argument('--json', metavar='FILE')
    parser.add_argument('--figure', metavar='FILE.png')
    parser.add_argument('--worker', action='store_true', help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.rounds < 1 or any(count < 1 for count in args.workers):
        parser.error(f'--rounds and --workers count from 1, got {args.rounds} and {list(args.workers)}')
    return args


def cases(small: bool) -> List[Dict[str, Any]]:
    """Each change of the base, with its name and what was changed to."""
    base = dict(BASE, channels=BASE['channels'] // (16 if small else 1))
    found = []
    for name, values in CHANGES.items():
        for value in values:
            if name == 'positions':
                sizes = dict(base, height=value, width=value)
            elif name == 'frames, one position':
                sizes = dict(base, frames=value, height=1, width=1)
            else:
                value = value // 16 if small and name == 'channels' else value
                sizes = {**base, name: value}
            found.append(dict(curve=name, value=value * value if name == 'positions' else value, sizes=sizes))
    return found


def step_of(sizes: Dict[str, Any], device: str) -> Any:
    """A neck, its features, and forward and backward of both."""
    import torch

    from lsef_plugins.nn import LSEF
    torch.manual_seed(0)
    neck = LSEF(sizes['channels'], iterations=sizes['iterations'],
                cim=dict(hidden_channels=sizes.get('hidden_channels'), kernel=sizes.get('kernel'))).to(device)
    assert neck.cim is not None
    torch.nn.init.normal_(neck.cim.out.weight, std=0.02)
    shape = [sizes[name] for name in ('batch', 'channels', 'frames', 'height', 'width')]
    x = torch.randn(shape).to(device).requires_grad_()
    grad = torch.ones_like(x)

    def step() -> None:
        torch.autograd.grad(neck(x), [x, *neck.parameters()], grad)

    return neck, x, step


def kept_bytes(neck: Any, x: Any) -> int:
    """What autograd keeps between forward and backward, beyond input and parameters."""
    import torch
    own = {z.untyped_storage().data_ptr() for z in (x, *neck.parameters())}
    kept: Dict[int, Any] = {}

    def pack(z: Any) -> Any:
        if z.untyped_storage().data_ptr() not in own:
            kept[z.untyped_storage().data_ptr()] = z
        return z

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda z: z):
        neck(x)
    return sum(z.untyped_storage().nbytes() for z in kept.values())


def measure(args: argparse.Namespace, say: Callable[[str], None]) -> Dict[str, Any]:
    import torch

    from lsef_plugins import ops
    from lsef_plugins.ops import benchmark
    torch.set_num_threads(1)
    benchmark.keep_memory()
    rows = cases(args.small)
    made = {json.dumps(row['sizes']): step_of(row['sizes'], args.device) for row in rows}    # the base is one of each
    times: Dict[str, List[float]] = {key: [] for key in made}
    for turn in range(args.rounds + 1):
        for key, (_, _, step) in made.items():
            seconds = benchmark.seconds_of(step, args.device)
            if turn:
                times[key].append(seconds)
        say(f'round {turn} of {args.rounds}')
    for row in rows:
        key = json.dumps(row['sizes'])
        neck, x, step = made[key]
        row.update(seconds=statistics.median(times[key]), kept_bytes=kept_bytes(neck, x),
                   peak_bytes=benchmark.peak_bytes(step, args.device), map_bytes=x.numel() * x.element_size())
    return dict(device=args.device, rounds=args.rounds, rows=rows,
                compiled_operators=args.device in ops.status()['devices'],
                workers=[measure_workers(args, count) for count in args.workers])


def add_model(found: Dict[str, Any]) -> None:
    """Puts the fitted rates and what the model says of each size beside what was measured, in place."""
    from lsef_plugins.nn import cost
    each_once = {json.dumps(row['sizes']): row for row in found['rows']}
    measured = [(cost.Sizes(**row['sizes']), row['seconds']) for row in each_once.values()]
    rates = cost.fitted(measured)
    for row in found['rows']:
        sizes = cost.Sizes(**row['sizes'])
        row.update(predicted_seconds=cost.seconds(sizes, rates), predicted_bytes=cost.saved_bytes(sizes),
                   parameters=cost.parameters(sizes))
    found.update(rates=rates._asdict(), left_out=left_out(measured))


def left_out(measured: Sequence[Any]) -> List[float]:
    """Relative error of the prediction of each size by rates fitted to all the others."""
    from lsef_plugins.nn import cost
    return [cost.seconds(sizes, cost.fitted([*measured[:place], *measured[place + 1:]])) / seconds - 1
            for place, (sizes, seconds) in enumerate(measured)]


def worker(args: argparse.Namespace) -> None:
    """One of several processes: prints its processor time of a step, alone and with the gradients reduced."""
    import torch
    import torch.distributed as dist
    torch.set_num_threads(1)
    dist.init_process_group('gloo')
    neck, x, _ = step_of({**cases(args.small)[0]['sizes'], 'frames': BASE['frames']}, 'cpu')
    grad = torch.ones_like(x)
    shared = torch.nn.parallel.DistributedDataParallel(neck)
    found: Dict[str, List[float]] = {'alone': [], 'reduced': []}
    for turn in range(args.rounds + 1):
        for name, module in (('alone', neck), ('reduced', shared)):
            dist.barrier()
            began = time.process_time()
            module(x).backward(grad)
            if turn:
                found[name].append(time.process_time() - began)
    kept = kept_bytes(neck, x)
    if dist.get_rank() == 0:
        print('RESULT' + json.dumps({**{name: statistics.median(each) for name, each in found.items()},
                                     'kept_bytes': kept}), flush=True)
    dist.barrier()


def measure_workers(args: argparse.Namespace, count: int) -> Dict[str, Any]:
    """The first process's word."""
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        port = probe.getsockname()[1]
    command = [sys.executable, __file__, '--worker', '--rounds', str(args.rounds), *(['--small'] if args.small else [])]
    jobs = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=dict(
        os.environ, RANK=str(rank), WORLD_SIZE=str(count), MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port),
        OMP_NUM_THREADS='1')) for rank in range(count)]
    outputs = [job.communicate()[0] for job in jobs]
    if any(job.returncode for job in jobs):
        raise RuntimeError(f'{count} processes: one of them ended with an error; see above.')
    line = next(line for line in outputs[0].splitlines() if line.startswith('RESULT'))
    return dict(workers=count, **json.loads(line[len('RESULT'):]))


def table(found: Dict[str, Any]) -> str:
    lines = ['| changed | to | step, measured | model | error | kept, measured | model | peak |', '|---' * 8 + '|']
    for row in found['rows']:
        error = row['predicted_seconds'] / row['seconds'] - 1
        lines.append(f'| {row["curve"]} | {row["value"]} | {1e3 * row["seconds"]:.1f} ms | '
                     f'{1e3 * row["predicted_seconds"]:.1f} ms | {100 * error:+.0f} % | '
                     f'{row["kept_bytes"] / 1e6:.2f} MB | {row["predicted_bytes"] / 1e6:.2f} MB | '
                     f'{row["peak_bytes"] / row["map_bytes"]:.1f} X |')
    errors = sorted(abs(error) for error in found['left_out'])
    lines += ['', f'rates: {", ".join(f"{name} {rate:.3g}" for name, rate in found["rates"].items())}',
              f'error of the time of a size left out of the fit: median {100 * statistics.median(errors):.0f} %, '
              f'largest {100 * errors[-1]:.0f} %']
    if found.get('workers'):
        lines += ['', '| workers | step alone | with reduced gradients | kept by each |', '|---' * 4 + '|']
        lines += [f'| {row["workers"]} | {1e3 * row["alone"]:.1f} ms | {1e3 * row["reduced"]:.1f} ms | '
                  f'{row["kept_bytes"] / 1e6:.2f} MB |' for row in found['workers']]
    return '\n'.join(lines)


def draw(found: Dict[str, Any], path: str) -> None:
    """A panel for each size: measured points and the model's line, of time and of memory, both logarithmic."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from lsef_plugins.visualization.writing import save_picture
    figure = Figure(figsize=(13.5, 4.6), dpi=90, layout='constrained')
    FigureCanvasAgg(figure)
    words = dict(frames='frames t', channels='channels c', positions='positions h w', batch='clips b',
                 iterations='iterations K', hidden_channels='hidden channels m', kernel='kernel k')
    axes = figure.subplots(2, len(words), sharex='col', sharey='row')
    for column, (name, label) in enumerate(words.items()):
        rows = [row for row in found['rows'] if row['curve'] == name]
        values = [row['value'] for row in rows]
        for axis, real, model, unit, scale in ((axes[0][column], 'seconds', 'predicted_seconds', 'ms', 1e3),
                                               (axes[1][column], 'kept_bytes', 'predicted_bytes', 'MB', 1e-6)):
            axis.plot(values, [scale * row[model] for row in rows], color='#0072b2', label='model')
            axis.plot(values, [scale * row[real] for row in rows], 'o', color='#d55e00', markersize=4, label='measured')
            axis.set_xscale('log', base=2)
            axis.set_yscale('log')
            axis.grid(alpha=0.3)
            if column == 0:
                axis.set_ylabel({'ms': 'forward + backward, ms', 'MB': 'kept for backward, MB'}[unit])
        axes[1][column].set_xticks(values, [str(value) for value in values], fontsize='x-small')
        axes[1][column].minorticks_off()
        axes[1][column].set_xlabel(label)
    axes[0][0].legend(fontsize='small')
    save_picture(figure, path)


def main(argv=None) -> int:
    args = parse_args(argv)
    os.environ.setdefault('OMP_NUM_THREADS', '1')
    if args.worker:
        from lsef_plugins.engine.process_group import leave_job
        worker(args)
        leave_job()
        return 0
    import torch
    if args.device == 'cuda' and not torch.cuda.is_available():
        print('error: --device cuda was asked for, but this PyTorch sees no GPU. Take --device cpu.', file=sys.stderr)
        return 2
    try:
        if args.refit:
            with open(args.refit, encoding='utf-8') as file:
                found = json.load(file)
        else:
            found = measure(args, lambda line: print(line, file=sys.stderr, flush=True))
        add_model(found)
        print(table(found))
        if args.json:
            from lsef_plugins.visualization.writing import write_whole
            write_whole(args.json, json.dumps(found, indent=1) + '\n')
        if args.figure:
            draw(found, args.figure)
    except (ValueError, OSError) as error:      # a name that is no .png, OutputError
        print(f'error: {error}', file=sys.stderr)
        return 2
    return 0


if __name__ == '__main__':
    sys.exit(main())
