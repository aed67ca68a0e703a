"""The quick start: data, two trainings, tests on clean and corrupted clips, a table and a picture.

    bash tools/quickstart.sh                 makes the environment first, then runs this
    python tools/quickstart.py --preset easy --epochs 2      a smoke run
    python tools/quickstart.py --ours neck head neck+head    each alone as well: about four minutes more for each

Every step leaves its result on disk and is skipped when it is there: a second start reuses, an interrupted one goes on.
"""
import argparse
import collections
import hashlib
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

# What is shown of the tools' output; all of it is in the log files of the work_dir.
TELLING = re.compile(r'Epoch\(train|^\[\d+/|\d+ clips|complete|--resume|reused|error:|wrote|^event')
ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ROOT / 'mmaction_configs' / 'synthetic_faces'
# Two stock recognizers: without temporal convolutions (each frame is seen alone, as in TSN) and with.
BACKBONES = {'framewise': 'framewise-r18-w16_1xb16-16x2x1-10e_synthetic-faces-rgb.py',
             'slowonly': 'slowonly-r18-w16_1xb16-16x2x1-10e_synthetic-faces-rgb.py'}
# What is added to the stock recognizer, and its config.
OURS = {'neck': ('LSEFNeck', 'lsef_'), 'head': ('LSEFHead', 'lsef-headonly_'),
        'neck+head': ('LSEFNeck + LSEFHead', 'lsef-head_')}
# Corruptions in time; tools/robustness.py knows 20.
KINDS = ('frame_drop', 'frame_freeze', 'black_frames', 'noise_burst', 'flicker')
METRICS = {'WAR': 'acc/war', 'UAR': 'acc/uar'}


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--preset', default='default', help='of the embedded data set (default: %(default)s)')
    parser.add_argument('--backbone', default='framewise', choices=BACKBONES, help='(default: %(default)s)')
    parser.add_argument('--ours', nargs='+', default=['neck+head'], choices=OURS,
                        help='what the stock recognizer is compared with; each is a training more (default: neck+head)')
    parser.add_argument('--seeds', type=int, nargs='+', default=[0], help='of the trainings; several: mean and spread')
    parser.add_argument('--severity', type=int, default=3, help='of the corruptions, 1 to 5 (default: %(default)s)')
    parser.add_argument('--epochs', type=int, help="of training (default: the config's)")
    parser.add_argument('--data', default='data/synthetic_faces', help='folder of the data set')
    parser.add_argument('--out', default='work_dirs/quickstart', help='folder of the results')
    return parser.parse_args(argv)


def main(argv=None) -> int:
    args = parse_args(argv)
    plain = BACKBONES[args.backbone]
    configs = {args.backbone: CONFIGS / plain}
    for added, prefix in (OURS[name] for name in args.ours):
        configs[f'{args.backbone} + {added}'] = CONFIGS / f'{prefix}{plain}'
    progress = Progress(2 + 2 * len(configs) * len(args.seeds))
    out = Path(args.out)
    progress.step('the embedded data set')
    run('tools/generate_synthetic.py', '--preset', args.preset, '--out', args.data)
    data = Path(args.data) / args.preset
    results: dict = {name: [] for name in configs}
    for seed in args.seeds:
        for name, config in configs.items():
            work_dir = out / args.preset / f'seed{seed}' / config.stem
            progress.step(f'training {name}, seed {seed} (log and checkpoints: {work_dir})')
            options = settings(args, data)
            train(config, work_dir, options, seed, data)
            progress.step(f'testing {name}, seed {seed}, on clean and corrupted clips')
            found = work_dir / 'robustness.json'
            run('tools/robustness.py', str(config), str(newest(work_dir)), '--kinds', *KINDS,
                '--severities', str(args.severity), '--work-dir', str(work_dir), '--out', str(found),
                '--cfg-options', *options)
            conditions = json.loads(found.read_text(encoding='utf-8'))['conditions']
            results[name].append(of_severity(conditions, args.severity))
    progress.step('a picture of a decomposed clip')
    picture = out / 'decomposed_clip.png'
    run('tools/visualize_decomposition.py', str(a_telling_clip(data)), '--out', str(picture))
    table = table_of(results)
    write(out / 'results.md', table + '\n')
    note = ('one seed, so differences of a few points mean nothing; docs/results.md has five.' if len(args.seeds) == 1
            else 'mean and standard deviation over seeds; differences from the first recognizer, paired by seed.')
    print(f'\n{table}\n\nPer cent; {note}\nTable: {out / "results.md"}\nPicture: {picture}\n'
          f'Time: {progress.seconds():.0f} s', flush=True)
    return 0


def settings(args: argparse.Namespace, data: Path) -> list:
    """The config's settings that depend on where the data lies and how long to train."""
    options = [f'{loader}.dataset.{key}={value}' for loader, split in
               (('train_dataloader', 'train'), ('val_dataloader', 'val'), ('test_dataloader', 'val'))
               for key, value in (('ann_file', data / f'{split}.txt'), ('data_prefix.video', data / 'videos'))]
    if args.epochs is not None:
        options += [f'train_cfg.max_epochs={args.epochs}', f'train_cfg.val_begin={args.epochs}',
                    f'train_cfg.val_interval={args.epochs}', f'param_scheduler.0.total_steps={args.epochs}']
    return options


def train(config: Path, work_dir: Path, options: list, seed: int, data: Path) -> None:
    """Trains, or goes on with, or finds done what these settings ask for."""
    wanted = json.dumps([config.name, [str(option) for option in options], seed, fingerprint(data)])
    done, began = work_dir / 'finished.json', work_dir / 'settings.json'
    if work_dir.exists() and (not began.is_file() or began.read_text(encoding='utf-8') != wanted):
        aside = work_dir.with_name(f'{work_dir.name}.{time.strftime("%Y%m%d-%H%M%S")}')
        print(f'{work_dir} holds a training with other settings; it is kept as {aside}', flush=True)
        work_dir.rename(aside)
    if done.is_file():
        print(f'{work_dir}: already trained, reused', flush=True)
        return
    work_dir.mkdir(parents=True, exist_ok=True)
    write(began, wanted)
    run('tools/train.py', str(config), '--work-dir', str(work_dir), '--resume', '--seed', str(seed), '--cfg-options',
        *options)
    write(done, wanted)


def newest(work_dir: Path) -> Path:
    named = Path((work_dir / 'last_checkpoint').read_text(encoding='utf-8').strip())
    return work_dir / named.name


def of_severity(conditions: dict, severity: int) -> dict:
    """Without what earlier starts measured at other severities, or of other kinds."""
    wanted = ['clean', *(f'{kind}/{severity}' for kind in KINDS)]
    return {name: found for name, found in conditions.items() if name in wanted}


def a_telling_clip(data: Path) -> Path:
    """The first validation clip with a jaw drop, which nobody can miss; else the first one."""
    from lsef_plugins.datasets.synthetic import load_truth
    lines = (data / 'val.txt').read_text(encoding='utf-8').splitlines()
    names = [line.rsplit(None, 1)[0] for line in lines if line.strip()]
    truths = ((name, load_truth(data / 'truth' / Path(name).with_suffix('.npz'))) for name in names)
    return data / 'videos' / next((name for name, truth in truths if truth.event == 'jaw_drop'), names[0])


def fingerprint(data: Path) -> str:
    """A hash of the configs and of the data set's own record: other ones are another experiment."""
    digest = hashlib.blake2b(digest_size=16)
    meta = data / 'meta.json'
    for path in [*sorted(CONFIGS.parent.rglob('*.py')), *([meta] if meta.is_file() else [])]:
        digest.update(path.read_bytes())
    return digest.hexdigest()


def table_of(results: dict) -> str:
    """Markdown: one row a condition, WAR and UAR of each recognizer, and how they differ from the first one's."""
    first, *others = results
    conditions = list(results[first][0])
    corrupted = [condition for condition in conditions if condition != 'clean']
    heads = [f'{first}: {m}' for m in METRICS]
    for other in others:
        heads += [f'{other}: {m}' for m in METRICS] + [f'difference: {m}' for m in METRICS]
    lines = ['| | ' + ' | '.join(heads) + ' |', '|---|' + '---:|' * len(heads)]
    rows = [('clean', ['clean']), ('**corrupted, mean**', corrupted)]
    rows += [(c.replace('_', ' ').replace('/', ', severity '), [c]) for c in corrupted]
    for title, chosen in rows:
        values = {name: [[100 * statistics.fmean(found[c][key] for c in chosen) for found in each]
                         for key in METRICS.values()] for name, each in results.items()}
        cells = [cell(each) for each in values[first]]
        for other in others:
            cells += [cell(each) for each in values[other]]
            cells += [cell([b - a for a, b in zip(*pair)], '+') for pair in zip(values[first], values[other])]
        lines.append(f'| {title} | ' + ' | '.join(cells) + ' |')
    return '\n'.join(lines)


def cell(values: list, sign: str = '') -> str:
    spread = f' ± {statistics.stdev(values):.1f}' if len(values) > 1 else ''
    return f'{statistics.fmean(values):{sign}.1f}{spread}'


def write(path: Path, text: str) -> None:
    partial = path.with_name(f'.{path.name}.partial')
    partial.write_text(text, encoding='utf-8')
    partial.replace(path)


class Progress:
    """Numbered steps, with the time since the start."""

    def __init__(self, steps: int) -> None:
        self.steps, self.done, self.began = steps, 0, time.monotonic()

    def seconds(self) -> float:
        return time.monotonic() - self.began

    def step(self, what: str) -> None:
        self.done += 1
        width = min(shutil.get_terminal_size((80, 20)).columns, 80)
        print(f'\n{"-" * width}\n[{self.done}/{self.steps}] {what}   ({self.seconds():.0f} s)', flush=True)


def run(tool: str, *arguments: str) -> None:
    """A tool of this checkout in a process of its own; of its output, the lines that tell progress."""
    command = [sys.executable, '-W', 'ignore', str(ROOT / tool), *map(str, arguments)]
    last: collections.deque = collections.deque(maxlen=40)
    # Half of the cores compute, the other half decode: threads that fight over a core wait for one another.
    environment = {'OMP_NUM_THREADS': str(max(1, (os.cpu_count() or 2) // 2)), **os.environ}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors='replace',
                          env=environment) as process:
        for line in process.stdout or ():
            last.append(line)
            if TELLING.search(line):
                print(line.rstrip(), flush=True)
    if process.returncode:
        sys.stderr.writelines(last)
        sys.exit(f'error: {tool} failed (see above). Start again to go on from what is already done.')


if __name__ == '__main__':
    sys.exit(main())
