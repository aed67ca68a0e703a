"""The benchmark of backbones: what it compares, what it counts, what it says when a config cannot be measured."""
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from torch.utils.flop_counter import FlopCounterMode

from lsef_plugins.engine.backbone_benchmark import choose, measure, report, run, settings
from lsef_plugins.engine.backbone_benchmark.choose import BenchmarkError, chosen
from lsef_plugins.engine.backbone_benchmark.pair import Pair, clip_size
from lsef_plugins.engine.backbone_benchmark.settings import Settings, checked
from lsef_plugins.models.insertion import without_ours
from lsef_plugins.nn import cost

ROOT = Path(__file__).resolve().parents[2]
TINY = """
model = dict(
    type='Recognizer3D',
    backbone=dict(type='ResNet3dSlowOnly', depth=18, pretrained=None, lateral=False, base_channels=4,
                  conv1_kernel=(1, 7, 7), conv1_stride_t=1, pool1_stride_t=1, inflate=(0, 0, 1, 1), norm_eval=False),
    cls_head=dict(type='I3DHead', in_channels=32, num_classes=5, topk=(1, ), average_clips='prob'),
    data_preprocessor=dict(type='ActionDataPreprocessor', mean=[114.75] * 3, std=[57.375] * 3, format_shape='NCTHW'))
train_dataloader = dict(dataset=dict(pipeline=[
    dict(type='SampleFrames', clip_len=8, frame_interval=2, num_clips=1), dict(type='RandomResizedCrop'),
    dict(type='Resize', scale=(48, 48), keep_ratio=False)]))
"""
NECK = "_base_ = ['tiny.py']\nmodel = dict(neck=dict(type='LSEFNeck', iterations=2))\n"
BROKEN = "_base_ = ['tiny.py']\nmodel = dict(cls_head=dict(in_channels=33))\n"
NO_RECOGNIZER = "model = dict(type='ActionDataPreprocessor')\n"
# The head's maps: 8 frames of 48 / 16 pixels.
MAPS = cost.Sizes(1, 32, 8, 2, 2)


@pytest.fixture(scope='module')
def configs(tmp_path_factory):
    folder = tmp_path_factory.mktemp('configs')
    for name, text in (('tiny', TINY), ('neck', NECK), ('broken', BROKEN), ('no_recognizer', NO_RECOGNIZER)):
        (folder / f'{name}.py').write_text(text)
    return folder


@pytest.fixture(scope='module')
def ran(configs):
    """The command line over a config that works, one that has a neck, and one whose head does not fit."""
    work = configs / 'work'
    done = subprocess.run(
        [sys.executable, str(ROOT / 'tools' / 'benchmark_backbones.py'), 'tiny.py', 'neck.py', 'broken.py', '--repeats',
         '2', '--work-dir', str(work), '--json', 'found.json', '--markdown', 'found.md'], cwd=configs,
        env=dict(os.environ, PYTHONPATH=str(ROOT)), capture_output=True, text=True, timeout=300)
    found = json.loads((configs / 'found.json').read_text())
    return done, {row['name']: row for row in found['rows']}, (configs / 'found.md').read_text(), work


def test_a_config_that_cannot_be_measured_has_its_reason_and_costs_no_other_row(ran):
    done, rows, text, _ = ran
    assert done.returncode == 1, done.stderr
    assert [row['status'] for row in rows.values()] == ['passed', 'passed', 'failed']
    assert '33' in rows['broken.py']['reason'] and rows['broken.py']['reason'] in text
    assert '2 of 3 configs measured' in done.stdout and 'python tools/benchmark_backbones.py tiny.py' in text


def test_what_the_neck_adds_is_what_the_model_of_its_cost_says(ran):
    for name, sizes in (('tiny.py', MAPS), ('neck.py', MAPS._replace(iterations=2))):
        row = ran[1][name]
        assert row['maps'] == [list(sizes[:5])]
        assert row['parameters']['plugged'] - row['parameters']['stock'] == cost.parameters(sizes)
        assert row['flops']['plugged'] - row['flops']['stock'] == cost.operations(sizes)


def test_a_config_with_a_neck_is_compared_with_itself_without(ran):
    plain, own = ran[1]['tiny.py'], ran[1]['neck.py']
    assert own['own_neck'] and not plain['own_neck']
    for what in ('parameters', 'flops'):
        assert own[what]['stock'] == plain[what]['stock'] > 0


def test_every_way_is_timed_in_each_round_and_memory_grows_by_the_neck(ran):
    row = ran[1]['tiny.py']
    assert [set(each) for each in row['step']['rounds']] == [{'stock', 'plugged', 'neck'}] * 2
    assert all(seconds > 0 for each in row['step']['rounds'] + row['forward']['rounds'] for seconds in each.values())
    # Weights, their gradients and momentum stand at the end of backward, whatever the activations.
    assert row['peak_bytes']['stock'] > 3 * 4 * row['parameters']['stock']
    assert row['peak_bytes']['plugged'] - row['peak_bytes']['stock'] > 3 * 4 * cost.parameters(MAPS)
    assert row['optimizer'] == 'SGD'


def test_code_compiled_for_the_stock_recognizer_does_not_serve_the_plugged_one(configs, monkeypatch):
    """Both have heads of one class, and only one of them has a hook; the neck itself says when it is passed by."""
    from mmengine.registry import init_default_scope
    init_default_scope('mmaction')
    compiled = torch.compile
    monkeypatch.setattr(torch, 'compile', lambda model: compiled(model, backend='eager'))
    torch._dynamo.reset()
    with torch._dynamo.config.patch(skip_nnmodule_hook_guards=True):     # given back at the end
        pair = Pair(Config.fromfile(str(configs / 'tiny.py')), Settings(compiled=True))
        before = {name: p.detach().clone() for name, p in pair.plugged.named_parameters()
                  if name.endswith('cim.out.weight')}
        for call in (pair.forward, pair.step):
            for name in pair.models():
                call(name)
    assert before and not any(torch.equal(pair.plugged.get_parameter(name), p) for name, p in before.items())
    torch._dynamo.reset()


def test_measured_rows_are_kept_and_failed_ones_tried_again(configs, tmp_path):
    entries, seen = chosen([str(configs / 'tiny.py'), str(configs / 'neck.py')]), tmp_path / 'seen'

    def work(asked, entry, _):
        with open(seen, 'a') as file:
            file.write(f'{Path(entry.name).name} {asked.batch}\n')
        return dict(name=entry.name, status='failed' if 'neck' in entry.name else 'passed', reason='so it is')

    for batch in (1, 1, 2):
        rows = run.run(entries, Settings(batch=batch), tmp_path / 'work', say=lambda line: None, work=work)
        assert [row['status'] for row in rows] == ['passed', 'failed']
    assert seen.read_text().split('\n') == ['tiny.py 1', 'neck.py 1', 'neck.py 1', 'tiny.py 2', 'neck.py 2', '']


def test_other_sources_or_settings_are_other_rows(tmp_path):
    folder = tmp_path / 'engine' / 'backbone_benchmark'
    folder.mkdir(parents=True)
    (folder / 'measure.py').write_text('a = 1\n')
    first = run.folder_of(Settings(), tmp_path)
    (folder / 'report.py').write_text('a = 1\n')
    assert run.folder_of(Settings(), tmp_path) == first
    (folder / 'measure.py').write_text('a = 2\n')
    names = {first, *(run.folder_of(each, tmp_path) for each in (
        Settings(), Settings(neck=dict(rank=1)), Settings(neck=dict(rank=2)), Settings(dtype='bf16'),
        Settings(compiled=True), Settings(batch=2), Settings(repeats=2)))}
    assert len(names) == 8 and all('/' not in name for name in names)


def test_a_ratio_does_not_care_for_what_drifts_from_round_to_round():
    now = iter(range(1, 1000))
    slow = {'stock': 1.0, 'plugged': 1.25, 'neck': 0.2}
    order = []

    def clock(work, device):
        name = work()
        order.append(name)
        return slow[name] * 2 ** (next(now) // 3)       # three in a round, all alike

    now = iter(range(0, 999))
    found = measure.timed({name: lambda name=name: name for name in slow}, Settings(repeats=4), clock)
    assert found['ratio'] == dict(median=1.25, lowest=1.25, highest=1.25) and len(found['rounds']) == 4
    assert order[:3] == order[5:2:-1]       # turned round, so that whoever comes first is not always the same


def test_what_drifts_within_a_round_cancels_over_two():
    clock = iter(range(1000))
    found = measure.timed({'stock': int, 'plugged': int}, Settings(repeats=6), lambda *_: 1 + 1e-3 * next(clock))
    assert abs(found['ratio']['median'] - 1) < 1e-5


def row(lowest, median, highest, parameters=100, **seconds):
    ratio = dict(lowest=lowest, median=median, highest=highest)
    return dict(parameters=dict(stock=10000, plugged=10000 + parameters), step=dict(ratio=ratio, seconds=seconds))


def test_the_bars_are_met_missed_or_within_noise():
    assert report.meets_step(row(1.0, 1.02, 1.03)) == 'yes' and report.meets_step(row(1.031, 1.04, 1.05)) == 'no'
    assert report.meets_step(row(1.02, 1.025, 1.031)) == report.meets_step(row(1.03, 1.04, 1.05)) == 'within noise'
    assert report.meets_alone(row(1, 1, 1, stock=1.0, neck=0.03)) == 'yes'
    assert report.meets_alone(row(1, 1, 1, stock=1.0, neck=0.031)) == 'no'
    assert report.meets_alone(row(1, 1, 1, stock=1.0)) == '–'       # torch.compile: there is no neck alone
    assert report.meets_parameters(row(1, 1, 1)) == 'yes' and report.meets_parameters(row(1, 1, 1, 101)) == 'no'


def test_clips_have_the_size_of_the_configs_own_pipeline():
    expected = dict(stgcnpp=(100, 0), tsn=(8, 224), tsm=(8, 224), slowonly=(8, 224), slowfast=(32, 224), i3d=(32, 224),
                    r2plus1d=(8, 224), x3d=(16, 256), c3d=(16, 112), posec3d=(48, 56), tpn=(8, 224), swin=(32, 224),
                    mvit=(16, 224), uniformerv2=(8, 224), videomae=(16, 224), timesformer=(8, 224))
    assert {entry.name.split('/')[1]: tuple(clip_size(entry.cfg)) for entry in chosen()} == expected


def test_configs_are_found_by_path_glob_and_name(configs, monkeypatch):
    monkeypatch.chdir(configs)
    assert [entry.name for entry in chosen(['*e*.py', 'tiny.py'])] == ['broken.py', 'neck.py', 'tiny.py']
    name = 'recognition/c3d/c3d_sports1m-pretrained_8xb30-16x1x1-45e_ucf101-rgb.py'
    for text in (f'mmaction::{name}', name, 'mmaction::*c3d_sports1m*'):
        assert [entry.name for entry in chosen([text])] == [name]


def test_what_cannot_be_asked_for_is_told(configs, monkeypatch):
    with pytest.raises(BenchmarkError, match='is no config file and fits none of the configs'):
        chosen([str(configs / 'absent.py')])
    with pytest.raises(BenchmarkError, match='no_recognizer.py holds no recognizer: it needs model with backbone'):
        chosen([str(configs / 'no_recognizer.py')])
    with pytest.raises(BenchmarkError, match='None of the configs that .* fits holds a recognizer'):
        chosen([str(configs / 'no_*.py')])
    with pytest.raises(BenchmarkError, match="--dtype 'fp8' is unknown; choose one of fp32, bf16"):
        checked(Settings(dtype='fp8'))
    with pytest.raises(BenchmarkError, match="--device 'tpu' is unknown; choose one of cpu, cuda"):
        checked(Settings(device='tpu'))
    with pytest.raises(BenchmarkError, match='--batch and --repeats count from 1, got 0 and 3'):
        checked(Settings(batch=0, repeats=3))
    with pytest.raises(ValueError, match="'ranks' .did you mean 'rank'"):
        checked(Settings(neck=dict(ranks=1)))
    with pytest.raises(BenchmarkError, match='--neck-options is JSON such as'):
        settings.options_from('{rank: 1}')
    with pytest.raises(BenchmarkError, match='--neck-options is a JSON object'):
        settings.options_from('3')
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    with pytest.raises(BenchmarkError, match='this PyTorch sees no GPU'):
        checked(Settings(device='cuda'))


def test_a_config_without_a_size_is_told():
    cfg = Config(dict(model=dict(type='Recognizer3D', backbone=dict(type='C2D'), cls_head=dict(num_classes=2))))
    with pytest.raises(BenchmarkError, match='names no size of a frame'):
        clip_size(cfg)
    cfg.train_dataloader = dict(dataset=dict(pipeline=[dict(type='CenterCrop', crop_size=(64, 32))]))
    with pytest.raises(BenchmarkError, match=r'frames of \(64, 32\) are no squares'):
        clip_size(cfg)


def test_without_our_neck_another_one_stays():
    tpn = dict(type='TPN', in_channels=(8, 16), out_channels=4, level_fusion_cfg=dict(in_channels=4))
    merged = Config(dict(model=dict(neck=tpn)))
    merged.merge_from_dict(dict(model=dict(neck=dict(type='LSEFNeck', rank=1))))
    stock, ours = without_ours(merged.model)
    assert dict(stock.neck) == tpn and ours == dict(type='LSEFNeck', rank=1)
    assert merged.model.neck.type == 'LSEFNeck'         # left alone
    assert without_ours(dict(neck=tpn)) == (dict(neck=tpn), None)
    assert without_ours(dict(neck=dict(type='SEM'))) == ({}, dict(type='SEM'))


def test_attention_is_counted():
    b, t, c = 2, 6, 8
    layer = torch.nn.MultiheadAttention(c, 2, batch_first=True).eval()
    x = torch.randn(b, t, c)
    with measure._countable_attention(), FlopCounterMode(display=False) as counter:
        layer(x, x, x, need_weights=False)
    assert counter.get_total_flops() == 2 * (4 * b * t * c * c + 2 * b * t * t * c)


def test_there_are_defaults_enough():
    assert len(set(choose.DEFAULTS)) == len(choose.DEFAULTS) >= 8
