"""The quick start: data, two trainings, tests on clean and corrupted clips, a table and a picture.

    bash tools/quickstart.sh                 makes the environment first, then runs this
    python tools/quickstart.py --preset easy --epochs 2      a smoke run

Every step leaves its result on disk and is skipped when it is there: a second start reuses, an interrupted one goes on.
"""
import argparse
import collections
import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

# What is shown of the tools' output; all of it is in the log files of the work_dir.
TELLING = re.compile(r'Epoch\(train|^\[\d+/|\d+ clips|complete|--resume|reused|error:|wrote|^event')
ROOT = Path(__file__).resolve().parents[1]
CONFIGS = {
    'SlowOnly-R18': 'slowonly-r18-w16_1xb16-16x2x1-20e_synthetic-faces-rgb.py',
    '+ LSEFNeck': 'lsef_slowonly-r18-w16_1xb16-16x2x1-20e_synthetic-faces-rgb.py',
}


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--preset', default='default', help='of the embedded data set (default: %(default)s)')
    parser.add_argument('--data', default='data/synthetic_faces', help='folder of the data set')
    parser.add_argument('--out', default='work_dirs/quickstart', help='folder of the results')
    parser.add_argument('--epochs', type=int, help="of training (default: the config's)")
    parser.add_argument('--seed', type=int, default=0, help='of the trainings (default: %(default)s)')
    parser.add_argument('--severity', type=int, default=3, help='of the corruptions, 1 to 5 (default: %(default)s)')
    return parser.parse_args(argv)


def main(argv=None) -> int:
    args = parse_args(argv)
    began = time.monotonic()
    out = Path(args.out)
    step(1, 'the embedded data set', began)
    run('tools/generate_synthetic.py', '--preset', args.preset, '--out', args.data)
    data = Path(args.data) / args.preset
    results = {}
    for number, (name, file) in enumerate(CONFIGS.items()):
        config = ROOT / 'mmaction_configs' / 'synthetic_faces' / file
        options = settings(args, data)
        work_dir = out / f'{args.preset}-seed{args.seed}' / config.stem
        step(2 + 2 * number, f'training {name} (log and checkpoints: {work_dir})', began)
        train(config, work_dir, options, args.seed)
        step(3 + 2 * number, f'testing {name} on clean and corrupted clips', began)
        found = work_dir / 'robustness.json'
        run('tools/robustness.py', str(config), str(newest(work_dir)), '--severities', str(args.severity),
            '--work-dir', str(work_dir), '--out', str(found), '--cfg-options', *options)
        results[name] = of_severity(json.loads(found.read_text(encoding='utf-8'))['conditions'], args.severity)
    step(6, 'a picture of a decomposed clip', began)
    picture = out / 'decomposed_clip.png'
    run('tools/visualize_decomposition.py', str(a_telling_clip(data)), '--out', str(picture))
    report(results, out, picture, began)
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


def train(config: Path, work_dir: Path, options: list, seed: int) -> None:
    """Trains, or goes on with, or finds done what these settings ask for."""
    wanted = json.dumps([config.name, [str(option) for option in options], seed])
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
    """Without what earlier starts measured at other severities."""
    return {name: found for name, found in conditions.items() if name == 'clean' or name.endswith(f'/{severity}')}


def a_telling_clip(data: Path) -> Path:
    """A validation clip of Surprise (a jaw drop on a tone that is not negative), else the first one."""
    listed = [line.split() for line in (data / 'val.txt').read_text(encoding='utf-8').splitlines() if line.strip()]
    name = next((name for name, label in listed if label == '4'), listed[0][0])
    return data / 'videos' / name


def report(results: dict, out: Path, picture: Path, began: float) -> None:
    names = list(results)
    conditions = list(results[names[0]])
    corrupted = [condition for condition in conditions if condition != 'clean']
    lines = ['| | ' + ' | '.join(f'{name}: WAR | {name}: UAR' for name in names) + ' |',
             '|---|' + '---:|' * (2 * len(names))]

    def row(title, chosen):
        cells = [f'{100 * sum(results[name][c][f"acc/{m}"] for c in chosen) / len(chosen):.1f}'
                 for name in names for m in ('war', 'uar')]
        lines.append(f'| {title} | ' + ' | '.join(cells) + ' |')

    row('clean', ['clean'])
    row('**corrupted, mean**', corrupted)
    for condition in corrupted:
        row(condition.replace('_', ' ').replace('/', ', severity '), [condition])
    table = '\n'.join(lines)
    write(out / 'results.md', table + '\n')
    print(f'\n{table}\n\nPer cent; one seed, so differences of a few points mean nothing (docs/results.md has more '
          f'seeds).\nTable: {out / "results.md"}\nPicture: {picture}\nTime: {time.monotonic() - began:.0f} s',
          flush=True)


def write(path: Path, text: str) -> None:
    partial = path.with_name(f'.{path.name}.partial')
    partial.write_text(text, encoding='utf-8')
    partial.replace(path)


def step(number: int, what: str, began: float) -> None:
    width = shutil.get_terminal_size((80, 20)).columns
    print(f'\n{"-" * min(width, 80)}\n[{number}/6] {what}   ({time.monotonic() - began:.0f} s)', flush=True)


def run(tool: str, *arguments: str) -> None:
    """A tool of this checkout in a process of its own; of its output, the lines that tell progress."""
    command = [sys.executable, '-W', 'ignore', str(ROOT / tool), *map(str, arguments)]
    last: collections.deque = collections.deque(maxlen=40)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          errors='replace') as process:
        for line in process.stdout or ():
            last.append(line)
            if TELLING.search(line):
                print(line.rstrip(), flush=True)
    if process.returncode:
        sys.stderr.writelines(last)
        sys.exit(f'error: {tool} failed (see above). Start again to go on from what is already done.')


if __name__ == '__main__':
    sys.exit(main())
