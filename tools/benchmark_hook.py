"""What DecompositionHook costs: its own time in an iteration, beside a training step of a recognizer with LSEFNeck.

    python tools/benchmark_hook.py                                      SlowOnly-R50, 8 frames of 224 x 224, batch 8
    python tools/benchmark_hook.py --depth 18 --width 16 --frames 16 --size 64 --batch 16      the small one of the docs

A step is forward, backward and SGD. Measured iterations, iterations between them and steps without the hook are
interleaved; each is told as a median. On a measured iteration the time inside the hook's own functions is summed up: it
is a part of a thousandth of a step, which no difference of two steps would show on a machine that does other things as
well. On a GPU each of these functions is waited for, so the figure is an upper bound. The overhead at the interval i is
(measured + (i - 1) idle) / i over the step without the hook. The exit status is 1 when it is 1 % or more at the hook's
own interval.
"""
import argparse
import json
import statistics
import sys
import time
from types import SimpleNamespace
from typing import Any, Callable, Dict, List

from lsef_plugins.compat import apply_repairs

apply_repairs()

import torch  # noqa: E402
from mmaction.registry import MODELS  # noqa: E402
from mmaction.structures import ActionDataSample  # noqa: E402
from mmengine.logging import MessageHub, MMLogger  # noqa: E402
from mmengine.registry import init_default_scope  # noqa: E402

from lsef_plugins.engine.hooks import DecompositionHook  # noqa: E402
from lsef_plugins.visualization.writing import write_whole  # noqa: E402

BAR = 0.01


class Clock:
    """Seconds of a call: on a CPU processor time, which other programs disturb little; on a GPU with its work done."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.now = time.process_time if device == 'cpu' else time.perf_counter
        self.spent = 0.0

    def __call__(self, call: Callable, *args: Any) -> float:
        self._wait()
        began = self.now()
        call(*args)
        self._wait()
        return self.now() - began

    def adding(self, call: Callable) -> Callable:
        """The same function, its time added to ``spent``."""

        def timed(*args: Any) -> None:
            self.spent += self(call, *args)

        return timed

    def _wait(self) -> None:
        if self.device != 'cpu':
            torch.cuda.synchronize()


def recognizer(args: argparse.Namespace) -> Any:
    wide = args.width * (32 if args.depth >= 50 else 8)
    return MODELS.build(dict(
        type='Recognizer3D',
        backbone=dict(type='ResNet3dSlowOnly', depth=args.depth, base_channels=args.width, pretrained=None,
                      lateral=False, conv1_kernel=(1, 7, 7), conv1_stride_t=1, pool1_stride_t=1, inflate=(0, 0, 1, 1),
                      norm_eval=False),
        neck=dict(type='LSEFNeck'),
        cls_head=dict(type='I3DHead', in_channels=wide, num_classes=7, spatial_type='avg', dropout_ratio=0.5,
                      average_clips='prob')))


def measure(args: argparse.Namespace) -> dict:
    torch.manual_seed(0)
    init_default_scope('mmaction')
    MMLogger.get_current_instance().setLevel('ERROR')
    model = recognizer(args).to(args.device).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-6)
    x = torch.randn(args.batch, 1, 3, args.frames, args.size, args.size, device=args.device)
    samples = [ActionDataSample().set_gt_label(i % 7).to(args.device) for i in range(args.batch)]
    clock, hook = Clock(args.device), DecompositionHook()
    runner = SimpleNamespace(model=model, iter=0, message_hub=MessageHub('benchmark'))
    hook._hear = clock.adding(hook._hear)       # type: ignore[method-assign]

    def learn() -> None:
        optimizer.zero_grad()
        model.parse_losses(model(x, samples, mode='loss'))[0].backward()
        optimizer.step()

    def hooked(iteration: int) -> float:
        """Seconds inside the hook in one iteration."""
        runner.iter, clock.spent = iteration, 0.0
        around = clock(hook.before_train_iter, runner, 0)
        learn()
        return around + clock.spent + clock(hook.after_train_iter, runner, 0)

    hooked(hook.interval - 1)                       # warm
    seconds: Dict[str, List[float]] = {'step': [], 'measured': [], 'idle': []}
    for repeat in range(args.repeats):
        seconds['step'].append(clock(learn))
        seconds['measured'].append(hooked(hook.interval - 1))
        seconds['idle'].append(hooked(hook.interval))
        print(f'[{repeat + 1}/{args.repeats}] step {1e3 * seconds["step"][-1]:.0f} ms, hook '
              f'{1e3 * seconds["measured"][-1]:.2f} ms', file=sys.stderr, flush=True)
    ms = {name: 1e3 * statistics.median(values) for name, values in seconds.items()}
    overhead = {i: (ms['measured'] + (i - 1) * ms['idle']) / i / ms['step'] for i in sorted({1, 20, hook.interval})}
    return dict(settings={key: value for key, value in vars(args).items() if key != 'out'}, torch=torch.__version__,
                threads=torch.get_num_threads(), interval=hook.interval, logged=len(runner.message_hub.log_scalars),
                **{f'{name}_ms': value for name, value in ms.items()}, overhead=overhead)


def markdown(found: dict) -> str:
    s = found['settings']
    lines = [f'SlowOnly-R{s["depth"]} of width {s["width"]} with LSEFNeck, {s["frames"]} frames of {s["size"]} x '
             f'{s["size"]}, batch {s["batch"]}, {s["device"]}, {found["threads"]} thread(s), torch {found["torch"]}; '
             f'{found["logged"]} numbers', '',
             '| step without the hook, ms | hook, measured iteration, ms | hook, other iteration, ms |',
             '|---:|---:|---:|',
             f'| {found["step_ms"]:.1f} | {found["measured_ms"]:.2f} | {found["idle_ms"]:.4f} |', '',
             '| interval | overhead |', '|---:|---:|']
    return '\n'.join(lines + [f'| {i}{" (set)" if i == found["interval"] else ""} | {100 * share:.3f} % |'
                              for i, share in found['overhead'].items()])


def main(arguments=None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--batch', type=int, default=8)
    parser.add_argument('--frames', type=int, default=8)
    parser.add_argument('--size', type=int, default=224)
    parser.add_argument('--depth', type=int, default=50, choices=(18, 34, 50, 101))
    parser.add_argument('--width', type=int, default=64, help='channels of the first stage')
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument('--repeats', type=int, default=5)
    parser.add_argument('--out', help='JSON file')
    args = parser.parse_args(arguments)
    if min(args.batch, args.frames, args.width, args.repeats) < 1 or args.size < 32:
        parser.error('--batch, --frames, --width, --repeats count from 1, --size from 32')
    found = measure(args)
    print(markdown(found))
    if args.out:
        write_whole(args.out, json.dumps(found, indent=1) + '\n')
    return int(found['overhead'][found['interval']] >= BAR)


if __name__ == '__main__':
    raise SystemExit(main())
