"""What RAO costs: step time and memory of an R50-class recognizer with LSEFNeck, beside the plain optimizer.

    python tools/benchmark_rao.py                      SlowOnly-R50 with LSEFNeck, 8 frames of 224 x 224, batch 8
    python tools/benchmark_rao.py --batch 2 --repeats 3

A step is forward, backward and optimizer step. RAO works between backward and optimizer step and does not depend on
what came before, so its time is measured there, on the gradients of that step: a kept step and a step with new
inverse roots, each interleaved with plain optimizer steps. The overhead at the interval i is (kept (i - 1) + refresh)
/ i over forward, backward and plain optimizer step; all are medians.

The exit status is 1 when a bar is missed: 3 % of the step time, one float32 for each treated parameter.
"""
import argparse
import json
import statistics
import sys
import time
from typing import Any, Callable, Dict, List

from lsef_plugins.compat import apply_repairs

apply_repairs()

import torch  # noqa: E402
from mmaction.registry import MODELS  # noqa: E402
from mmaction.structures import ActionDataSample  # noqa: E402
from mmengine.logging import MMLogger  # noqa: E402
from mmengine.optim import build_optim_wrapper  # noqa: E402
from mmengine.registry import init_default_scope  # noqa: E402

from lsef_plugins.visualization.writing import write_whole  # noqa: E402

TIME_BAR, MEMORY_BAR = 0.03, 1.0


def recognizer(depth: int) -> Any:
    wide = 2048 if depth >= 50 else 512
    return MODELS.build(dict(
        type='Recognizer3D',
        backbone=dict(type='ResNet3dSlowOnly', depth=depth, pretrained=None, lateral=False, conv1_kernel=(1, 7, 7),
                      conv1_stride_t=1, pool1_stride_t=1, inflate=(0, 0, 1, 1), norm_eval=False),
        neck=dict(type='LSEFNeck'),
        cls_head=dict(type='I3DHead', in_channels=wide, num_classes=7, spatial_type='avg', dropout_ratio=0.5,
                      average_clips='prob')))


class Timer:
    """Seconds of a call: on a CPU processor time, which other programs disturb little; on a GPU with its work done."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.now = time.process_time if device == 'cpu' else time.perf_counter

    def __call__(self, call: Callable[[], object]) -> float:
        self._wait()
        began = self.now()
        call()
        self._wait()
        return self.now() - began

    def _wait(self) -> None:
        if self.device != 'cpu':
            torch.cuda.synchronize()


def measure(args: argparse.Namespace) -> dict:
    torch.manual_seed(0)
    init_default_scope('mmaction')
    MMLogger.get_current_instance().setLevel('ERROR')
    model = recognizer(args.depth).to(args.device)
    model.train()
    options = json.loads(args.rao)
    plain = build_optim_wrapper(model, dict(optimizer=dict(type=args.optimizer, lr=1e-6)))
    ours = build_optim_wrapper(model, dict(constructor='RAO', optimizer=dict(type=args.optimizer, lr=1e-6),
                                           rao=options))
    x = torch.randn(args.batch, 1, 3, args.frames, args.size, args.size, device=args.device)
    samples = [ActionDataSample().set_gt_label(i % 7).to(args.device) for i in range(args.batch)]
    timer, rao = Timer(args.device), ours.rao
    rao.detach()

    def learn() -> None:
        for p in model.parameters():
            p.grad = None
        with torch.autocast(args.device.split(':')[0], enabled=args.amp,
                            dtype=torch.float16 if args.device.startswith('cuda') else torch.bfloat16):
            losses = model(x, samples, mode='loss')
        model.parse_losses(losses)[0].backward()

    def treat(refresh: bool) -> None:
        age = 1000 * rao.schedule.interval * max(rao.schedule.warmup, 1)     # a step that is due, or the one after it
        for stack in rao.stacks:
            stack.ages = [age + int(not refresh)] * len(stack.names)
        rao.step()

    learn()
    treat(True)
    plain.optimizer.step()
    seconds: Dict[str, List[float]] = {'learn': [], 'plain': [], 'kept': [], 'refresh': []}
    for repeat in range(args.repeats):
        seconds['learn'].append(timer(learn))
        for _ in range(args.inner):
            seconds['plain'].append(timer(plain.optimizer.step))
            seconds['kept'].append(timer(lambda: treat(False)))
            seconds['refresh'].append(timer(lambda: treat(True)))
        print(f'[{repeat + 1}/{args.repeats}] forward and backward {1e3 * seconds["learn"][-1]:.0f} ms',
              file=sys.stderr, flush=True)
    return summary(args, rao, {key: 1e3 * statistics.median(each) for key, each in seconds.items()})


def summary(args: argparse.Namespace, rao: Any, ms: Dict[str, float]) -> dict:
    step = ms['learn'] + ms['plain']
    parameters = sum(p.numel() for stack in rao.stacks for p in stack.parameters)
    used = sum(t.numel() * t.element_size() for stack in rao.stacks for t in stack.state.values())
    intervals = sorted({1, rao.schedule.interval, 20, 50})
    overhead = {i: (ms['kept'] * (i - 1) + ms['refresh']) / i / step for i in intervals}
    return dict(settings={key: value for key, value in vars(args).items() if key != 'out'}, torch=torch.__version__,
                threads=torch.get_num_threads(), interval=rao.schedule.interval, matrices=len(rao),
                stacks=len(rao.stacks), treated_parameters=parameters, step_ms=step,
                **{f'{k}_ms': v for k, v in ms.items()}, overhead=overhead, memory=used / 4 / parameters)


def markdown(found: dict) -> str:
    s = found['settings']
    lines = [f'SlowOnly-R{s["depth"]} with LSEFNeck, {s["frames"]} frames of {s["size"]} x {s["size"]}, batch '
             f'{s["batch"]}, {s["optimizer"]}, {s["device"]}{" mixed precision" if s["amp"] else ""}, '
             f'{found["threads"]} thread(s), torch {found["torch"]}; RAO {s["rao"]}: {found["matrices"]} matrices '
             f'in {found["stacks"]} stacks, '
             f'{found["treated_parameters"] / 1e6:.1f} M parameters', '',
             '| plain step, ms | RAO kept, ms | RAO with new roots, ms | extra float32 per treated parameter |',
             '|---:|---:|---:|---:|',
             '| ' + ' | '.join(f'{found[key]:.1f}' for key in ('step_ms', 'kept_ms', 'refresh_ms'))
             + f' | {found["memory"]:.2f} |', '',
             '| interval | overhead |', '|---:|---:|']
    return '\n'.join(lines + [f'| {i}{" (set)" if i == found["interval"] else ""} | {100 * share:.2f} % |'
                              for i, share in found['overhead'].items()])


def main(arguments=None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--batch', type=int, default=8)
    parser.add_argument('--frames', type=int, default=8)
    parser.add_argument('--size', type=int, default=224)
    parser.add_argument('--depth', type=int, default=50, choices=(18, 34, 50, 101))
    parser.add_argument('--optimizer', default='SGD')
    parser.add_argument('--rao', default='{}', help='options as JSON, such as \'{"smoothing": 0.9}\' (default: {})')
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument('--amp', action='store_true', help='mixed precision in forward and backward')
    parser.add_argument('--repeats', type=int, default=5, help='measured steps')
    parser.add_argument('--inner', type=int, default=3, help='optimizer steps measured after each')
    parser.add_argument('--out', help='JSON file')
    args = parser.parse_args(arguments)
    if min(args.batch, args.frames, args.repeats, args.inner) < 1 or args.size < 32:
        parser.error('--batch, --frames, --repeats, --inner count from 1, --size from 32')
    try:
        if not isinstance(json.loads(args.rao), dict):
            raise ValueError('it is no object')
    except ValueError as error:
        parser.error(f'--rao is JSON such as \'{{"smoothing": 0.9}}\', got {args.rao!r}: {error}')
    found = measure(args)
    print(markdown(found))
    if args.out:
        write_whole(args.out, json.dumps(found, indent=1) + '\n')
    return int(found['overhead'][found['interval']] >= TIME_BAR or found['memory'] >= MEMORY_BAR)


if __name__ == '__main__':
    raise SystemExit(main())
