"""Every code block of README.md and docs/*.md does what it shows, and every link and anchor there leads somewhere.

Python: a block that imports or defines is run, the blocks of a page in one namespace; any other is a config, laid over
a small recognizer: what it names is built, the recognizer trains one step and predicts, pipelines read a clip. Commands
(fenced, or indented by four spaces): the tool is there, its own argparse takes every option, files of this repository
exist, and a test runs the tool. A block below ``<!-- executed by tests/... -->`` is left to that test, which must name
its page. What else cannot be treated so stands in ``NOT_HERE`` or ``FOREIGN`` with its reason; a new block is executed
by itself, or the test says what it does not know.
"""
import argparse
import ast
import contextlib
import functools
import importlib
import io
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

import lsef_plugins  # noqa: F401  (before a tool is read that asks for no registration)

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / 'README.md', *sorted((ROOT / 'docs').glob('*.md'))]
SHELL, PYTHON = ('bash', 'sh', 'shell', 'console'), ('python', 'py')
SHOWN = ('text', '{toctree}')           # not code

# (page, first line of the block that says something): why it is not executed here.
NOT_HERE = {
    ('affect.md', "_base_ = ['./recognizer.py']"): 'trained and tested by tests/docs/test_affect.py',
    ('own_backbone.md', 'class MyVideoTransformer(nn.Module):'): 'the class and the config: tests/models/test_sites.py',
    ('inference.md', 'result = inferencer(0, seconds=10, window=2.0)'): 'needs a camera; tests/apis has one of straw',
    ('own_dataset.md', 'from pathlib import Path'): 'run by test_the_list_of_a_folder_tree, which has the folders',
}
# Commands that are no tools of this repository: why they are shown and not checked.
FOREIGN = {'pip install onnx onnxscript onnxruntime': 'downloads; requirements/tests.txt pins the same three'}
# Tools that no test runs: why.
BY_HAND = {
    'benchmark_ops': 'times operators for minutes; the operators it calls are those of tests/ops',
    'benchmark_rao': 'times a SlowOnly-R50 for minutes; what it times is trained by tests/engine/optimizers',
}
# The small recognizer of the tests has other numbers of channels than those of the host.
SMALLER = {'in_channels=2048': 'in_channels=64', 'channels=1024': 'channels=32',
           "'../_base_/": f"'{ROOT}/mmaction_configs/_base_/"}


class Block(NamedTuple):
    page: str
    line: int
    language: str
    text: str
    marked: str = ''        # the test of the mark above it

    @property
    def first(self):
        return next(line.strip() for line in self.text.splitlines() if line.strip() and line[0] != '#')

    @property
    def excused(self):
        return f'executed by {self.marked}' if self.marked else NOT_HERE.get((self.page, self.first))

    def __str__(self):
        return f'{self.page}:{self.line}'


def blocks_of(path):
    """Fenced blocks, and indented commands as blocks of bash, each with the number of its first line."""
    found, inside, lines = [], None, path.read_text('utf-8').splitlines()
    for number, line in enumerate(lines, 1):
        fence = re.match(r'```+\s*(\S*)', line)
        if fence and inside is None:
            inside = (number, fence[1], [])
        elif fence:
            mark = re.fullmatch(r'<!-- executed by (tests/\S+\.py) -->', lines[max(inside[0] - 2, 0)])
            found.append(Block(path.name, inside[0], inside[1], '\n'.join(inside[2]) + '\n', mark[1] if mark else ''))
            inside = None
        elif inside is not None:
            inside[2].append(line)
        elif re.match(r' {4}([A-Z_]+=\S+ )*(([A-Z_]+=\S+)$|(python|bash|pip) )', line):
            text = line
            while text.endswith('\\'):
                text, number = text[:-1] + lines[number].strip(), number + 1
            found.append(Block(path.name, number, 'bash', text.strip() + '\n'))
    assert inside is None, f'{path.name}:{inside[0]}: a block is never closed'
    return found


BLOCKS = [block for path in PAGES for block in blocks_of(path)]
COMMANDS = [block for block in BLOCKS if block.language in SHELL]
SCRIPT = re.compile('^(from|import|class|def) ', re.M)
FRAGMENTS = [block for block in BLOCKS if block.language in PYTHON and not SCRIPT.search(block.text)]
SCRIPTS = [block for block in BLOCKS if block.language in PYTHON and block not in FRAGMENTS]


def test_every_block_is_of_a_kind_that_is_executed():
    strange = [f'{block}: {block.language or "no language"}' for block in BLOCKS
               if block.language not in (*SHELL, *PYTHON, *SHOWN)]
    assert not strange, f'name the language (python, bash, or text for what is no code): {strange}'


def test_every_excuse_belongs_to_a_block_and_names_a_test_that_is_there():
    assert {(block.page, block.first) for block in BLOCKS} >= set(NOT_HERE)
    assert {line for block in COMMANDS for line in commands_of(block)} >= set(FOREIGN)
    for block in BLOCKS:
        assert not block.marked or block.page in (ROOT / block.marked).read_text('utf-8'), f'{block}: {block.marked}'
    for (page, _), reason in NOT_HERE.items():
        for name in re.findall(r'tests/\S+\.py', reason):
            assert page in (ROOT / name).read_text('utf-8'), f'{name} does not speak of {page}'
    assert all(isinstance(reason, str) and len(reason) > 10 for reason in (*NOT_HERE.values(), *FOREIGN.values()))


# ---- commands ----------------------------------------------------------------------------------------------------

class Parsed(Exception):
    """The command line was accepted."""


def commands_of(block):
    """Whole commands, without comments, joined where a line ends in a backslash."""
    text = re.sub(r'\\\n\s*', ' ', block.text)
    return [line for line in (re.sub(r'(^|\s)#.*', '', each).strip() for each in text.splitlines()) if line]


@functools.lru_cache(None)
def code_of(path):
    """A tool's own parser, taken once: what it parses is judged, what it would do next is not done."""
    source = Path(path).read_text('utf-8')
    return compile(source, path, 'exec')


def parse(tool, words, monkeypatch):
    """Whether the tool's own parser takes the words, without anything being done."""
    accepted = argparse.ArgumentParser.parse_args

    def stop(self, args=None, namespace=None):
        accepted(self, args, namespace)
        raise Parsed

    package = '.'.join(tool.relative_to(ROOT).parent.parts) if 'lsef_plugins' in tool.parts else None
    said = io.StringIO()
    with monkeypatch.context() as patch, contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
        patch.setattr(argparse.ArgumentParser, 'parse_args', stop)
        patch.setattr(sys, 'argv', [str(tool), *words])
        patch.setattr(sys, 'path', [str(Path(tool).parent), *sys.path])
        patch.setenv('LSEF_PLUGINS_REGISTER', '1')
        try:
            exec(code_of(str(tool)), {'__name__': '__main__', '__file__': str(tool), '__package__': package})
        except Parsed:
            return
        except SystemExit as stopped:
            if '--help' in words and not stopped.code:
                return
    raise AssertionError(f'{tool.name} {" ".join(words)}: {said.getvalue().strip()[-300:]}')


def check(command, variables, monkeypatch):
    """One command of a block; ``variables`` are those of the shell."""
    words = [os.path.expandvars(word) if '$' not in word else
             re.sub(r'\$\{?(\w+)\}?', lambda found: variables[found[1]], word) for word in shlex.split(command)]
    while words and re.fullmatch(r'\w+=.*', words[0]):
        name, _, value = words.pop(0).partition('=')
        variables[name] = value
    if not words or words[0] == 'export':
        return
    for word in words:
        if re.match(r'(tools|mmaction_configs|docs|requirements|lsef_plugins|tests)/', word):
            assert (ROOT / word).exists() or word == 'docs/insertion_matrix.md', f'{word} does not exist'
    if words[:2] == ['pip', 'install']:
        check_install(words[2:])
    elif words[0] == 'python' and words[1] == '-c':
        done = subprocess.run([sys.executable, '-c', words[2]], cwd=ROOT, capture_output=True, text=True,
                              env=dict(os.environ, LSEF_PLUGINS_REGISTER='0', PYTHONPATH=str(ROOT)))
        assert not done.returncode and done.stdout.strip(), done.stderr
    elif words[0] == 'python' and words[1] == '-m' and words[2] == 'pytest':
        assert all((ROOT / word).exists() for word in words[3:] if not word.startswith('-'))
    elif words[0] == 'python':
        path = ROOT / (words[2].replace('.', '/') + '.py' if words[1] == '-m' else words[1])
        path = path if path.exists() else path.with_suffix('') / '__main__.py'
        assert path.exists(), f'{command}: there is no {path.relative_to(ROOT)}'
        is_run_by_a_test(path)
        parse(path, words[3:] if words[1] == '-m' else words[2:], monkeypatch)
    elif words[0] == 'bash':
        check_shell(words[1:], monkeypatch)
    else:
        raise AssertionError(f'no check knows this command: {command}. Teach check() it, or name it in FOREIGN.')


def check_install(words):
    """``-e .[extra]``: the extra is one of setup.py."""
    for word in words:
        extra = re.fullmatch(r'\.(?:\[(\w+)\])?', word)
        assert extra or word == '-e', f'pip install {word}: what is it? Name the command in FOREIGN.'
        if extra and extra[1]:
            assert re.search(rf"'{extra[1]}': \[", (ROOT / 'setup.py').read_text('utf-8')), f'no extra {extra[1]}'


def check_shell(words, monkeypatch):
    script, rest = ROOT / words[0], words[1:]
    assert subprocess.run(['bash', '-n', str(script)], capture_output=True).returncode == 0, f'{words[0]} is no bash'
    twin = {'dist_train.sh': 'train.py', 'dist_test.sh': 'test.py', 'slurm_train.sh': 'train.py',
            'slurm_test.sh': 'test.py', 'quickstart.sh': 'quickstart.py'}.get(script.name)
    if twin:
        # dist_*.sh take the number of processes behind config (and checkpoint).
        gpus = {'dist_train.sh': 1, 'dist_test.sh': 2}.get(script.name)
        if gpus:
            assert rest[gpus].isdigit(), f'{words[0]} wants the number of processes in place {gpus + 1}'
            rest = rest[:gpus] + rest[gpus + 1:]
        if script.name.startswith('slurm_'):    # behind partition and job name; a work_dir may follow the config
            rest = rest[2:]
            if twin == 'train.py' and len(rest) > 1 and not rest[1].startswith('-'):
                rest.insert(1, '--work-dir')
        parse(ROOT / 'tools' / twin, rest, monkeypatch)
    else:
        assert not rest or '$@' in script.read_text('utf-8'), f'{words[0]} takes no arguments'


@functools.lru_cache(None)
def sources_of_the_tests():
    return '\n'.join(path.read_text('utf-8') for path in (ROOT / 'tests').rglob('*.py') if path != Path(__file__))


def is_run_by_a_test(path):
    name = path.stem if path.stem != '__main__' else path.parent.name
    told = name in BY_HAND or re.search(rf'\b{re.escape(name)}\b', sources_of_the_tests()) is not None
    assert told, f'{path.relative_to(ROOT)} is shown, and no test runs it'


@pytest.mark.parametrize('block', COMMANDS, ids=str)
def test_the_commands_are_accepted_by_the_tools_they_call(block, monkeypatch):
    if block.excused:
        pytest.skip(block.excused)
    monkeypatch.chdir(ROOT)
    variables = {name: value for each in COMMANDS if each.page == block.page and each.line < block.line
                 for name, value in re.findall(r'\b([A-Z]+)=(\S+)', each.text)}
    for command in commands_of(block):
        if command not in FOREIGN:
            check(command, variables, monkeypatch)


def test_an_option_a_tool_does_not_know_and_a_file_that_is_not_there_are_found(monkeypatch):
    """The check itself: it fails where a page is wrong."""
    monkeypatch.chdir(ROOT)
    for wrong, message in (('python tools/data/check_dataset.py dfew data/dfew --speed', 'unrecognized arguments'),
                           ('python tools/no_such_tool.py', 'does not exist'),
                           ('python tools/train.py mmaction_configs/dfew/none.py', 'none.py does not exist'),
                           ("pip install -e '.[nothing]'", 'no extra nothing'), ('mim train x', 'no check knows'),
                           ('bash tools/dist_train.sh CONFIG --resume', 'number of processes')):
        with pytest.raises(AssertionError, match=message):
            check(wrong, {}, monkeypatch)


# ---- python ------------------------------------------------------------------------------------------------------

def module_of(block):
    """``my_parts`` of a block that begins with ``# my_parts.py``: a file to write, which configs name."""
    found = re.match(r'# (\w+)\.py\b', block.text)
    return found and found[1]


@pytest.fixture(scope='module')
def folder(tmp_path_factory, tiny_config, tiny_videos):
    """A place with the small recognizer, the lists and clips of docs/own_dataset.md, and the modules of all pages."""
    path = tmp_path_factory.mktemp('pages')
    tiny_config(path / 'work').dump(path / 'recognizer.py')
    modules = {}
    for block in filter(module_of, SCRIPTS):
        modules.setdefault(module_of(block), []).append(block.text)
    for name, texts in modules.items():
        (path / f'{name}.py').write_text('\n'.join(texts), encoding='utf-8')
    (path / 'videos').symlink_to(tiny_videos.root)
    for part, source in (('train', tiny_videos.ann_train), ('val', tiny_videos.ann_val)):
        lines = source.read_text('utf-8')
        (path / f'{part}.txt').write_text(lines, encoding='utf-8')
        (path / f'{part}_ratings.txt').write_text(re.sub(r' \d+$', ' 0.3 -0.7', lines, flags=re.M), encoding='utf-8')
    sys.path.insert(0, str(path))
    yield path
    sys.path.remove(str(path))


@functools.lru_cache(None)
def namespace_of(page):
    """The names the scripts of a page share; a model and an optimizer are there, as a reader has them."""
    import torch
    from torch import nn
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 7))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    return dict(__name__=page, model=model, optimizer=optimizer)


@pytest.mark.parametrize('block', SCRIPTS, ids=str)
def test_the_scripts_run(block, folder, monkeypatch):
    if block.excused:
        pytest.skip(block.excused)
    if module_of(block):
        module = importlib.import_module(module_of(block))  # all of the file, once: its classes register at its import
        names = [node.name for node in ast.parse(block.text).body if isinstance(node, ast.ClassDef)]
        assert names and all(hasattr(module, name) for name in names)
        return
    monkeypatch.chdir(folder)
    names = namespace_of(block.page)
    exec(compile(block.text, str(block), 'exec'), names)
    if block.page == 'README.md':
        import torch
        y, x, parts = (names[name] for name in ('y', 'x', 'parts'))
        assert torch.equal(y, x)
        assert torch.allclose(parts.stable + parts.transient + parts.residual, x, atol=1e-5)


def config_of(block, folder):
    from mmengine.config import Config
    text = block.text
    for ours, theirs in SMALLER.items():
        text = text.replace(ours, theirs)
    if '_base_' not in text:
        text = "_base_ = ['./recognizer.py']\n" + text
    path = folder / f'block_{block.page.partition(".")[0]}_{block.line}.py'
    path.write_text(text, encoding='utf-8')
    own = {node.targets[0].id for node in ast.parse(block.text).body if isinstance(node, ast.Assign)}
    cfg = Config.fromfile(str(path))
    if 'model' not in cfg:                      # a schedule alone
        cfg.model = Config.fromfile(str(folder / 'recognizer.py')).model
    return cfg, own


def one_step(model, cfg, frames=8):
    """A training step under the config's optimizer wrapper, and a prediction."""
    import torch
    from mmaction.structures import ActionDataSample
    from mmengine.optim import build_optim_wrapper
    torch.manual_seed(0)
    classes = model.cls_head.num_classes
    batch = dict(inputs=[torch.randint(0, 256, (1, 3, frames, 32, 32), dtype=torch.uint8) for _ in range(2)],
                 data_samples=[ActionDataSample().set_gt_label(i % classes) for i in range(2)])
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    losses = model.train().train_step(batch, wrapper)
    assert all(np.isfinite(float(value)) for value in losses.values())
    moved = [name for name, value in model.named_parameters() if not torch.equal(value, before[name])]
    assert any(name.startswith('cls_head') for name in moved)
    if any(name.startswith('neck') for name in before):
        assert any(name.startswith('neck') for name in moved)
    with torch.no_grad():
        found = model.eval().test_step(batch)
    assert all(sample.pred_score.isfinite().all() and len(sample.pred_score) == classes for sample in found)


def one_clip(pipeline, videos, folder):
    """A pipeline reads one of the small clips (the truth of a clip comes from the embedded data set alone)."""
    from mmcv.transforms import Compose

    from lsef_plugins.registry import TRANSFORMS
    steps = [step for step in pipeline if step['type'] != 'LoadPlantedTruth']
    for step in pipeline:
        TRANSFORMS.build(dict(step))
    sample = dict(filename=str(videos.root / 'clip_0.mp4'), label=0, start_index=0, modality='RGB',
                  valence_arousal=np.zeros(2, np.float32))
    found = Compose([TRANSFORMS.build(dict(step)) for step in steps])(sample)
    assert found['inputs'].ndim == 5 and found['data_samples'] is not None


@pytest.mark.parametrize('block', FRAGMENTS, ids=str)
def test_the_configs_build_train_a_step_and_predict(block, folder, tiny_videos, monkeypatch):
    if block.excused:
        pytest.skip(block.excused)
    from mmengine.registry import HOOKS, init_default_scope

    from lsef_plugins.registry import DATASETS, METRICS, MODELS
    init_default_scope('mmaction')
    monkeypatch.chdir(folder)
    cfg, own = config_of(block, folder)
    assert own, f'{block} sets nothing'
    known = {'_base_', 'custom_imports', 'model', 'optim_wrapper', 'custom_hooks', 'visualizer'}
    for name in own:
        if name.endswith('_pipeline'):
            one_clip(cfg[name], tiny_videos, folder)
        elif name.endswith('_evaluator'):
            for each in cfg[name] if isinstance(cfg[name], list) else [cfg[name]]:
                METRICS.build(each)
        elif name.endswith('_dataloader'):
            assert len(DATASETS.build(cfg[name].dataset)) > 0
        else:
            assert name in known, f'{block}: no check knows what {name} is'
    for hook in cfg.get('custom_hooks', []):
        HOOKS.build(dict(hook))
    if own & {'model', 'optim_wrapper'}:
        if 'model' not in own:
            cfg.model.neck = dict(type='LSEFNeck')
        one_step(MODELS.build(cfg.model), cfg if 'optimizer' in cfg.get('optim_wrapper', {}) else sgd(cfg))


def sgd(cfg):
    cfg.optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.01))
    return cfg


def test_the_list_of_a_folder_tree(tmp_path, monkeypatch):
    """Every clip is in one of the lists, the clips of a person are in the same one, whatever their class."""
    block, = (each for each in SCRIPTS if each.page == 'own_dataset.md' and each.excused)
    clips = [f'{label}/p{person}_{clip}.mp4' for label in ('happy', 'angry') for person in range(30) for clip in (1, 2)]
    for name in clips:
        (tmp_path / 'videos' / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / 'videos' / name).touch()
    (tmp_path / 'videos' / 'notes.txt').touch()
    monkeypatch.chdir(tmp_path)
    exec(compile(block.text, str(block), 'exec'), {})
    train, val = ([line.split() for line in (tmp_path / f'{part}.txt').read_text('utf-8').splitlines()]
                  for part in ('train', 'val'))
    assert sorted(name for name, _ in train + val) == sorted(clips)
    assert {(name.split('/')[0], label) for name, label in train + val} == {('angry', '0'), ('happy', '1')}
    persons = [{name.split('/')[1].split('_')[0] for name, _ in part} for part in (train, val)]
    assert not persons[0] & persons[1] and 0 < len(persons[1]) < len(persons[0])


def test_the_data_set_of_ratings_hands_over_what_its_page_says(folder, tmp_path):
    names = vars(importlib.import_module('rated_clips'))
    (tmp_path / 'list.txt').write_text('a clip.mp4 0.3 -0.7\nb.mp4 -1 1\n', encoding='utf-8')
    found = names['RatedClips'](ann_file=str(tmp_path / 'list.txt'), pipeline=[], data_prefix=dict(video='clips'))
    first = found.get_data_info(0)
    assert first['filename'] == 'clips/a clip.mp4' and first['video_id'] == 'a clip.mp4'
    np.testing.assert_array_equal(first['valence_arousal'], np.array([0.3, -0.7], np.float32))


# ---- links -------------------------------------------------------------------------------------------------------

LINKED = [*PAGES, *(ROOT / name for name in ('CONTRIBUTING.md', 'CHANGELOG.md')),
          *sorted(ROOT.glob('mmaction_configs/*/README.md')), *sorted(ROOT.glob('tools/data/*/README.md'))]


@functools.lru_cache(None)
def anchors_of(path):
    """GitHub's anchors of the headings of a page."""
    text = re.sub(r'^```.*?^```', '', path.read_text('utf-8'), flags=re.S | re.M)
    found, anchors = {}, set()
    for heading in re.findall(r'^#+\s+(.+?)\s*$', text, re.M):
        heading = re.sub(r'\[([^]]*)\]\([^)]*\)', r'\1', heading)
        slug = re.sub(r'[^\w\- ]', '', heading.lower()).replace(' ', '-')
        count = found.setdefault(slug, 0)
        found[slug] += 1
        anchors.add(f'{slug}-{count}' if count else slug)
    return anchors


def faults_of(path):
    text = re.sub(r'^```.*?^```|`[^`\n]*`', '', path.read_text('utf-8'), flags=re.S | re.M)
    faults = []
    for link in re.findall(r'\]\(([^)\s]+)\)', text):
        target, _, anchor = link.partition('#')
        if re.match(r'[a-z]+:', link):
            continue
        aim = (path.parent / target).resolve() if target else path
        if not aim.exists():
            faults.append(f'{path.name}: {link} leads to no file')
        elif anchor and aim.suffix == '.md' and anchor not in anchors_of(aim):
            faults.append(f'{path.name}: {link}, and the anchors there are {sorted(anchors_of(aim))}')
    return faults


@pytest.mark.parametrize('path', LINKED, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_and_anchors_lead_somewhere(path):
    assert not faults_of(path)


def test_a_wrong_link_and_a_wrong_anchor_are_found(tmp_path):
    page = tmp_path / 'page.md'
    page.write_text('# One, `two`\n[a](no.md) [b](#one-two) [c](#three) [d](https://host/x) `[e](none.md)`\n')
    first, second = faults_of(page)
    assert 'no.md leads to no file' in first and '#three' in second and 'one-two' in second


def test_every_page_is_in_the_navigation_and_on_the_map():
    index = (ROOT / 'docs' / 'index.md').read_text('utf-8')
    readme = (ROOT / 'README.md').read_text('utf-8')
    for path in PAGES[1:]:
        if path.name != 'index.md':
            assert re.search(rf'^{re.escape(path.name)}$', index, re.M), f'{path.name} is missing in docs/index.md'
            assert f'](docs/{path.name})' in readme, f'{path.name} is missing in README.md'


def test_the_pages_beside_the_site_are_those_of_the_test():
    """What is linked and checked here is what the site is made of."""
    config = (ROOT / 'docs' / 'conf.py').read_text('utf-8')
    patterns = ast.literal_eval(re.search(r'include_patterns = (\[.*?\])', config, re.S)[1])
    found = {path for pattern in patterns if not pattern.endswith('.rst') for path in ROOT.glob(pattern)}
    assert found == set(LINKED)
